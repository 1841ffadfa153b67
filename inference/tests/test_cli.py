"""The commands a person types."""

import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from . import process
from .process import ServerProcess, run

ARGUMENTS = ("--spot", "100", "--strike", "105", "--maturity", "0.5", "--rate", "0.03", "--volatility", "0.2")


def test_predict_prices_an_option_without_a_server() -> None:
    done = run("predict", *ARGUMENTS, "--kind", "put")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["price"] == pytest.approx(7.6150, abs=1e-4)


def test_predict_refuses_what_the_server_would_refuse() -> None:
    done = run("predict", *ARGUMENTS[:-1], "9")
    assert done.returncode == 1
    assert done.stderr.startswith("volatility is 9.0, which the reference solver does not take either")


def test_predict_takes_the_inputs_of_any_model_negative_ones_and_those_after_an_equals_sign_too(tmp_path: Path) -> None:
    done = run("predict", *ARGUMENTS[:-2], "--volatility=0.2", "--dividend-yield", "0.01")
    assert json.loads(done.stdout)["method"] == "model"
    done = run("predict", *ARGUMENTS[:-2], "--volatility", "-0.2")
    assert done.stderr.startswith("volatility is -0.2, which the reference solver does not take either")
    done = run("predict", *ARGUMENTS, "--height", "7")
    assert done.stderr.startswith("'height' is not an input; the inputs are spot, ")
    done = run("predict", *ARGUMENTS[:-1], "high")
    assert done.stderr.startswith("volatility must be a number, not a string 'high'")


@pytest.mark.parametrize("words", [("--spot",), ("100",), ("--spot", "100", "--strike")])
def test_an_input_that_stands_alone_is_named(words: tuple[str, ...]) -> None:
    done = run("predict", *words)
    assert done.returncode == 1
    assert done.stderr == f"{words[-1]} stands alone; inputs are given as --NAME VALUE\n"


def test_only_predict_takes_more_options_than_its_own() -> None:
    done = run("bench", "--spot", "100")
    assert done.returncode == 2
    assert "unrecognized arguments: --spot 100" in done.stderr


def test_health_says_ready_and_ends_with_0_or_says_why_not_and_ends_with_1() -> None:
    with ServerProcess.started() as server:
        up = run("health", server.url)
    assert (up.returncode, up.stdout) == (0, "ready\n")
    down = run("health", server.url)
    assert down.returncode == 1
    assert "not ready" in down.stderr
    assert run("health", "ftp://x").returncode == 1


@pytest.mark.parametrize("url", ["http://h:abc", "http://127.0.0.1:99999", "http://127.0.0.1:1"])
def test_health_of_an_address_that_is_none_is_a_sentence_and_1(url: str) -> None:
    done = run("health", url)
    assert done.returncode == 1
    assert done.stderr.startswith(f"not ready: {url}/v2/health/ready: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH-2.0-OpenSSH_9"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nwarming", "answers 503"),
        (b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "answers 503"),
    ],
    ids=["no http", "cut short", "chunks that are none"],
)
def test_health_of_what_is_no_server_is_a_sentence_and_1(answer: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answers = threading.Thread(target=_answer_once, args=(listening, answer))
        answers.start()
        done = run("health", f"http://127.0.0.1:{listening.getsockname()[1]}")
        answers.join()
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def _answer_once(listening: socket.socket, answer: bytes) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)


def test_models_lists_each_with_its_errors() -> None:
    done = run("models")
    assert done.returncode == 0
    assert "black-scholes 1.0.0" in done.stdout
    assert "black-scholes 2.0.0" in done.stdout
    assert "price " in done.stdout


def test_models_of_an_empty_folder_is_an_error(tmp_path: object) -> None:
    done = run("models", "--models-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no models" in done.stderr


def test_models_lists_the_others_and_names_the_file_when_one_cannot_be_read(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "black-scholes"
    shutil.copytree(models / "black-scholes/1.0.0", folder / "1.0.0")
    for version, content in (("0.9.0", "{"), ("2.0.0", "[]")):
        (folder / version).mkdir()
        (folder / version / "manifest.json").write_text(content)
    done = run("models", "--models-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith("black-scholes 1.0.0\n")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{folder}/0.9.0/manifest.json: the model's manifest.json is not readable")
    assert second.startswith(f"{folder}/2.0.0/manifest.json: ")


def test_a_model_that_is_not_there_is_told_from_those_that_are_though_one_cannot_be_read(
    tmp_path: Path, models: Path
) -> None:
    shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "black-scholes/1.0.0")
    (tmp_path / "black-scholes/0.9.0").mkdir()
    (tmp_path / "black-scholes/0.9.0/manifest.json").write_text("{")
    done = run("predict", *ARGUMENTS, "--model-version", "9.9.9", "--models-dir", str(tmp_path))
    assert done.returncode == 1
    assert "black-scholes 9.9.9 cannot be read" in done.stderr
    assert "there are: black-scholes 1.0.0" in done.stderr


@pytest.mark.parametrize("command", ["serve", "predict", "health", "bench", "models"])
def test_help_teaches_by_example(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "pinn-server serve --model-version 1.0.0 --port 9000" in done.stdout


def test_no_command_is_a_usage_error() -> None:
    done = run()
    assert done.returncode == 2
    assert "usage: pinn-server" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["models", "--help"])
def test_a_full_disk_is_a_sentence_and_1(command: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            process.command(command),
            env={**process.ENVIRONMENT, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: standard output cannot be written: No space left on device\n")
