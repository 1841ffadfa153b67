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
    """What the server is told in so many words."""
    return {entry["name"]: entry["value"] for entry in _server(template)["env"] if "value" in entry}


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


def test_the_token_of_the_admin_port_is_in_the_pod_by_reference_and_nowhere_in_words() -> None:
    """A record keeps the template, and anybody who may read the object reads that."""
    (token,) = [entry for entry in _server(_rendered())["env"] if "value" not in entry]
    assert token == {
        "name": "PINN_SERVER_ADMIN_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "pricer-admin", "key": "token"}},
    }


def test_the_server_is_told_its_model_and_where_to_listen() -> None:
    env = _env(_rendered())
    assert env["PINN_SERVER_MODEL_NAME"] == "black-scholes"
    assert env["PINN_SERVER_MODEL_VERSION"] == "1.0.0"
    assert env["PINN_SERVER_MODEL_URI"] == "builtin://"
    ports = {port["name"]: str(port["containerPort"]) for port in _server(_rendered())["ports"]}
    assert ports == {"http": env["PINN_SERVER_PORT"], "admin": env["PINN_SERVER_ADMIN_PORT"]}


def test_the_server_is_told_every_default_so_that_another_release_answers_alike() -> None:
    env = _env(_rendered())
    expected = {
        "PINN_SERVER_CACHE_SIZE": "100000",
        "PINN_SERVER_CACHE_MAX_BYTES": "268435456",
        "PINN_SERVER_WARM_UP": "synthetic",
        "PINN_SERVER_WARM_UP_KEYS": "1000",
        "PINN_SERVER_GPU_POLICY": "never",
        "PINN_SERVER_FALLBACK_CPU": "true",
        "PINN_SERVER_FALLBACK_SOLVER": "true",
        "PINN_SERVER_TIMEOUT": "1s",
        "PINN_SERVER_CONCURRENCY": "64",
        "PINN_SERVER_QUEUE": "256",
        "PINN_SERVER_RESTART_ABOVE_MEMORY": "90%",
    }
    assert {name: env.get(name) for name in expected} == expected
    assert "PINN_SERVER_CACHE_BIN_WIDTHS" not in env


def test_what_the_spec_says_of_cache_fallback_and_limits_is_what_the_server_is_told() -> None:
    env = _env(
        _rendered(
            cache={
                "size": 0,
                "maxBytes": "1.5G",
                "binWidths": {"volatility": "1%", "rate": "0.001", "spot": 1},
                "warmUp": {"from": "None", "keys": 7},
            },
            fallback={"cpu": False, "solver": False},
            limits={"timeout": "1d", "concurrency": 3, "queue": 0, "restartAboveMemory": "87.5%"},
        )
    )
    expected = {
        "PINN_SERVER_CACHE_SIZE": "0",
        "PINN_SERVER_CACHE_MAX_BYTES": "1500000000",
        "PINN_SERVER_CACHE_BIN_WIDTHS": "rate=0.001,spot=1,volatility=1%",
        "PINN_SERVER_WARM_UP": "none",
        "PINN_SERVER_WARM_UP_KEYS": "7",
        "PINN_SERVER_GPU_POLICY": "never",
        "PINN_SERVER_FALLBACK_CPU": "false",
        "PINN_SERVER_FALLBACK_SOLVER": "false",
        "PINN_SERVER_TIMEOUT": "24h",
        "PINN_SERVER_CONCURRENCY": "3",
        "PINN_SERVER_QUEUE": "0",
        "PINN_SERVER_RESTART_ABOVE_MEMORY": "87.5%",
    }
    assert {name: env.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "told"), [("500ms", "500ms"), ("1h30m", "1h30m"), ("1.5s", "1.5s"), ("9999d", "239976h")]
)
def test_a_duration_keeps_its_length_in_the_words_of_the_server(text: str, told: str) -> None:
    assert _env(_rendered(limits={"timeout": text}))["PINN_SERVER_TIMEOUT"] == told


DIGEST = "sha256:" + "a" * 64


def _with_model(uri: str, **spec: Any) -> dict[str, Any]:
    return _rendered(model={"name": "black-scholes", "version": "1.0.0", "uri": uri, "digest": DIGEST}, **spec)


def test_a_model_of_the_image_needs_no_volume() -> None:
    for template in (_rendered(), _with_model("file:///srv/m")):
        assert "volumes" not in template["spec"]
        assert "volumeMounts" not in _server(template)
    assert _env(_with_model("file:///srv/m"))["PINN_SERVER_MODEL_URI"] == "file:///srv/m"


def test_a_config_map_is_mounted_and_read_as_a_folder() -> None:
    template = _with_model("configmap://bs.1.0.0")
    (volume,), (mount,) = template["spec"]["volumes"], _server(template)["volumeMounts"]
    assert volume == {"name": mount["name"], "configMap": {"name": "bs.1.0.0"}}
    assert (mount["mountPath"], mount["readOnly"]) == ("/mnt/configmap/bs.1.0.0", True)
    assert _env(template)["PINN_SERVER_MODEL_URI"] == "file:///mnt/configmap/bs.1.0.0"
    assert _env(template)["PINN_SERVER_MODEL_DIGEST"] == DIGEST


@pytest.mark.parametrize(
    ("path", "folder"), [("bs/2.0.0", "/bs/2.0.0"), ("bs/2.0.0/", "/bs/2.0.0"), ("a%20b", "/a%20b"), (".", "/.")]
)
def test_a_claim_is_mounted_as_a_whole_and_read_only_and_the_path_is_the_users(path: str, folder: str) -> None:
    """Read-only at the volume too: with fsGroup the kubelet would otherwise change the owner of all that is in the claim."""
    template = _with_model(f"pvc://models/{path}")
    (volume,), (mount,) = template["spec"]["volumes"], _server(template)["volumeMounts"]
    assert volume == {"name": mount["name"], "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    assert (mount["mountPath"], mount["readOnly"]) == ("/mnt/pvc/models", True)
    assert _env(template)["PINN_SERVER_MODEL_URI"] == f"file:///mnt/pvc/models{folder}"


def test_volumes_of_the_template_stand_beside_that_of_the_model() -> None:
    mine = {"name": "mine", "emptyDir": {}}
    server = {"name": "server", "volumeMounts": [{"name": "mine", "mountPath": "/mine"}]}
    template = _with_model("configmap://bs", template={"spec": {"volumes": [mine], "containers": [server]}})
    assert [volume["name"] for volume in template["spec"]["volumes"]] == ["pinn-model", "mine"]
    assert [mount["mountPath"] for mount in _server(template)["volumeMounts"]] == ["/mnt/configmap/bs", "/mine"]


def test_a_digest_is_passed_on_only_where_there_is_one() -> None:
    model = {"name": "black-scholes", "version": "1.0.0", "digest": DIGEST}
    assert "PINN_SERVER_MODEL_DIGEST" not in _env(_rendered())
    assert _env(_rendered(model=model))["PINN_SERVER_MODEL_DIGEST"] == DIGEST


def test_a_server_has_time_to_drain_before_it_is_killed() -> None:
    template = _rendered()
    assert _env(template)["PINN_SERVER_DRAIN"] == f"{DRAIN_SECONDS}s"
    assert template["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS > DRAIN_SECONDS


@pytest.mark.parametrize(("timeout", "at_least"), [("1s", 30), ("4s", 30), ("5s", 31), ("59500ms", 86), ("1m30s", 116)])
def test_a_server_whose_requests_may_take_long_has_time_to_answer_them_before_it_is_killed(
    timeout: str, at_least: int
) -> None:
    assert _rendered(limits={"timeout": timeout})["spec"]["terminationGracePeriodSeconds"] == at_least


def test_a_slow_start_is_no_reason_to_restart_a_server() -> None:
    """The liveness probe begins when the startup probe has said yes, and that is patient."""
    server = _server(_rendered())
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 60
    assert startup["httpGet"]["path"] == server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_pods_are_spread_among_those_of_their_own_revision() -> None:
    """One constraint: nodes without a zone would be passed over by it if there were another one for zones."""
    spec = _rendered()["spec"]
    (nodes,) = spec["topologySpreadConstraints"]
    (zones,) = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert nodes["topologyKey"] == "kubernetes.io/hostname"
    assert nodes["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster with one node has to do"
    assert zones["podAffinityTerm"]["topologyKey"] == "topology.kubernetes.io/zone"
    for selector in (nodes["labelSelector"], zones["podAffinityTerm"]["labelSelector"]):
        assert selector["matchLabels"] == {LABEL_OBJECT: "pricer", LABEL_REVISION: revision("1.0.0").name}


def test_a_spread_of_the_users_own_replaces_that_of_the_operator() -> None:
    own = [{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    template = {"spec": {"topologySpreadConstraints": own}}
    assert _rendered(template=template)["spec"]["topologySpreadConstraints"] == own


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
