"""Certificates of clients: who gets in, what the backend is told, and what a commit changes."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from tests.e2e.tls.shop import Shop
from tests.harness import pki, ports, wire
from tests.harness.pki import Pair
from tests.harness.rawbackend import Exchange

SERVER = pki.make("shop.test")
CA = pki.make("clients ca", is_ca=True)
OTHER_CA = pki.make("other ca", is_ca=True)
ALICE = pki.make("alice", issuer=CA)
BOB = pki.make("bob", issuer=CA)
STRANGER = pki.make("alice", issuer=OTHER_CA)
EXPIRED = pki.make("old", issuer=CA, starts_in_days=-20, days=-10)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Of all tests here, each beginning by a commit."""
    with Shop(tmp_path_factory.mktemp("shop")) as made:

        def tell(exchange: Exchange) -> None:
            shown = exchange.request.all("client-cert")
            exchange.send(wire.response(b"|".join(shown)))

        made.backend.script = tell
        yield made


def files(shop: Shop, ca: Pair = CA, crl: bytes | None = None, **tls: Any) -> dict[str, Any]:
    made = shop.files({"client_ca": "tls/clients.pem", **tls}, shop=SERVER)
    made["tls/clients.pem"] = ca.pem.decode()
    if crl is not None:
        made["kakehi.yaml"]["listeners"]["front"]["tls"]["client_crl"] = "tls/revoked.pem"
        made["tls/revoked.pem"] = crl.decode()
    return made


def start(shop: Shop, **options: Any) -> None:
    shop.daemon.begin(files(shop, **options))


class Visitor:
    """A client with or without a certificate."""

    def __init__(self, shop: Shop, pair: Pair | None, directory: Path) -> None:
        self.shop = shop
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(cadata=SERVER.pem.decode())
        self.session: ssl.SSLSession | None = None
        self.head = b""
        if pair is not None:
            own = directory / f"{id(pair)}.pem"
            own.write_bytes(pair.chain + pair.key)
            self.context.load_cert_chain(own)

    def ask(self, *fields: bytes, path: bytes = b"/") -> bytes:
        """The body of one answer, on a new connection; an `OSError` when there is none."""
        plain = socket.create_connection(ports.split(self.shop.address), 10)
        with self.context.wrap_socket(
            plain, server_hostname="shop.test", session=self.session
        ) as connection:
            self.resumed = connection.session_reused
            lines = b"".join(field + b"\r\n" for field in fields)
            head = b"GET %s HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n%s\r\n"
            connection.sendall(head % (path, lines))
            got = b""
            while part := connection.recv(65536):
                got += part
            if not got:
                raise ConnectionResetError("no answer")
            self.session = connection.session
        self.head, _, body = got.partition(b"\r\n\r\n")
        return body


def told(pair: Pair) -> bytes:
    return b":" + base64.b64encode(pair.der) + b":"


def test_who_gets_in(shop: Shop, tmp_path: Path) -> None:
    start(shop)
    assert Visitor(shop, ALICE, tmp_path).ask() == told(ALICE)
    for pair in (None, STRANGER, EXPIRED):
        with pytest.raises(OSError):  # noqa: PT011  (an alert, or the end of the connection)
            Visitor(shop, pair, tmp_path).ask()


def test_a_client_may_be_its_own_authority(shop: Shop, tmp_path: Path) -> None:
    """What `openssl req -x509` makes, named as `client_ca`."""
    own, other = (pki.make("alice", is_ca=True) for _ in range(2))
    start(shop, ca=own)
    assert Visitor(shop, own, tmp_path).ask() == told(own)
    with pytest.raises(OSError):  # noqa: PT011
        Visitor(shop, other, tmp_path).ask()


def test_optional_serves_those_without(shop: Shop, tmp_path: Path) -> None:
    start(shop, client_auth="optional")
    assert Visitor(shop, None, tmp_path).ask() == b""
    assert Visitor(shop, ALICE, tmp_path).ask() == told(ALICE)
    with pytest.raises(OSError):  # noqa: PT011
        Visitor(shop, STRANGER, tmp_path).ask()


def test_nobody_can_say_it_himself(shop: Shop, tmp_path: Path) -> None:
    start(shop, client_auth="optional")
    forged = [b"Client-Cert: " + told(BOB), b"client-cert: x", b"Client_Cert: y"]
    assert Visitor(shop, None, tmp_path).ask(*forged) == b""
    assert Visitor(shop, ALICE, tmp_path).ask(*forged) == told(ALICE)


def test_http_2_tells_it_with_every_stream(shop: Shop, tmp_path: Path) -> None:
    start(shop)
    own = tmp_path / "own.pem"
    own.write_bytes(ALICE.chain + ALICE.key)
    host, port = shop.address.split(":")
    url = f"https://shop.test:{port}/"
    done = subprocess.run(
        ["curl", "-sk", "--http2", "--resolve", f"shop.test:{port}:{host}", "-E", own, url, url],
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == told(ALICE) * 2


def test_a_revoked_certificate(shop: Shop, tmp_path: Path) -> None:
    """A commit of another list counts from the next handshake on, and no session gets around it."""
    start(shop, crl=pki.revocations(CA))
    alice, bob = Visitor(shop, ALICE, tmp_path), Visitor(shop, BOB, tmp_path)
    assert (alice.ask(), bob.ask()) == (told(ALICE), told(BOB))
    assert bob.ask() == told(BOB) and bob.resumed
    shop.daemon.commit(files(shop, crl=pki.revocations(CA, BOB)))
    assert alice.ask() == told(ALICE)
    with pytest.raises(OSError):  # noqa: PT011
        bob.ask()
    with pytest.raises(OSError):  # noqa: PT011
        Visitor(shop, BOB, tmp_path).ask()


def test_another_authority(shop: Shop, tmp_path: Path) -> None:
    """Those of the old one get in no more, with or without a session; open connections live on."""
    start(shop)
    alice = Visitor(shop, ALICE, tmp_path)
    assert alice.ask() == told(ALICE)
    assert alice.ask() == told(ALICE) and alice.resumed
    shop.daemon.commit(files(shop, ca=OTHER_CA))
    with pytest.raises(OSError):  # noqa: PT011
        alice.ask()
    assert Visitor(shop, STRANGER, tmp_path).ask() == told(STRANGER)


def test_no_session_of_a_listener_without(shop: Shop, tmp_path: Path) -> None:
    """A session made where nobody is asked opens no door where everybody is (T19)."""
    shop.daemon.begin(shop.files(None, shop=SERVER))
    visitor = Visitor(shop, None, tmp_path)
    assert visitor.ask() == b""
    assert visitor.ask() == b"" and visitor.resumed
    shop.daemon.commit(files(shop))
    with pytest.raises(OSError):  # noqa: PT011
        visitor.ask()


def test_what_does_not_fit_is_refused(shop: Shop) -> None:
    start(shop)
    made = files(shop, crl=pki.revocations(OTHER_CA))
    shop.repo.commit(made)
    done = shop.daemon.run_cli("validate", str(shop.repo.directory))
    assert "client_crl" in done.stdout + done.stderr
    assert "signed by nobody in client_ca" in done.stdout + done.stderr
    made = files(shop)
    made["tls/clients.pem"] = "nothing"
    shop.repo.commit(made)
    done = shop.daemon.run_cli("validate", str(shop.repo.directory))
    assert "client_ca" in done.stdout + done.stderr


def test_a_frontend_that_requires_one(shop: Shop, tmp_path: Path) -> None:
    """Where the listener leaves it to clients, a frontend need not."""
    made = files(shop, client_auth="optional")
    frontends = made["kakehi.yaml"]["frontends"]
    frontends["admin"] = {
        **frontends["all"],
        "path": {"prefix": "/admin"},
        "client_certificate": "required",
    }
    shop.daemon.begin(made)
    assert Visitor(shop, None, tmp_path).ask() == b""
    assert b"403" in Visitor(shop, None, tmp_path).ask(path=b"/admin/x")
    assert Visitor(shop, ALICE, tmp_path).ask(path=b"/admin/x") == told(ALICE)
    entries = shop.daemon.wait_for_access(lambda entry: entry["status"] == 403, 1)
    assert entries[0]["outcome"] == "certificate_missing"


def test_a_frontend_that_nobody_can_satisfy_is_a_warning(shop: Shop) -> None:
    made = shop.files(None, shop=SERVER)
    made["kakehi.yaml"]["frontends"]["all"]["client_certificate"] = "required"
    shop.repo.commit(made)
    done = shop.daemon.run_cli("validate", str(shop.repo.directory))
    assert done.returncode == 0
    assert "no listener of it asks clients for certificates" in done.stdout + done.stderr


CONDITIONS: dict[str, dict[str, Any]] = {
    "subject": {"subjects": ["CN=alice"]},
    "name": {"names": ["alice"]},
    "fingerprint": {"fingerprints": [ALICE.certificate.fingerprint(hashes.SHA256()).hex(":")]},
    "two lists": {"subjects": ["CN=alice", "CN=carol"], "names": ["alice"]},
}


@pytest.mark.parametrize("by", CONDITIONS)
def test_a_frontend_for_some_of_those_who_are_verified(shop: Shop, by: str, tmp_path: Path) -> None:
    made = files(shop, client_auth="optional")
    document = made["kakehi.yaml"]
    document["policies"] = {"alone": {"client_certificate": CONDITIONS[by]}}
    frontends = document["frontends"]
    frontends["admin"] = {
        **frontends["all"],
        "path": {"prefix": "/admin"},
        "policies": ["alone"],
        "response_headers": {"set": {"X-Client": "{client_certificate_subject}"}},
    }
    # Whoever may ask by one of the two need not by the other.
    frontends["nobody"] = {
        **frontends["admin"],
        "path": {"prefix": "/admin/none"},
        "client_certificate": {"subjects": ["CN=bob"]},
    }
    shop.daemon.begin(made)
    assert Visitor(shop, None, tmp_path).ask() == b""
    assert b"403" in Visitor(shop, None, tmp_path).ask(path=b"/admin/x")
    alice, bob = Visitor(shop, ALICE, tmp_path), Visitor(shop, BOB, tmp_path)
    assert alice.ask(path=b"/admin/x") == told(ALICE)
    assert b"X-Client: CN=alice\r\n" in alice.head
    assert b"403" in bob.ask(path=b"/admin/x")
    for visitor in (alice, bob):
        assert b"403" in visitor.ask(path=b"/admin/none")
    # By a session that is resumed it is the same client still.
    assert alice.ask(path=b"/admin/x") == told(ALICE)
    assert alice.resumed
    entries = shop.daemon.wait_for_access(lambda entry: entry["status"] == 403, 4)
    # Of two workers, each with a log of its own.
    assert sorted(each["outcome"] for each in entries) == [
        "certificate_missing",
        *["certificate_refused"] * 3,
    ]


# A condition, a name of that kind, and names of other kinds that read alike or lead elsewhere.
KINDS: dict[str, tuple[x509.GeneralName, list[x509.GeneralName]]] = {
    "*.partners.example.com": (
        x509.DNSName("x.partners.example.com"),
        [x509.UniformResourceIdentifier("x.partners.example.com")],
    ),
    "spiffe://example.com/shop/*": (
        x509.UniformResourceIdentifier("spiffe://example.com/shop/pay"),
        [
            x509.DNSName("spiffe://example.com/shop/pay"),
            x509.UniformResourceIdentifier("spiffe://example.com/shop/../admin"),
            x509.UniformResourceIdentifier("spiffe://example.com/shop/%2e%2E/admin"),
        ],
    ),
    "bob@example.com": (x509.RFC822Name("bob@example.com"), [x509.DNSName("bob@example.com")]),
    "10.0.0.1": (
        x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
        [x509.DNSName("10.0.0.1"), x509.UniformResourceIdentifier("10.0.0.1")],
    ),
}


def test_names_are_compared_with_those_of_their_kind(shop: Shop, tmp_path: Path) -> None:
    """An authority that looks closely at one kind may let anything pass in another."""
    made = files(shop, client_auth="optional")
    frontends = made["kakehi.yaml"]["frontends"]
    for number, condition in enumerate(KINDS):
        frontends[f"kind-{number}"] = {
            **frontends["all"],
            "path": {"prefix": f"/{number}"},
            "client_certificate": {"names": [condition]},
        }
    shop.daemon.begin(made)
    for number, (right, wrong) in enumerate(KINDS.values()):
        for name in (right, *wrong):
            pair = pki.make("client.test", issuer=CA, also=[name])
            answer = Visitor(shop, pair, tmp_path).ask(path=f"/{number}/x".encode())
            assert (b"403" not in answer) == (name is right), name


def named(*levels: list[tuple[x509.ObjectIdentifier, str]]) -> Pair:
    """Somebody whose subject has these levels."""
    made = [
        x509.RelativeDistinguishedName([x509.NameAttribute(*each) for each in level])
        for level in levels
    ]
    return pki.make("odd.test", issuer=CA, subject=x509.Name(made))


ODD = {
    "letters": named([(NameOID.ORGANIZATION_NAME, "Shop")], [(NameOID.COMMON_NAME, "Müller")]),
    "mailbox": named([(NameOID.COMMON_NAME, "m")], [(NameOID.EMAIL_ADDRESS, "m@x.test")]),
    "number": named([(NameOID.SERIAL_NUMBER, "12")], [(NameOID.COMMON_NAME, "m")]),
    "names": named([(NameOID.TITLE, "Dr")], [(NameOID.GIVEN_NAME, "A")], [(NameOID.SURNAME, "B")]),
    "two of a level": named(
        [(NameOID.ORGANIZATIONAL_UNIT_NAME, "b"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "a")],
        [(NameOID.COMMON_NAME, "m")],
    ),
    "special": named([(NameOID.COMMON_NAME, ' #a,b+"c"<d>;e=f\\ ')]),
    "hash": named([(NameOID.COMMON_NAME, "#a")]),
    "pseudonym": named([(NameOID.PSEUDONYM, "p")], [(NameOID.COMMON_NAME, "m")]),
    "of no name": named([(x509.ObjectIdentifier("1.2.3.4"), "p")], [(NameOID.COMMON_NAME, "m")]),
    "of others": named([(NameOID.USER_ID, "u")], [(NameOID.DOMAIN_COMPONENT, "x")]),
}


def printed(pair: Pair) -> str:
    """The subject as openssl prints it."""
    command = ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253"]
    done = subprocess.run(command, input=pair.pem, capture_output=True, check=True)
    return done.stdout.decode().removeprefix("subject=").removesuffix("\n")


def test_a_subject_is_what_openssl_prints(shop: Shop, tmp_path: Path) -> None:
    made = files(shop)
    frontends = made["kakehi.yaml"]["frontends"]
    for number, pair in enumerate(ODD.values()):
        frontends[f"f{number}"] = {
            **frontends["all"],
            "path": {"prefix": f"/{number}"},
            "client_certificate": {"subjects": [printed(pair)]},
        }
    shop.daemon.begin(made)
    for number, (name, pair) in enumerate(ODD.items()):
        path = b"/%d" % number
        assert Visitor(shop, pair, tmp_path).ask(path=path) == told(pair), (name, printed(pair))
        assert b"403" in Visitor(shop, BOB, tmp_path).ask(path=path), name
