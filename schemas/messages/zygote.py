"""What the reconciler asks of the process that forks its workers: a request, its reply.

A request carries the worker's control socket as a descriptor. Each is one message of a socket that
keeps messages apart (SOCK_SEQPACKET); the end of that socket ends the zygote.
"""

from __future__ import annotations

import struct

REQUEST = struct.Struct("!ii")
"""The worker's number and its core, -1: not pinned."""

PROBER = -1
"""In the place of a number: the prober of the host."""

REPLY = struct.Struct("!i")
"""The worker's process; negative: the errno of what failed."""
