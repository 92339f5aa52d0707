"""What processes of ours say to each other: workers, zygote, command line.

May know what changes are.
"""
