"""What programs watch: metrics and health, at an address of their own.

Knows the modules beside.
"""
