"""Keys that are fetched: nobody passes before they are there, and what was had last counts on."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import pki, ports, processes, rawclient, wire
from tests.harness.issuer import KeyServer
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.site import Site
from tests.harness.tokens import Signer, jwks

ISSUER = "https://id.example.com/"
FIRST, SECOND = Signer("ES256", "first"), Signer("EdDSA", "second")


class FetchingSite(Site):
    """Two policies and a frontend that take the keys of one URL."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, (), workers=2)
        authority = pki.make("An authority", is_ca=True)
        (directory / "ca.pem").write_bytes(authority.chain)
        self.issuer = KeyServer(directory, pki.make("127.0.0.1", issuer=authority))
        self.raw = RawBackend(answer(wire.response(b"in")))
        self.settings["admin"] = ports.address()
        self.contents: Any = self.document({"raw": [self.raw.address]}, {})
        jwt = {
            "issuer": ISSUER,
            "audiences": ["shop"],
            "keys": self.issuer.url,
            "ca": str(directory / "ca.pem"),
        }
        self.contents["policies"] = {"api": {"jwt": jwt}, "other": {"jwt": jwt | {"leeway": "1s"}}}
        self.contents["frontends"] = {
            name: {"listeners": ["main"], "hostname": f"{name}.test", "cluster": "raw"} | keys
            for name, keys in {
                "api": {"policies": ["api"]},
                "other": {"policies": ["other"]},
                "own": {"jwt": jwt | {"realm": "own"}},
                "open": {},
            }.items()
        }

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.issuer.__exit__()
        self.raw.stop()

    def status(self, name: str, signer: Signer | None = None) -> int:
        claims = {"iss": ISSUER, "aud": "shop", "exp": time.time() + 300}
        fields = [f"Authorization: Bearer {signer.token(claims)}"] if signer is not None else []
        with rawclient.Connection(self.address) as client:
            return client.get(f"{name}.test", "/", *fields).status

    def warned(self, pattern: str) -> bool:
        return any(re.search(pattern, said) for said in self.daemon.ask("status")["warnings"])

    def failures(self) -> float:
        admin = self.settings["admin"]
        with urllib.request.urlopen(f"http://{admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        found = re.search(r"^kakehi_issuer_key_failures\{.*\} (\S+)$", text, re.MULTILINE)
        assert found is not None
        return float(found[1])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FetchingSite]:
    with FetchingSite(tmp_path) as made:
        yield made


def test_keys_come_and_change_and_stay(site: FetchingSite) -> None:
    site.issuer.status = 500
    site.start({"kakehi.yaml": site.contents})
    assert [site.status(name, FIRST) for name in ("api", "own", "open")] == [503, 503, 200]
    processes.wait_until(lambda: site.warned("it answered 500; requests that need"), "it is told")
    assert site.failures() >= 1
    port = site.address.rpartition(":")[2]
    told = site.daemon.ask("explain", url=f"http://api.test:{port}/")
    assert told["stages"][0]["words"] == f"the keys of {ISSUER} have not been fetched yet: 503"
    site.issuer.status, site.issuer.content = 200, jwks(FIRST).encode()
    site.daemon.ask("retry")
    for name in ("api", "other", "own"):
        processes.wait_until(lambda it=name: site.status(it, FIRST) == 200, "they are there", 30)
        assert site.status(name) == 401
        assert site.status(name, SECOND) == 401
    processes.wait_until(lambda: not site.warned("keys of") and site.failures() == 0, "all is well")
    asked = site.issuer.asked
    # Whoever comes later has them at once, and so does another commit.
    site.contents["policies"]["api"]["jwt"] = site.contents["policies"]["api"]["jwt"] | {
        "leeway": "2s"
    }
    site.commit({"kakehi.yaml": site.contents})
    assert site.status("api", FIRST) == 200
    assert site.issuer.asked == asked, "once for all who name it"
    # Over a restart, where nobody answers any more.
    site.issuer.content = b"{}"
    site.daemon.leave()
    site.daemon.return_()
    processes.wait_until(lambda: site.warned(r"; those of 20\d\d-.* UTC count"), "it is told")
    assert [site.status(name, FIRST) for name in ("api", "other", "own")] == [200, 200, 200]
    site.issuer.content = jwks(SECOND).encode()
    site.daemon.ask("retry")
    processes.wait_until(lambda: site.status("own", SECOND) == 200, "others are there", 30)
    processes.wait_until(lambda: site.status("api", SECOND) == 200, "everywhere", 30)
    assert site.status("api", FIRST) == 401
    assert site.failures() == 0


def test_a_token_by_an_unknown_key_has_them_fetched(site: FetchingSite) -> None:
    """An issuer that signs by a new key at once: half a minute later it is known."""
    site.issuer.content = jwks(FIRST).encode()
    site.start({"kakehi.yaml": site.contents})
    processes.wait_until(lambda: site.status("api", FIRST) == 200, "they are there", 30)
    asked = site.issuer.asked
    site.issuer.content = jwks(FIRST, SECOND).encode()
    processes.wait_until(lambda: site.status("api", SECOND) == 200, "the new one, too", 60)
    assert site.issuer.asked == asked + 1, "once, however many tokens named it"


def test_a_url_is_asked_once_for_each_who_vouches_for_it(site: FetchingSite) -> None:
    """Whom one policy trusts says nothing about whom another one does, whatever their names."""
    site.issuer.content = jwks(FIRST).encode()
    stranger = pki.make("A stranger", is_ca=True)
    (site.directory / "stranger.pem").write_bytes(stranger.chain)
    jwt = site.contents["policies"]["api"]["jwt"]
    strange = {"jwt": jwt | {"ca": str(site.directory / "stranger.pem")}}
    site.contents["policies"]["zealous"] = strange
    site.contents["frontends"]["zealous"] = site.contents["frontends"]["open"] | {
        "hostname": "zealous.test",
        "policies": ["zealous"],
    }
    site.start({"kakehi.yaml": site.contents})
    processes.wait_until(lambda: site.status("api", FIRST) == 200, "they are there", 30)
    processes.wait_until(
        lambda: site.warned(
            r"stranger\.pem\) could not be fetched: its certificate is not trusted"
        ),
        "it is told",
    )
    assert site.status("zealous", FIRST) == 503
    assert site.failures() >= 1
    # By a name that comes first it has no more to say.
    del site.contents["policies"]["zealous"]
    site.contents["policies"]["above"] = strange
    site.contents["frontends"]["zealous"]["policies"] = ["above"]
    site.commit({"kakehi.yaml": site.contents})
    site.issuer.content = jwks(SECOND).encode()
    processes.wait_until(lambda: site.status("api", SECOND) == 200, "they are refreshed", 60)
    assert site.status("zealous", SECOND) == 503
    # Whoever trusts others from now on has what these say, and not what others said before.
    site.contents["policies"]["other"] = strange
    site.commit({"kakehi.yaml": site.contents})
    assert [site.status(name, SECOND) for name in ("other", "api")] == [503, 200]


def test_a_plan_says_whose_requests_wait_for_keys(site: FetchingSite) -> None:
    site.issuer.status = 500
    later = site.contents["frontends"].pop("own")
    site.start({"kakehi.yaml": site.contents})

    def planned() -> list[str] | None:
        site.repo.write({"kakehi.yaml": site.contents})
        [change] = site.daemon.json("plan", str(site.repo.directory))["changes"]
        return change.get("without_keys")

    site.contents["frontends"]["own"] = later
    assert planned() == [site.issuer.url]
    told = site.daemon.run_cli("plan", str(site.repo.directory)).stdout
    assert f"! requests get 503 until the keys of {site.issuer.url} have been fetched" in told
    site.issuer.status, site.issuer.content = 200, jwks(FIRST).encode()
    site.daemon.ask("retry")
    processes.wait_until(lambda: site.status("api", FIRST) == 200, "they are there", 30)
    assert planned() is None
