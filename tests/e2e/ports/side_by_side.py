"""The original and Kakehi in front of the same backends, and what client and backend see of each.

Both configurations are those of `docs/porting`, as they lie there: only addresses and paths are
put in the place of those that are written. Used by the tests beside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.harness import ports, rawclient, tls, wire
from tests.harness.daemon import ROOT, Kakehi
from tests.harness.pki import Pair
from tests.harness.rawbackend import Exchange, RawBackend
from tests.harness.repo import Repo

PORTING = ROOT / "docs" / "porting"
# ann and ci, whose password is "secret", by `openssl passwd -6`.
_HASH = (
    "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaN"
    "GStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG."
)
HTPASSWD = f"ann:{_HASH}\nci:{_HASH}\n"
LARGE = json.dumps(["one of many lines"] * 200).encode()
SHOWN_TO_BACKENDS = (
    "host",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "authorization",
    "x-api-version",
    "x-forwarded-prefix",
    "x-ssl-client-dn",
    "x-user",
    "cookie",
)
SHOWN_TO_CLIENTS = (
    "access-control-allow-credentials",
    "access-control-allow-origin",
    "cache-control",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-user",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one request: `asked` is what a backend was asked, None if none was."""

    status: int
    location: str | None
    headers: Mapping[str, str]
    body: str | None
    asked: Mapping[str, Any] | None


class Backends:
    """One for each port of the configurations, by groups that serve the same; each tells what it is
    asked in its answer.
    """

    def __init__(self, groups: Mapping[int, str]) -> None:
        self.by_port = {port: RawBackend(self._script(group)) for port, group in groups.items()}

    def stop(self) -> None:
        for backend in self.by_port.values():
            backend.stop()

    def placed(self, text: str) -> str:
        """A configuration with their addresses in place of those that are written."""
        for port, backend in self.by_port.items():
            text = text.replace(f"127.0.0.1:{port}", backend.address)
        return text

    @staticmethod
    def _script(group: str) -> Callable[[Exchange], None]:
        def script(exchange: Exchange) -> None:
            exchange.read_body()
            request = exchange.request
            fields = {
                name: value.decode()
                for name in SHOWN_TO_BACKENDS
                if (value := request.get(name)) is not None
            }
            if group == "verify":
                signed_in = b"session=ok" in (request.get("cookie") or b"")
                status = "200 OK" if signed_in else "401 Unauthorized"
                exchange.send(wire.response(b"", status=status, fields=[("X-User", "ann")]))
                return
            if b"/large" in request.target:
                kind = "text/css" if request.target.endswith(b".css") else "application/json"
                answer = [("Content-Type", kind), ("ETag", '"a"')]
                exchange.send(wire.response(LARGE, fields=answer))
                return
            said = {
                "backend": group,
                "method": request.method.decode(),
                "target": request.target.decode(),
                "headers": fields,
            }
            answer = [("X-Powered-By", "PHP"), ("Content-Type", "application/x-asked")]
            wanted = re.search(rb"[?&]status=([0-9]{3})", request.target)
            status = f"{wanted[1].decode()} X" if wanted else "200 OK"
            exchange.send(wire.response(json.dumps(said).encode(), status=status, fields=answer))

        return script


class Front:
    """Addresses of one of both, and how it is asked."""

    def __init__(self, authority: Pair) -> None:
        self.http, self.https = ports.address(), ports.address()
        # Where TLS is passed on unread by its hostname, or ended.
        self.sni = ports.address()
        self._authority = authority

    def ask(
        self,
        host: str,
        path: str,
        *fields: str,
        method: str = "GET",
        secure: bool = True,
        body: bytes | None = None,
        at: str | None = None,
    ) -> Seen:
        with self.connect(host, secure=secure, at=at) as client:
            if body is not None:
                response = client.post(host, body, path, *fields)
            else:
                response = client.get(host, path, *fields, method=method)
        location = response.get("location")
        asked = None
        if response.get("content-type") == b"application/x-asked" and response.body:
            asked = json.loads(response.body)
        return Seen(
            response.status,
            # Both stand at another port than they would.
            None if location is None else re.sub(r":\d+(?=/|$)", "", location.decode()),
            {
                name: b", ".join(lines).decode()
                for name in SHOWN_TO_CLIENTS
                if (lines := response.all(name))
            },
            None if asked or response.status >= 300 else response.body.decode(),
            asked,
        )

    def connect(
        self, host: str | None, *, secure: bool = True, at: str | None = None
    ) -> rawclient.Connection:
        if secure:
            context = tls.trusting(self._authority, check_hostname=host is not None)
            return tls.TlsConnection(at or self.https, context, host)
        return rawclient.Connection(self.http)


def both(theirs: Front, ours: Front, host: str, path: str, *fields: str) -> list[Seen]:
    """What comes of one request at each."""
    return [side.ask(host, path, *fields) for side in (theirs, ours)]


def is_told(why: str, document: str) -> bool:
    """Whether a document says why both differ."""
    return why in " ".join((PORTING / document).read_text().split())


def ported(name: str, front: Front, backends: Backends, pair: Pair, directory: Path) -> Kakehi:
    """Kakehi with the configuration of that name, not started yet."""
    text = backends.placed((PORTING / f"{name}.yaml").read_text())
    text = text.replace("0.0.0.0:80", front.http).replace("0.0.0.0:443", front.https)
    text = text.replace("0.0.0.0:9443", front.sni)
    # The machine of the tests may have no IPv6, and others of them listen at the same time.
    others = r"(?:0\.0\.0\.0|127\.0\.0\.1|\[::\]):(?:80|443|8443|8404|993)\b"
    for written in re.findall(others, text):
        text = text.replace(written, ports.address())
    text = re.sub(r"^  https?6: .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r", https?6\b", "", text)
    repo = Repo(directory)
    pem = (pair.key + pair.chain).decode()
    named = re.findall(r"(?<=[ :])[a-z-]+[.](?:pem|key)", text)
    repo.commit({"kakehi.yaml": text, "htpasswd": HTPASSWD, **dict.fromkeys(named, pem)})
    return Kakehi(repo, workers=1)
