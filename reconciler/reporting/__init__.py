"""What is told: answers to the command line, metrics, health, the outcome of each commit.

Reads what the other rooms hold; nothing below it may know it.
"""
