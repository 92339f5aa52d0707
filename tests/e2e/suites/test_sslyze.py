"""sslyze's verdict on the two profiles, by the configurations that Mozilla publishes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.suites.judged import judged
from tests.harness import suites


@pytest.mark.parametrize("profile", ["modern", "intermediate"])
def test_a_profile_is_what_mozilla_says(tmp_path: Path, profile: str) -> None:
    program = suites.program("sslyze")
    report = tmp_path / "report.json"
    with judged(tmp_path, profile) as (address, authority):
        done = subprocess.run(
            [
                *(program, "--json_out", str(report), "--mozilla_config", profile, "--early_data"),
                *("--certinfo", "--certinfo_ca_file", str(authority)),
                *("--sni", "www.test", address),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        [result] = json.loads(report.read_text())["server_scan_results"]
        assert result["scan_status"] == "COMPLETED", done.stdout
        assert_clean(result["scan_result"])
        verdict = done.stdout.partition("COMPLIANCE AGAINST")[2]
        assert "OK - Compliant" in verdict, verdict


def assert_clean(scans: dict[str, Any]) -> None:
    """No known weakness was found by any of the scans."""
    assert not scans["heartbleed"]["result"]["is_vulnerable_to_heartbleed"]
    assert not scans["openssl_ccs_injection"]["result"]["is_vulnerable_to_ccs_injection"]
    assert scans["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")
    compression = scans["tls_compression"]["result"]
    assert not compression["supports_compression"]
    renegotiation = scans["session_renegotiation"]["result"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert not scans[f"{old}_cipher_suites"]["result"]["accepted_cipher_suites"], old
    early = scans["tls_1_3_early_data"]["result"]
    assert not early["supports_early_data"]
