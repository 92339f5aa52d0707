"""A site of one TLS profile, for the suites that judge it: those of sslyze and of testssl.

It is as its operator should have it: certificates of both kinds where the profile allows both, of
an authority that the suite can be told of, and HSTS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.harness.tlssite import TlsSite

# What modern allows a certificate at most.
_DAYS = 80
_HSTS_DAYS = 730


@contextlib.contextmanager
def judged(directory: Path, profile: str) -> Iterator[tuple[str, Path]]:
    """Yield the address of www.test and the file of its authority."""
    with TlsSite(directory, workers=1) as site:
        pairs = {"ecdsa": site.leaf("www.test", days=_DAYS)}
        if profile == "intermediate":
            pairs["rsa"] = site.leaf("www.test", kind="rsa", days=_DAYS)
        files: dict[str, Any] = site.files(pairs, policy={"profile": profile})
        files["kakehi.yaml"]["frontends"]["www"]["hsts"] = {"max_age_days": _HSTS_DAYS}
        site.start(files)
        authority = directory / "ca.pem"
        authority.write_bytes(site.authority.pem)
        yield site.https, authority
