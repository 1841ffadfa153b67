"""The commands around it: validate, diagnose, completion."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pinn_operator.plugin.kubectl import Kubectl
from pinn_operator.plugin.looking import findings_of, page_of
from pinn_operator.plugin.options import ONE_OR_THE_ONLY, PROGRAM, VARIABLE, on_a_cluster


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
def validate(files: tuple[str, ...]) -> None:
    """Whether a cluster would accept these manifests.

    Said without a cluster, as by `pinn-operator validate`.

    FILE is a manifest, a folder of manifests, or - for standard input.
    """
    from pinn_operator.validate import Verdict
    from pinn_operator.validate import validate as lines_of

    worst = Verdict.ACCEPTED
    for line in lines_of(files):
        click.echo(line.text, err=line.is_note)
        worst = max(worst, line.verdict)
    click.get_current_context().exit(worst)


@click.command()
@ONE_OR_THE_ONLY
@click.option(
    "--output", "-o", "file", metavar="FILE.tar.gz", type=click.Path(path_type=Path), help="Where to write it."
)
@on_a_cluster
def diagnose(kubectl: Kubectl, name: str | None, file: Path | None) -> None:
    """Write one archive for a bug report, without secrets.

    It holds the object, its children, events, logs and versions.

    Secrets are not read, and what looks like one is taken out of the rest; look through it before you send it.
    """
    from pinn_operator.plugin.diagnose import archive, collected

    obj = kubectl.pinn(name)
    metadata = obj["metadata"]
    folder = f"pinn-diagnose-{metadata['namespace']}-{metadata['name']}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    texts = collected(kubectl, obj, page_of(obj, findings_of(kubectl, obj)))
    target = file or Path(f"{folder}.tar.gz")
    archive(texts, target, folder)
    click.echo(f"{target}: {len(texts)} files; look through it before you send it")
    if "missing.txt" in texts:
        click.echo(f"not in it:\n{texts['missing.txt']}", err=True, nl=False)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `kubectl-pinn` in a shell.

    `kubectl pinn` itself completes wherever kubectl's own completion is set up: `kubectl_complete-pinn` is on the PATH.
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is not None:
        root = click.get_current_context().find_root().command
        click.echo(maker(root, {}, PROGRAM, VARIABLE).source())
