"""The command `pinn-operator`. Each command imports what it needs when it runs, so `--help` answers at once."""

from typing import Annotated

import typer
from typer.core import TyperCommand

from pinn_operator.fulldisk import told_in_a_sentence

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


@app.callback()
def pinn_operator() -> None:
    """Serve physics-informed neural networks on Kubernetes, and roll out new versions of them safely."""


class _Run(TyperCommand):
    """Its help lists the settings, which are imported for nobody else's."""

    @property
    def help(self) -> str | None:
        from pinn_operator.settings import told

        return self._help.replace("SETTINGS", "\n".join(f"- {line}" for line in told())) if self._help else None

    @help.setter
    def help(self, text: str | None) -> None:
        self._help = text


@app.command()
def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Manifests, folders of manifests, or - for standard input."),
    ],
) -> None:
    """Say whether a cluster would accept these manifests, without a cluster.

    Every PinnDeployment in the files gets the answer that the API server would give: the same verdict, the same field, and a
    sentence that names the remedy. Documents of other kinds are skipped with a note, and so are those of a folder that have no
    kind (on standard error): dashboards, rules and patches lie among manifests.

        pinn-operator validate pinndeployment.yaml

        pinn-operator validate manifests/

        kustomize build overlays/production | pinn-operator validate -

    One line for each problem: `FILE: PinnDeployment/NAME: FIELD: what is wrong; what to write instead`.

    Exit code 0: all would be accepted. 1: something would be refused. 2: a file could not be read, or standard input is empty.

    What only a cluster knows (does the Secret exist, is there a GPU) is not looked at; the object's conditions tell.
    """
    from pinn_operator.validate import Verdict
    from pinn_operator.validate import validate as lines_of

    worst = Verdict.ACCEPTED
    for line in lines_of(files):
        typer.echo(line.text, err=line.is_note)
        worst = max(worst, line.verdict)
    raise typer.Exit(worst)


@app.command()
def verify(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="certificate.json, its ConfigMap as JSON or YAML, or - for standard input."
        ),
    ],
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="The hash it must have, from status.history or from the Event.")
    ] = None,
) -> None:
    """Say whether the certificate of a finished rollout is genuine and agrees with itself, without a cluster.

    Every finished rollout leaves a ConfigMap; its name and the hash are in the object's status:

        kubectl get pinn option-pricer -o jsonpath='{.status.history}'

        kubectl get configmap NAME -o json | pinn-operator verify - --sha256 HEX

        pinn-operator verify certificate.json

    One line for each check: the hash, the times, the weights, how long users were exposed, that a promotion came after a step at
    100 %, that what passed had the evidence, that who is blamed failed. A complaint names the field.

    Exit code 0: all is well. 1: something is not. 2: there is no certificate in the file.

    The hash stored with a certificate can be changed along with it: compare it with the status, or keep it elsewhere. The page
    report.md is made from the certificate and has no hash of its own.
    """
    from pinn_operator.verify import Verdict
    from pinn_operator.verify import verify as lines_of

    worst = Verdict.GENUINE
    for line in lines_of(file, sha256):
        typer.echo(line.text)
        worst = max(worst, line.verdict)
    raise typer.Exit(worst)


@app.command()
def simulate(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A PinnDeployment, or - for standard input.")],
    metrics: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Recorded: a certificate (or its ConfigMap), or counters as CSV or JSON."),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[:AMOUNT][@FROM][+FOR],...", help="Made up: what goes wrong, and when. Default: healthy."
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N/s", help="Requests of users a second, to both versions. Default: 10/s, or as recorded."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which requests fail is drawn from it: the same seed, the same story.")] = 0,
    repeat: Annotated[bool, typer.Option("--repeat", help="Begin a recording again when it is over.")] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Say pinn.dev/promote where a step waits for a person.")
    ] = False,
    expect: Annotated[
        str | None, typer.Option(metavar="OUTCOME", help="Exit with 1 where it ends otherwise, e.g. Promoted.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="text|json", help="For people, or for programs.")
    ] = "text",
) -> None:
    """Say what a rollout of this object would come to, and when, without a cluster.

    Steps, holds, gates and limits are those of the file; what users and servers do is made up, or was recorded. It is decided by
    the operator's own rule, as often as the operator would look.

        pinn-operator simulate pinndeployment.yaml --rate 12/s

        pinn-operator simulate pinndeployment.yaml --scenario errors:5%@10m --rate 100/s

        pinn-operator simulate pinndeployment.yaml --metrics certificate.json

    Scenarios, with their usual amounts: healthy, errors:5%, slow:800ms, fallbacks:30%, misses:60%, physics:2%, leak:50Mi (an
    hour), crash:50 (requests), unready, incident:15% (errors of both versions), quiet (no requests), blind (no metrics). @FROM
    counts from the first request to the new version: errors:3%@2h breaks it in the bake.

    Outcomes: Promoted, RolledBack, Undecided, Paused, WaitingForApproval, Held, NotOver.

    Exit code 0: it was simulated, and came to what --expect says. 1: it came to something else. 2: a file or an option is no use.
    """
    from pinn_operator.simulate.command import Options, simulated

    answer = simulated(Options(file, metrics, scenario, rate, seed, repeat, approve, expect, output))
    typer.echo(answer.text, err=answer.code == 2)
    raise typer.Exit(answer.code)


@app.command(cls=_Run, short_help="Run the operator, in a cluster or against the one that KUBECONFIG names.")
def run() -> None:
    """Run the operator, in a cluster or against the one that KUBECONFIG names.

    Everything is set by environment variables, each with a default; one that is none of these is ignored, and the log warns:

    SETTINGS

    Exit code 0 after a signal; 1 when the Lease is lost or the API server refuses the watches; 2 for a wrong setting.
    """
    from pydantic import ValidationError

    from pinn_operator.run import main as run_operator
    from pinn_operator.settings import Settings, variable

    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            typer.echo(f"{variable(str(problem['loc'][0]))}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(run_operator(settings))


def main() -> None:
    """The entry point."""
    with told_in_a_sentence():
        app()
