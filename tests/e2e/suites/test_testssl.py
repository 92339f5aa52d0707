"""testssl.sh's verdict on the two profiles. It takes minutes: for `make test-full` only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.suites.judged import judged
from tests.harness import ports

# Two minutes more in each run, for what sslyze says of the same profiles in seconds.
pytestmark = pytest.mark.skipif(
    not os.environ.get("KAKEHI_TEST_LONG"), reason="takes minutes: KAKEHI_TEST_LONG=1 runs it"
)

# A run takes one minute here.
_RUN_S = 800
_BAD = {"LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"}
_EXPECTED = {
    # The authority names no place to ask, the domain has no records, the page sets no headers.
    *("cert_revocation", "DNS_CAArecord", "security_headers"),
    # All suites are good ones, and which of them is fast the client knows better: so says Mozilla.
    "cipher_order",
}


@pytest.mark.timeout(_RUN_S + 100)
@pytest.mark.parametrize("profile", ["modern", "intermediate"])
def test_nothing_is_found(tmp_path: Path, profile: str) -> None:
    program = shutil.which("testssl")
    if program is None:
        pytest.skip("testssl is missing; on Debian: apt-get install testssl.sh")
    report = tmp_path / "report.json"
    with judged(tmp_path, profile) as (address, authority):
        host, port = ports.split(address)
        done = subprocess.run(
            [
                *(program, "--quiet", "--color", "0", "--warnings", "off", "--jsonfile", report),
                *("--add-ca", authority, "--ip", host, f"www.test:{port}"),
            ],
            capture_output=True,
            text=True,
            timeout=_RUN_S,
        )
        findings = json.loads(report.read_text())
        # It has really looked: at the protocols, and for weaknesses.
        looked_at = {each["id"] for each in findings}
        assert {"TLS1_3", "heartbleed", "ROBOT", "HSTS_time"} <= looked_at, done.stdout
        bad = [
            each
            for each in findings
            if each["severity"] in _BAD and each["id"].split()[0] not in _EXPECTED
        ]
        assert bad == [], done.stdout
