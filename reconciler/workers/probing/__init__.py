"""The prober: a process that asks backends whether they are well, once for all workers of a host.

It is found or started here, told who is checked, and heard. What it finds it writes itself, and
workers read it (`telling.health`). Knows `telling`, `linked` and `processes`.
"""
