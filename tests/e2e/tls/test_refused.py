"""A broken certificate is refused with its place and its reason; the old one goes on serving."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.harness import pki
from tests.harness.repo import Content
from tests.harness.site import WAIT_S
from tests.harness.tlssite import TlsSite, pem_files

REFUSED, INVALID = 6, 3
_NAMES = ["www.test"]


@dataclass
class Trial:
    """What is committed, what must be said of it, and on which line of `extra.yaml`."""

    files: dict[str, Content]
    message: str
    line: int = 3
    column: int = 18


Make = Callable[[TlsSite], Trial]
TRIALS: dict[str, Make] = {}


def trial(make: Make) -> Make:
    TRIALS[make.__name__] = make
    return make


def extra(certificate: str = "new/shop.crt", key: str = "new/shop.key", more: str = "") -> str:
    return f"certificates:\n  new:\n    certificate: {certificate}\n    private_key: {key}\n{more}"


def _files(pair: pki.Pair, **changed: Content) -> dict[str, Content]:
    """`changed` by the ending of the file's name."""
    found: dict[str, Content] = {"extra.yaml": extra()}
    found |= pem_files({"shop": pair}, "new")
    for ending, content in changed.items():
        found[f"new/shop.{ending}"] = content
    return found


@trial
def a_key_of_another_certificate(site: TlsSite) -> Trial:
    other = site.leaf(*_NAMES)
    return Trial(_files(site.leaf(*_NAMES), key=other.key.decode()), "not that of CN=www", line=4)


@trial
def a_key_of_another_kind(site: TlsSite) -> Trial:
    other = site.leaf(*_NAMES, kind="rsa")
    return Trial(_files(site.leaf(*_NAMES), key=other.key.decode()), "not that of CN=www", line=4)


@trial
def an_expired_certificate(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES, days=-0.1)), r"expired on 20\d\d-\d\d-\d\d")


@trial
def a_certificate_of_the_future(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES, starts_in_days=2)), "not valid before")


@trial
def an_expired_intermediate(site: TlsSite) -> Trial:
    intermediate = pki.make("old intermediate", issuer=site.authority, is_ca=True, days=-0.1)
    return Trial(_files(pki.make(*_NAMES, issuer=intermediate)), "expired on")


@trial
def junk_instead_of_a_certificate(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES), crt="this is no PEM file\n"), "no PEM certificate")


@trial
def an_empty_certificate(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES), crt=""), "no PEM certificate")


@trial
def junk_within_the_armour(site: TlsSite) -> Trial:
    armour = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n"
    return Trial(_files(site.leaf(*_NAMES), crt=armour), "cannot be parsed")


@trial
def half_a_certificate(site: TlsSite) -> Trial:
    """What a reader finds that comes while somebody writes."""
    pair = site.leaf(*_NAMES)
    chain = pair.pem.decode()
    return Trial(_files(pair, crt=chain[: len(chain) // 2]), "certificate")


@trial
def junk_instead_of_a_key(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES), key="junk\n"), "no PEM private key", line=4)


@trial
def certificate_and_key_the_wrong_way_round(site: TlsSite) -> Trial:
    pair = site.leaf(*_NAMES)
    files = _files(pair, crt=pair.key.decode(), key=pair.chain.decode())
    return Trial(files, "certificate and private_key are swapped")


@trial
def an_encrypted_key(site: TlsSite) -> Trial:
    pair = site.leaf(*_NAMES)
    key = pki.private_pem(pair.private_key, b"password").decode()
    return Trial(_files(pair, key=key), "encrypted", line=4)


@trial
def a_chain_out_of_order(site: TlsSite) -> Trial:
    intermediate = pki.make("intermediate", issuer=site.authority, is_ca=True)
    pair = pki.make(*_NAMES, issuer=intermediate)
    chain = pair.pem + site.authority.pem + intermediate.pem
    return Trial(_files(pair, crt=chain.decode()), "out of order")


@trial
def the_leaf_last(site: TlsSite) -> Trial:
    pair = site.leaf(*_NAMES)
    chain = site.authority.pem + pair.pem
    return Trial(_files(pair, crt=chain.decode()), "out of order")


@trial
def a_weak_key(site: TlsSite) -> Trial:
    return Trial(_files(site.leaf(*_NAMES, kind="rsa", bits=1024)), "1024 bits")


@trial
def a_missing_certificate(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    del files["new/shop.crt"]
    return Trial(files, r"new/shop\.crt.*not in the commit")


@trial
def a_missing_key(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    del files["new/shop.key"]
    return Trial(files, r"new/shop\.key.*not in the commit", line=4)


@trial
def a_missing_file_of_the_machine(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    path = site.directory / "nowhere" / "shop.key"
    files["extra.yaml"] = extra(key=str(path))
    return Trial(files, r"nowhere/shop\.key", line=4)


@trial
def a_directory_instead_of_a_file(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    files["extra.yaml"] = extra(key=str(site.directory))
    return Trial(files, "directory", line=4)


@trial
def a_device_that_never_ends(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    files["extra.yaml"] = extra(key="/dev/zero")
    return Trial(files, "no regular file", line=4)


@trial
def a_path_out_of_the_repository(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    files["extra.yaml"] = extra(key="../shop.key")
    return Trial(files, "no plain path", line=4)


@trial
def a_name_that_is_not_covered(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    files["extra.yaml"] = extra(more="    hostnames: [www.test, other.test]\n")
    return Trial(files, r"not valid for other\.test", line=5, column=16)


@trial
def a_wildcard_that_is_not_covered(site: TlsSite) -> Trial:
    files = _files(site.leaf(*_NAMES))
    files["extra.yaml"] = extra(more="    hostnames: ['*.test']\n")
    return Trial(files, r"not valid for \*\.test", line=5, column=16)


@trial
def two_labels_under_a_wildcard(site: TlsSite) -> Trial:
    files = _files(site.leaf("*.shop.test"))
    files["extra.yaml"] = extra(more="    hostnames: [a.b.shop.test]\n")
    return Trial(files, r"not valid for a\.b\.shop\.test", line=5, column=16)


@trial
def an_unknown_default_certificate(site: TlsSite) -> Trial:
    text = (
        f"listeners:\n  more:\n    address: '{site.address.rpartition(':')[0]}:1'\n"
        "    protocol: https\n    tls: {default_certificate: nobody}\n"
    )
    return Trial({"extra.yaml": text}, "nobody", line=5, column=0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsSite]:
    with TlsSite(tmp_path_factory.mktemp("refused")) as made:
        made.start(made.files({"shop": made.leaf(*_NAMES)}))
        yield made


@pytest.mark.parametrize("name", TRIALS)
def test_a_broken_certificate_is_refused_and_the_old_one_serves(site: TlsSite, name: str) -> None:
    made = TRIALS[name](site)
    before, identity = site.running(), site.identity()
    [old] = site.shown_by_all()
    kept = site.per_worker()
    bad = site.repo.commit(made.files, f"bad: {name}")
    try:
        assert site.daemon.outcome(bad) == "refused"
        error = site.daemon.ask("status")["last_error"]
        assert error["commit"] == bad
        [found] = [
            each for each in error["diagnostics"] if re.search(made.message, each["message"])
        ]
        place = f"extra.yaml:{made.line}:{made.column or found['column']}"
        assert (found["file"], found["line"], found["column"]) == _place(place), error
        # The headline is the first of them, with its place.
        first = error["diagnostics"][0]
        assert (error["file"], error["line"]) == (first["file"], first["line"])
        assert error["message"].startswith(f"{first['file']}:{first['line']}:{first['column']}: ")
        if found == first:
            assert place in site.daemon.run_cli("status", check=True).stdout
        [entry] = site.history()
        assert (entry["outcome"], entry["message"]) == ("refused", error["message"])

        assert site.running() == before
        assert site.identity() == identity
        assert site.shown_by_all() == {old}
        for connection in kept.values():
            with connection:
                assert connection.get("www.test").body == b"red"
    finally:
        site.commit(dict.fromkeys(made.files), f"mended: {name}")
    assert site.running() == before
    assert site.daemon.ask("status")["last_error"] is None


@pytest.mark.parametrize(
    "name", ["a_key_of_another_certificate", "an_expired_certificate", "a_name_that_is_not_covered"]
)
def test_validate_says_the_same_before_it_is_committed(site: TlsSite, name: str) -> None:
    made = TRIALS[name](site)
    site.repo.write(made.files)
    try:
        done = site.daemon.run_cli("validate", str(site.repo.directory))
    finally:
        for path in made.files:
            (site.repo.directory / path).unlink()
    assert done.returncode == INVALID, done
    assert f"extra.yaml:{made.line}:{made.column}" in done.stdout + done.stderr
    assert re.search(made.message, done.stdout + done.stderr), done


def test_a_broken_rotation_is_refused_at_the_entity_and_overcome(site: TlsSite) -> None:
    """The YAML is the same: what is wrong is in the file that it names."""
    [old] = site.shown_by_all()
    good = site.leaf(*_NAMES)
    bad = site.repo.commit({"tls/shop.crt": good.chain.decode()}, "the key was forgotten")
    assert site.daemon.outcome(bad) == "refused"
    error = site.daemon.ask("status")["last_error"]
    assert error["file"] == "kakehi.yaml"
    assert "private_key" in _line(site, error["line"])
    assert site.shown_by_all() == {old}
    site.commit({"tls/shop.key": good.key.decode()}, "here it is")
    assert site.shown_by_all() == {good.der}
    assert site.daemon.ask("status")["last_error"] is None


def test_the_removal_of_a_file_in_use_is_refused(site: TlsSite) -> None:
    [old] = site.shown_by_all()
    bad = site.repo.commit({"tls/shop.key": None}, "gone")
    assert site.daemon.outcome(bad) == "refused"
    assert "not in the commit" in site.daemon.ask("status")["last_error"]["message"]
    assert site.shown_by_all() == {old}
    site.wait(site.repo.revert())
    assert site.shown_by_all() == {old}


def test_the_removal_of_the_default_certificate_is_refused(site: TlsSite) -> None:
    pairs = {"one": site.leaf(*_NAMES)}
    whole = site.files(pairs, policy={"default_certificate": "one"})
    site.commit(whole)
    document = whole["kakehi.yaml"]
    assert isinstance(document, dict)
    bad = site.repo.commit({"kakehi.yaml": {**document, "certificates": {}}}, "no default")
    assert site.daemon.outcome(bad, WAIT_S) == "refused"
    error = site.daemon.ask("status")["last_error"]
    assert "one" in error["message"]
    assert error["line"]
    assert site.shown() == pairs["one"].der
    site.commit(whole)


def test_a_warning_is_told_of_what_expires_soon(site: TlsSite) -> None:
    pair = site.leaf(*_NAMES, days=5.5)
    site.commit(site.files({"one": pair}))
    assert site.shown() == pair.der, "a warning refuses nothing"
    done = site.daemon.run_cli("validate", str(site.repo.directory))
    assert "expires on" in done.stdout + done.stderr, done
    assert done.returncode == 0


def _place(text: str) -> tuple[str, int, int]:
    file, line, column = text.split(":")
    return file, int(line), int(column)


def _line(site: TlsSite, number: int) -> str:
    return site.repo.show("HEAD", "kakehi.yaml").decode().splitlines()[number - 1]
