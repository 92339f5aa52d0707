"""What is said about files of users: a line, a way out, and never a hash."""

from __future__ import annotations

import pytest

from reconciler.materials import htpasswd

BCRYPT = "$2y$%s$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
ARGON2 = "$argon2id$v=19$m=%s$YWJjZGVmZ2hpamtsbW5vcA$wzXqI0+MZm8tULXm5YNy8Rb0PI7R+XD/RGoGDemb1sE"
APR1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"


def said(text: str) -> list[str]:
    return [each.message for each in htpasswd.check(text.encode(), "users")]


@pytest.mark.parametrize(
    "hashed",
    [
        ARGON2 % "64,t=2,p=1",
        ARGON2 % "65536,t=4,p=4",
        BCRYPT % "05",
        BCRYPT % "12",
        f"$6$abcdefgh${'a' * 86}",
        f"$5$rounds=200000$abcdefgh${'a' * 43}",
    ],
)
def test_what_is_a_hash(hashed: str) -> None:
    assert said(f"# users\r\n\nuser:{hashed}\r\n") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("user", "line 1: expected USER:HASH"),
        (f":{APR1}", "line 1: expected USER:HASH"),
        ("user:abcdefgh", "line 1: it is no hash, but perhaps the password itself: taken are"),
        ("user:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "line 1: it is SHA-1 without salt"),
        ("user:{SSHA}MTIzNDU2Nzg5MDEyMzQ1Njc4OTBhYmNk", "line 1: it is salted SHA-1: taken are"),
        ("user:{PLAIN}secret", "line 1: it is the password itself: taken are"),
        ("user:{CRYPT}abJnggxhB/yWI", "line 1: it is a scheme of LDAP's"),
        ("user:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "line 1: it is MD5-crypt: taken are"),
        ("user:$y$j9T$abcdefgh$" + "a" * 43, "line 1: it is yescrypt"),
        ("user:$7$CU..../....abc$def", "line 1: it is scrypt"),
        ("user:abJnggxhB/yWI", "line 1: it is crypt of DES (htpasswd -d), or the password"),
        ("user:" + "a1" * 16, "line 1: it is plain MD5"),
        ("user:$2x$10$" + "a" * 53, "line 1: it is bcrypt that is not whole, or of a variant"),
        ("user:$argon2id$v=19$m=65536", "line 1: it is argon2 that is not whole"),
        (f"user:{ARGON2 % '65536,t=5,p=1'}", "line 1: argon2 of 65536 KiB and 5 passes"),
        (f"user:{ARGON2 % '7,t=1,p=1'}", "line 1: argon2 has 8 KiB a lane"),
        (f"user:{BCRYPT % '13'}", "line 1: bcrypt of cost 13 takes too long: at most 12"),
        (f"user:$6$rounds=656000$abcdefgh${'a' * 86}", "line 1: SHA-crypt of 656000 rounds"),
        (f"user:$6$abcdefgh${'a' * 43}", "line 1: it is SHA-crypt that is not whole"),
        (f"a:{APR1}\na:{APR1}", "line 2: the user is there twice"),
        ("# nobody", "there is no user in it"),
    ],
)
def test_what_is_none(line: str, message: str) -> None:
    found = said(line)
    assert found[0].startswith(message)
    assert not any("abcdefgh" in each for each in found)


def test_a_weak_hash_is_warned_of() -> None:
    [found] = htpasswd.check(f"user:{APR1}".encode(), "users")
    assert (found.severity, found.hint) == ("warning", "write them anew by htpasswd -B")


def test_not_every_line_is_told() -> None:
    found = said("\n".join(f"u{number}:x" for number in range(20)))
    assert len(found) == 6
    assert found[-1] == "and 15 lines more are wrong"
