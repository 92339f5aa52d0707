"""A real git repository in a temporary directory, for tests that commit configuration."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A file's content: text or bytes as they are, a value to write as YAML (JSON is YAML 1.2), or
# None to remove the file.
Content = str | bytes | Mapping[str, Any] | None


class Repo:
    """Writes and commits files; every method is one or two git commands."""

    def __init__(self, directory: Path, *, branch: str = "main") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        # Samples of hooks would be half of what that costs.
        self.git("init", "--quiet", "--template=", f"--initial-branch={branch}")

    def git(self, *arguments: str, check: bool = True) -> str:
        """Run git in the repository, blind to the user's own git configuration."""
        environment = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Kakehi tests",
            "GIT_AUTHOR_EMAIL": "tests@kakehi.test",
            "GIT_COMMITTER_NAME": "Kakehi tests",
            "GIT_COMMITTER_EMAIL": "tests@kakehi.test",
            # Looked for behind each commit, by a process of its own: a fifth of what that costs.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "maintenance.auto",
            "GIT_CONFIG_VALUE_0": "false",
        }
        done = subprocess.run(
            ["git", "-C", str(self.directory), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and done.returncode:
            raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def write(self, files: Mapping[str, Content]) -> None:
        """Write files into the working tree without committing them."""
        for name, content in files.items():
            path = self.directory / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
                continue
            text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
            path.write_text(text)

    def commit(self, files: Mapping[str, Content] | None = None, message: str = "change") -> str:
        """Write files, commit everything, return the commit's id."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.head()

    def replace(self, files: Mapping[str, Content], message: str = "anew") -> str:
        """Commit these files, and no other that was there; return the commit's id."""
        self.git("rm", "-r", "-f", "--quiet", "--ignore-unmatch", ".")
        self.git("clean", "-d", "-f", "-x", "--quiet")
        # Without a file in it, git takes the directory away, too.
        self.directory.mkdir(exist_ok=True)
        return self.commit(files, message)

    def show(self, commit: str, path: str) -> bytes:
        """The committed content of a file, to the last byte."""
        return subprocess.run(
            ["git", "-C", str(self.directory), "show", f"{commit}:{path}"],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout

    def revert(self, commit: str = "HEAD") -> str:
        self.git("revert", "--no-edit", commit)
        return self.head()

    def head(self) -> str:
        """Return the id of the commit that is checked out.

        Asked for by every commit: mostly it stands in a file, and no process is needed.
        """
        place = self.directory / ".git"
        try:
            name = (place / "HEAD").read_text().removeprefix("ref: ").strip()
            commit = (place / name).read_text().strip() if name.startswith("refs/") else name
        except OSError:
            return self.git("rev-parse", "HEAD")
        return commit
