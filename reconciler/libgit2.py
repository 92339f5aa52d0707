"""pygit2, imported without the authorities of TLS: whoever reads repositories has it from here.

At its import it has libgit2 read all certificates that the system trusts, a tenth of what
`kakehi validate` costs, and fails where SSL_CERT_FILE names nonsense. Nothing here connects: what
is fetched, git fetches. `C`, `ffi` and `library_path` are what pygit2 is made of: for what it
leaves out.
"""

from __future__ import annotations

import os

_AUTHORITIES = "SSL_CERT_FILE"

_given = os.environ.get(_AUTHORITIES)
os.environ[_AUTHORITIES] = os.devnull
try:
    import pygit2
    from pygit2._pygit2 import __file__ as library_path
    from pygit2.errors import check_error
    from pygit2.ffi import C, ffi
finally:
    if _given is None:
        del os.environ[_AUTHORITIES]
    else:
        os.environ[_AUTHORITIES] = _given

# A ref that was moved is on the disk, as git itself has it.
pygit2.settings.enable_fsync_gitdir(True)

__all__ = ["C", "check_error", "ffi", "library_path", "pygit2"]
