"""The worker processes: started, adopted, brought to the running state, listened to.

Knows `storage`.
"""
