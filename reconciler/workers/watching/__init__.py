"""What is looked at all the time, whatever is committed: whether workers answer and may be found.

And whether they hold what they should. Knows `slots`.
"""
