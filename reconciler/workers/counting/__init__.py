"""What workers have counted, in memory that they share with us.

Knows none of the rooms beside.
"""
