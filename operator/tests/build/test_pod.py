"""The pod of a revision: what Pod Security asks for, what the server is told, and whom it is spread with."""

from typing import Any

import pytest
from pinn_operator.api.names import LABEL_OBJECT, LABEL_REVISION
from pinn_operator.api.revision import Revision
from pinn_operator.build.pod import DRAIN_SECONDS, GRACE_SECONDS, labels_of, render

from tests.given import resource, revision


def _rendered(**spec: Any) -> dict[str, Any]:
    of = resource("1.0.0", **spec)
    made = render(revision("1.0.0", written_down=False, **spec), "pricer", of.spec)
    assert made.template is not None
    return dict(made.template)


def _server(template: dict[str, Any]) -> dict[str, Any]:
    (server,) = [one for one in template["spec"]["containers"] if one["name"] == "server"]
    return dict(server)


def _env(template: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in _server(template)["env"]}


def test_the_pod_meets_the_restricted_pod_security_standard() -> None:
    template = _rendered()
    pod, server = template["spec"]["securityContext"], _server(template)["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] != 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert server["allowPrivilegeEscalation"] is False
    assert server["capabilities"] == {"drop": ["ALL"]}
    assert server["readOnlyRootFilesystem"] is True


def test_the_pod_gets_no_token_of_the_api_server() -> None:
    assert _rendered()["spec"]["automountServiceAccountToken"] is False


def test_the_server_is_told_its_model_and_where_to_listen() -> None:
    env = _env(_rendered())
    assert env["PINN_SERVER_MODEL_NAME"] == "black-scholes"
    assert env["PINN_SERVER_MODEL_VERSION"] == "1.0.0"
    assert env["PINN_SERVER_MODEL_URI"] == "builtin://"
    ports = {port["name"]: str(port["containerPort"]) for port in _server(_rendered())["ports"]}
    assert ports == {"http": env["PINN_SERVER_PORT"], "admin": env["PINN_SERVER_ADMIN_PORT"]}


def test_a_digest_is_passed_on_only_where_there_is_one() -> None:
    digest = "sha256:" + "a" * 64
    model = {"name": "black-scholes", "version": "1.0.0", "digest": digest}
    assert "PINN_SERVER_MODEL_DIGEST" not in _env(_rendered())
    assert _env(_rendered(model=model))["PINN_SERVER_MODEL_DIGEST"] == digest


def test_a_server_has_time_to_drain_before_it_is_killed() -> None:
    template = _rendered()
    assert _env(template)["PINN_SERVER_DRAIN"] == f"{DRAIN_SECONDS}s"
    assert template["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS > DRAIN_SECONDS


def test_a_slow_start_is_no_reason_to_restart_a_server() -> None:
    """The liveness probe begins when the startup probe has said yes, and that is patient."""
    server = _server(_rendered())
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    assert startup["httpGet"]["path"] == server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_pods_are_spread_among_those_of_their_own_revision() -> None:
    (constraint,) = _rendered()["spec"]["topologySpreadConstraints"]
    expected = {LABEL_OBJECT: "pricer", LABEL_REVISION: revision("1.0.0").name}
    assert constraint["labelSelector"]["matchLabels"] == expected


def test_resources_are_those_of_the_spec() -> None:
    resources = {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}
    assert _server(_rendered(resources=resources))["resources"] == resources


@pytest.mark.parametrize("component", ["server", "revision"])
def test_labels_say_nothing_of_a_role(component: str) -> None:
    labels = labels_of("pricer", component, revision("1.0.0"))
    assert labels["app.kubernetes.io/version"] == "1.0.0"
    assert not {"stable", "canary"} & {part for label in labels.items() for part in label}
    assert LABEL_REVISION not in labels_of("pricer", component)


def test_rendering_leaves_the_revision_as_it_was_but_for_its_template() -> None:
    bare: Revision = revision("1.0.0", 4, written_down=False)
    made = render(bare, "pricer", resource("1.0.0").spec)
    assert bare.template is None
    assert (made.name, made.number, made.content, made.image) == (bare.name, bare.number, bare.content, bare.image)


def test_the_template_of_the_user_has_the_last_word() -> None:
    template = {"spec": {"containers": [{"name": "server", "securityContext": {"readOnlyRootFilesystem": False}}]}}
    server = _server(_rendered(template=template))
    assert server["securityContext"]["readOnlyRootFilesystem"] is False
    assert server["securityContext"]["allowPrivilegeEscalation"] is False
