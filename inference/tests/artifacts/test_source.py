"""A model is the one asked for, whole, or it is not served."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import source
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ModelError


def _fetch(folder: Path, digest: str | None = None) -> source.Artifact:
    return source.fetch(f"file://{folder}", "black-scholes", "2.0.0", Path("/nowhere"), digest)


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models / "black-scholes/2.0.0", tmp_path / "a model"))


def test_a_builtin_model_is_found_by_name_and_version(models: Path) -> None:
    artifact = source.fetch("builtin://", "black-scholes", "1.0.0", models, None)
    assert artifact.manifest.version == "1.0.0"
    assert artifact.digest == artifact.manifest.digest


def test_a_folder_is_found_by_its_address_spaces_and_all(folder: Path) -> None:
    assert _fetch(Path(str(folder).replace(" ", "%20"))).manifest.version == "2.0.0"


def test_the_digest_asked_for_is_the_one_served(folder: Path) -> None:
    digest = _fetch(folder).digest
    assert _fetch(folder, digest).digest == digest
    with pytest.raises(ModelError, match=f"has the digest {digest}, not sha256:0000"):
        _fetch(folder, "sha256:" + "0" * 64)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.sampled_from((digests.MANIFEST, folders.LITERT)), st.integers(0, 10**9), st.integers(1, 255))
def test_one_changed_byte_anywhere_is_seen(models: Path, name: str, at: int, change: int) -> None:
    files = folders.read(models / "black-scholes/2.0.0")
    before = digests.digest(files)
    content = bytearray(files[name])
    content[at % len(content)] ^= change
    # Only two fields of the manifest are not covered: the digest itself and the training time.
    if digests._canonical(name, bytes(content)) != digests._canonical(name, files[name]):
        assert digests.digest({**files, name: bytes(content)}) != before


def test_a_damaged_file_is_refused(folder: Path) -> None:
    (folder / "model.tflite").write_bytes((folder / "model.tflite").read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelError, match="is damaged"):
        _fetch(folder)


def test_changed_ranges_are_refused_like_changed_weights(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"high": 0.6', '"high": 6.0'))
    with pytest.raises(ModelError, match="is damaged"):
        _fetch(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "model.tflite").unlink()
    with pytest.raises(ModelError, match=r"cannot be read: No such file or directory \(.*model\.tflite\)"):
        _fetch(folder)


def test_the_digest_is_checked_before_anything_is_parsed(folder: Path) -> None:
    (folder / "manifest.json").write_text("not JSON")
    with pytest.raises(ModelError, match="not sha256:0000"):
        _fetch(folder, "sha256:" + "0" * 64)
    with pytest.raises(ModelError, match=r"manifest\.json is not readable"):
        _fetch(folder)


def test_a_manifest_of_another_schema_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ModelError, match="schema 2; this server knows schema 1"):
        _fetch(folder)


@pytest.mark.parametrize("uri", ["http://models", "gs://b/k", "builtin://x", "/models", "file://models/a", ""])
def test_an_address_this_server_does_not_read_is_refused_with_a_sentence(uri: str) -> None:
    with pytest.raises(ModelError, match=r"it reads builtin:// and file:///path|must have three slashes"):
        source.locate(uri, "black-scholes", "2.0.0", Path("/models"))


@pytest.mark.parametrize("uri", ["configmap://pricer-model", "pvc://models/black-scholes"])
def test_what_the_operator_mounts_is_said_to_be_for_the_operator(uri: str) -> None:
    with pytest.raises(ModelError, match="is for the operator, which mounts it"):
        source.locate(uri, "black-scholes", "2.0.0", Path("/models"))


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:hush@models.example/m.tgz?X-Amz-Signature=abc",
        "user:hush@models.example/m.tgz?X-Amz-Signature=abc",
        "https:/user:hush@models.example/m.tgz?X-Amz-Signature=abc#x",
        "//user:hush@models.example/m.tgz?X-Amz-Signature=abc",
        "pvc://user:hush@models.example/m.tgz?X-Amz-Signature=abc",
        "file://user:hush@models.example/m.tgz?X-Amz-Signature=abc",
    ],
)
def test_what_is_secret_in_an_address_that_is_not_read_is_not_repeated(uri: str) -> None:
    with pytest.raises(ModelError, match=r"models\.example/m\.tgz") as said:
        source.locate(uri, "black-scholes", "2.0.0", Path("/models"))
    assert "hush" not in str(said.value)
    assert "abc" not in str(said.value)


@pytest.mark.parametrize("uri", ["file:///models/a?b", "file:///models/a#b"])
def test_a_path_that_a_uri_would_cut_short_is_refused(uri: str) -> None:
    with pytest.raises(ModelError, match="%3F"):
        source.locate(uri, "black-scholes", "2.0.0", Path("/models"))


def test_an_optional_file_is_part_of_the_digest(folder: Path) -> None:
    before = digests.digest(folders.read(folder))
    (folder / "errors.npz").write_bytes(b"an error table")
    assert folders.read(folder)["errors.npz"] == b"an error table"
    assert digests.digest(folders.read(folder)) != before
    with pytest.raises(ModelError, match="is damaged"):
        _fetch(folder)


def test_a_file_that_is_no_part_of_a_model_does_no_harm_and_is_named_where_the_digest_differs(folder: Path) -> None:
    (folder / "README.md").write_text("ours")
    (folder / "lost+found").mkdir()
    digest = _fetch(folder).digest
    assert set(_fetch(folder, digest).files) == {*folders.FILES} - {*folders.NETWORKS} | {folders.LITERT}
    with pytest.raises(ModelError, match=r"as asked for; this server does not know and did not count README\.md$"):
        _fetch(folder, "sha256:" + "0" * 64)


@pytest.mark.parametrize(("name", "version"), [("..", "2.0.0"), ("black-scholes", "../1.0.0"), ("", "1"), ("a", "")])
def test_a_builtin_name_cannot_leave_the_models_folder(name: str, version: str) -> None:
    with pytest.raises(ModelError, match="no name of a built-in model"):
        source.locate("builtin://", name, version, Path("/models"))


def test_a_graph_that_is_none_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="LiteRT cannot load the model"):
        LiteRtEngine(b"\0" * 100)


def test_sha256sum_agrees(folder: Path) -> None:
    """The commands that docs/reference/server.md gives."""
    script = """
        sed -Ei 's/("digest": "sha256:)[0-9a-f]{64}/\\1'$(printf '0%.0s' $(seq 64))'/; s/("seconds": )[0-9.]+/\\10/' manifest.json
        sha256sum errors.npz manifest.json model.tflite weights.npz | sha256sum
    """
    expected = _fetch(Path(str(folder).replace(" ", "%20"))).digest
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    assert f"sha256:{done.stdout.split()[0]}" == expected
