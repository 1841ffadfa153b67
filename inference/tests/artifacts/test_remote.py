"""A model from far away is there whole, under its name and proven, or not at all; the reason is one sentence."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from pinn_inference import cli
from pinn_inference.artifacts import remote, source
from pinn_inference.artifacts.download import Limits
from pinn_inference.artifacts.remote import Fetched, Wish
from pinn_inference.errors import ModelError

from .far import Asked, Reply, Shelf, Site, site

LIMITS = Limits(16 * 1024 * 1024, 60)


@pytest.fixture
def digest(models: Path) -> str:
    return str(json.loads((models / "black-scholes/1.0.0/manifest.json").read_bytes())["digest"])


def tarred(folder: Path, name: str, *more: tuple[Path, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, as_name in ((folder, name), *more):
            tar.add(path, as_name)
    return buffer.getvalue()


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in folder.iterdir():
            packed.write(path, path.name)
    return buffer.getvalue()


def fetch(there: Site, secret: Path, to: Path, digest: str | None, path: str = "/m") -> Fetched:
    return remote.fetch(Wish(there.url + path, digest, secret, LIMITS), to)


def test_an_archive_of_the_folder_is_served_from_where_it_was_put(
    certificate: Path, secret: Path, tmp_path: Path, packed: bytes, digest: str
) -> None:
    with site(Shelf({"/m": packed}), certificate) as there:
        assert fetch(there, secret, tmp_path / "to/model", digest) == Fetched(digest, anew=True)
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["model"]
    found = source.fetch(f"file://{tmp_path}/to/model", "black-scholes", "1.0.0", Path("/nowhere"), digest)
    assert found.digest == digest


@pytest.mark.parametrize("name", [".", "black-scholes/1.0.0"])
def test_an_archive_may_hold_the_files_or_folders_around_them(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str, name: str
) -> None:
    content = tarred(models / "black-scholes/1.0.0", name)
    with site(Shelf({"/m": content}), certificate) as there:
        assert fetch(there, secret, tmp_path / "model", digest).anew


def test_a_zip_archive_is_opened_too(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str
) -> None:
    with site(Shelf({"/m": zipped(models / "black-scholes/1.0.0")}), certificate) as there:
        assert fetch(there, secret, tmp_path / "model", digest).anew


def test_a_model_that_is_there_is_not_fetched_again(secret: Path, tmp_path: Path, models: Path, digest: str) -> None:
    """A container that is started again in its pod needs no registry."""
    shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "model")
    found = remote.fetch(Wish("https://127.0.0.1:1/m", digest, secret, LIMITS), tmp_path / "model")
    assert found == Fetched(digest, anew=False)


def test_a_model_that_is_there_needs_no_folder_that_can_be_written(
    secret: Path, tmp_path: Path, models: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lie in an image, or on a volume that is mounted to be read."""
    shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "model")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    found = remote.fetch(Wish("https://127.0.0.1:1/m", digest, secret, LIMITS), tmp_path / "model")
    assert found == Fetched(digest, anew=False)


def test_what_is_in_the_way_is_left_alone(secret: Path, tmp_path: Path, digest: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/precious").write_text("mine")
    with pytest.raises(ModelError, match="is there and is not the model asked for; remove it, or name another folder"):
        remote.fetch(Wish("https://127.0.0.1:1/m", digest, secret, LIMITS), tmp_path / "model")
    assert (tmp_path / "model/precious").read_text() == "mine"


@pytest.mark.parametrize("change", ["digest", "byte"])
def test_another_model_than_the_one_asked_for_is_refused_with_both_digests_and_is_nowhere(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str, change: str
) -> None:
    folder = Path(shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "copy"))
    asked_for = digest
    if change == "byte":
        (folder / "weights.npz").write_bytes((folder / "weights.npz").read_bytes()[:-1] + b"\1")
    else:
        asked_for = "sha256:" + "0" * 64
    with (
        site(Shelf({"/m": tarred(folder, ".")}), certificate) as there,
        pytest.raises(
            ModelError, match=rf"https://127.0.0.1:\d+/m has the digest sha256:\w+, not {asked_for} as asked"
        ),
    ):
        fetch(there, secret, tmp_path / "model", asked_for)
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / ".model.fetching").exists()


def test_without_a_digest_the_manifest_tells_whether_all_of_the_model_came(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, packed: bytes, digest: str
) -> None:
    folder = Path(shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "copy"))
    (folder / "errors.npz").unlink()
    with site(Shelf({"/m": packed, "/part": tarred(folder, ".")}), certificate) as there:
        assert fetch(there, secret, tmp_path / "model", None) == Fetched(digest, anew=True)
        with pytest.raises(
            ModelError, match=rf"/part is damaged: its digest is sha256:\w+, its manifest says {digest}$"
        ):
            fetch(there, secret, tmp_path / "other", None, "/part")
    assert not (tmp_path / "other").exists()


def test_two_fetches_into_one_folder_come_one_after_the_other(
    certificate: Path, secret: Path, tmp_path: Path, packed: bytes, digest: str
) -> None:
    """The second one would have emptied the folder in which the first one unpacks."""
    begun, goes_on = threading.Event(), threading.Event()

    def slowly(asked: Asked) -> Reply:
        begun.set()
        goes_on.wait(20)
        return Reply(200, packed)

    with site(slowly, certificate) as there, ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch, there, secret, tmp_path / "model", digest)
        assert begun.wait(20)
        second = pool.submit(fetch, there, secret, tmp_path / "model", digest)
        time.sleep(3 * remote.LOOKS)
        goes_on.set()
        found = [first.result(), second.result()]
        asked = len(there.asked)
    assert found == [Fetched(digest, anew=True), Fetched(digest, anew=False)]
    assert asked == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secret"]


def test_a_fetch_that_does_not_end_is_not_waited_for_for_ever(secret: Path, tmp_path: Path) -> None:
    wish = Wish("https://h/p", None, secret, Limits(1, 0.2))
    with (
        remote._alone(wish, tmp_path / "model"),
        pytest.raises(
            ModelError, match=r"another fetch into .*/model has not ended within 0\.2 s; name another folder"
        ),
    ):
        remote.fetch(wish, tmp_path / "model")


def test_what_a_fetch_that_was_killed_has_left_is_removed(
    certificate: Path, secret: Path, tmp_path: Path, packed: bytes, digest: str
) -> None:
    (tmp_path / ".model.fetching/come").mkdir(parents=True)
    (tmp_path / ".model.fetching/come/manifest.json").write_text("half a model")
    with site(Shelf({"/m": packed}), certificate) as there:
        assert fetch(there, secret, tmp_path / "model", digest).anew
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "secret"]


def test_a_model_is_on_the_disk_before_it_has_its_name(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: set[str] = set()
    after: set[str] = set()

    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        (after if (tmp_path / "model").exists() else before).add(path.name)

    monkeypatch.setattr(os, "fsync", sync)
    with site(Shelf({"/m": packed}), certificate) as there:
        fetch(there, secret, tmp_path / "model", None)
    assert before == {"1.0.0", *(path.name for path in (models / "black-scholes/1.0.0").iterdir())}
    assert after == {tmp_path.name}


def test_a_file_system_that_writes_no_folder_through_is_taken_as_it_is(
    certificate: Path, secret: Path, tmp_path: Path, packed: bytes, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.fsync

    def sync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(22, "Invalid argument")
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    with site(Shelf({"/m": packed}), certificate) as there:
        assert fetch(there, secret, tmp_path / "model", digest).anew


def test_the_digest_is_checked_before_the_manifest_is_parsed(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str
) -> None:
    folder = Path(shutil.copytree(models / "black-scholes/1.0.0", tmp_path / "copy"))
    (folder / "manifest.json").write_text("{" * 100_000)
    with (
        site(Shelf({"/m": tarred(folder, ".")}), certificate) as there,
        pytest.raises(ModelError, match="has the digest"),
    ):
        fetch(there, secret, tmp_path / "model", digest)


def test_two_models_in_one_archive_and_none_are_refused(
    certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str
) -> None:
    both = tarred(models / "black-scholes/1.0.0", "a", (models / "black-scholes/2.0.0", "b"))
    none = tarred(
        models / "black-scholes/1.0.0/model.tflite", "x.tflite", (models / "black-scholes/1.0.0/weights.npz", "y")
    )
    with site(Shelf({"/both": both, "/none": none}), certificate) as there:
        with pytest.raises(ModelError, match=r"/both holds 2 models; pack the folder of one"):
            fetch(there, secret, tmp_path / "model", digest, "/both")
        with pytest.raises(ModelError, match=r"/none holds no manifest\.json; it holds x\.tflite, y"):
            fetch(there, secret, tmp_path / "model", digest, "/none")


def test_a_page_in_the_place_of_an_archive_is_said(
    certificate: Path, secret: Path, tmp_path: Path, digest: str
) -> None:
    with (
        site(Shelf({"/m": b"<!DOCTYPE html>"}), certificate) as there,
        pytest.raises(
            ModelError, match=r"what lies at https://127.0.0.1:\d+/m is neither .*does the address want a login"
        ),
    ):
        fetch(there, secret, tmp_path / "model", digest)


def test_a_missing_file_is_named(certificate: Path, secret: Path, tmp_path: Path, models: Path, digest: str) -> None:
    content = tarred(
        models / "black-scholes/1.0.0/manifest.json", "manifest.json", (models / "black-scholes/1.0.0/weights.npz", "w")
    )
    with (
        site(Shelf({"/m": content}), certificate) as there,
        pytest.raises(ModelError, match=r"model\.tflite: No such file"),
    ):
        fetch(there, secret, tmp_path / "model", digest)


def test_user_and_password_belong_into_a_secret(secret: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="user and password belong into a Secret") as refused:
        remote.fetch(Wish("https://alice:hush@models.example.com/m", None, secret, LIMITS), tmp_path / "model")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("uri", ["http://h/p", "ftp://h/p", "file:///etc", "builtin://", "x", ""])
def test_only_three_schemes_are_fetched(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not fetched; https://, s3://, oci:// are"):
        remote.fetch(Wish(uri, None, None, LIMITS), tmp_path / "model")


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"from https://h/p cannot be written: .*file"):
        remote.fetch(Wish("https://h/p", None, None, LIMITS), tmp_path / "file/model")


@pytest.mark.parametrize("uri", ["https://h/p?signature=hush", "s3://b/k", "oci://h/r:1"])
def test_a_server_says_how_to_fetch_what_it_does_not_fetch_itself(uri: str) -> None:
    with pytest.raises(ModelError, match="run `pinn-server models fetch` with it and --to FOLDER first") as said:
        source.locate(uri, "m", "1", Path("/models"))
    assert "hush" not in str(said.value)


# --- The command -----------------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pinn_inference", "models", "fetch", *arguments]
    env = {**os.environ, "PINN_SERVER_LOG_FORMAT": "json", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def test_the_command_fetches_what_the_environment_says(
    certificate: Path, secret: Path, tmp_path: Path, packed: bytes, digest: str
) -> None:
    (secret / "token").write_text("hush\n")
    with site(Shelf({"/m?signature=hush": packed}), certificate) as there:
        told = {
            "PINN_SERVER_MODEL_URI": f"{there.url}/m?signature=hush",
            "PINN_SERVER_MODEL_DIGEST": digest,
            "PINN_SERVER_MODEL_CREDENTIALS": str(secret),
            "PINN_SERVER_LOG_LEVEL": "debug",
        }
        done = run("--to", str(tmp_path / "model"), **told)
    assert done.returncode == 0, done.stderr
    assert there.fields("authorization") == ["Bearer hush"]
    said = json.loads(done.stderr.splitlines()[-1])
    assert (said["event"], said["digest"]) == ("the model is fetched", digest)
    assert "hush" not in done.stderr + done.stdout
    assert (tmp_path / "model/manifest.json").is_file()


def test_the_command_fails_in_one_sentence_and_code_1(certificate: Path, secret: Path, tmp_path: Path) -> None:
    with site(lambda _: Reply(404), certificate) as there:
        done = run(f"{there.url}/m", "--to", str(tmp_path / "model"), "--credentials", str(secret))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"].endswith("/m answers 404: there is nothing; correct spec.model.uri")


def test_a_setting_that_is_none_is_said(tmp_path: Path) -> None:
    done = run("https://h/p", "--to", str(tmp_path), PINN_SERVER_MODEL_MAX_BYTES="much")
    assert done.returncode == 1
    assert "PINN_SERVER_MODEL_MAX_BYTES" in done.stderr


def test_the_command_ends_when_it_is_told_to(certificate: Path, secret: Path, tmp_path: Path) -> None:
    with site(lambda _: Reply(200, b"x" * 100, cut=10, dawdles=True), certificate) as there:
        arguments = [f"{there.url}/m", "--to", str(tmp_path / "model"), "--credentials", str(secret)]
        process = subprocess.Popen([sys.executable, "-m", "pinn_inference", "models", "fetch", *arguments])
        while not there.asked and process.poll() is None:
            there.over.wait(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


def test_the_command_ends_by_itself_though_a_server_sends_a_byte_now_and_then(
    certificate: Path, secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of a head starts the socket's time limit anew: only an alarm ends that."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            for _ in range(400):  # not for ever: else another alarm, that of the tests, would do
                if over.wait(0.05):
                    return
                connection.sendall(b"x")

    (secret / "endpoint").write_text(f"http://127.0.0.1:{listening.getsockname()[1]}")
    monkeypatch.setattr("pinn_inference.artifacts.command.ROOM", 0.2)
    monkeypatch.setenv("PINN_SERVER_MODEL_FETCH_TIMEOUT", "500ms")
    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with listening, pytest.raises(SystemExit) as ended:
        cli.main(["models", "fetch", "s3://b/k", "--to", str(tmp_path / "model"), "--credentials", str(secret)])
    over.set()
    thread.join(10)
    assert ended.value.code == 1
    assert "did not answer to its end within 0.7 s" in capsys.readouterr().err
