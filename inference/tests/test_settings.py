"""Settings come from the environment; a bad one is named, with what it should be."""

from pathlib import Path

import pytest
from pinn_inference import settings
from pinn_inference.errors import SettingsError


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"PINN_SERVER_{name}".upper(), raising=False)


def test_every_setting_has_a_default() -> None:
    chosen = settings.load()
    assert (chosen.model_name, chosen.model_version, chosen.model_uri) == ("black-scholes", "2.0.0", "builtin://")
    assert (chosen.port, chosen.admin_port, chosen.drain) == (8080, 8081, 5.0)
    assert chosen.models_dir.name == "models"


def test_the_environment_decides_and_the_command_line_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINN_SERVER_PORT", "9000")
    monkeypatch.setenv("PINN_SERVER_MODELS_DIR", "/srv/models")
    assert settings.load().port == 9000
    assert settings.load(port=None).port == 9000
    assert settings.load(port=9001).port == 9001
    assert settings.load().models_dir == Path("/srv/models")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINN_SERVER_MODEL_DIGEST", "")
    assert settings.load().model_digest is None


@pytest.mark.parametrize(
    ("text", "expected"), [("5s", 5), ("500ms", 0.5), ("1m30s", 90), ("1.5s", 1.5), ("0", 0), ("0s", 0)]
)
def test_durations_are_written_as_go_writes_them(monkeypatch: pytest.MonkeyPatch, text: str, expected: float) -> None:
    monkeypatch.setenv("PINN_SERVER_DRAIN", text)
    assert settings.load().drain == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("DRAIN", "5", "duration"),
        ("DRAIN", "-5s", "duration"),
        ("PORT", "70000", "65535"),
        ("PORT", "http", "integer"),
        ("MODEL_DIGEST", "md5:1", "sha256"),
        ("LOG_LEVEL", "loud", "debug"),
        ("RESTART_ABOVE_MEMORY", "100.5%", "a share such as"),
        ("RESTART_ABOVE_MEMORY", "900MB", "an amount of memory"),
        ("CACHE_MAX_BYTES", "256K", "an amount of memory"),
        ("CACHE_MAX_BYTES", "٣", "an amount of memory"),
        ("MAX_BATCH", "0", "greater than or equal to 1"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv(f"PINN_SERVER_{name}", text)
    with pytest.raises(SettingsError, match=rf"^PINN_SERVER_{name} is '{text}': .*{words}"):
        settings.load()


def test_amounts_of_memory_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINN_SERVER_CACHE_MAX_BYTES", "1.5Gi")
    monkeypatch.setenv("PINN_SERVER_RESTART_ABOVE_MEMORY", "87.5%")
    chosen = settings.load()
    assert (chosen.cache_max_bytes, chosen.restart_above_memory) == (1536 * 1024 * 1024, "87.5%")


def test_the_line_end_of_a_file_is_no_part_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINN_SERVER_ADMIN_TOKEN", " sesame\r\n")
    assert settings.load().admin_token.get_secret_value() == "sesame"


@pytest.mark.parametrize("text", ["open sesame", "sésame", "ses\name", "\x7fsesame"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PINN_SERVER_ADMIN_TOKEN", text)
    with pytest.raises(SettingsError, match=r"^PINN_SERVER_ADMIN_TOKEN is \(hidden\): must be visible ASCII") as caught:
        settings.load()
    assert text not in str(caught.value)


def test_what_is_no_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINN_SERVER_PROT", "9000")
    assert settings.unknown() == ["PINN_SERVER_PROT"]


@pytest.mark.parametrize(("terminal", "default"), [(True, "console"), (False, "json")])
def test_a_terminal_gets_plain_lines_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, default: str
) -> None:
    monkeypatch.setattr("sys.stderr", type("Stderr", (), {"isatty": lambda self: terminal})())
    assert settings.load().log_format == default
    monkeypatch.setenv("PINN_SERVER_LOG_FORMAT", "json")
    assert settings.load().log_format == "json"
