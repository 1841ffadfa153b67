"""Bounded in entries and in bytes, least recently used first out; the most used are found."""

import sys

from pinn_inference.cache import COUNTED, ENTRY_BYTES, ResultCache


def _key(number: int) -> bytes:
    return number.to_bytes(48, "big")


def test_the_least_recently_used_goes_first() -> None:
    cache = ResultCache(2, 1 << 20)
    cache.put(_key(1), b"one")
    cache.put(_key(2), b"two")
    assert cache.get(_key(1)) == b"one"
    cache.put(_key(3), b"three")
    assert [cache.get(_key(n)) for n in (1, 2, 3)] == [b"one", None, b"three"]
    assert (len(cache), cache.evictions) == (2, 1)


def test_bytes_are_bounded_too_and_given_back() -> None:
    weight = sys.getsizeof(_key(0)) + sys.getsizeof(b"x" * 48) + ENTRY_BYTES
    cache = ResultCache(1000, 10 * weight)
    for number in range(25):
        cache.put(_key(number), b"x" * 48)
    assert (len(cache), cache.bytes, cache.evictions) == (10, 10 * weight, 15)


def test_the_account_of_bytes_is_about_what_the_memory_holds() -> None:
    import tracemalloc

    tracemalloc.start()
    cache = ResultCache(20_000, 1 << 30)
    for number in range(20_000):
        cache.put(_key(number), number.to_bytes(48, "little"))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 < held / cache.bytes < 1.3


def test_the_same_key_again_is_no_second_entry() -> None:
    cache = ResultCache(10, 1 << 20)
    cache.put(_key(1), b"one")
    before = cache.bytes
    cache.put(_key(1), b"two")
    assert (len(cache), cache.bytes, cache.get(_key(1))) == (1, before, b"two")


async def test_the_hottest_keys_come_most_used_first() -> None:
    cache = ResultCache(100, 1 << 20)
    for number in range(10):
        cache.put(_key(number), b"")
        for _ in range(number % 4):
            cache.get(_key(number))
    hottest = await cache.hottest(4)
    assert {int.from_bytes(key, "big") for key in hottest[:2]} == {3, 7}
    assert {int.from_bytes(key, "big") for key in hottest[2:]} <= {2, 6}
    assert await cache.hottest(0) == []


async def test_counting_uses_takes_bounded_memory_and_still_knows_the_hottest() -> None:
    cache = ResultCache(5 * COUNTED, 1 << 30)
    for number in range(4 * COUNTED):
        cache.put(_key(number), b"")
    for number in range(4 * COUNTED):
        cache.get(_key(number))
        cache.get(_key(7))
        assert len(cache._uses) <= COUNTED
    cache.get(_key(7))
    assert (await cache.hottest(1))[0] == _key(7)
