"""The scripts that teach a shell to ask `kakehi` at each Tab. Data; printed by `completing`.

The names of the variables are those that scripts of earlier versions use as well.
"""

_BASH = """\
_kakehi_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
                   _KAKEHI_COMPLETE=complete_bash $1 ) )
    return 0
}

complete -o default -F _kakehi_completion kakehi
"""

# A file in `fpath` is loaded by the first Tab, which it has to answer as well.
_ZSH = """\
#compdef kakehi

_kakehi_completion() {
  eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _KAKEHI_COMPLETE=complete_zsh kakehi)
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _kakehi_completion "$@"
else
  compdef _kakehi_completion kakehi
fi
"""

_FISH_ASKS = (
    "env _KAKEHI_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION={action} "
    "_TYPER_COMPLETE_ARGS=(commandline -cp) kakehi"
)
_FISH = (
    "complete --command kakehi --no-files"
    f' --arguments "({_FISH_ASKS.format(action="get-args")})"'
    f' --condition "{_FISH_ASKS.format(action="is-args")}"\n'
)

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""By the name of the shell."""
