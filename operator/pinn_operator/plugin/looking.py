"""The commands that change nothing: status, explain, history, report, cost, golive. Each imports what it needs when it runs."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from pinn_operator.plugin.kubectl import OPERATOR_PODS, Kubectl, Trouble
from pinn_operator.plugin.options import ONE_OR_THE_ONLY, OUTPUT, Output, console, names, on_a_cluster, print_data


@click.command()
@click.argument("name", metavar="[NAME]", required=False, shell_complete=names)
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
    if watch and output != "text":
        raise Trouble(f"--watch shows text; for a program: kubectl get pinn --watch --output {output}", code=2)

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
        print_data(found[0] if name else found, output)
    elif watch:
        _watch(read)
    else:
        _show(read())


def _show(standings: list[Any]) -> None:
    screen = console()
    whole = len(standings) > 1 and not screen.is_terminal  # a line an object, for grep and its like
    for part in _parts(standings):
        screen.print(part, soft_wrap=whole)


def _parts(standings: list[Any]) -> list[Any]:
    from pinn_operator.plugin.tree import table, tree

    return [tree(standings[0], datetime.now(UTC))] if len(standings) == 1 else [*table(standings)]


def _watch(read: Callable[[], list[Any]]) -> None:
    """On a terminal one picture that changes; else every change as a picture of its own."""
    from rich.console import Group as Together
    from rich.live import Live
    from rich.text import Text

    screen = console()
    if not screen.is_terminal:
        _print_changes(read)
    shown: Any = Together(*_parts(read()))  # what is wrong at once is no passing trouble
    with Live(console=screen, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            live.update(shown, refresh=True)
            time.sleep(1)
            try:
                shown = Together(*_parts(read()))
            except Trouble as trouble:  # a cluster may be away for a moment
                shown = Text(str(trouble))


def _print_changes(read: Callable[[], list[Any]]) -> NoReturn:
    found, said = read(), ""
    _show(found)
    while True:
        sys.stdout.flush()
        time.sleep(1)
        before = found
        try:
            found, trouble = read(), ""
        except Trouble as passing:  # as on a terminal
            trouble = str(passing)
        if trouble and trouble != said:
            click.echo(trouble, err=True)
        said = trouble
        if found != before:
            _show(found)


@click.command()
@ONE_OR_THE_ONLY
@OUTPUT
@on_a_cluster
def explain(kubectl: Kubectl, name: str | None, output: Output) -> None:
    """Why it is not promoting, or not ready, and what to do.

    What begins with ! waits for a person, what begins with - goes on by itself.
    """
    obj = kubectl.pinn(name)
    found = findings_of(kubectl, obj)
    if output != "text":
        from dataclasses import asdict

        print_data([asdict(one) for one in found], output)
        return
    click.echo(page_of(obj, found))


def findings_of(kubectl: Kubectl, obj: Any) -> Any:
    from pinn_operator.plugin.explain import OPERATORS, Where, explained
    from pinn_operator.plugin.standing import standing_of

    pods = _operators(kubectl)
    home = pods[0]["metadata"]["namespace"] if pods else OPERATORS
    where = Where(kubectl.where, kubectl.where_in(home))
    return explained(standing_of(obj), datetime.now(UTC), _ready(pods), where)


def page_of(obj: Any, findings: Any) -> str:
    from pinn_operator.plugin.explain import page
    from pinn_operator.plugin.standing import standing_of

    return page(standing_of(obj), findings, datetime.now(UTC))


def _operators(kubectl: Kubectl) -> list[Any]:
    """The operator's pods; none where nobody may look at them, or there are none: it may run out of the cluster."""
    try:
        return kubectl.all_of("/api/v1/pods", labelSelector=OPERATOR_PODS)
    except Trouble:
        return []


def _ready(pods: list[Any]) -> int | None:
    """How many pods of the operator are ready; None where they are not known."""
    if not pods:
        return None
    conditions = [one for pod in pods for one in pod.get("status", {}).get("conditions", ())]
    return len([one for one in conditions if (one["type"], one["status"]) == ("Ready", "True")])


@click.command()
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
    found, known = standing_of(obj), records(records_of(kubectl, obj))
    if output != "text":
        data = {
            "rollouts": [asdict(one) for one in found.history],
            "revisions": [{**asdict(one), "content": dict(one.content)} for one in known],
        }
        print_data(data, output)
        return
    click.echo(past(found, known))


def records_of(kubectl: Kubectl, obj: Any) -> list[Any]:
    from pinn_operator.api.names import LABEL_OBJECT

    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions"
    return kubectl.all_of(path, labelSelector=f"{LABEL_OBJECT}={name}")


@click.command()
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
    again = verify and not reports.is_compared(one)  # nobody is to read a page that nothing was compared with
    prints = bool(folder or as_json or markdown or again or not verify)
    if folder:
        for file in reports.export(one, folder, made_again=again):
            click.echo(file)
    elif as_json:
        click.echo(one.text(reports.CERTIFICATE))
    elif prints:
        click.echo(one.page(made_again=again), nl=False)
    if verify:
        lines, genuine = reports.checked(one)
        for line in lines:
            click.echo(line, err=prints or not genuine)
        click.get_current_context().exit(0 if genuine else 1)


@click.command()
@ONE_OR_THE_ONLY
@click.option(
    "--price", metavar="PER_HOUR", type=click.FloatRange(min=0), required=True, help="Of one instance, in any currency."
)
@click.option("--window", metavar="SPAN", default="365d", show_default=True, help='The time it is for, e.g. "30d".')
@OUTPUT
@on_a_cluster
def cost(kubectl: Kubectl, name: str | None, price: float, window: str, output: Output) -> None:
    """What serving costs, before and after the last rollout.

    Instances times price, and by the hit rates how many evaluations a request takes, against before: an estimate, and what it
    assumes is said.
    """
    from dataclasses import asdict

    from pinn_operator.api.units import seconds
    from pinn_operator.plugin import reports
    from pinn_operator.plugin.cost import cost_of, page
    from pinn_operator.plugin.standing import standing_of

    try:
        hours = seconds(window) / 3600
    except ValueError as error:
        raise Trouble(f"--window: {error}", code=2) from None
    if not math.isfinite(price):
        raise Trouble(f"--price: {price} is no price; write e.g. 0.34", code=2)
    found = standing_of(kubectl.pinn(name))
    estimate = cost_of(found, price, hours, reports.last_promotion(kubectl, found))
    if output != "text":
        print_data(asdict(estimate), output)
        return
    click.echo(page(estimate, f"{found.namespace}/{found.name}", window))


@click.command()
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
    certificates, documents = [], {}
    for one in reports.all_of(kubectl, found):
        if isinstance(one, Trouble):
            certificates.append(("a report", False, str(one)))
            continue
        lines, genuine = reports.checked(one)
        certificates.append((one.ended.report, genuine, "" if genuine else "; ".join(lines)))
        if genuine:
            documents[one.ended.report] = one.document
    verdicts = checks(
        found,
        obj,
        certificates=certificates,
        documents=documents,
        last=reports.last_promotion(kubectl, found),
        budgets=kubectl.all_of(f"/apis/policy/v1/namespaces/{found.namespace}/poddisruptionbudgets"),
        operators=_ready(_operators(kubectl)),
        tests=counted,
    )
    if output == "text":
        click.echo(page(f"{found.namespace}/{found.name}", verdicts))
    else:
        print_data([asdict(one) for one in verdicts], output)
    click.get_current_context().exit(0 if all(one.met for one in verdicts) else 1)
