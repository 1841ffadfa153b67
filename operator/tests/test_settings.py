"""What the operator can be told, and that a wrong value is refused by the name of its variable."""

import pytest
from pinn_operator.cli import app
from pinn_operator.settings import RELEASE, SERVER_IMAGE, Settings, unknown, variable
from pydantic import ValidationError
from typer.testing import CliRunner


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PINN_OPERATOR_{name.upper()}", raising=False)


def test_every_default_suits_a_first_installation() -> None:
    settings = Settings()
    assert settings.namespaces == ()
    assert (settings.namespace, settings.name, settings.identity) == ("pinn-system", "pinn-operator", "")
    assert settings.server_image == SERVER_IMAGE
    assert SERVER_IMAGE.endswith(f":{RELEASE}")
    assert (settings.port, settings.resync_seconds, settings.passes, settings.lease_seconds) == (8080, 600.0, 8, 10)


@pytest.mark.parametrize(
    ("written", "read"), [("", ()), ("a", ("a",)), ("a,b", ("a", "b")), (" a , b ,", ("a", "b")), (",", ())]
)
def test_namespaces_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, written: str, read: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PINN_OPERATOR_NAMESPACES", written)
    assert Settings().namespaces == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "65536"),
        ("passes", "0"),
        ("lease_seconds", "2"),
        ("resync_seconds", "soon"),
        ("log_level", "loud"),
    ],
)
def test_a_wrong_value_is_refused_and_the_field_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PINN_OPERATOR_{name.upper()}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


def test_settings_do_not_change_while_the_operator_runs() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_help_lists_every_setting() -> None:
    told = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert [name for name in Settings.model_fields if f"{variable(name)}: " not in told] == []
    assert "SETTINGS" not in told


def test_what_looks_like_a_setting_and_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAMSPACES", "namespaces", "PASSES", "METRICS_PORT"):
        monkeypatch.setenv(f"PINN_OPERATOR_{name}", "8")
    assert unknown() == ["PINN_OPERATOR_METRICS_PORT", "PINN_OPERATOR_NAMSPACES"]


def test_what_kubernetes_tells_of_a_service_is_no_mistyped_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Service pinn-operator-metrics is in the operator's own namespace."""
    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_METRICS", "PORT", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"PINN_OPERATOR_METRICS_{name}", "8")
    assert unknown() == []
