"""Leaving: authority lasts as long as the duty, and no object is left that cannot be deleted."""

import asyncio
from typing import Any

import pytest
from pinn_operator.api.names import FINALIZER
from pinn_operator.errors import ApiError, Refused, Unavailable
from pinn_operator.kube import WRITE_SECONDS
from pinn_operator.reconcile import Context
from pinn_operator.run import DEPART_SECONDS
from pinn_operator.uninstall import GUARD, Installed, depart, give_up_authority, hold_authority, is_uninstalled
from tests.fake_kube import FakeKube
from tests.given import IMAGE, UID, spec_of

pytestmark = pytest.mark.looptime

INSTALLED = Installed("pinn-operator", "pinn-system")
AUTHORITY = [("ServiceAccount", "pinn-system"), ("ClusterRole", ""), ("ClusterRoleBinding", "")]
GOING = {"deletionTimestamp": "2026-01-02T03:04:00Z"}
Object = dict[str, Any]


def _authority(*finalizers: str, **metadata: Any) -> list[Object]:
    return [
        {"kind": kind, "metadata": {"name": "pinn-operator", "finalizers": list(finalizers), **at, **metadata}}
        for kind, at in [
            ("ServiceAccount", {"namespace": "pinn-system"}),
            ("ClusterRole", {}),
            ("ClusterRoleBinding", {}),
        ]
    ]


def _deployment(**metadata: Any) -> Object:
    return {"kind": "Deployment", "metadata": {"name": "pinn-operator", "namespace": "pinn-system", **metadata}}


def _object(name: str, *finalizers: str, namespace: str = "demo", **metadata: Any) -> Object:
    about = {"name": name, "namespace": namespace, "uid": f"{UID}-{name}", "finalizers": list(finalizers), **metadata}
    return {"kind": "PinnDeployment", "metadata": about, "spec": spec_of("1.0.0")}


def _child(of: str, kind: str = "Service", name: str = "") -> Object:
    owner = {
        "apiVersion": "pinn.dev/v1alpha1",
        "kind": "PinnDeployment",
        "name": of,
        "uid": f"{UID}-{of}",
        "controller": True,
    }
    labels = {"pinn.dev/deployment": of}
    return {
        "kind": kind,
        "metadata": {"name": name or of, "namespace": "demo", "labels": labels, "ownerReferences": [owner]},
    }


def _held(kube: FakeKube) -> list[str]:
    live = [kube.peek(kind, "pinn-operator", namespace) for kind, namespace in AUTHORITY]
    return [obj["kind"] for obj in live if obj and GUARD in obj["metadata"]["finalizers"]]


def _context(kube: FakeKube) -> Context:
    return Context(kube, IMAGE, "a")


async def test_authority_is_held_on_account_role_and_binding_beside_what_others_hold() -> None:
    kube = FakeKube(*_authority("somebody/else"))
    await hold_authority(kube, INSTALLED)
    assert _held(kube) == ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
    assert (kube.peek("ClusterRole", "pinn-operator", "") or {})["metadata"]["finalizers"] == ["somebody/else", GUARD]


async def test_what_is_held_already_is_not_written_again() -> None:
    kube = FakeKube(*_authority(GUARD))
    await hold_authority(kube, INSTALLED)
    assert kube.writes() == []


@pytest.mark.parametrize("objects", [[], _authority(**GOING, finalizers=["x/y"])], ids=["not there", "being deleted"])
async def test_what_is_not_there_or_is_going_is_not_held(objects: list[Object]) -> None:
    kube = FakeKube(*objects)
    await hold_authority(kube, INSTALLED)
    assert kube.writes() == []


async def test_in_named_namespaces_the_operator_leaves_its_own_roles_alone() -> None:
    kube = FakeKube(*_authority())
    named = Installed("pinn-operator", "pinn-system", ("demo",))
    await hold_authority(kube, named)
    assert not await is_uninstalled(kube, named)
    assert kube.requests == []


async def test_without_objects_nothing_is_held() -> None:
    kube = FakeKube(*_authority(GUARD, "somebody/else"))
    await give_up_authority(kube, INSTALLED)
    assert _held(kube) == []
    assert (kube.peek("ClusterRole", "pinn-operator", "") or {})["metadata"]["finalizers"] == ["somebody/else"]


async def test_authority_is_kept_as_long_as_one_object_needs_it() -> None:
    kube = FakeKube(*_authority(GUARD), _object("free"), _object("held", FINALIZER, namespace="elsewhere"))
    await give_up_authority(kube, INSTALLED)
    assert len(_held(kube)) == 3


async def test_each_release_is_allowed_before_any_is_done() -> None:
    """Look at the order: the first to be done is the first to be gone, and with it the right to do the others."""
    kube = FakeKube(*_authority(GUARD, **GOING))
    await give_up_authority(kube, INSTALLED)
    asked = [(verb, kind) for verb, kind, _ in kube.writes()]
    assert asked == [
        ("allowed", "ClusterRoleBinding"),
        ("allowed", "ClusterRole"),
        ("allowed", "ServiceAccount"),
        ("patch", "ServiceAccount"),
        ("patch", "ClusterRole"),
        ("patch", "ClusterRoleBinding"),
    ]
    assert kube.objects == {}


async def test_a_release_that_is_not_allowed_leaves_all_held() -> None:
    kube = FakeKube(*_authority(GUARD, **GOING))

    async def before(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("allowed", "ServiceAccount"):
            raise Refused(403, "Forbidden", "no")

    kube.before = before
    with pytest.raises(Refused):
        await give_up_authority(kube, INSTALLED)
    assert len(_held(kube)) == 3


async def test_where_the_definition_is_gone_no_object_needs_authority() -> None:
    kube = FakeKube(*_authority(GUARD))

    async def before(verb: str, kind: str, _name: str) -> None:
        if (verb, kind) == ("list_all", "PinnDeployment"):
            raise ApiError(404, "NotFound", "page not found")

    kube.before = before
    await give_up_authority(kube, INSTALLED)
    assert _held(kube) == []


@pytest.mark.parametrize(("role", "answer"), [([], False), (_authority(), False), (_authority(GUARD, **GOING), True)])
async def test_it_is_uninstalled_when_its_role_is_being_deleted(role: list[Object], answer: bool) -> None:
    assert await is_uninstalled(FakeKube(*role, _deployment()), INSTALLED) is answer


@pytest.mark.parametrize(
    ("deployment", "answer"),
    [([], True), ([_deployment(**GOING)], True), ([_deployment()], False)],
    ids=["gone", "being deleted", "there"],
)
async def test_it_is_uninstalled_when_its_deployment_is_gone(deployment: list[Object], answer: bool) -> None:
    """`helm uninstall` deletes the Deployment first, and the roles when its pods may have ended already."""
    kube = FakeKube(*_authority(), *deployment)
    assert await is_uninstalled(kube, INSTALLED) is answer


async def test_departing_releases_objects_and_leaves_those_that_stay_with_their_servers() -> None:
    kube = FakeKube(*_authority(GUARD, **GOING), _object("stays", FINALIZER, "a/b"), _child("stays"))
    await depart(_context(kube), INSTALLED)
    assert (kube.peek("PinnDeployment", "stays") or {})["metadata"]["finalizers"] == ["a/b"]
    assert kube.peek("Service", "stays") is not None
    assert _held(kube) == []


async def test_departing_removes_what_belongs_to_objects_that_are_being_deleted() -> None:
    """Also what is read by its name: the token, the journal, the route."""
    named = [
        _child("goes", "Secret", "goes-admin"),
        _child("goes", "ConfigMap", "goes-rollout"),
        _child("goes", "HTTPRoute"),
    ]
    kube = FakeKube(*_authority(GUARD, **GOING), _object("goes", FINALIZER, **GOING), _child("goes"), *named)
    await depart(_context(kube), INSTALLED)
    assert kube.objects == {}
    order = [(verb, kind) for verb, kind, _ in kube.writes()]
    assert (
        order.index(("delete", "Service"))
        < order.index(("patch", "PinnDeployment"))
        < order.index(("patch", "ClusterRole"))
    )


async def test_children_that_a_silent_webhook_keeps_do_not_keep_the_object() -> None:
    kube = FakeKube(*_authority(GUARD, **GOING), _object("goes", FINALIZER, **GOING), _child("goes"))

    async def before(verb: str, _kind: str, _name: str) -> None:
        if verb == "delete":
            await asyncio.sleep(WRITE_SECONDS)
            raise Refused(500, "InternalError", "failed calling webhook")

    kube.before = before
    await asyncio.wait_for(depart(_context(kube), INSTALLED), DEPART_SECONDS)
    assert kube.peek("PinnDeployment", "goes") is None
    assert _held(kube) == []


async def test_departing_from_an_object_that_changes_meanwhile_is_tried_again() -> None:
    kube = FakeKube(*_authority(GUARD, **GOING), _object("busy", FINALIZER))
    count = 0

    async def before(verb: str, kind: str, _name: str) -> None:
        nonlocal count
        if (verb, kind) == ("patch", "PinnDeployment") and count < 3:
            count += 1
            kube.put(kube.peek("PinnDeployment", "busy") or {})

    kube.before = before
    await depart(_context(kube), INSTALLED)
    assert count == 3
    assert (kube.peek("PinnDeployment", "busy") or {})["metadata"]["finalizers"] == []


async def test_one_object_that_cannot_be_released_does_not_hold_up_the_others_but_keeps_the_authority() -> None:
    kube = FakeKube(*_authority(GUARD, **GOING), _object("a", FINALIZER), _object("b", FINALIZER))

    async def before(verb: str, _kind: str, name: str) -> None:
        if (verb, name) == ("patch", "a"):
            raise Unavailable(503, "Busy", "busy")

    kube.before = before
    await depart(_context(kube), INSTALLED)
    assert (kube.peek("PinnDeployment", "a") or {})["metadata"]["finalizers"] == [FINALIZER]
    assert (kube.peek("PinnDeployment", "b") or {})["metadata"]["finalizers"] == []
    assert len(_held(kube)) == 3


async def test_objects_of_others_namespaces_are_left_alone() -> None:
    kube = FakeKube(_object("ours", FINALIZER), _object("theirs", FINALIZER, namespace="elsewhere"))
    await depart(_context(kube), Installed("pinn-operator", "pinn-system", ("demo",)))
    assert (kube.peek("PinnDeployment", "ours") or {})["metadata"]["finalizers"] == []
    assert (kube.peek("PinnDeployment", "theirs", "elsewhere") or {})["metadata"]["finalizers"] == [FINALIZER]


async def test_departing_twice_does_no_harm() -> None:
    kube = FakeKube(*_authority(GUARD, "x/y", **GOING), _object("stays", FINALIZER))
    await depart(_context(kube), INSTALLED)
    kube.requests.clear()
    await depart(_context(kube), INSTALLED)
    assert kube.writes() == []


async def test_an_object_that_is_deleted_just_after_the_operator_loses_its_children() -> None:
    """As when the definition goes with the chart: the garbage collector no longer knows whose they are."""
    kube = FakeKube(*_authority(GUARD), _object("a", FINALIZER), _child("a"))
    leaving = asyncio.create_task(depart(_context(kube), INSTALLED))
    await asyncio.sleep(1)
    (kube.peek("PinnDeployment", "a", "demo") or {})["metadata"].update(GOING)
    await leaving
    assert kube.peek("Service", "a", "demo") is None
    assert _held(kube) == []
