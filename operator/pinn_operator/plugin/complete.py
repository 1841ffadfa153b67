"""`kubectl_complete-pinn`: what may come next on the command line.

kubectl runs it for `kubectl pinn <TAB>`, and so do the scripts of `kubectl pinn completion`. One suggestion a line, then a
directive, as cobra has it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

NO_FILES: Final = ":4"
FILES: Final = ":0"
VALUES: Final = {"-o": ("text", "json", "yaml"), "shell": ("bash", "zsh", "fish")}
OF_FILES: Final = ("--kubeconfig", "--tests", "--output")

SCRIPTS: Final = {
    "bash": """\
_kubectl_pinn() {
  local found
  mapfile -t found < <(kubectl_complete-pinn "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  [ "${found[-1]}" = ":4" ] && compopt +o default
  unset 'found[-1]'
  COMPREPLY=("${found[@]%%$'\\t'*}")
}
complete -o default -F _kubectl_pinn kubectl-pinn
""",
    "zsh": """\
#compdef kubectl-pinn
_kubectl_pinn() {
  local -a found
  found=("${(@f)$(kubectl_complete-pinn "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ "${found[-1]}" == ":0" ]] && _files
  found[-1]=()
  _describe 'kubectl pinn' "${(@)found/$'\\t'/:}"
}
compdef _kubectl_pinn kubectl-pinn
""",
    "fish": """\
function __kubectl_pinn
  set -l words (commandline -opc) (commandline -ct)
  kubectl_complete-pinn $words[2..-1] 2>/dev/null | string match -v -r '^:'
end
complete -c kubectl-pinn -f -a '(__kubectl_pinn)'
""",
}


def suggested(words: Sequence[str], commands: Any, names: Any) -> Iterator[str]:
    """What may stand in place of the last word. `commands` are typer's by name; `names` gives the objects there are."""
    *before, incomplete = words or [""]
    if not before:
        yield from _starting(incomplete, ((name, command.get_short_help_str()) for name, command in commands.items()))
    elif command := commands.get(before[0]):
        options = [param for param in command.params if param.param_type_name == "option"]
        valued = {word for option in options if not option.is_flag for word in option.opts}
        arguments = [param.name for param in command.params if param.param_type_name == "argument"]
        if incomplete.startswith("-"):
            yield from _starting(incomplete, ((option.opts[0], option.help or "") for option in options))
        elif before[-1] in valued:
            yield from _starting(incomplete, ((value, "") for value in VALUES.get(before[-1], ())))
        elif "shell" in arguments:
            yield from _starting(incomplete, ((value, "") for value in VALUES["shell"]))
        elif "name" in arguments and len(_positional(before[1:], valued)) == 0:
            yield from (name for name in names() if name.startswith(incomplete))


def takes_files(words: Sequence[str]) -> bool:
    """Whether the shell should offer files."""
    *before, _ = words or [""]
    return before[:1] == ["validate"] or before[-1:] in ([option] for option in OF_FILES)


def _positional(words: Sequence[str], valued: set[str]) -> list[str]:
    return [word for at, word in enumerate(words) if not word.startswith("-") and not (at and words[at - 1] in valued)]


def _starting(incomplete: str, found: Any) -> Iterator[str]:
    for value, said in found:
        if value.startswith(incomplete):
            yield f"{value}\t{said}" if said else value


def main() -> None:
    """The entry point."""
    from typer.main import get_command

    from pinn_operator.plugin.app import app, names_in_namespace

    command: Any = get_command(app)
    words = sys.argv[1:]
    for line in suggested(words, command.commands, names_in_namespace):
        print(line)
    print(FILES if takes_files(words) else NO_FILES)
