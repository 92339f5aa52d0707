"""`kakehi validate`: exit codes, all errors at their places, working tree and commits."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.harness import pki
from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI, kakehi

BROKEN = """\
clusters:
  shop:
    retires: 1
    backends:
      shop-1: {address: "127.0.0.1:9001"}
frontends:
  shop: {listeners: [web], cluster: shpo}
"""


def test_valid(shop: Repo) -> None:
    done = kakehi("validate", str(shop.directory))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Valid: 1 listener, 1 cluster, 1 backend, 1 frontend.\n"


def test_the_current_directory_is_the_default(shop: Repo) -> None:
    assert kakehi("validate", cwd=shop.directory).returncode == 0


def test_the_authorities_of_tls_are_nothing_to_it(shop: Repo) -> None:
    """Reading them would take longer than the check; and they may be nonsense."""
    (shop.directory / "README").write_text("no certificate")
    nonsense = {"SSL_CERT_FILE": str(shop.directory / "README")}
    done = kakehi("validate", str(shop.directory), **nonsense)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_errors_at_once_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(BROKEN)
    (tmp_path / "two.yaml").write_text("listeners: [")
    done = kakehi("validate", str(tmp_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert 'one.yaml:3:5: cluster "shop": unknown key "retires"' in done.stderr
    assert 'did you mean "retries"?' in done.stderr
    assert "two.yaml:" in done.stderr
    assert "the configuration is invalid." in done.stderr


def test_json_goes_to_stdout(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(BROKEN)
    done = kakehi("validate", "--json", str(tmp_path))
    assert (done.returncode, done.stderr) == (3, "")
    report = json.loads(done.stdout)
    assert report["valid"] is False
    assert {"file", "line", "column", "message", "severity"} <= report["diagnostics"][0].keys()


def test_a_commit_is_checked_and_the_working_tree_is_not(shop: Repo) -> None:
    shop.write({"shop.yaml": BROKEN})
    assert kakehi("validate", str(shop.directory)).returncode == 3
    assert kakehi("validate", str(shop.directory), "--ref", "HEAD").returncode == 0
    shop.commit(message="break")
    assert kakehi("validate", str(shop.directory), "--ref", "main").returncode == 3
    assert kakehi("validate", str(shop.directory), "--ref", "main~1").returncode == 0


def test_a_bare_repository_has_commits_too(shop: Repo, tmp_path: Path) -> None:
    shop.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    done = kakehi("validate", str(tmp_path / "bare.git"), "--ref", "main")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_subdirectory_can_be_the_config_directory(shop: Repo) -> None:
    text = (shop.directory / "shop.yaml").read_text()
    shop.commit({"deploy/proxy/shop.yaml": text, "shop.yaml": "not: [ours"})
    place = str(shop.directory / "deploy" / "proxy")
    assert kakehi("validate", place).returncode == 0
    assert kakehi("validate", place, "--ref", "HEAD").returncode == 0


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (("missing",), 64, "missing is not a directory"),
        (("shop", "--ref", "nope"), 64, "'nope' names no commit of"),
        ((".", "--ref", "HEAD"), 1, "is not in a git repository"),
    ],
)
def test_what_cannot_be_checked(
    line: tuple[str, ...], code: int, message: str, shop: Repo, tmp_path: Path
) -> None:
    done = kakehi("validate", *line, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_hidden_files_and_links_are_no_configuration(shop: Repo) -> None:
    shop.write({".draft.yaml": "a: [", ".hidden/a.yaml": "a: ["})
    (shop.directory / "link.yaml").symlink_to("/etc/passwd")
    assert kakehi("validate", str(shop.directory)).returncode == 0
    shop.commit(message="odd files")
    assert kakehi("validate", str(shop.directory), "--ref", "HEAD").returncode == 0


def test_the_example_is_valid_and_without_a_warning() -> None:
    from reconciler.cli.commands.init import EXAMPLE

    done = kakehi("validate", str(EXAMPLE))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_directory_without_configuration_is_an_error(shop: Repo, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "README").write_text("nothing here\n")
    done = kakehi("validate", str(empty))
    assert (done.returncode, done.stdout) == (3, "")
    assert f"there is no configuration: no *.yaml file in {empty}" in done.stderr
    report = json.loads(kakehi("validate", "--json", str(empty)).stdout)
    assert (report["valid"], len(report["diagnostics"])) == (False, 1)
    shop.commit({"shop.yaml": None, "README": "nothing left\n"})
    assert kakehi("validate", str(shop.directory), "--ref", "HEAD").returncode == 3


CERTIFICATE = "certificates:\n  shop: {certificate: tls/a.crt, private_key: tls/a.key}\n"


def with_certificate(repo: Repo) -> None:
    repo.write({"tls.yaml": CERTIFICATE})
    repo.write({"tls/a.crt": pki.sample().chain.decode(), "tls/a.key": pki.sample().key.decode()})


def test_files_are_read_as_they_are_and_as_they_were(shop: Repo) -> None:
    with_certificate(shop)
    assert kakehi("validate", str(shop.directory)).returncode == 0
    shop.commit()
    shop.write({"tls/a.key": pki.make("shop.test").key.decode()})
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 3
    assert 'tls.yaml:2:47: certificate "shop": the private key is not that of' in done.stderr
    assert kakehi("validate", str(shop.directory), "--ref", "HEAD").returncode == 0
    shop.write({"tls/a.key": None})
    done = kakehi("validate", str(shop.directory))
    looked_for = f"tls/a.key: No such file or directory: looked for {shop.directory}/tls/a.key"
    assert looked_for in done.stderr
    shop.write({"tls/a-1.key": pki.sample().key.decode()})
    done = kakehi("validate", str(shop.directory))
    assert 'did you mean "tls/a-1.key"?' in done.stderr


def test_a_working_tree_has_no_more_than_its_commit_would(shop: Repo) -> None:
    """An ignored key and a link are there on this machine, and nowhere else."""
    with_certificate(shop)
    shop.write({".gitignore": "*.key\n"})
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 3
    assert "tls/a.key: git ignores the file, so that no commit has it" in done.stderr
    assert "under an absolute path" in done.stderr
    shop.commit()
    done = kakehi("validate", str(shop.directory), "--ref", "HEAD")
    assert (done.returncode, "tls/a.key: the file is not in the commit" in done.stderr) == (3, True)
    shop.git("add", "--force", "tls/a.key")
    assert kakehi("validate", str(shop.directory)).returncode == 0
    (shop.directory / "tls").rename(shop.directory / "other")
    (shop.directory / "tls").symlink_to("other")
    done = kakehi("validate", str(shop.directory))
    assert (done.returncode, "symbolic links are not followed" in done.stderr) == (3, True)


def test_files_of_another_repository_are_in_no_commit_of_this_one(shop: Repo) -> None:
    with_certificate(shop)
    Repo(shop.directory / "tls").commit()
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 3
    assert "tls/a.key: the file lies in a repository of its own" in done.stderr


def test_a_directory_without_git_has_its_files(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls.yaml").write_text(CERTIFICATE)
    (tmp_path / "tls" / "a.crt").write_bytes(pki.sample().chain)
    (tmp_path / "tls" / "a.key").write_bytes(pki.sample().key)
    assert kakehi("validate", str(tmp_path)).returncode == 0


PRE_RECEIVE = """\
#!/bin/sh
read old new name
exec {kakehi} validate {options} --ref $new
"""


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "with a working tree"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "loose"])
def test_a_pre_receive_hook_sees_what_is_pushed(
    shop: Repo, tmp_path: Path, bare: bool, packed: bool
) -> None:
    place = tmp_path / "pushed: here"
    shop.git("clone", "-q", *(["--bare"] if bare else []), str(shop.directory), str(place))
    git_dir = place if bare else place / ".git"
    hook = git_dir / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(PRE_RECEIVE.format(kakehi=KAKEHI, options=""))
    hook.chmod(0o755)
    for name, value in (("denyCurrentBranch", "ignore"), ("unpackLimit", "1" if packed else "99")):
        shop.git("-C", str(place), "config", f"receive.{name}", value)
    before = shop.git("-C", str(place), "rev-parse", "main")
    good = shop.directory.joinpath("shop.yaml").read_text()

    def push(text: str) -> tuple[int, str]:
        shop.commit({"shop.yaml": text})
        line = ["git", "-C", str(shop.directory), "push", str(place), "main"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    code, said = push(BROKEN)
    assert code != 0
    assert "remote: shop.yaml:3:5:" in said
    assert 'did you mean "retries"?' in said
    assert shop.git("-C", str(place), "rev-parse", "main") == before
    code, said = push(good + "# better\n")
    assert (code, "Valid: 1 listener" in said) == (0, True), said
    assert shop.git("-C", str(place), "rev-parse", "main") == shop.head()


def test_what_leaves_files_out_is_told_while_no_commit_has_it(shop: Repo) -> None:
    shop.write({".kakehiignore": "b.yaml\n", "b.yaml": "no configuration"})
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 0
    said = (
        ".kakehiignore: warning: .kakehiignore is untracked, and leaves files out: "
        "`git commit -a` would leave it out itself\n  hint: add it first: git add\n"
    )
    assert done.stderr == said
    shop.git("add", ".kakehiignore")
    assert kakehi("validate", str(shop.directory)).stderr == ""
    shop.git("rm", "--cached", "--quiet", ".kakehiignore")
    shop.write({".gitignore": ".kakehiignore\n"})
    done = kakehi("validate", str(shop.directory))
    assert done.returncode == 3
    assert ".kakehiignore is ignored by git, so that no commit has it" in done.stderr


def test_a_file_that_is_named_has_the_line_ends_of_its_commit(shop: Repo) -> None:
    page = {"listeners": ["web"], "path": {"prefix": "/p"}, "respond": {"file": "p.txt"}}
    shop.commit({".gitattributes": "*.txt text eol=crlf\n", "p.txt": "one\n"})
    shop.commit({"p.yaml": {"frontends": {"page": page}}})
    shop.write({"p.txt": "one\r\n"})
    done = kakehi("plan", str(shop.directory), "--from", "HEAD")
    assert (done.returncode, "No changes" in done.stdout) == (0, True), done.stdout
