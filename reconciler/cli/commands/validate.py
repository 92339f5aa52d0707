"""`kakehi validate`: the whole check of a configuration, without a daemon, for editors and CI."""

import gc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from reconciler.cli import output
from reconciler.cli.exits import DONE, INVALID
from reconciler.cli.parameters import COMMITS, AsJson, ConfigDirectory, Identity, Option
from reconciler.cli.paths import identity_file

if TYPE_CHECKING:
    from schemas.changes.state import State
    from schemas.entities.diagnostic import Diagnostic

GARBAGE_MIN = 200_000
"""So many objects more than before are looked through for cycles; imports make half as many."""


def validate(
    directory: ConfigDirectory = ".",
    ref: Annotated[
        str | None,
        Option(
            "--ref",
            metavar="REF",
            completes=COMMITS,
            help="Check this commit instead of the working tree.",
        ),
    ] = None,
    identity: Identity = None,
    as_json: AsJson = False,
) -> int:
    """Check a working tree or a commit, and list all errors at once.

    Exits with 3 if there are errors; warnings alone are no reason to fail. Keys that git ignores
    are not looked at. A file that does not answer for 5 s is named, with 8.

    Examples:
      kakehi validate
      kakehi validate shop --ref origin/main
      kakehi validate --json | jq '.diagnostics[] | "\\(.file):\\(.line)"'
    """
    # What is imported stays, and that is most of what a small repository costs.
    gc.set_threshold(GARBAGE_MIN)
    from reconciler.cli.trees.answering import answered

    place = Path(directory)
    state, diagnostics = answered(place, lambda: _checked(place, ref, identity_file(identity)))
    counted: dict[str, int] = {}
    if state is not None:
        for key in state:
            counted[key.kind] = counted.get(key.kind, 0) + 1
    if as_json:
        output.print_json(
            {
                "valid": state is not None,
                "entities": counted,
                "diagnostics": [diagnostic.to_json() for diagnostic in diagnostics],
            }
        )
    else:
        _print(diagnostics, counted, valid=state is not None)
    return DONE if state is not None else INVALID


def _checked(
    place: Path, ref: str | None, opening: Path | None
) -> "tuple[State | None, list[Diagnostic]]":
    """Return what a configuration says, None if it is invalid, and all that is found in it."""
    from reconciler.catalog.catalog import load_directory
    from reconciler.cli.trees import files
    from reconciler.materials.completing import Machine
    from reconciler.materials.sealed import Keyring
    from reconciler.source.left_out import warnings as left_out_warnings

    machine = Machine(Keyring(opening) if opening else None)
    left_out: dict[str, str] = {}
    configuration = list(_configuration(place, ref, left_out))
    state, found = load_directory(configuration, files.reader(place, ref), machine)
    if not configuration:
        # The daemon holds what runs rather than take an empty commit for "remove everything".
        state, found = None, (_nothing(place, ref),)
    return state, [*found, *left_out_warnings(left_out), *_of_git(place, ref)]


def _configuration(
    place: Path, ref: str | None, left_out: dict[str, str]
) -> Iterable[tuple[str, bytes]]:
    from reconciler.cli.trees import files

    if ref is None:
        return files.of_working_tree(place, left_out)
    return files.of_commit(place, ref, left_out)


def _nothing(place: Path, ref: str | None) -> "Diagnostic":
    from schemas.entities.diagnostic import Diagnostic

    where = f"{place}" if ref is None else f"{place} at {ref}"
    return Diagnostic(
        "error",
        "",
        0,
        0,
        f"there is no configuration: no *.yaml file in {where}",
        "start one with files to begin from: kakehi init DIR",
    )


def _of_git(place: Path, ref: str | None) -> "Iterator[Diagnostic]":
    """Look for private keys in all that is, or would be, committed, and for what nobody added."""
    from reconciler.cli.trees.files import NotInGitError
    from reconciler.cli.trees.private_keys import find_private_keys
    from reconciler.cli.trees.working_tree import WorkingTree, every_file_of, warn_of_untracked

    if ref is not None:
        yield from find_private_keys(every_file_of(place, ref))
        return
    yield from warn_of_untracked(place)
    try:
        tree = WorkingTree(place)
    except NotInGitError:
        # Then nothing is committed.
        return
    yield from find_private_keys((path, tree.content(path) or b"") for path in tree.committable())


def _print(diagnostics: "list[Diagnostic]", counted: dict[str, int], valid: bool) -> None:
    for diagnostic in diagnostics:
        output.note(diagnostic.render())
    errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    if not valid:
        output.note(f"\n{output.count(errors, 'error')}: the configuration is invalid.")
        return
    kinds = ", ".join(
        output.count(number, kind) for kind, number in counted.items() if kind != "settings"
    )
    warnings = len(diagnostics)
    remark = f", {output.count(warnings, 'warning')}" if warnings else ""
    output.line(f"Valid: {kinds or 'no entities'}{remark}.")
