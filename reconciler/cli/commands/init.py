"""`kakehi init`: a configuration repository to start from, valid and committed.

The files are those of `config.example`, so that what a newcomer gets is what the tests prove.
"""

import os
from pathlib import Path
from typing import Annotated

from reconciler.cli import output
from reconciler.cli.exits import DONE, CommandError
from reconciler.cli.parameters import DIRECTORY, Argument
from reconciler.cli.paths import stored_schema

EXAMPLE = Path(__file__).resolve().parents[3] / "config.example"
"""In a checkout and in an installed wheel alike, the example lies beside the packages."""

SCHEMA_FILE = "kakehi.schema.json"

_MODELINE = "# yaml-language-server: $schema="

GITIGNORE = """\
# A key in git is a key that everybody with a clone has, for ever.
*.key
*.p12
*.pfx
*-key.pem
"""

CI_WORKFLOW = """\
# Refuses a broken configuration before it is merged; no proxy is needed for that.
# On another CI system the last two lines are all there is to it.
name: configuration
on: [push, pull_request]
jobs:
  validate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: pip install kakehi
      - run: kakehi validate
"""


def init(
    directory: Annotated[
        str, Argument("DIR", help="A new or empty directory.", completes=DIRECTORY)
    ],
) -> int:
    """Start a configuration repository: sample files, editor schema, CI check, first commit.

    Examples:
      kakehi init shop
      kakehi init shop && kakehi validate shop && kakehi run shop
    """
    place = Path(directory)
    commit = scaffold(place)
    output.note(f"{place}: a repository with a small shop in it, commit {commit[:12]} on main.")
    output.note("")
    output.note("Next:")
    output.note(f"  kakehi validate {place}     check it")
    output.note(f"  kakehi run {place}          run it; then edit, `kakehi plan`, and commit")
    return DONE


def scaffold(place: Path) -> str:
    """Fill an empty directory and commit it; return the id of the commit."""
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise CommandError(f"{place} is not an empty directory", "choose a new one")
    place.mkdir(parents=True, exist_ok=True)
    for path, text in _files().items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return _commit(place)


def _files() -> dict[str, str]:
    files = {
        ".gitignore": GITIGNORE,
        ".github/workflows/kakehi.yaml": CI_WORKFLOW,
        SCHEMA_FILE: stored_schema(),
    }
    for path in sorted(EXAMPLE.rglob("*.yaml")):
        relative = path.relative_to(EXAMPLE)
        files[relative.as_posix()] = _with_modeline(
            path.read_text(encoding="utf-8"), len(relative.parts) - 1
        )
    return files


def _with_modeline(text: str, depth: int) -> str:
    """Point the editor's modeline at the schema file at the root of the new repository."""
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(_MODELINE)]
    return f"{_MODELINE}{'../' * depth}{SCHEMA_FILE}\n" + "".join(kept)


def _commit(place: Path) -> str:
    from reconciler.libgit2 import pygit2

    repository = pygit2.init_repository(str(place), initial_head="main")
    repository.index.add_all()
    repository.index.write()
    try:
        known = repository.default_signature
    except KeyError:
        # Nobody told git who this is. The first commit should not fail for that.
        known = pygit2.Signature("kakehi init", "kakehi@localhost")
    author, committer = (
        # As git takes them, which libgit2 does not.
        pygit2.Signature(
            os.environ.get(f"GIT_{role}_NAME") or known.name,
            os.environ.get(f"GIT_{role}_EMAIL") or known.email,
        )
        for role in ("AUTHOR", "COMMITTER")
    )
    message = "Start from the example shop\n"
    tree = repository.index.write_tree()
    commit = repository.create_commit("refs/heads/main", author, committer, message, tree, [])
    return str(commit)
