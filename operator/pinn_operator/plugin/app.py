"""The commands of `kubectl pinn`. Each imports what it needs when it runs: an answer should not wait for the other commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pinn_operator.plugin.kubectl import Kubectl, Trouble

WIDTH_OF_FILES = 140


class Group(TyperGroup):
    """Trouble is a sentence on standard error and an exit code, whatever command it comes from."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's context is click's
        try:
            return super().invoke(ctx)
        except Trouble as trouble:
            typer.echo(f"error: {trouble}", err=True)
            raise typer.Exit(trouble.code) from None
        except KeyboardInterrupt:
            typer.echo(err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


class Output(StrEnum):
    """How data is printed."""

    text = "text"
    json = "json"
    yaml = "yaml"


class Shell(StrEnum):
    """Whose completion."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def names_in_namespace() -> list[str]:
    """Objects of the context's namespace, for completion; nothing where there is no cluster."""
    try:
        kubectl = Kubectl()
        return [one["metadata"]["name"] for one in kubectl.pinns(kubectl.namespace)]
    except Trouble:
        return []


Name = Annotated[str, typer.Argument(metavar="NAME", help="The PinnDeployment.")]
Maybe = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The PinnDeployment; may be left out where there is only one."),
]
In = Annotated[
    str | None, typer.Option("--namespace", "-n", metavar="NS", help="Its namespace; else the context's own.")
]
Context = Annotated[str | None, typer.Option("--context", metavar="NAME", help="The context of the kubeconfig to use.")]
Config = Annotated[str | None, typer.Option("--kubeconfig", metavar="FILE", help="The kubeconfig to use.")]
As = Annotated[Output, typer.Option("--output", "-o", help="text, json or yaml.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait until it is acted upon; 0: not at all."),
]


@app.callback()
def kubectl_pinn() -> None:
    """Look after PinnDeployments: how a rollout stands and why, what to do about it, and doing it.

    The cluster, context and namespace are those of kubectl.

    Exit code 0: done, or all is well. 1: it failed, or the verdict is negative. 2: the command was used wrongly.
    """


# --- Looking ---------------------------------------------------------------------------------------------------------


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The PinnDeployment; without one, all of them."),
    ] = None,
    namespace: In = None,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show every change until Ctrl-C.")] = False,
    output: As = Output.text,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """How it stands: revisions, their shares, the gates and their evidence, and what is waited for until when.

    A bar shows how far the evidence of a gate is towards what is needed for its verdict.
    """
    from pinn_operator.plugin.standing import standing_of

    if name and everywhere:
        raise Trouble("NAME and -A exclude each other: a name is of one namespace; use -n", code=2)
    kubectl = Kubectl(context, kubeconfig, namespace)

    def read() -> list[Any]:
        found = [kubectl.pinn(name)] if name else kubectl.pinns(None if everywhere else kubectl.namespace)
        if not found:
            kubectl.pinn(None) if not everywhere else None  # says where to look instead
            raise Trouble("there is no PinnDeployment in this cluster; kubectl apply makes one: see manifests/samples")
        return [standing_of(one) for one in found]

    if output is not Output.text:
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
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            try:
                live.update(Together(*_parts(read())), refresh=True)
            except Trouble as trouble:  # a cluster may be away for a moment
                live.update(f"{trouble}", refresh=True)
            time.sleep(1)


@app.command()
def explain(
    name: Maybe = None,
    namespace: In = None,
    output: As = Output.text,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """Why is it not promoting, or not ready? What it waits for, which evidence is missing, and what to do."""
    kubectl = Kubectl(context, kubeconfig, namespace)
    obj = kubectl.pinn(name)
    findings = _findings(kubectl, obj)
    if output is not Output.text:
        from dataclasses import asdict

        _print_data([asdict(one) for one in findings], output)
        return
    typer.echo(_explained(obj, findings))


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
def history(
    name: Maybe = None,
    namespace: In = None,
    output: As = Output.text,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """The rollouts that are over, with their reports, and the revisions that `undo` can return to."""
    from dataclasses import asdict

    from pinn_operator.plugin.past import past
    from pinn_operator.plugin.standing import standing_of
    from pinn_operator.plugin.undo import records

    kubectl = Kubectl(context, kubeconfig, namespace)
    obj = kubectl.pinn(name)
    found, known = standing_of(obj), records(_records(kubectl, obj))
    if output is not Output.text:
        data = {
            "rollouts": [asdict(one) for one in found.history],
            "revisions": [{**asdict(one), "content": dict(one.content)} for one in known],
        }
        _print_data(data, output)
        return
    typer.echo(past(found, known))


def _records(kubectl: Kubectl, obj: Any) -> list[Any]:
    from pinn_operator.api.names import LABEL_OBJECT

    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    return kubectl.all_of(path, labelSelector=f"{LABEL_OBJECT}={name}")


@app.command()
def report(
    name: Maybe = None,
    which: Annotated[
        str, typer.Argument(metavar="REVISION", help="A revision, a version or a report of `history`.")
    ] = "latest",
    namespace: In = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The page for a person (the default).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The certificate behind it.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the certificate and its hash; exit code 1 if it is not genuine.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Write certificate, page and hash into this folder.")
    ] = None,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """The report of a rollout that is over: print it, check it, export it."""
    from pinn_operator.plugin import reports
    from pinn_operator.plugin.standing import standing_of

    if markdown and as_json:
        raise Trouble("--markdown and --json exclude each other", code=2)
    kubectl = Kubectl(context, kubeconfig, namespace)
    found = standing_of(kubectl.pinn(name))
    one = reports.read(kubectl, found.namespace, reports.ended(found, which))
    if output:
        for file in reports.export(one, output):
            typer.echo(file)
    elif as_json:
        typer.echo(one.data[reports.CERTIFICATE])
    elif markdown or not verify:
        typer.echo(one.data[reports.PAGE], nl=False)
    if verify:
        lines, genuine = reports.checked(one)
        for line in lines:
            typer.echo(line, err=not genuine)
        raise typer.Exit(0 if genuine else 1)


@app.command()
def cost(
    price: Annotated[
        float, typer.Option("--price", metavar="PER_HOUR", min=0, help="Of one instance, an hour, in any currency.")
    ],
    name: Maybe = None,
    namespace: In = None,
    window: Annotated[str, typer.Option("--window", metavar="SPAN", help='The time it is for, e.g. "30d".')] = "365d",
    output: As = Output.text,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """What serving costs, before and after the rollout: instances, hit rate, price. An estimate; what it assumes is said."""
    from dataclasses import asdict

    from pinn_operator.api.units import seconds
    from pinn_operator.plugin.cost import cost_of, page
    from pinn_operator.plugin.standing import standing_of

    try:
        hours = seconds(window) / 3600
    except ValueError as error:
        raise Trouble(f"--window: {error}", code=2) from None
    kubectl = Kubectl(context, kubeconfig, namespace)
    found = standing_of(kubectl.pinn(name))
    estimate = cost_of(found, price, hours, _last_promotion(kubectl, found))
    if output is not Output.text:
        _print_data(asdict(estimate), output)
        return
    typer.echo(page(estimate, f"{found.namespace}/{found.name}", window))


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
def golive(
    name: Maybe = None,
    namespace: In = None,
    tests: Annotated[
        Path | None,
        typer.Option("--tests", metavar="JUNIT_XML", help="Results of the integration tests: over 95 % must pass."),
    ] = None,
    output: As = Output.text,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """Is it fit to go live? A verdict on each criterion that a cluster can show. Exit code 1: not yet."""
    from dataclasses import asdict

    from pinn_operator.plugin import reports
    from pinn_operator.plugin.golive import checks, counted_in, page
    from pinn_operator.plugin.standing import standing_of

    counted = counted_in(tests) if tests else None
    kubectl = Kubectl(context, kubeconfig, namespace)
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
    if output is Output.text:
        typer.echo(page(f"{found.namespace}/{found.name}", verdicts))
    else:
        _print_data([asdict(one) for one in verdicts], output)
    raise typer.Exit(0 if all(one.met for one in verdicts) else 1)


# --- Saying ----------------------------------------------------------------------------------------------------------


@app.command()
def promote(
    name: Name, namespace: In = None, timeout: Wait = 60, context: Context = None, kubeconfig: Config = None
) -> None:
    """Leave the present step now, whatever evidence is missing; in the last one, promote. Approves a step that asks for it."""
    _request("promote", name, Kubectl(context, kubeconfig, namespace), timeout)


@app.command()
def abort(
    name: Name, namespace: In = None, timeout: Wait = 60, context: Context = None, kubeconfig: Config = None
) -> None:
    """Give the rollout up: all traffic to stable at once."""
    _request("abort", name, Kubectl(context, kubeconfig, namespace), timeout)


@app.command()
def retry(
    name: Name, namespace: In = None, timeout: Wait = 60, context: Context = None, kubeconfig: Config = None
) -> None:
    """Try the version again that was sent back and that the spec still asks for."""
    _request("retry", name, Kubectl(context, kubeconfig, namespace), timeout)


def _request(verb: Any, name: str, kubectl: Kubectl, timeout: float) -> None:
    from pinn_operator.plugin.requests import ask, heard, revision_for
    from pinn_operator.plugin.standing import standing_of

    obj = kubectl.pinn(name)
    revision = revision_for(verb, obj)
    value = ask(kubectl, verb, obj, revision)
    typer.echo(f"asked to {verb} revision {revision}")
    if not timeout:
        return
    try:
        done = heard(kubectl, verb, value, name, timeout, typer.echo)
    except KeyboardInterrupt:
        typer.echo("\nno longer waiting; the request stays and is carried out as soon as it can be", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"done: {standing_of(done).says}")


@app.command()
def pause(name: Name, namespace: In = None, context: Context = None, kubeconfig: Config = None) -> None:
    """Hold the share where it is (spec.rollout.paused). Gates still protect."""
    _hold(name, Kubectl(context, kubeconfig, namespace), paused=True)


@app.command()
def resume(name: Name, namespace: In = None, context: Context = None, kubeconfig: Config = None) -> None:
    """Go on with a rollout that is paused."""
    _hold(name, Kubectl(context, kubeconfig, namespace), paused=False)


def _hold(name: str, kubectl: Kubectl, paused: bool) -> None:
    from pinn_operator.plugin.requests import hold, warning_about

    obj = kubectl.pinn(name)
    where = f"{obj['metadata']['namespace']}/{name}"
    if bool(obj["spec"].get("rollout", {}).get("paused")) is paused:
        typer.echo(f"{where} is {'paused' if paused else 'not paused'} already")
        return
    if warning := warning_about(obj):
        typer.echo(f"warning: {warning}", err=True)
    hold(kubectl, obj, paused)
    typer.echo(f"{where}: spec.rollout.paused is {str(paused).lower()}")


@app.command()
def undo(
    name: Name,
    to: Annotated[
        str | None, typer.Option("--to", metavar="REVISION", help="A revision of `history`; else the one before.")
    ] = None,
    yes: Yes = False,
    namespace: In = None,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """Write the spec back to what an earlier revision was. It is rolled out like any change, or ends the rollout it came from.

    Shows the difference and asks. What rolls nothing out (replicas, rollout, sla, traffic, metrics) stays as it is.
    """
    from pinn_operator.plugin.requests import warning_about
    from pinn_operator.plugin.undo import records
    from pinn_operator.plugin.undo import undo as undo_of

    kubectl = Kubectl(context, kubeconfig, namespace)
    obj = kubectl.pinn(name)
    plan = undo_of(obj, records(_records(kubectl, obj)), to)
    typer.echo(f"back to revision {plan.to.name}, version {plan.to.version}: {plan.why}\n\n{plan.diff}\n")
    if warning := warning_about(obj):
        typer.echo(f"warning: {warning}", err=True)
    if not yes:
        _ask("write this spec?", "--yes")
    kubectl.patch(obj, plan.patch)
    typer.echo(f"written; look on with: kubectl pinn status {name} -n {obj['metadata']['namespace']} --watch")


def _ask(question: str, otherwise: str) -> None:
    if not sys.stdin.isatty():
        raise Trouble(f"nobody is there to ask: say {otherwise}", code=2)
    if not typer.confirm(question):
        raise Trouble("nothing was changed")


# --- Around it -------------------------------------------------------------------------------------------------------


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Manifests, folders of manifests, or - for standard input.")
    ],
) -> None:
    """Say whether a cluster would accept these manifests, without a cluster: `pinn-operator validate`."""
    from pinn_operator.validate import Verdict
    from pinn_operator.validate import validate as lines_of

    worst = Verdict.ACCEPTED
    for line in lines_of(files):
        typer.echo(line.text)
        worst = max(worst, line.verdict)
    raise typer.Exit(worst)


@app.command()
def diagnose(
    name: Maybe = None,
    namespace: In = None,
    file: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.tar.gz", help="Where to write it.")
    ] = None,
    context: Context = None,
    kubeconfig: Config = None,
) -> None:
    """One archive for a bug report: the object, its children, events, logs and versions.

    Secrets are not read, and what looks like one is taken out of the rest; look through it before you send it.
    """
    from pinn_operator.plugin.diagnose import archive, collected

    kubectl = Kubectl(context, kubeconfig, namespace)
    obj = kubectl.pinn(name)
    metadata = obj["metadata"]
    folder = f"pinn-diagnose-{metadata['namespace']}-{metadata['name']}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    texts = collected(kubectl, obj, _explained(obj, _findings(kubectl, obj)))
    target = file or Path(f"{folder}.tar.gz")
    archive(texts, target, folder)
    typer.echo(f"{target}: {len(texts)} files; look through it before you send it")
    if "missing.txt" in texts:
        typer.echo(f"not in it:\n{texts['missing.txt']}", err=True, nl=False)


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="Whose completion.")]) -> None:
    """The script that completes `kubectl-pinn`, to be sourced.

    `kubectl pinn` itself completes wherever kubectl's own completion is set up: `kubectl_complete-pinn` is on the PATH.
    """
    from pinn_operator.plugin.complete import SCRIPTS

    typer.echo(SCRIPTS[shell.value], nl=False)


# --- Printing --------------------------------------------------------------------------------------------------------


def _console() -> Any:
    """A file has no width of its own; 80 columns would break what fits a terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=WIDTH_OF_FILES)


def _print_data(data: Any, output: Output) -> None:
    if output is Output.json:
        import json

        typer.echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        import yaml

        typer.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), nl=False)


def main() -> None:
    """The entry point."""
    app(prog_name="kubectl pinn")
