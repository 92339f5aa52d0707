"""What all expressions take in a worker: a sum that is kept, since to add it up would be a walk.

Each stands under a relation, with what it takes as the note. Workers compile one for all who have
the same, so a term counts once; of notes that differ, as those of two versions may, the largest. A
change looks at its own terms before and after, and what has become of them goes to the sum.
"""

from __future__ import annotations

EXPRESSION = "expression"
"""The relation, as the catalog names it, and the row of `counts` that has the sum. No kind is
called so."""

SUM_OF_ALL = """
SELECT coalesce(sum(weight), 0) FROM (
  SELECT max(CAST(note AS INTEGER)) AS weight FROM relations
  WHERE relation = 'expression' GROUP BY term
)
"""
SUM_OF_TERMS = """
SELECT coalesce(sum(weight), 0) FROM (
  SELECT max(CAST(note AS INTEGER)) AS weight FROM relations
  WHERE relation = 'expression' AND term IN (SELECT value FROM json_each(?)) GROUP BY term
)
"""
TERMS_OF_BULK = """
SELECT term FROM bulk.former WHERE relation = 'expression'
UNION SELECT term FROM bulk.relations WHERE relation = 'expression'
"""
HEAVIEST = """
SELECT CAST(note AS INTEGER), kind, name FROM relations WHERE relation = 'expression'
ORDER BY 1 DESC, 2, 3 LIMIT ?
"""
ADD = """
INSERT INTO counts VALUES ('expression', ?)
ON CONFLICT (kind) DO UPDATE SET number = number + excluded.number
"""
