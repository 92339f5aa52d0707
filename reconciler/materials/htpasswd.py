"""Looks into files of users, as `htpasswd` writes them: names, and hashes of passwords.

The engine takes what is taken here (`proxy/engine/src/policy/guards/passwords.rs`). What is said
names a line, and never a hash. Called by `completing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.language.findings import Remark

BCRYPT_COST_MAX = 12
SHA_ROUNDS_MAX = 200_000
ARGON2_KIB_MAX = 65_536
ARGON2_WORK_MAX = 4 * ARGON2_KIB_MAX
"""KiB times passes."""
USERS_MAX = 1000
_TOLD_MAX = 5

_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./0-9A-Za-z]{53}")
_SHA = re.compile(
    r"\$(?:5\$(?:rounds=([0-9]+)\$)?[^$:]*\$[./0-9A-Za-z]{43}"
    r"|6\$(?:rounds=([0-9]+)\$)?[^$:]*\$[./0-9A-Za-z]{86})"
)
_ARGON2 = re.compile(
    r"\$argon2(?:d|i|id)(?:\$v=(?:16|19))?\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,3})"
    r"\$[A-Za-z0-9+/]{11,64}\$[A-Za-z0-9+/]{14,86}"
)
_NOT_TAKEN = (
    (r"\{SHA\}", "SHA-1 without salt (htpasswd -s)"),
    (r"\{SSHA\}", "salted SHA-1"),
    (r"\{(?:PLAIN|CLEARTEXT)\}", "the password itself"),
    (r"\{[A-Za-z0-9._-]{1,32}\}", "a scheme of LDAP's"),
    (r"\$1\$", "MD5-crypt"),
    (r"\$(?:y|gy)\$", "yescrypt"),
    (r"\$(?:7|scrypt|s0)\$", "scrypt"),
    (r"\$pbkdf2", "PBKDF2"),
    (r"\$(?:3|NT)\$", "an NT hash"),
    (r"\$argon2", "argon2 that is not whole, or written in another way"),
    (r"\$2[a-z]?\$", "bcrypt that is not whole, or of a variant with a fault"),
    (r"\$[56]\$", "SHA-crypt that is not whole"),
    (r"\$apr1\$", "apr1 that is not whole"),
    (r"[./0-9A-Za-z]{13}\Z", "crypt of DES (htpasswd -d), or the password itself"),
    (r"[0-9A-Fa-f]{32}\Z", "plain MD5, as of digest authentication"),
)
"""How others begin; what is none of these is taken for the password itself."""
_APR1 = re.compile(r"\$apr1\$[^$]{0,8}\$[./0-9A-Za-z]{22}")


def check(content: bytes, field: str) -> list[Remark]:
    """Return what is to be said about a file of users."""
    remarks = [Remark("error", field, message, hint) for message, hint in _faults(content)]
    if not remarks and b":$apr1$" in content:
        message = "some passwords are hashed by apr1, which is guessed quickly"
        remarks.append(Remark("warning", field, message, "write them anew by htpasswd -B"))
    if len(remarks) > _TOLD_MAX:
        more = Remark("error", field, f"and {len(remarks) - _TOLD_MAX} lines more are wrong")
        remarks = [*remarks[:_TOLD_MAX], more]
    return remarks


def _faults(content: bytes) -> Iterator[tuple[str, str | None]]:
    known: set[bytes] = set()
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        user, colon, hashed = text.partition(b":")
        if not colon or not user:
            yield f"line {number}: expected USER:HASH", "htpasswd -B FILE USER writes one"
            continue
        if user in known:
            yield f"line {number}: the user is there twice", None
        known.add(user)
        found = _fault_of(hashed.decode("utf-8", "replace"))
        if found is not None:
            message, hint = found
            yield f"line {number}: {message}", hint
    if not known:
        yield "there is no user in it", "htpasswd -B FILE USER writes one"
    if len(known) > USERS_MAX:
        yield f"there are {len(known)} users; at most {USERS_MAX}", None


def _fault_of(hashed: str) -> tuple[str, str | None] | None:
    bcrypt, sha = _BCRYPT.fullmatch(hashed), _SHA.fullmatch(hashed)
    argon = _ARGON2.fullmatch(hashed)
    again = "write it anew by htpasswd -B"
    if bcrypt is not None:
        if 4 <= int(bcrypt[1]) <= BCRYPT_COST_MAX:
            return None
        return f"bcrypt of cost {bcrypt[1]} takes too long: at most {BCRYPT_COST_MAX}", again
    if sha is not None:
        rounds = sha[1] or sha[2]
        if rounds is None or 1000 <= int(rounds) <= SHA_ROUNDS_MAX:
            return None
        return f"SHA-crypt of {rounds} rounds: expected 1000 to {SHA_ROUNDS_MAX}", again
    if argon is not None:
        return _fault_of_argon2(*map(int, argon.groups()))
    if _APR1.fullmatch(hashed):
        return None
    kind = next((name for begin, name in _NOT_TAKEN if re.match(begin, hashed)), None)
    # Never what is there: it may be a password.
    named = f"it is {kind}" if kind else "it is no hash, but perhaps the password itself"
    way_out = "htpasswd -B FILE USER asks for the password, and writes bcrypt"
    return f"{named}: taken are argon2, bcrypt, SHA-crypt and apr1", way_out


def _fault_of_argon2(kib: int, passes: int, lanes: int) -> tuple[str, str | None] | None:
    if not lanes or not passes or kib < 8 * lanes:
        return "argon2 has 8 KiB a lane, a pass and a lane at least", None
    if kib > ARGON2_KIB_MAX or kib * passes > ARGON2_WORK_MAX:
        message = f"argon2 of {kib} KiB and {passes} passes takes too much"
        return message, f"at most m={ARGON2_KIB_MAX} with t={ARGON2_WORK_MAX // ARGON2_KIB_MAX}"
    return None
