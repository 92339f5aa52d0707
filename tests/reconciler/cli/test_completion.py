"""Shell completion: the scripts load in their shells and complete there, most of it by themselves.

bash and fish are asked without a terminal, zsh completes in one.
"""

import os
import pty
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI, kakehi
from tests.reconciler.live import Shop, shop

_IN_BASH = """\
set -u
source "$1"
COMP_LINE="$2"
# As bash does it itself: a colon is a word of its own.
read -ra COMP_WORDS <<< "${2//:/ : }"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_kakehi kakehi
printf '%s\\n' "${COMPREPLY[@]}"
"""

_IN_FISH = "source $argv[1]; complete -C $argv[2]"


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh", "fish"):
        (place / shell).write_text(kakehi("completion", shell).stdout)
    return place


def completed(
    scripts: Path, shell: str, line: str, cwd: Path | None = None, path: str | None = None
) -> list[str]:
    """Return what a shell offers; `path` stands for the program that is asked for names."""
    script = str(scripts / shell)
    asked = path or f"{Path(KAKEHI).parent}:{os.environ['PATH']}"
    commands = {
        "bash": ["/bin/bash", "--norc", "-c", _IN_BASH, "bash", script, line],
        "fish": ["/usr/bin/fish", "--no-config", "-c", _IN_FISH, script, line],
    }
    done = subprocess.run(
        commands[shell],
        env={**os.environ, "PATH": asked},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    return [each.split("\t")[0] for each in done.stdout.splitlines() if each]


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("kakehi un", ["undrain"]),
        ("kakehi st", ["status", "stop"]),
        ("kakehi dem", []),
        ("kakehi complet", ["completion"]),
        ("kakehi plan --det", ["--detailed-exitcode"]),
        ("kakehi plan --json --det", ["--detailed-exitcode"]),
        ("kakehi plan --format m", ["markdown"]),
        ("kakehi schema f", ["forgive", "frontend"]),
        ("kakehi schema sta", ["status"]),
        ("kakehi completion ", ["bash", "fish", "zsh"]),
        ("kakehi init made", ["made-before/"]),
        ("kakehi validate --identity key", ["key.txt"]),
    ],
)
def test_what_the_script_knows(
    scripts: Path, shell: str, line: str, wanted: list[str], tmp_path: Path
) -> None:
    """No program is started for it, so there is none in the path."""
    (tmp_path / "made-before").mkdir()
    (tmp_path / "key.txt").touch()
    found = completed(scripts, shell, line, tmp_path, path=f"{tmp_path}/nothing:/usr/bin:/bin")
    # bash adds the slash when it has been told that these are files.
    named = [f"{each}/" if each == "made-before" else each for each in found]
    assert sorted(named) == wanted


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_options_of_a_command_are_all_there(scripts: Path, shell: str) -> None:
    wanted = {"--commit", "--timeout", "--json", "--runtime-dir", "--help"}
    assert set(completed(scripts, shell, "kakehi wait --")) == wanted


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    "line", ["kakehi wait --commit ", "kakehi plan --from ", "kakehi validate --ref "]
)
def test_commits_are_those_of_the_repository(
    scripts: Path, shell: str, line: str, tmp_path: Path
) -> None:
    repo = Repo(tmp_path)
    repo.commit({"a.yaml": ""})
    repo.git("tag", "v1")
    repo.git("branch", "feature/x")
    repo.git("update-ref", "refs/kakehi/applied", "HEAD")
    wanted = {"HEAD", "feature/x", "main", "v1"}
    assert set(completed(scripts, shell, line, tmp_path)) == wanted


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with shop(tmp_path_factory.mktemp("shop"), workers=1) as made:
        yield made


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_names_of_what_runs_complete_beside_directories(
    scripts: Path, shell: str, running: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAKEHI_RUNTIME_DIR", str(running.daemon.runtime_dir))
    (tmp_path / "front").mkdir()
    found = completed(scripts, shell, "kakehi plan fr", tmp_path)
    assert {each.rstrip("/") for each in found} == {"front", "frontend", "frontend/web"}
    assert completed(scripts, shell, "kakehi plan backend/", tmp_path) == ["backend/shop/one"]
    url = f"http://{running.listener}/"
    # bash ends a word at a colon, and is given what comes behind it.
    wanted = {"bash": url.partition(":")[2], "fish": url}[shell]
    for typed in ("http:", "http://127"):
        assert completed(scripts, shell, f"kakehi explain {typed}", tmp_path) == [wanted]
    assert completed(scripts, shell, "kakehi explain ht", tmp_path) == [url]
    line = f"kakehi explain {url} --head"
    assert completed(scripts, shell, line, tmp_path) == ["--header"]


def test_the_first_tab_completes_in_zsh(tmp_path: Path) -> None:
    (tmp_path / "_kakehi").write_text(kakehi("completion", "zsh").stdout)
    start = (
        f"PS1= PATH={Path(KAKEHI).parent}:$PATH; fpath=({tmp_path} $fpath); "
        f"autoload -U compinit; compinit -u -d {tmp_path}/dump; echo lo''aded\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        os.write(terminal, start.encode())
        read_until(terminal, "loaded")
        os.write(terminal, b"kakehi und\t")
        # zsh writes the word anew when it has completed it.
        read_until(terminal, "rain", "undrain")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, *any_of: str) -> None:
    """Read a terminal until one of the texts was written."""
    said = ""
    while not any(text in said for text in any_of):
        assert select.select([terminal], [], [], 30)[0], said
        said += os.read(terminal, 4096).decode(errors="replace")


def test_bash_offers_no_directory_of_gits_own(scripts: Path, tmp_path: Path) -> None:
    Repo(tmp_path / "shop")
    for line, place, found in (
        ("kakehi plan ", tmp_path / "shop", False),
        ("kakehi run ", tmp_path / "shop", False),
        ("kakehi validate ", tmp_path, True),
        ("kakehi validate shop/", tmp_path, False),
    ):
        offered = completed(scripts, "bash", line, cwd=place)
        assert not any(each.endswith(".git") for each in offered), line
        assert ("shop" in offered) is found, line
