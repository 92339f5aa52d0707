"""Which workers go on as before, since they do not hear of what was said to all, in words.

Called by the commands that say such things: `drain`, `undrain`, `forgive`; and by `show limits`.
"""

from typing import Any

_NAMED_MAX = 3


def unheard(result: dict[str, Any], verb: str = "does not hear of it") -> str | None:
    """Say it of the first of them: they may be all."""
    found = result["unheard"]
    named = [
        f"worker {each['worker']} (process {each['pid']}) {verb}: {each['reason']}"
        for each in found[:_NAMED_MAX]
    ]
    if len(found) > _NAMED_MAX:
        named.append(f"and {len(found) - _NAMED_MAX} more")
    return "; ".join(named) or None
