"""The commands that tell an object something: promote, abort, retry, pause, resume, undo, migrate."""

from __future__ import annotations

import sys
from typing import Any

import click
from click.core import ParameterSource

from pinn_operator.plugin.kubectl import Kubectl, Trouble
from pinn_operator.plugin.looking import records_of
from pinn_operator.plugin.options import ONE, WAIT, on_a_cluster


@click.command()
@ONE
@WAIT
@on_a_cluster
def promote(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Leave the step now; in the last one, promote.

    Whatever evidence is missing. It is also the approval of a step that asks for one.
    """
    _request("promote", name, kubectl, timeout)


@click.command()
@ONE
@WAIT
@on_a_cluster
def abort(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Give the rollout up: all traffic to stable at once."""
    _request("abort", name, kubectl, timeout)


@click.command()
@ONE
@WAIT
@on_a_cluster
def retry(kubectl: Kubectl, name: str, timeout: float) -> None:
    """Try again what was sent back and is still asked for."""
    _request("retry", name, kubectl, timeout)


def _request(verb: Any, name: str, kubectl: Kubectl, timeout: float) -> None:
    from pinn_operator.plugin.requests import ask, heard, living, revision_for

    obj = living(kubectl, name)
    revision = revision_for(verb, obj)
    value = ask(kubectl, verb, obj, revision)
    click.echo(f"asked to {verb} revision {revision}")
    if not timeout:
        return
    try:
        came_of_it = heard(kubectl, verb, value, obj, timeout, click.echo)
    except KeyboardInterrupt:
        click.echo("\nno longer waiting; the request stays and is carried out as soon as it can be", err=True)
        click.get_current_context().exit(130)
    click.echo(came_of_it)


@click.command()
@ONE
@on_a_cluster
def pause(kubectl: Kubectl, name: str) -> None:
    """Hold the share where it is; gates still protect.

    It sets spec.rollout.paused.
    """
    _hold(name, kubectl, paused=True)


@click.command()
@ONE
@on_a_cluster
def resume(kubectl: Kubectl, name: str) -> None:
    """Go on with a rollout that is paused."""
    _hold(name, kubectl, paused=False)


def _hold(name: str, kubectl: Kubectl, paused: bool) -> None:
    from pinn_operator.plugin.requests import hold, living, warning_about

    obj = living(kubectl, name)
    where = f"{obj['metadata']['namespace']}/{name}"
    if bool(obj["spec"].get("rollout", {}).get("paused")) is paused:
        click.echo(f"{where} is {'paused' if paused else 'not paused'} already")
        return
    if warning := warning_about(obj):
        click.echo(f"warning: {warning}", err=True)
    hold(kubectl, obj, paused)
    click.echo(f"{where}: spec.rollout.paused is {str(paused).lower()}")


@click.command()
@ONE
@click.option("--to", metavar="REVISION", help="A revision of `history`; else the one before.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@on_a_cluster
def undo(kubectl: Kubectl, name: str, to: str | None, yes: bool) -> None:
    """Write the spec back to what an earlier revision was.

    It is rolled out like any change, or ends the rollout that is under way. Shows the difference and asks.
    What rolls nothing out (replicas, rollout, sla, traffic, metrics) stays as it is.
    """
    from pinn_operator.plugin.requests import living, warning_about
    from pinn_operator.plugin.undo import records
    from pinn_operator.plugin.undo import undo as undo_of

    obj = living(kubectl, name)
    plan = undo_of(obj, records(records_of(kubectl, obj)), to)
    click.echo(f"back to revision {plan.to.name}, version {plan.to.version}: {plan.why}\n\n{plan.diff}\n")
    if warning := warning_about(obj):
        click.echo(f"warning: {warning}", err=True)
    if not yes:
        _ask("write this spec?", "--yes")
    kubectl.patch(obj, plan.patch)
    click.echo(f"written; look on with: kubectl pinn status {name} {kubectl.where} --watch")


@click.command()
@click.argument("service", metavar="SERVICE")
@click.option("--model", metavar="NAME", help="The model that is to answer; or say -f.")
@click.option("--version", metavar="VERSION", help="Its version.")
@click.option("--uri", metavar="URI", default="builtin://", show_default=True, help="Where it is.")
@click.option("--digest", metavar="sha256:HEX", help="Of the artefact; needed unless it is built in.")
@click.option(
    "--file", "-f", metavar="FILE", type=click.Path(dir_okay=False), help="A PinnDeployment of the Service's name."
)
@click.option(
    "--undo", "back", is_flag=True, help="Give the Service back to the servers it had, and remove the object."
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    help="How long the new servers may take to be ready.",
)
@on_a_cluster
def migrate(
    kubectl: Kubectl,
    service: str,
    model: str | None,
    version: str | None,
    uri: str,
    digest: str | None,
    file: str | None,
    back: bool,
    timeout: float,
) -> None:
    """Take a Service that runs over to a PinnDeployment.

    Without a failed request: servers come up beside those that serve, and when they are ready the Service is turned to them and
    belongs to the object, which has its name. Its address and ports stay. The old Deployment is not touched: scale it to 0 when
    you are content; until then --undo is the way back.

    May be cut off and run again.
    """
    from pinn_operator.plugin.given import given
    from pinn_operator.plugin.migration import Migration

    moving = Migration(kubectl, service, click.echo, timeout)
    if back:
        moving.undo()
        return
    if file and (beside := [f"--{one}" for one in ("model", "version", "uri", "digest") if _is_said(one)]):
        raise Trouble(f"-f and {', '.join(beside)} exclude each other: {file} says which model is to answer", code=2)
    manifest = given(file, service, kubectl.namespace) if file else None
    if manifest is None and not (model and version):
        raise Trouble(
            "say which model is to answer: --model NAME --version VERSION, or a PinnDeployment with -f FILE", code=2
        )
    named = {"name": model, "version": version, "uri": uri, "digest": digest}
    moving.run({key: value for key, value in named.items() if value}, manifest)
    back_again = f"kubectl pinn migrate {service} {kubectl.where} --undo"
    click.echo(f"done; when you are content, scale the old Deployment to 0. Back: {back_again}")


def _is_said(option: str) -> bool:
    """On the command line, and not by default."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def _ask(question: str, otherwise: str) -> None:
    if not sys.stdin.isatty():
        raise Trouble(f"nobody is there to ask: say {otherwise}", code=2)
    if not click.confirm(question):
        raise Trouble("nothing was changed")
