"""What is asked over the control socket, and answered: who asks, and what of.

Knows `explaining` and the modules beside.
"""
