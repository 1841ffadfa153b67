"""The program `kubectl pinn`: its commands in the order in which one needs them, and how trouble ends it.

click, and not typer: typer imports pydantic, which takes half of the half second in which `status` is to answer.
"""

from __future__ import annotations

from typing import Any

import click

from pinn_operator.fulldisk import told_in_a_sentence
from pinn_operator.plugin import around, looking, saying
from pinn_operator.plugin.kubectl import Trouble
from pinn_operator.plugin.options import VARIABLE


class Group(click.Group):
    """Trouble is a sentence on standard error and an exit code, whatever command it comes from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Trouble as trouble:
            click.echo(f"error: {trouble}", err=True)
            ctx.exit(trouble.code)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(130)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are defined."""
        return list(self.commands)


@click.group(cls=Group, context_settings={"help_option_names": ["--help", "-h"]})
def app() -> None:
    """Look after PinnDeployments: how a rollout stands and why, what to do about it, and doing it.

    The cluster, context and namespace are those of kubectl. Where there is only one PinnDeployment, commands that change nothing
    need no NAME.

    Exit code 0: done, or all is well. 1: it failed, or the verdict is negative. 2: the command was used wrongly.
    """


for command in (
    looking.status, looking.explain, looking.history, looking.report, looking.cost, looking.golive,
    saying.promote, saying.abort, saying.retry, saying.pause, saying.resume, saying.undo, saying.migrate,
    around.validate, around.diagnose, around.completion,
):  # fmt: skip
    app.add_command(command)


def main() -> None:
    """The entry point."""
    with told_in_a_sentence():  # here, for no command prints --help
        app(prog_name="kubectl pinn", complete_var=VARIABLE)
