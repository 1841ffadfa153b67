"""A folder is read whole and as of one moment, whatever changes it meanwhile, and never beyond itself."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pinn_inference.artifacts import folder as folders
from pinn_inference.artifacts import source
from pinn_inference.artifacts.digest import MANIFEST
from pinn_inference.errors import ModelError

Change = Callable[[str], None]
NAMES = (MANIFEST, folders.LITERT, "weights.npz")


def _fill(folder: Path, mark: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(f"{mark} {name}")
    return folder


def _marks(files: dict[str, bytes]) -> set[str]:
    return {content.decode().split()[0] for content in files.values()}


class ConfigMapVolume:
    """The links that the kubelet makes: each file -> ..data/file, and ..data -> a folder of its own for every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._count = 0
        path.mkdir()
        self.become("first")
        for name in NAMES:
            (path / name).symlink_to(f"..data/{name}")

    def become(self, mark: str) -> None:
        """As the kubelet does it: a new folder, one rename, and the old folder is gone."""
        old = self.path / (self.path / "..data").readlink() if self._count else None
        self._count += 1
        new = _fill(self.path / f"..2026_11_22.{self._count}", mark)
        (self.path / "..data_tmp").symlink_to(new.name)
        (self.path / "..data_tmp").rename(self.path / "..data")
        if old is not None:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()


@pytest.fixture
def volume(tmp_path: Path) -> ConfigMapVolume:
    return ConfigMapVolume(tmp_path / "volume")


@pytest.fixture
def when_opening(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Has something happen just before a file is opened."""

    def arrange(change: Change) -> None:
        opened = folders._opened

        def first(folder: Path, name: str) -> object:
            change(name)
            return opened(folder, name)

        monkeypatch.setattr(folders, "_opened", first)

    return arrange


def test_the_links_of_a_config_map_volume_are_followed(volume: ConfigMapVolume) -> None:
    assert folders.read(volume.path) == {name: f"first {name}".encode() for name in NAMES}
    assert folders.strangers(volume.path) == []


@pytest.mark.parametrize("at", NAMES)
def test_a_config_map_that_changes_meanwhile_is_read_again_as_a_whole(
    volume: ConfigMapVolume, when_opening: Callable[[Change], None], at: str
) -> None:
    changes = iter([True])
    when_opening(lambda name: volume.become("second") if name == at and next(changes, False) else None)
    assert _marks(folders.read(volume.path)) == {"second"}


def test_a_file_that_goes_with_the_old_config_map_is_looked_for_in_the_new_one(
    volume: ConfigMapVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is resolved, then the folder it led to is removed: the file is gone though the model is not."""
    resolve, changes = os.path.realpath, iter([True])

    def resolve_then_change(path: Path, strict: bool = False) -> str:
        found = resolve(path, strict=strict)
        if strict and next(changes, False):
            volume.become("second")
        return found

    monkeypatch.setattr("os.path.realpath", resolve_then_change)
    assert _marks(folders.read(volume.path)) == {"second"}


def test_a_folder_that_never_comes_to_rest_is_refused(tmp_path: Path, when_opening: Callable[[Change], None]) -> None:
    folder = _fill(tmp_path / "model", "x")

    def grow(name: str) -> None:
        with (folder / name).open("a") as file:
            file.write("more")

    when_opening(grow)
    with pytest.raises(ModelError, match="is being written to"):
        folders.read(folder)


def test_a_link_within_the_folder_is_followed_and_one_out_of_it_is_refused(tmp_path: Path) -> None:
    folder = _fill(tmp_path / "model", "x")
    (folder / "weights.npz").rename(folder / "weights-v2.npz")
    (folder / "weights.npz").symlink_to("weights-v2.npz")
    assert folders.read(folder)["weights.npz"] == b"x weights.npz"
    (folder / "weights-v2.npz").rename(tmp_path / "weights-v2.npz")
    (folder / "weights.npz").unlink()
    (folder / "weights.npz").symlink_to("../weights-v2.npz")
    with pytest.raises(ModelError, match=r"weights\.npz is a link out of the model's folder, to .*weights-v2\.npz"):
        folders.read(folder)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    _fill(tmp_path / "v2", "x")
    (tmp_path / "current").symlink_to("v2")
    assert _marks(folders.read(tmp_path / "current")) == {"x"}


def test_links_that_lead_round_in_a_circle_are_an_error_and_no_hang(tmp_path: Path) -> None:
    folder = _fill(tmp_path / "model", "x")
    (folder / "weights.npz").unlink()
    (folder / "weights.npz").symlink_to("weights.npz")
    with pytest.raises(OSError, match=r"weights\.npz"):
        folders.read(folder)


def test_a_pipe_or_a_folder_in_the_place_of_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    folder = _fill(tmp_path / "model", "x")
    (folder / "weights.npz").unlink()
    os.mkfifo(folder / "weights.npz")
    with pytest.raises(ModelError, match="no regular file"):
        folders.read(folder)
    (folder / "weights.npz").unlink()
    (folder / "weights.npz").mkdir()
    with pytest.raises((OSError, ModelError), match=r"directory|no regular file"):
        folders.read(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path, name: str) -> None:
    folder = _fill(tmp_path / "model", "x")
    os.truncate(folder / name, folders.LARGEST_FILE + 1)
    with pytest.raises(ModelError, match=rf"{name} is too large: a file may have 536870912 bytes"):
        folders.read(folder)


def test_files_that_are_too_large_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGEST_FOLDER", 2 * folders.MIB)
    folder = _fill(tmp_path / "model", "x")
    for name in NAMES[1:]:
        os.truncate(folder / name, folders.MIB)
    with pytest.raises(ModelError, match=r"weights\.npz is too large: .* a model 2097152$"):
        folders.read(folder)


def test_a_file_that_may_not_be_read_is_named_with_the_user_who_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _fill(tmp_path / "model", "x")

    def refused(_folder: Path) -> dict[str, bytes]:
        raise PermissionError(13, "Permission denied", str(folder / "manifest.json"))

    monkeypatch.setattr(folders, "read", refused)
    with pytest.raises(ModelError, match=rf"Permission denied .*; this server runs as user {os.getuid()}: make"):
        source.fetch(f"file://{folder}", "black-scholes", "2.0.0", Path("/nowhere"), None)
