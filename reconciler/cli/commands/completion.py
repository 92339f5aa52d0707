"""`kakehi completion`: the script that teaches a shell to complete commands and options."""

from typing import Annotated

from reconciler.cli.exits import DONE, UsageError
from reconciler.cli.signatures.options import Argument

SHELLS = ("bash", "zsh", "fish")


def completion(shell: Annotated[str, Argument("SHELL", help="bash, zsh or fish.")]) -> int:
    """Print the completion script of a shell.

    Examples:
      kakehi completion bash > /etc/bash_completion.d/kakehi
      kakehi completion zsh > "${fpath[1]}/_kakehi"
      kakehi completion fish > ~/.config/fish/completions/kakehi.fish
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for {shell}", f"known are {', '.join(SHELLS)}")
    from reconciler.cli.signatures.completing import print_script

    print_script(shell)
    return DONE
