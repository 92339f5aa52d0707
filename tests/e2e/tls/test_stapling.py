"""OCSP responses: stapled while they are valid, and renewed like any file that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness import pki, processes, tls
from tests.harness.tlssite import TlsSite

STATUS = "OCSP Response Status: successful"
NONE = "OCSP response: no response sent"


def with_ocsp(site: TlsSite, pair: pki.Pair, path: str) -> dict[str, Any]:
    files: dict[str, Any] = site.files({"shop": pair})
    files["kakehi.yaml"]["certificates"]["shop"]["ocsp"] = path
    return files


def said(site: TlsSite, version: str = "-tls1_3") -> str:
    return tls.s_client(site.https, "-status", version, name="www.test").text


def test_a_response_is_stapled_in_both_versions(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    response = pki.ocsp_response(pair, site.authority)
    site.start({**with_ocsp(site, pair, "tls/shop.der"), "tls/shop.der": response})
    for version in ("-tls1_2", "-tls1_3"):
        text = said(site, version)
        assert STATUS in text
        assert "Cert Status: good" in text
    # Whoever does not ask gets none.
    assert NONE not in tls.s_client(site.https, name="www.test").text
    assert STATUS not in tls.s_client(site.https, name="www.test").text


def test_a_renewed_response_is_stapled_at_once_and_an_outdated_one_never(
    site: TlsSite, tmp_path: Path
) -> None:
    pair = site.leaf("www.test")
    path = tmp_path / "shop.der"
    # Valid for as long as the first part of this test may take.
    path.write_bytes(pki.ocsp_response(pair, site.authority, days=8 / 86_400))
    site.start(with_ocsp(site, pair, str(path)))
    generation, _ = site.running()
    processes.wait_until(lambda: NONE in said(site), "it is outdated")
    [warning] = site.daemon.ask("status")["warnings"]
    assert warning.startswith('certificate "shop": the OCSP response is outdated since ')
    path.write_bytes(pki.ocsp_response(pair, site.authority))
    processes.wait_until(lambda: STATUS in said(site), "the new one is stapled")
    assert site.daemon.ask("status")["warnings"] == []
    assert site.running()[0] == generation + 1
    # Another one that says the certificate is revoked is no reason to stop serving.
    path.write_bytes(pki.ocsp_response(pair, site.authority, revoked=True))
    processes.wait_until(
        lambda: "calls the certificate revoked" in site.daemon.log(), "the refusal is told"
    )
    assert "Cert Status: good" in said(site)


def test_it_is_refused_with_its_place(site: TlsSite) -> None:
    pair = site.leaf("www.test")
    site.start(site.files({"shop": pair}))
    other = pki.ocsp_response(site.leaf("other.test"), site.authority)
    sha = site.repo.commit({**with_ocsp(site, pair, "tls/o.der"), "tls/o.der": other})
    done = site.daemon.run_cli("wait", "--commit", sha, "--timeout", "20s")
    assert done.returncode == 6
    status = site.daemon.run_cli("status")
    assert "the OCSP response is about another certificate" in status.stdout + status.stderr
    assert site.shown() == pair.der
