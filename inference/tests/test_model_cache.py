"""A model is loaded once, swapped whole, and never replaced by one that cannot answer."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pinn_inference.artifacts import source
from pinn_inference.artifacts.source import Artifact
from pinn_inference.engines.litert import LiteRtEngine
from pinn_inference.errors import ModelError
from pinn_inference.models import Holder, ModelCache


class Model:
    """Stands for a predictor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = threading.current_thread().name


class Loader:
    """Loads in steps that a test can hold up, and counts."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.at_once = self.most_at_once = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self, name: str) -> Model:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(30)
        self.at_once -= 1
        self.loaded.append(name)
        if name.startswith("bad"):
            raise ModelError(f"{name} cannot be loaded")
        if name.startswith("odd"):
            raise ZeroDivisionError("in a library")
        return Model(name)


@pytest.fixture
def loader() -> Iterator[Loader]:
    loader = Loader()
    yield loader
    loader.go.set()


@pytest.fixture
def cache(loader: Loader) -> Iterator[ModelCache[str, Model]]:
    cache = ModelCache(loader, limit=2, key=lambda name: name)
    yield cache
    cache.close()


async def test_a_miss_is_a_load_and_a_hit_a_look_up(cache: ModelCache[str, Model], loader: Loader) -> None:
    first = await cache.get("a")
    assert await cache.get("a") is first
    assert loader.loaded == ["a"]
    assert (cache.counts.hits, cache.counts.misses) == (1, 1)


async def test_a_load_is_not_on_the_event_loop(cache: ModelCache[str, Model], loader: Loader) -> None:
    """The loop goes on while the load is held up, or nobody could let it go."""
    loader.go.clear()
    waiting = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    loader.go.set()
    assert (await waiting).thread.startswith("models")


async def test_who_asks_during_a_load_waits_for_that_load(cache: ModelCache[str, Model], loader: Loader) -> None:
    loader.go.clear()
    waiting = [asyncio.create_task(cache.get("a")) for _ in range(10)]
    await asyncio.sleep(0)
    loader.go.set()
    assert len({id(model) for model in await asyncio.gather(*waiting)}) == 1
    assert loader.loaded == ["a"]


async def test_who_gives_up_does_not_take_the_load_away_from_the_others(
    cache: ModelCache[str, Model], loader: Loader
) -> None:
    loader.go.clear()
    hasty, patient = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hasty
    loader.go.set()
    assert (await patient).name == "a"
    assert loader.loaded == ["a"]


async def test_two_models_are_never_loaded_at_once(cache: ModelCache[str, Model], loader: Loader) -> None:
    loader.go.clear()
    waiting = [asyncio.create_task(cache.get(name)) for name in "ab"]
    while not loader.at_once:
        await asyncio.sleep(0)
    loader.go.set()
    assert len({model.thread for model in await asyncio.gather(*waiting)}) == 1
    assert loader.most_at_once == 1


async def test_the_model_used_longest_ago_goes_first(cache: ModelCache[str, Model], loader: Loader) -> None:
    for name in ("a", "b", "a", "c", "a", "b"):
        await cache.get(name)
    assert loader.loaded == ["a", "b", "c", "b"]
    assert (len(cache), cache.counts.evictions) == (2, 2)


async def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again_by_the_next(
    cache: ModelCache[str, Model], loader: Loader
) -> None:
    answers = await asyncio.gather(*(cache.get("bad") for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["bad cannot be loaded"] * 3
    with pytest.raises(ModelError):
        await cache.get("bad")
    assert loader.loaded == ["bad", "bad"]
    assert (len(cache), cache.counts.failures) == (0, 2)


async def test_a_load_counts_once_it_is_done_however_many_wait_for_it(
    cache: ModelCache[str, Model], loader: Loader
) -> None:
    """A counter that goes down would be taken for a restart."""
    loader.go.clear()
    waiting = [asyncio.create_task(cache.get(name)) for name in ("a", "a", "a", "bad")]
    while not loader.at_once:
        await asyncio.sleep(0)
    assert (cache.counts.misses, cache.counts.loads) == (4, 0)
    loader.go.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await cache.get("a")
    assert (cache.counts.loads, cache.counts.failures) == (1, 1)


async def test_a_load_that_is_abandoned_clears_away_what_it_began() -> None:
    begun, cleared = asyncio.Event(), asyncio.Event()

    async def prepare(_: Model, __: bool) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleared.set()

    cache: ModelCache[str, Model] = ModelCache(Model, 1, lambda name: name, prepare)
    waiting = asyncio.create_task(cache.get("a"))
    await begun.wait()
    await cache.abandon()
    assert cleared.is_set()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ModelCache(Model, limit=0, key=lambda name: name)


# --- The one in use --------------------------------------------------------------------------------------------------


async def _holder(cache: ModelCache[str, Model], names: list[str]) -> Holder[str, Model]:
    """Each fetch brings the next name."""
    coming = iter(names)

    def fetch() -> str:
        name = next(coming)
        if name == "missing":
            raise ModelError("the model cannot be read: No such file or directory")
        return name

    return await Holder.open(cache, fetch)


async def test_a_reload_puts_the_new_model_in_the_place_of_the_old(cache: ModelCache[str, Model]) -> None:
    holder = await _holder(cache, ["a", "b"])
    before = holder.current
    assert (await holder.reload()).result == "swapped"
    assert (before.name, holder.current.name) == ("a", "b")


async def test_the_same_model_again_is_no_swap_and_no_load(cache: ModelCache[str, Model], loader: Loader) -> None:
    holder = await _holder(cache, ["a", "a"])
    assert (await holder.reload()).result == "unchanged"
    assert loader.loaded == ["a"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "the model in use stays: the model cannot be read: No such file or directory"),
        ("bad", "the model in use stays: bad cannot be loaded"),
        ("odd", "the model in use stays: ZeroDivisionError while loading the new one: in a library"),
    ],
)
async def test_a_bad_model_never_replaces_a_good_one(cache: ModelCache[str, Model], name: str, reason: str) -> None:
    holder = await _holder(cache, ["a", name, "b"])
    before = holder.current
    outcome = await holder.reload()
    assert (outcome.result, outcome.sentence) == ("failed", reason)
    assert holder.current is before
    assert (await holder.reload()).result == "swapped"
    assert holder.reloads == {"swapped": 1, "unchanged": 0, "failed": 1}


async def test_the_old_model_answers_until_the_new_one_is_ready(cache: ModelCache[str, Model], loader: Loader) -> None:
    holder = await _holder(cache, ["a", "b"])
    loader.go.clear()
    reload = asyncio.create_task(holder.reload())
    while not loader.at_once:
        await asyncio.sleep(0)
    assert holder.current.name == "a"
    loader.go.set()
    await reload
    assert holder.current.name == "b"


async def test_reloads_take_turns_so_the_last_one_asked_for_wins(cache: ModelCache[str, Model]) -> None:
    """The second one finds its model in the cache, and would overtake the first one, which has to load its own."""
    holder = await _holder(cache, ["a", "b", "a"])
    first, second = await asyncio.gather(holder.reload(), holder.reload())
    assert (first.result, second.result) == ("swapped", "swapped")
    assert holder.current.name == "a"


async def test_without_a_first_model_there_is_no_holder(cache: ModelCache[str, Model]) -> None:
    with pytest.raises(ModelError, match="No such file"):
        await _holder(cache, ["missing"])


# --- With real models ------------------------------------------------------------------------------------------------


def _evaluate(engine: LiteRtEngine) -> list[float]:
    return [float(value) for value in engine.jets(np.array([[0.5, 0.3]]))[:, 0]]


def _engine(artifact: Artifact) -> LiteRtEngine:
    engine = LiteRtEngine(artifact.files["model.tflite"])
    _evaluate(engine)
    return engine


async def test_a_folder_whose_model_changes_is_served_anew_and_one_that_is_damaged_is_not(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    fetch: Callable[[], Artifact] = lambda: source.fetch(f"file://{folder}", "m", "1", Path("/nowhere"), None)  # noqa: E731
    folder.symlink_to(models / "black-scholes/1.0.0")
    cache = ModelCache(_engine, limit=2, key=lambda artifact: artifact.digest)
    holder = await Holder.open(cache, fetch)
    coarse = _evaluate(holder.current)
    folder.unlink()
    folder.symlink_to(models / "black-scholes/2.0.0")
    assert (await holder.reload()).result == "swapped"
    accurate = _evaluate(holder.current)
    assert accurate != coarse
    folder.unlink()
    folder.mkdir()
    for file in (models / "black-scholes/1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes().replace(b"TFL3", b"TFL4"))
    outcome = await holder.reload()
    assert outcome.result == "failed"
    assert "is damaged" in outcome.sentence
    assert _evaluate(holder.current) == accurate
    cache.close()
