"""A model is the one asked for, whole, or it is not served."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import manifest as manifests
from pinn_inference.artifacts import source
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ModelError

from ..rewritten import rewritten  # noqa: TID252 - the tests are no package with a name of its own


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


@pytest.mark.parametrize(
    "content",
    [b'{"name": "\xff"}', b'{"training": ' + b'{"a":' * 100_000, b'{"schema": ' + b"[" * 100_000],
    ids=range(3),
)
def test_a_manifest_that_no_decoder_reads_is_said(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"^the model's manifest\.json is not readable: "):
        manifests.parse(content)


def test_a_manifest_of_another_schema_is_refused(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ModelError, match="schema 2; this server knows schema 1"):
        _fetch(folder)


@pytest.mark.parametrize("uri", ["http://[", "file://[/models", "file://user:hush@[/models"])
def test_an_address_that_is_none_is_refused_with_a_sentence(uri: str) -> None:
    with pytest.raises(ModelError, match=r"is no address; this server reads builtin:// and file:///path") as said:
        source.locate(uri, "black-scholes", "2.0.0", Path("/models"))
    assert "hush" not in str(said.value)


def test_a_path_with_a_zero_byte_is_refused_before_the_file_system_is_asked() -> None:
    with pytest.raises(ModelError, match=r"has a zero byte \(%00\) in its path"):
        source.fetch("file:///models/a%00b", "black-scholes", "2.0.0", Path("/models"), None)


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


def _by_hand(folder: Path) -> str:
    """By the commands that docs/reference/server.md gives."""
    page = (Path(__file__).parents[3] / "docs/reference/server.md").read_text()
    (script,) = re.findall(r"^    sed .*\n(?:    .*\n)*?    sha256sum .*$", page, re.MULTILINE)
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return f"sha256:{done.stdout.split()[0]}"


def test_sha256sum_agrees(folder: Path) -> None:
    expected = _fetch(Path(str(folder).replace(" ", "%20"))).digest
    assert _by_hand(folder) == expected


ELSEWHERE = {
    "a digest within": lambda m, text: m.update(architecture={"digest": f"sha256:{text}"}),
    "seconds within": lambda m, text: m.update(architecture={"seconds": int(text[:3])}),
    "seconds before": lambda m, text: m.update(precision={"seconds": text}),
    "seconds at the top": lambda m, text: m.update(seconds=int(text[:3])),
    "seconds deeper": lambda m, text: m["training"].update(libraries={"seconds": int(text[:3])}),
    "a digest in the training": lambda m, text: m["training"].update(digest=f"sha256:{text}"),
    "words": lambda m, text: m.update(description=f'"seconds": {text}, "digest": "sha256:{text}"'),
}


@pytest.mark.parametrize("change", ELSEWHERE.values(), ids=ELSEWHERE)
def test_only_the_digest_at_the_top_and_the_time_of_the_training_are_left_out_of_the_digest(
    folder: Path, tmp_path: Path, change: Any
) -> None:
    found = []
    for text in ("1" * 64, "2" * 64):
        made = rewritten(folder, tmp_path / text, partial(change, text=text))
        found.append(digests.digest(folders.read(made)))
        assert _by_hand(made) == found[-1]
    assert len(set(found)) == 2


def _trained_for(manifest: dict[str, Any], seconds: float) -> None:
    manifest["training"]["seconds"] = seconds


def test_training_again_for_longer_gives_the_same_digest(folder: Path, tmp_path: Path) -> None:
    found = []
    for seconds in (0, 1.5, 2200.0):
        made = rewritten(folder, tmp_path / f"{seconds}", partial(_trained_for, seconds=seconds))
        found.append(digests.digest(folders.read(made)))
    assert len(set(found)) == 1


def test_a_manifest_in_another_layout_is_refused_with_the_remedy(folder: Path) -> None:
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=4))
    with pytest.raises(
        ModelError, match=r"is damaged: .*; write manifest\.json with a field a line, two spaces before it"
    ):
        _fetch(Path(str(folder).replace(" ", "%20")))
