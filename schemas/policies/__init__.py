"""What is done with requests and answers: the keys that policies and frontends share.

May know routes, entities and values.
"""
