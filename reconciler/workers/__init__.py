"""The worker processes: started, adopted, brought to the running state, listened to.

From above: what is looked at while nothing is committed (`watching`), the places of the workers
(`slots`), what they are told beside commits (`telling`), what is said to one (`linked`), how one
comes to be (`processes`), the sockets that they listen at (`listening`), what they have counted
(`counting`). Knows `storage`.
"""
