"""What the commands have in common: the options that say which object of which cluster, and how data is printed."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Literal

import click
from click.shell_completion import CompletionItem

from pinn_operator.plugin.kubectl import Kubectl, Trouble

WIDTH_OF_FILES: Final = 140
PROGRAM: Final = "kubectl-pinn"
VARIABLE: Final = "_KUBECTL_PINN_COMPLETE"

Output = Literal["text", "json", "yaml"]
Command = Callable[..., None]


def names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Objects of the namespace, for completion; nothing where there is no cluster."""
    try:
        kubectl = Kubectl(*(ctx.params.get(option) for option in ("context", "kubeconfig", "namespace")))
        found = [one["metadata"]["name"] for one in kubectl.pinns(kubectl.namespace)]
    except Trouble:
        return []
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def on_a_cluster(command: Command) -> Command:
    """The command gets a Kubectl for what kubectl's own options say."""

    @click.option("--namespace", "-n", metavar="NS", help="Its namespace; else the context's own.")
    @click.option("--context", metavar="NAME", help="The context of the kubeconfig to use.")
    @click.option("--kubeconfig", metavar="FILE", help="The kubeconfig to use.")
    @wraps(command)
    def run(namespace: str | None, context: str | None, kubeconfig: str | None, **rest: Any) -> None:
        command(Kubectl(context, kubeconfig, namespace), **rest)

    return run


ONE = click.argument("name", metavar="NAME", shell_complete=names)
ONE_OR_THE_ONLY = click.argument("name", metavar="[NAME]", required=False, shell_complete=names)
OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["text", "json", "yaml"]), default="text", help="text, json or yaml."
)
WAIT = click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="How long to wait until it is acted upon; 0: not at all.",
)  # fmt: skip


def console() -> Any:
    """A file has no width of its own; 80 columns would break what fits a terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=WIDTH_OF_FILES)


def print_data(data: Any, output: Output) -> None:
    if output == "json":
        import json

        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), nl=False)
