"""The control plane: from a git commit to every worker, and the proof that it arrived.

What decides is pure and stands alone: language, catalog, planning, the table of a transaction. What
acts is around it. This file stays all but empty, so that a command pays only for what it uses.
"""

import sys

try:
    import resource

    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        # Python does not see that what it keeps of a module was cut short, and nobody could import
        # it any more.
        sys.dont_write_bytecode = True
except KeyboardInterrupt:
    # As `reconciler.cli.program` has it for all that comes behind this.
    sys.exit(130)
