"""`kakehi retry`: has the daemon look now, and try again what it gave up or waits with."""

from reconciler.cli.asking import ask
from reconciler.cli.exits import DONE
from reconciler.cli.output import line, print_json
from reconciler.cli.parameters import AsJson, RuntimeDir
from schemas.values.text import visible


def retry(as_json: AsJson = False, runtime_dir: RuntimeDir = None) -> int:
    """Look for a new commit now, and try again the one that was refused or has failed.

    With --remote it is fetched first.

    What fails for a reason that is not the commit's own (no worker, a full disk, a port that is
    taken, an authority that issued no certificate) is tried again without it, a little later each
    time. SIGHUP to the daemon does the same.

    Examples:
      kakehi retry && kakehi wait
    """
    result = ask(runtime_dir, "retry")
    if as_json:
        print_json(result)
        return DONE
    fetches, certificates = result["fetches"], result["certificates"]
    if result["commit"] is not None:
        line(f"{result['commit'][:12]} is tried again; see what becomes of it: kakehi wait")
    elif not certificates and fetches is None:
        line(f"{(result['applied'] or 'no commit')[:12]} runs, and nothing waits to be tried.")
    if fetches is not None:
        line(f"{visible(fetches)} is being fetched; see what becomes of it: kakehi status")
    for name in certificates:
        line(f"certificate {name} is ordered again; see what becomes of it: kakehi status")
    return DONE
