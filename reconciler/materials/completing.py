"""Completes entities by the content of the files that they name.

`complete` reads and checks what an entity refers to, and puts path and hash into
the value. Called by `reconciler.catalog`.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import UnreadableError
from reconciler.language.findings import Remark
from reconciler.language.foreign import EXPANDED_BEFORE, is_template
from reconciler.materials import htpasswd, jwks
from reconciler.materials.reading import Reader
from reconciler.materials.sealed import Keyring, SealedError, is_sealed
from reconciler.presence import found_at
from reconciler.stalling import answer_of
from schemas.base import Kind
from schemas.entities.entity import Entity, EntityKey
from schemas.entities.material import (
    FIELDS,
    TRUSTED_AT_FETCHES,
    TRUSTED_AT_ORDERS,
    File,
    file_at,
    may_name_files,
    value_at,
    with_file,
)
from schemas.entities.secrecy import is_secret
from schemas.kinds.certificate import Certificate
from schemas.kinds.registry import MODELS
from schemas.policies.jwt import KeySet
from schemas.record import record
from schemas.values.content import BODY_BYTES_MAX

if TYPE_CHECKING:
    from cryptography import x509


Served = Callable[[str, str], bool]
"""Whether a file, by its path, was served with a content, by its hash."""


def never(_path: str, _digest: str) -> bool:
    """Tell so for whoever serves nothing."""
    return False


def always(_path: str, _digest: str) -> bool:
    """Tell so for what is compared with what was served, or is all that is left of it."""
    return True


@record
class Machine:
    """What this machine has beside the files; nothing, for whoever only looks at them."""

    keyring: Keyring | None = None
    """Opens keys that are sealed; None leaves them unopened."""
    issued: Path | None = None
    """Where certificates lie that were ordered."""
    fetched: Path | None = None
    """Where sets of keys lie that were fetched."""
    served: Served = never
    """A certificate that was served is served on when it has expired."""

    def issued_path(self, name: str) -> str | None:
        """Return the file with the chain and the key of a certificate that was ordered."""
        return str(self.issued / f"{name}.pem") if self.issued else None

    def fetched_path(self, url: str, ca: str | None) -> str | None:
        """Return where a set of keys is put, which is one for all who trust the same authorities.

        Who vouches for it belongs to what it is: nobody's tokens are let in at another's word.
        """
        # No URL has a space.
        named = url if ca is None else f"{url} {ca}"
        name = hashlib.sha256(named.encode()).hexdigest()[:_NAME_DIGITS]
        return str(self.fetched / f"{name}.json") if self.fetched else None


NOTHING_HERE = Machine()


_NO_PEM = {"file", "keys", "users"}
_NAME_DIGITS = 32


class Completed:
    """What became of one entity: None is what has errors."""

    def __init__(self) -> None:
        self.entity: Entity | None = None
        self.remarks: list[Remark] = []
        self.contents: dict[str, bytes] = {}


def is_ordered(entity: Entity) -> bool:
    """Whether a certificate comes from an ACME server."""
    return entity.key.kind == "certificate" and entity.typed(Certificate).acme is not None


class FetchedFile(NamedTuple):
    """A file of an entity that comes from a URL."""

    field: tuple[str, ...]
    file: KeySet
    url: str
    ca: str | None
    """The file with whom to trust."""


def fetched_files(entity: Entity) -> Iterator[FetchedFile]:
    """Yield the files of an entity that come from URLs."""
    for field in FIELDS.get(entity.key.kind, ()):
        found = value_at(entity.value, field)
        if isinstance(found, dict) and "url" in found:
            ca = value_at(entity.value, (*field[:-1], TRUSTED_AT_FETCHES[-1]))
            named = str(ca) if ca is not None else None
            yield FetchedFile(field, KeySet.of_value(found), str(found["url"]), named)


def with_fetched(entity: Entity, former: Callable[[EntityKey], Entity | None]) -> Entity:
    """Return an entity with what a former one had of the same sets, where nothing is there now.

    `former` is asked for those alone that name URLs.
    """
    fetched = list(fetched_files(entity))
    before = former(entity.key) if fetched else None
    known = {(it.url, it.ca): it.file for it in fetched_files(before)} if before else {}
    for each in fetched:
        kept = known.get((each.url, each.ca))
        if each.file.sha256 is None and kept is not None:
            model = with_file(entity.typed(MODELS[entity.key.kind]), each.field, kept)
            entity = Entity.of(entity.key, model, entity.provenance)
    return entity


def complete(entity: Entity, read: Reader, machine: Machine = NOTHING_HERE) -> Completed:
    """Return the entity with hashes beside its paths; as it is, if it names no files."""
    done = Completed()
    done.entity = entity
    if not may_name_files(entity):
        return done
    if is_ordered(entity):
        return _complete_ordered(entity, read, machine)
    done.remarks += _check_trusted(entity, TRUSTED_AT_FETCHES, read)
    model: Kind = entity.typed(MODELS[entity.key.kind])
    found: dict[str, bytes] = {}
    places: dict[str, tuple[str, str]] = {}
    fetched = {it.field: machine.fetched_path(it.url, it.ca) for it in fetched_files(entity)}
    warnings: list[Remark] = []
    for field in FIELDS[entity.key.kind]:
        file = file_at(model, field)
        if file is None:
            continue
        path = fetched.get(field, file.path)
        content = _content(file, path, field[-1], read, done)
        if path is None or content is None:
            continue
        is_key = is_secret(entity.key.kind, (*field, "sha256"))
        sealed, checked = is_key and is_sealed(content), True
        if sealed:
            if machine.keyring is None:
                message = f"{path}: the key is encrypted: whether it fits is not looked at here"
                warnings.append(Remark("warning", field[-1], message))
                checked = False
            else:
                try:
                    content = machine.keyring.opened(content)
                except SealedError as error:
                    done.remarks.append(Remark("error", field[-1], f"{path}: {error}", error.hint))
                    continue
        digest = hashlib.sha256(content).hexdigest()
        done.contents[digest] = content
        places[field[-1]] = (path, digest)
        if checked:
            found[field[-1]] = content
        is_clear = is_key and not sealed and b"PRIVATE KEY-----" in content
        if is_clear and path.startswith("/") and _is_open_to_all(path):
            message = f"{path}: every user of this machine can read the private key"
            warnings.append(Remark("warning", field[-1], message, f"chmod o-r {path}"))
        model = with_file(model, field, file.model_copy(update={"path": path, "sha256": digest}))
    if found and not done.remarks:
        served = partial(machine.served, *places.get("certificate", ("", "")))
        model = _check(model, found, done.remarks, served)
    done.remarks += warnings
    failed = any(remark.severity == "error" for remark in done.remarks)
    done.entity = None if failed else Entity.of(entity.key, model, entity.provenance)
    return done


def _content(
    file: File, path: str | None, field: str, read: Reader, done: Completed
) -> bytes | None:
    """Return what is in a file; None if it cannot be read, which is said of `done`."""
    if path is None:
        return None
    try:
        return read(path)
    except UnreadableError as error:
        # What is to be fetched is nobody's fault while it is not there.
        if not isinstance(file, KeySet) or file.url is None:
            hint = _unread_hint(path, error)
            done.remarks.append(Remark("error", field, f"{path}: {error}", hint))
        return None


def _check_body(content: bytes, remarks: list[Remark]) -> None:
    """Look at a file that is sent as an answer."""
    if len(content) > BODY_BYTES_MAX:
        message = f"the file has {len(content)} bytes; an answer may have {BODY_BYTES_MAX}"
        hint = "every worker holds it, and sends it in one piece: serve large files by a cluster"
        remarks.append(Remark("error", "file", message, hint))


def _complete_ordered(entity: Entity, read: Reader, machine: Machine) -> Completed:
    """Complete a certificate by what was issued, if anything was: the rest is not its fault."""
    from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

    done = Completed()
    done.remarks += _check_trusted(entity, TRUSTED_AT_ORDERS, read)
    if done.remarks:
        return done
    done.entity = entity
    path = machine.issued_path(entity.key.name)
    if path is None:
        return done
    try:
        content = read(path)
        chain = pem.read_chain(content)
    except (UnreadableError, ValueError):
        return done
    if pem.check_key(chain, content):
        return done
    digest = hashlib.sha256(content).hexdigest()
    done.contents[digest] = content
    file = File(path=path, sha256=digest)
    issued = {"certificate": file, "private_key": file}
    model = entity.typed(Certificate).model_copy(update=issued)
    done.entity = Entity.of(entity.key, model, entity.provenance)
    return done


def _check_trusted(entity: Entity, at: tuple[str, ...], read: Reader) -> list[Remark]:
    """Look at the authorities by which another server is trusted: whoever asks it reads them."""
    path = value_at(entity.value, at)
    if not isinstance(path, str):
        return []
    from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

    try:
        remarks = pem.check_authorities(read(path), at[-1])
    except UnreadableError as error:
        remarks = [Remark("error", at[-1], str(error), _unread_hint(path, error))]
    return [replace(each, message=f"{path}: {each.message}") for each in remarks]


def _unread_hint(path: str, error: UnreadableError) -> str | None:
    return EXPANDED_BEFORE if is_template(path) else error.hint


def _check(
    model: Kind, found: dict[str, bytes], remarks: list[Remark], served: Callable[[], bool]
) -> Kind:
    """Look into the files; fills in what the entity has by them."""
    if "file" in found:
        _check_body(found["file"], remarks)
    if "users" in found:
        remarks += htpasswd.check(found["users"], "users")
    if "keys" in found:
        remarks += jwks.check(found["keys"], "keys")
    if found.keys() <= _NO_PEM:
        return model
    return _check_pem(model, found, remarks, served)


def _check_pem(
    model: Kind, found: dict[str, bytes], remarks: list[Remark], served: Callable[[], bool]
) -> Kind:
    """Look into certificates and keys; fills in the hostnames that a certificate has by itself."""
    from reconciler.materials import pem  # noqa: PLC0415  # 50 ms, and most have no certificates

    for field in ("ca", "client_ca"):
        if field in found:
            remarks += pem.check_authorities(found[field], field)
    if "client_crl" in found:
        remarks += pem.check_revocations(found["client_crl"], found["client_ca"], pem.utc_now())
    if "certificate" not in found:
        return model
    if pem.are_swapped(found["certificate"], found.get("private_key", b"")):
        message = "certificate and private_key are swapped: each names the other's file"
        remarks.append(Remark("error", "certificate", message, "exchange the two paths"))
        return model
    try:
        chain = pem.read_chain(found["certificate"])
    except ValueError as error:
        remarks.append(Remark("error", "certificate", str(error)))
        return model
    remarks += pem.check_chain(chain, pem.utc_now(), served)
    if "private_key" in found:
        remarks += pem.check_key(chain, found["private_key"])
    if not isinstance(model, Certificate):
        return model
    if model.ocsp is not None and "ocsp" in found:
        until = _staple_until(chain, found["ocsp"], remarks)
        staple = model.ocsp.model_copy(update={"until": until})
        model = model.model_copy(update={"ocsp": staple})
    if model.hostnames is not None:
        remarks += pem.check_names(chain, model.hostnames)
        return model
    own = pem.dns_names(chain[0])
    if not own:
        message = "the certificate has no DNS name, so that nobody can ask for it"
        remarks.append(Remark("error", "hostnames", message, "give hostnames:"))
    return model.model_copy(update={"hostnames": own})


def _staple_until(chain: list[x509.Certificate], content: bytes, remarks: list[Remark]) -> int:
    """Look into an OCSP response: until when it says something."""
    from reconciler.materials import ocsp, pem  # noqa: PLC0415  # 50 ms, and most have no certificates

    until, about = ocsp.check(content, chain, pem.utc_now())
    remarks += about
    return until


def _is_open_to_all(path: str) -> bool:
    found = answer_of(path, found_at, None)
    return found is not None and bool(found.st_mode & stat.S_IROTH)
