"""What all workers are told beside commits, since it belongs to no generation.

Who comes up later is told by `slots`. Knows `linked`.
"""
