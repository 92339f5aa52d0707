"""What git makes of a file when it is committed: line ends, and `$Id$`, by attributes and settings.

Done by libgit2, which runs no program for it: other filters are told where a plan is made. Called
by `reconciler.cli.trees.working_tree` and `reconciler.cli.trees.files`.
"""

import os
import re

from reconciler.libgit2 import C, check_error, ffi, pygit2

_MAY_CHANGE = re.compile(rb"\r\n|\$Id:")


def cleaned(git: pygit2.Repository, path: str, content: bytes) -> bytes:
    """Return what a commit would have of a file, by its path from the top of the working tree."""
    if _MAY_CHANGE.search(content) is None:
        return content
    filters = ffi.new("git_filter_list **")
    try:
        check_error(
            C.git_filter_list_load(
                filters,
                git._repo,  # noqa: SLF001  # it has no other way
                ffi.NULL,
                os.fsencode(path),
                C.GIT_FILTER_TO_ODB,
                # What core.safecrlf refuses, it refuses at the commit.
                C.GIT_FILTER_ALLOW_UNSAFE,
            )
        )
        made = ffi.new("git_buf *")
        try:
            check_error(C.git_filter_list_apply_to_buffer(made, filters[0], content, len(content)))
            return bytes(ffi.buffer(made.ptr, made.size))
        finally:
            C.git_buf_dispose(made)
    except pygit2.GitError:
        # Without an index that it can read, say: then it is taken as it lies here.
        return content
    finally:
        C.git_filter_list_free(filters[0])
