"""A plan as people read it: blocks and sums, alike changes together, text or Markdown.

Pure, but for `offline_plan`, which compares two commits where no daemon runs.
"""
