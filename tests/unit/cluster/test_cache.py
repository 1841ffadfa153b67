# The cache: what changes a key, and what a crash, an old version or a second process do to it.
from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.cluster.cache import Cache, cache_root, digest, mounts_under, superseded, tree_digest, try_lock

OLD, NEW = "0" * 16, "1" * 16


def write(place: Path) -> None:
    (place / "file").write_text("content")


def test_the_cache_folder_follows_the_environment() -> None:
    assert cache_root({"PINN_CACHE_DIR": "/a"}) == Path("/a")
    assert cache_root({"XDG_CACHE_HOME": "/b"}) == Path("/b/pinn-operator")
    assert cache_root({}) == Path.home() / ".cache/pinn-operator"


def test_moving_a_boundary_between_parts_changes_the_digest() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])


def test_a_tree_digest_sees_content_names_and_the_executable_bit(tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text("one")
    seen = {tree_digest([tmp_path], tmp_path)}
    file.write_text("two")
    seen.add(tree_digest([tmp_path], tmp_path))
    file.chmod(0o755)
    seen.add(tree_digest([tmp_path], tmp_path))
    file.rename(tmp_path / "renamed")
    seen.add(tree_digest([tmp_path], tmp_path))
    assert len(seen) == 4


def test_a_tree_digest_does_not_see_byte_code(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("")
    before = tree_digest([tmp_path], tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "module.pyc").write_text("x")
    assert tree_digest([tmp_path], tmp_path) == before


def test_an_artefact_is_built_once(tmp_path: Path) -> None:
    built = []

    def build(place: Path) -> None:
        built.append(place)
        write(place)

    cache = Cache(tmp_path)
    first = cache.artefact("thing", NEW, build)
    assert cache.artefact("thing", NEW, build) == first
    assert (first / "file").read_text() == "content"
    assert len(built) == 1


def test_a_failed_build_leaves_nothing_and_is_done_again(tmp_path: Path) -> None:
    def fail(place: Path) -> None:
        write(place)
        raise KeyboardInterrupt

    cache = Cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.artefact("thing", NEW, fail)
    assert list((tmp_path / "artefacts").iterdir()) == []
    assert cache.artefact("thing", NEW, write).is_dir()


def test_half_a_build_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    half = tmp_path / "artefacts" / ".thing.abc"
    half.mkdir(parents=True)
    Cache(tmp_path).artefact("thing", NEW, write)
    assert not half.exists()


def test_a_new_version_replaces_the_old_unless_it_may_be_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = cache.artefact("thing", OLD, write)
    cache.artefact("thing", NEW, write, keep_others=True)
    assert old.exists()
    cache.artefact("thing", "2" * 16, write)
    assert not old.exists()


def test_only_the_same_artefact_is_superseded(tmp_path: Path) -> None:
    for name in (f"node-{OLD}", f"node-{NEW}", f"node-image-{OLD}"):
        (tmp_path / name).mkdir()
    assert superseded(tmp_path / f"node-{NEW}") == [tmp_path / f"node-{OLD}"]


def test_a_lock_keeps_a_second_holder_out_until_it_is_released(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.lock("a"), (tmp_path / "locks" / "a").open("w") as second:
        assert not try_lock(second.fileno())
    with (tmp_path / "locks" / "a").open("w") as third:
        assert try_lock(third.fileno())


def test_mounts_left_in_a_folder_are_found_deepest_first_and_no_others() -> None:
    lines = [
        f"1 0 0:1 / {point} rw - tmpfs tmpfs rw" for point in ("/", "/c/x", "/c/x/proc/deep", "/c/x/proc", "/c/xy")
    ]
    assert mounts_under(Path("/c/x"), "\n".join(lines)) == ["/c/x/proc/deep", "/c/x/proc", "/c/x"]
