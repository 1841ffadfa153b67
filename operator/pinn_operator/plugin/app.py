"""The commands of `kubectl pinn`. Each imports what it needs when it runs: an answer should not wait for the other commands.

click, and not typer: typer imports pydantic, which takes half of the half second in which `status` is to answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal

import click
from click.shell_completion import CompletionItem

from pinn_operator.plugin.kubectl import Kubectl, Trouble

WIDTH_OF_FILES: Final = 140
PROGRAM: Final = "kubectl-pinn"
VARIABLE: Final = "_KUBECTL_PINN_COMPLETE"

Output = Literal["text", "json", "yaml"]
Command = Callable[..., None]


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


def _names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
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


ONE = click.argument("name", metavar="NAME", shell_complete=_names)
ONE_OR_THE_ONLY = click.argument("name", metavar="[NAME]", required=False, shell_complete=_names)
OUTPUT = click.option(
    "--output", "-o", type=click.Choice(["text", "json", "yaml"]), default="text", help="text, json or yaml."
)
WAIT = click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(min=0), default=60.0, show_default=True,
    help="How long to wait until it is acted upon; 0: not at all.",
)  # fmt: skip


@click.group(cls=Group, context_settings={"help_option_names": ["--help", "-h"]})
def app() -> None:
    """Look after PinnDeployments: how a rollout stands and why, what to do about it, and doing it.

    The cluster, context and namespace are those of kubectl. Where there is only one PinnDeployment, commands that change nothing
    need no NAME.

    Exit code 0: done, or all is well. 1: it failed, or the verdict is negative. 2: the command was used wrongly.
    """


# --- Looking ---------------------------------------------------------------------------------------------------------


@app.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=_names)
@click.option("--all-namespaces", "-A", "everywhere", is_flag=True, help="Those of all namespaces.")
@click.option("--watch", "-w", is_flag=True, help="Stay, and show every change until Ctrl-C.")
@OUTPUT
@on_a_cluster
def status(kubectl: Kubectl, name: str | None, everywhere: bool, watch: bool, output: Output) -> None:
    """How it stands: revisions, shares, gates, what is waited for.

    A bar shows how far the evidence of a gate is towards what is needed for its verdict. Without NAME: all of the namespace, one
    line each.
    """
    from pinn_operator.plugin.standing import standing_of

    if name and everywhere:
        raise Trouble("NAME and -A exclude each other: a name is of one namespace; use -n", code=2)

    def read() -> list[Any]:
        if name:
            return [standing_of(kubectl.pinn(name))]
        found = kubectl.pinns(None if everywhere else kubectl.namespace)
        if not found:
            where = "in this cluster" if everywhere else f"in namespace {kubectl.namespace}; look everywhere with -A"
            raise Trouble(f"there is no PinnDeployment {where}; kubectl apply makes one: see manifests/samples")
        return [standing_of(one) for one in found]

    if output != "text":
        from dataclasses import asdict

        found = [asdict(one) for one in read()]
        _print_data(found[0] if name else found, output)
    elif watch:
        _watch(read)
    else:
        _show(read())


def _show(standings: list[Any]) -> None:
    console = _console()
    whole = len(standings) > 1 and not console.is_terminal  # a line an object, for grep and its like
    for part in _parts(standings):
        console.print(part, soft_wrap=whole)


def _parts(standings: list[Any]) -> list[Any]:
    from pinn_operator.plugin.tree import table, tree

    return [tree(standings[0], datetime.now(UTC))] if len(standings) == 1 else [*table(standings)]


def _watch(read: Callable[[], list[Any]]) -> None:
    """On a terminal one picture that changes; else every change as a picture of its own."""
    import time

    from rich.console import Group as Together
    from rich.live import Live

    console = _console()
    if not console.is_terminal:
        before: list[Any] = []
        while True:
            found = read()
            if found != before:
                _show(found)
                sys.stdout.flush()
            before = found
            time.sleep(1)
    found = read()  # what is wrong now is no passing trouble
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(Together(*_parts(found)), refresh=True)
            time.sleep(1)
            try:
                found = read()
            except Trouble as trouble:  # a cluster may be away for a moment
                live.update(f"{trouble}", refresh=True)


@app.command()
@ONE_OR_THE_ONLY
@OUTPUT
@on_a_cluster
def explain(kubectl: Kubectl, name: str | None, output: Output) -> None:
    """Why it is not promoting, or not ready, and what to do.

    What begins with ! waits for a person, what begins with - goes on by itself.
    """
    obj = kubectl.pinn(name)
    findings = _findings(kubectl, obj)
    if output != "text":
        from dataclasses import asdict

        _print_data([asdict(one) for one in findings], output)
        return
    click.echo(_explained(obj, findings))


def _findings(kubectl: Kubectl, obj: Any) -> Any:
    from pinn_operator.plugin.explain import explained
    from pinn_operator.plugin.standing import standing_of

    return explained(standing_of(obj), datetime.now(UTC), _operators(kubectl))


def _explained(obj: Any, findings: Any) -> str:
    from pinn_operator.plugin.explain import page
    from pinn_operator.plugin.standing import standing_of

    return page(standing_of(obj), findings)


def _operators(kubectl: Kubectl) -> int | None:
    """Ready pods of the operator; None where nobody may look at them."""
    try:
        pods = kubectl.all_of("/api/v1/pods", labelSelector="app.kubernetes.io/name=pinn-operator")
    except Trouble:
        return None
    conditions = [one for pod in pods for one in pod.get("status", {}).get("conditions", ())]
    return len([one for one in conditions if (one["type"], one["status"]) == ("Ready", "True")])


@app.command()
@ONE_OR_THE_ONLY
@OUTPUT
@on_a_cluster
def history(kubectl: Kubectl, name: str | None, output: Output) -> None:
    """Rollouts that are over, and revisions to return to."""
    from dataclasses import asdict

    from pinn_operator.plugin.past import past
    from pinn_operator.plugin.standing import standing_of
    from pinn_operator.plugin.undo import records

    obj = kubectl.pinn(name)
    found, known = standing_of(obj), records(_records(kubectl, obj))
    if output != "text":
        data = {
            "rollouts": [asdict(one) for one in found.history],
            "revisions": [{**asdict(one), "content": dict(one.content)} for one in known],
        }
        _print_data(data, output)
        return
    click.echo(past(found, known))


def _records(kubectl: Kubectl, obj: Any) -> list[Any]:
    from pinn_operator.api.names import LABEL_OBJECT

    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    return kubectl.all_of(path, labelSelector=f"{LABEL_OBJECT}={name}")


@app.command()
@ONE_OR_THE_ONLY
@click.argument("which", metavar="[REVISION]", required=False, default="latest")
@click.option("--markdown", is_flag=True, help="The page for a person (the default).")
@click.option("--json", "as_json", is_flag=True, help="The certificate behind it.")
@click.option("--verify", is_flag=True, help="Check the certificate and its hash; exit code 1 if it is not genuine.")
@click.option(
    "--output", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Write certificate, page and hash there."
)
@on_a_cluster
def report(
    kubectl: Kubectl, name: str | None, which: str, markdown: bool, as_json: bool, verify: bool, folder: Path | None
) -> None:
    """Print, check or export the report of a rollout that is over.

    REVISION is a revision, a version or a report of `history`; without one, the last rollout is meant.
    """
    from pinn_operator.plugin import reports
    from pinn_operator.plugin.standing import standing_of

    if markdown and as_json:
        raise Trouble("--markdown and --json exclude each other", code=2)
    found = standing_of(kubectl.pinn(name))
    one = reports.read(kubectl, found.namespace, reports.ended(found, which))
    if folder:
        for file in reports.export(one, folder):
            click.echo(file)
    elif as_json:
        click.echo(one.data[reports.CERTIFICATE])
    elif markdown or not verify:
        click.echo(one.data[reports.PAGE], nl=False)
    if verify:
        lines, genuine = reports.checked(one)
        for line in lines:
            click.echo(line, err=not genuine)
        click.get_current_context().exit(0 if genuine else 1)


@app.command()
@ONE_OR_THE_ONLY
@click.option(
    "--price", metavar="PER_HOUR", type=click.FloatRange(min=0), required=True, help="Of one instance, in any currency."
)
@click.option("--window", metavar="SPAN", default="365d", show_default=True, help='The time it is for, e.g. "30d".')
@OUTPUT
@on_a_cluster
def cost(kubectl: Kubectl, name: str | None, price: float, window: str, output: Output) -> None:
    """What serving costs, before and after the last rollout.

    Instances, hit rate, price: an estimate, and what it assumes is said.
    """
    from dataclasses import asdict

    from pinn_operator.api.units import seconds
    from pinn_operator.plugin.cost import cost_of, page
    from pinn_operator.plugin.standing import standing_of

    try:
        hours = seconds(window) / 3600
    except ValueError as error:
        raise Trouble(f"--window: {error}", code=2) from None
    found = standing_of(kubectl.pinn(name))
    estimate = cost_of(found, price, hours, _last_promotion(kubectl, found))
    if output != "text":
        _print_data(asdict(estimate), output)
        return
    click.echo(page(estimate, f"{found.namespace}/{found.name}", window))


def _last_promotion(kubectl: Kubectl, found: Any) -> Any:
    """The certificate of the last rollout that was promoted; None where there is none."""
    from pinn_operator.plugin import reports

    promoted = [one for one in found.history if one.outcome == "Promoted" and one.report]
    if not promoted:
        return None
    try:
        return reports.read(kubectl, found.namespace, promoted[-1]).document
    except (Trouble, KeyError, ValueError):
        return None


@app.command()
@ONE_OR_THE_ONLY
@click.option(
    "--tests", metavar="JUNIT_XML", type=click.Path(path_type=Path), help="Integration tests: over 95 % must pass."
)
@OUTPUT
@on_a_cluster
def golive(kubectl: Kubectl, name: str | None, tests: Path | None, output: Output) -> None:
    """Whether it is fit to go live, criterion by criterion.

    Those that a cluster can show, and the results of your tests. Exit code 1: not yet.
    """
    from dataclasses import asdict

    from pinn_operator.plugin import reports
    from pinn_operator.plugin.golive import checks, counted_in, page
    from pinn_operator.plugin.standing import standing_of

    counted = counted_in(tests) if tests else None
    obj = kubectl.pinn(name)
    found = standing_of(obj)
    certificates = []
    for one in reports.all_of(kubectl, found):
        if isinstance(one, Trouble):
            certificates.append(("a report", False, str(one)))
            continue
        lines, genuine = reports.checked(one)
        certificates.append((one.ended.report, genuine, "" if genuine else "; ".join(lines)))
    verdicts = checks(
        found,
        obj,
        certificates=certificates,
        last=_last_promotion(kubectl, found),
        budgets=kubectl.all_of(f"/apis/policy/v1/namespaces/{found.namespace}/poddisruptionbudgets"),
        operators=_operators(kubectl),
        tests=counted,
    )
    if output == "text":
        click.echo(page(f"{found.namespace}/{found.name}", verdicts))
    else:
        _print_data([asdict(one) for one in verdicts], output)
    click.get_current_context().exit(0 if all(one.met for one in verdicts) else 1)


# --- Saying ----------------------------------------------------------------------------------------------------------


@app.command()
@ONE
@WAIT
@on_a_cluster
def promote(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Leave the step now; in the last one, promote.

    Whatever evidence is missing. It is also the approval of a step that asks for one.
    """
    _request("promote", name, kubectl, timeout)


@app.command()
@ONE
@WAIT
@on_a_cluster
def abort(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Give the rollout up: all traffic to stable at once."""
    _request("abort", name, kubectl, timeout)


@app.command()
@ONE
@WAIT
@on_a_cluster
def retry(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Try again what was sent back and is still asked for."""
    _request("retry", name, kubectl, timeout)


def _request(verb: Any, name: str, kubectl: Kubectl, timeout: float) -> None:
    from pinn_operator.plugin.requests import ask, heard, revision_for
    from pinn_operator.plugin.standing import standing_of

    obj = kubectl.pinn(name)
    revision = revision_for(verb, obj)
    value = ask(kubectl, verb, obj, revision)
    click.echo(f"asked to {verb} revision {revision}")
    if not timeout:
        return
    try:
        done = heard(kubectl, verb, value, name, timeout, click.echo)
    except KeyboardInterrupt:
        click.echo("\nno longer waiting; the request stays and is carried out as soon as it can be", err=True)
        click.get_current_context().exit(130)
    click.echo(f"done: {standing_of(done).says}")


@app.command()
@ONE
@on_a_cluster
def pause(kubectl: Kubectl, name: str) -> None:
    """Hold the share where it is; gates still protect.

    It sets spec.rollout.paused.
    """
    _hold(name, kubectl, paused=True)


@app.command()
@ONE
@on_a_cluster
def resume(kubectl: Kubectl, name: str) -> None:
    """Go on with a rollout that is paused."""
    _hold(name, kubectl, paused=False)


def _hold(name: str, kubectl: Kubectl, paused: bool) -> None:
    from pinn_operator.plugin.requests import hold, warning_about

    obj = kubectl.pinn(name)
    where = f"{obj['metadata']['namespace']}/{name}"
    if bool(obj["spec"].get("rollout", {}).get("paused")) is paused:
        click.echo(f"{where} is {'paused' if paused else 'not paused'} already")
        return
    if warning := warning_about(obj):
        click.echo(f"warning: {warning}", err=True)
    hold(kubectl, obj, paused)
    click.echo(f"{where}: spec.rollout.paused is {str(paused).lower()}")


@app.command()
@ONE
@click.option("--to", metavar="REVISION", help="A revision of `history`; else the one before.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@on_a_cluster
def undo(kubectl: Kubectl, name: str, to: str | None, yes: bool) -> None:
    """Write the spec back to what an earlier revision was.

    It is rolled out like any change, or ends the rollout that is under way. Shows the difference and asks.
    What rolls nothing out (replicas, rollout, sla, traffic, metrics) stays as it is.
    """
    from pinn_operator.plugin.requests import warning_about
    from pinn_operator.plugin.undo import records
    from pinn_operator.plugin.undo import undo as undo_of

    obj = kubectl.pinn(name)
    plan = undo_of(obj, records(_records(kubectl, obj)), to)
    click.echo(f"back to revision {plan.to.name}, version {plan.to.version}: {plan.why}\n\n{plan.diff}\n")
    if warning := warning_about(obj):
        click.echo(f"warning: {warning}", err=True)
    if not yes:
        _ask("write this spec?", "--yes")
    kubectl.patch(obj, plan.patch)
    click.echo(f"written; look on with: kubectl pinn status {name} -n {obj['metadata']['namespace']} --watch")


def _ask(question: str, otherwise: str) -> None:
    if not sys.stdin.isatty():
        raise Trouble(f"nobody is there to ask: say {otherwise}", code=2)
    if not click.confirm(question):
        raise Trouble("nothing was changed")


# --- Around it -------------------------------------------------------------------------------------------------------


@app.command()
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
        click.echo(line.text)
        worst = max(worst, line.verdict)
    click.get_current_context().exit(worst)


@app.command()
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
    texts = collected(kubectl, obj, _explained(obj, _findings(kubectl, obj)))
    target = file or Path(f"{folder}.tar.gz")
    archive(texts, target, folder)
    click.echo(f"{target}: {len(texts)} files; look through it before you send it")
    if "missing.txt" in texts:
        click.echo(f"not in it:\n{texts['missing.txt']}", err=True, nl=False)


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes `kubectl-pinn` in a shell.

    `kubectl pinn` itself completes wherever kubectl's own completion is set up: `kubectl_complete-pinn` is on the PATH.
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is not None:
        click.echo(maker(app, {}, PROGRAM, VARIABLE).source())


# --- Printing --------------------------------------------------------------------------------------------------------


def _console() -> Any:
    """A file has no width of its own; 80 columns would break what fits a terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=WIDTH_OF_FILES)


def _print_data(data: Any, output: Output) -> None:
    if output == "json":
        import json

        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), nl=False)


def main() -> None:
    """The entry point."""
    app(prog_name="kubectl pinn", complete_var=VARIABLE)
