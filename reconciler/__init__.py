"""The control plane: from a git commit to every worker, and the proof that it arrived.

What decides is pure and stands alone: language, catalog, planning, the table of a transaction. What
acts is around it. This file stays empty, so that a command pays only for what it uses.
"""
