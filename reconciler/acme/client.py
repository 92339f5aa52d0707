"""Orders one certificate from an ACME server (RFC 8555), with the `acme` package. Blocking.

What is to be ordered, the account and where answers are given are the caller's, which runs this in
a thread: `reconciler.acme.certifying`. Every failure is an `OrderError` with a sentence.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import josepy.errors
import requests
from acme import challenges, client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC

from reconciler import log
from reconciler.acme.accounts import path_of
from reconciler.acme.order import Order, OrderError
from reconciler.durable import make_own_directory, rename_durably, replace_durably
from reconciler.errors import UnreadableError
from reconciler.materials.pem import check_authorities
from reconciler.materials.reading import read_external
from reconciler.presence import is_file
from schemas.messages.challenges import ChallengeAnswers
from schemas.messages.files import read_regular

NETWORK_TIMEOUT_S = 30
ORDER_TIMEOUT = timedelta(minutes=3)
_AGENT = "kakehi"
_one_account = threading.Lock()

# id-pe-acmeIdentifier (RFC 8737 §3); its value is an OCTET STRING of 32 bytes.
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
_OCTETS_32 = b"\x04\x20"

Publish = Callable[[ChallengeAnswers], None]
"""Has every worker give these answers before it returns. Raises `OrderError`."""


@challenges.ChallengeResponse.register
class _TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@challenges.Challenge.register
class _TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """The package has none any more."""

    typ = "tls-alpn-01"
    response_cls = _TlsAlpn01Response

    def validation(self, account_key: JWK, **_unused: Any) -> str:
        return self.key_authorization(account_key)


def obtain(order: Order, accounts: Path, publish: Publish) -> bytes:
    """Return the chain and a new private key, in one PEM file. Raises `OrderError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    with _sentences(order), _trusted(order) as trusted:
        account = JWKEC(key=account_key(order, accounts))
        acme = _client(order, trusted, account)
        _register(order, acme)
        pending = acme.new_order(_request(order, key))
        answers, chosen = _answers(order, pending, account)
        try:
            if chosen:
                publish(answers)
            for each in chosen:
                acme.answer_challenge(each, each.response(account))
            deadline = datetime.now() + ORDER_TIMEOUT  # noqa: DTZ005  # as the package counts
            issued = acme.poll_and_finalize(pending, deadline)
        finally:
            if chosen:
                publish(ChallengeAnswers())
    return _key_pem(key) + issued.fullchain_pem.encode()


def suggested_renewal(order: Order, pem: bytes) -> tuple[datetime | None, datetime]:
    """Ask the authority when to renew (RFC 9773), and when to ask again. Raises `OrderError`."""
    leaf = x509.load_pem_x509_certificates(pem)[0]
    with _sentences(order), _trusted(order) as trusted:
        acme = _client(order, trusted)
        at, again = acme.renewal_time(leaf.public_bytes(serialization.Encoding.PEM))
    return at.astimezone(UTC) if at else None, again.astimezone(UTC)


def _client(order: Order, trusted: str | bool, account: JWK | None = None) -> client.ClientV2:
    net = client.ClientNetwork(account, alg=ES256, user_agent=_AGENT, timeout=NETWORK_TIMEOUT_S)
    # A path is taken too, which the type does not tell.
    net.verify_ssl = trusted  # type: ignore[assignment]
    return client.ClientV2(client.ClientV2.get_directory(order.directory, net), net)


def _register(order: Order, acme: client.ClientV2) -> None:
    """Make the account, or find the one that there is."""
    contact = tuple(f"mailto:{address}" for address in order.contact)
    wanted = messages.NewRegistration(contact=contact, terms_of_service_agreed=True)
    try:
        acme.new_account(wanted)
    except errors.ConflictError as known:
        found = messages.RegistrationResource(uri=known.location, body=messages.Registration())
        acme.query_registration(found)


@contextlib.contextmanager
def _trusted(order: Order) -> Iterator[str | bool]:
    """The authorities to trust, as what is below takes them. Raises `OrderError`.

    A file that is named is read here, within bounds: what is below would wait for a pipe for ever,
    and has no word for what it cannot read. It gets a path that lasts for as long as the order.
    """
    if order.ca is None:
        yield _system_authorities()
        return
    try:
        content = read_external(order.ca)
    except UnreadableError as error:
        raise OrderError(f"{order.ca}: {error}") from None
    for remark in check_authorities(content, "ca"):
        raise OrderError(f"{order.ca}: {remark.message}")
    with os.fdopen(os.memfd_create("acme-authorities", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _system_authorities() -> str | bool:
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, paths.openssl_cafile, "/etc/ssl/certs/ca-certificates.crt"):
        if path and is_file(path):
            return path
    return True


def account_key(order: Order, accounts: Path) -> ec.EllipticCurvePrivateKey:
    """The key of the account at this authority, made when there is none. Raises `OSError`.

    One at a time: the first orders of several certificates run side by side, and share an account.
    """
    with _one_account:
        return _account_key(order, accounts)


def _account_key(order: Order, accounts: Path) -> ec.EllipticCurvePrivateKey:
    path = path_of(order, accounts)
    try:
        found = serialization.load_pem_private_key(read_regular(path), None)
        if isinstance(found, ec.EllipticCurvePrivateKey):
            return found
        _set_aside(path, "it is no key on a curve")
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        _set_aside(path, str(error))
    key = ec.generate_private_key(ec.SECP256R1())
    make_own_directory(accounts)
    replace_durably(path, _key_pem(key))
    return key


def _set_aside(path: Path, reason: str) -> None:
    """Somebody may be able to mend it, and shall know that the account is another one now."""
    aside = path.with_suffix(".damaged")
    rename_durably(path, aside)
    log.warning("an account key is damaged, a new account is made", kept=aside, reason=reason)


def _request(order: Order, key: ec.EllipticCurvePrivateKey) -> bytes:
    names = x509.SubjectAlternativeName([x509.DNSName(name) for name in order.hostnames])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def _answers(
    order: Order, pending: messages.OrderResource, key: JWK
) -> tuple[ChallengeAnswers, list[messages.ChallengeBody]]:
    """What has to be answered, and the challenges for which the authority then looks."""
    answers, chosen = ChallengeAnswers(), []
    for authorization in pending.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        hostname = authorization.body.identifier.value
        offered = {each.chall.typ: each for each in authorization.body.challenges}
        found = offered.get(order.challenge)
        if found is None:
            raise OrderError(f"the authority does not offer {order.challenge} for {hostname}")
        proof = found.key_authorization(key)
        if order.challenge == "http-01":
            answers.http[found.chall.encode("token")] = proof
        else:
            answers.tls[hostname] = _shown(hostname, proof)
        chosen.append(found)
    return answers, chosen


def _shown(hostname: str, proof: str) -> tuple[str, str]:
    """The certificate by which tls-alpn-01 is answered, and its key (RFC 8737 §3)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    value = _OCTETS_32 + hashlib.sha256(proof.encode()).digest()
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, value), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    return chain.decode(), _key_pem(key).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextlib.contextmanager
def _sentences(order: Order) -> Iterator[None]:
    """Turns what the packages raise into one sentence for status and log."""
    try:
        yield
    except errors.ValidationError as error:
        raise OrderError(_refusals(error)) from None
    except (messages.Error, errors.IssuanceError) as error:
        problem = error.error if isinstance(error, errors.IssuanceError) else error
        raise OrderError(_problem(problem)) from None
    except errors.TimeoutError:
        raise OrderError("the authority did not come to an end in time") from None
    except requests.RequestException as error:
        raise OrderError(f"{order.directory} cannot be reached: {_reason(error)}") from None
    except (errors.Error, josepy.errors.Error, OSError, ValueError, KeyError) as error:
        raise OrderError(f"{type(error).__name__}: {error}") from None


def _reason(failed: requests.RequestException) -> str:
    """What was wrong with the connection, by the innermost error that has a word for it."""
    if isinstance(failed, requests.Timeout):
        return "no answer in time"
    reason = ""
    inner = failed.__cause__ or failed.__context__
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate does not verify: {inner.verify_message}"
        if isinstance(inner, OSError) and inner.strerror:
            reason = inner.strerror.lower()
        inner = inner.__cause__ or inner.__context__
    return reason or type(failed).__name__


def _refusals(failed: errors.ValidationError) -> str:
    """What the authority found when it looked."""
    reasons = [
        f"{authorization.body.identifier.value}: {_problem(each.error)}"
        for authorization in failed.failed_authzrs
        for each in authorization.body.challenges
        if each.error is not None
    ]
    return "; ".join(reasons) or "the authority did not find the answer"


def _problem(problem: messages.Error) -> str:
    return str(problem.detail or problem.title or problem.typ)
