"""`kakehi completion`: the script that teaches a shell to complete commands, options and values.

shtab makes it out of the parsers of all commands. What it cannot know, names of what runs and of
commits, is asked for at the Tab by the functions below: of `kakehi complete`, and of git.
"""

import argparse
import sys
from typing import Annotated, Any

from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.parameters import (
    BACKENDS,
    COMMITS,
    DIRECTORY,
    DRAINED,
    ENTITIES,
    FILE,
    LIMITS,
    PLANNED,
    SHOWN,
    URLS,
    Argument,
)

_COMMITS = (
    "git for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null"
)

_BASH = rf"""_kakehi_ask() {{
  compgen -W "$(kakehi complete "$1" -- "$2" "$COMP_LINE" 2>/dev/null)" -- "$2"
}}
_kakehi_{ENTITIES}() {{ _kakehi_ask {ENTITIES} "$1"; }}
_kakehi_{SHOWN}() {{ _kakehi_ask {SHOWN} "$1"; }}
_kakehi_{LIMITS}() {{ _kakehi_ask {LIMITS} "$1"; }}
_kakehi_{BACKENDS}() {{ _kakehi_ask {BACKENDS} "$1"; }}
_kakehi_{DRAINED}() {{ _kakehi_ask {DRAINED} "$1"; }}
_kakehi_{COMMITS}() {{ compgen -W "HEAD $({_COMMITS})" -- "$1"; }}
_kakehi_{DIRECTORY}() {{ compgen -d -- "$1" | grep -vE '(^|/)\.git$'; }}
_kakehi_{PLANNED}() {{ _kakehi_{DIRECTORY} "$1"; _kakehi_ask {ENTITIES} "$1"; }}
_kakehi_{URLS}() {{ _kakehi_ask {URLS} "$1"; }}
_kakehi() {{
  # bash ends a word at each colon, which none of the arguments does, and wants what is behind it.
  local whole=() place=0 at
  for at in "${{!COMP_WORDS[@]}}"; do
    if ((at)) && [[ "${{COMP_WORDS[at]}}" == :* || "${{whole[-1]}}" == *: ]]; then
      whole[-1]+="${{COMP_WORDS[at]}}"
    else
      whole+=("${{COMP_WORDS[at]}}")
    fi
    ((at == COMP_CWORD)) && place=$((${{#whole[@]}} - 1))
  done
  COMP_WORDS=("${{whole[@]}}")
  COMP_CWORD=$place
  _shtab_kakehi "$@"
  local word="${{whole[place]}}"
  [[ "$COMP_WORDBREAKS" == *:* ]] && COMPREPLY=("${{COMPREPLY[@]#"${{word%"${{word##*:}}"}}"}}")
  return 0
}}
"""

_ZSH = f"""\
_kakehi_ask() {{
  compadd -- ${{(f)"$(kakehi complete $1 -- "$PREFIX" "$BUFFER" 2>/dev/null)"}}
}}
_kakehi_{ENTITIES}() {{ _kakehi_ask {ENTITIES} }}
_kakehi_{SHOWN}() {{ _kakehi_ask {SHOWN} }}
_kakehi_{LIMITS}() {{ _kakehi_ask {LIMITS} }}
_kakehi_{BACKENDS}() {{ _kakehi_ask {BACKENDS} }}
_kakehi_{DRAINED}() {{ _kakehi_ask {DRAINED} }}
_kakehi_{COMMITS}() {{ compadd -- HEAD ${{(f)"$({_COMMITS})"}} }}
_kakehi_{PLANNED}() {{ _files -/; _kakehi_ask {ENTITIES} }}
_kakehi_{URLS}() {{ _kakehi_ask {URLS} }}
"""

_FISH = f"""\
function _kakehi_ask
  # It is called for options as well, which need none.
  string match -q -- "-*" (commandline -ct); and return
  kakehi complete $argv[1] -- (commandline -ct) (commandline -cp) 2>/dev/null
end
function _kakehi_{ENTITIES}; _kakehi_ask {ENTITIES}; end
function _kakehi_{SHOWN}; _kakehi_ask {SHOWN}; end
function _kakehi_{LIMITS}; _kakehi_ask {LIMITS}; end
function _kakehi_{BACKENDS}; _kakehi_ask {BACKENDS}; end
function _kakehi_{DRAINED}; _kakehi_ask {DRAINED}; end
function _kakehi_{COMMITS}; echo HEAD; {_COMMITS}; end
function _kakehi_{PLANNED}
  __fish_complete_directories (commandline -ct) ""
  _kakehi_{ENTITIES}
end
function _kakehi_{URLS}; _kakehi_ask {URLS}; end
"""

SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""The shells there are, and the functions of ours that each has."""


def completion(
    shell: Annotated[
        str, Argument("SHELL", help="bash, zsh or fish.", completes=lambda: tuple(SHELLS))
    ],
) -> int:
    """Print the completion script of a shell.

    It holds the options of this version: print it anew when kakehi was upgraded.

    Examples:
      kakehi completion bash > /etc/bash_completion.d/kakehi
      kakehi completion zsh > "${fpath[1]}/_kakehi"
      kakehi completion fish > ~/.config/fish/completions/kakehi.fish
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell}", f"known are {', '.join(SHELLS)}")
    import shtab

    from reconciler.cli.main import load, summaries
    from reconciler.cli.overview import overview

    parser = overview(summaries(), load)
    _mark(parser)
    script = shtab.complete(parser, shell, preamble=SHELLS[shell])
    # Ours calls the one that shtab has registered.
    script = script.replace("-F _shtab_kakehi kakehi", "-F _kakehi kakehi")
    sys.stdout.write(script + "\n")
    return DONE


def _mark(parser: argparse.ArgumentParser) -> None:
    """Tell shtab what completes each value."""
    for action in parser._actions:  # noqa: SLF001 - argparse names no other way to all of them
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                _mark(below)
        found: Any = getattr(action, "completes", None)
        if callable(found):
            action.choices = found()
        elif found is not None:
            action.complete = _completed_by(found)  # type: ignore[attr-defined]


def _completed_by(what: str) -> Any:
    import shtab

    ours = f"_kakehi_{what}"
    known: dict[str, Any] = {FILE: shtab.FILE, DIRECTORY: {**shtab.DIRECTORY, "bash": ours}}
    return known.get(what, {"bash": ours, "zsh": ours, "fish": f"({ours})"})
