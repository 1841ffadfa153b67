"""Many strings that are each one of a few words are found out at once, and are what reading one after the other finds."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pinn_inference.errors import InvalidInput
from pinn_inference.oip.datatypes import MANY, Chosen, Raw

from .asked import raw

CHOICES = st.lists(st.text("abput\0\x01\x80é", max_size=4), min_size=1, max_size=4, unique=True)


def read(content: bytes, count: int, words: list[str]) -> list[str] | str:
    """The strings, or why there are none."""
    try:
        found = Raw(content).strings("kind", [count], words)
    except InvalidInput as error:
        return str(error)
    return found if isinstance(found, list) else found.tolist()


def one_by_one(content: bytes, count: int) -> list[str] | str:
    """The same without any word that is expected."""
    return read(content, count, ["another word"])


def test_a_batch_of_choices_is_taken_as_codes() -> None:
    words = ["call", "put"]
    found = Raw(raw("BYTES", words * MANY)).strings("kind", [2 * MANY], words)
    assert isinstance(found, Chosen)
    assert found.which.tolist() == [0, 1] * MANY
    assert found.tolist() == words * MANY
    assert (found[0], found[3]) == ("call", "put")


@given(words=CHOICES, data=st.data())
def test_codes_say_what_the_strings_are(words: list[str], data: st.DataObject) -> None:
    strings = data.draw(st.lists(st.sampled_from(words), min_size=MANY, max_size=3 * MANY))
    assert read(raw("BYTES", strings), len(strings), words) == strings


@given(
    pieces=st.lists(st.sampled_from([b"\4\0\0\0call", b"\3\0\0\0put", b"\x80", b"\x81", b"\0", b"call"]), min_size=MANY)
)
@example(pieces=[b"\4\0\0\0call"] * MANY + [b"\x80"])
@example(pieces=[b"\3\0\0\0\4\0\0\0callput"] * MANY)
@example(pieces=[b"call", *[b"\4\0\0\0call"] * MANY])
@example(pieces=[*[b"\4\0\0\0call"] * MANY, b"call"])
@example(pieces=[b"\0", *[b"\4\0\0\0call"] * (MANY - 1), b"\0\0"])
@example(pieces=[b"\4\0\0\0call\4\0call\0\0call"] * MANY)
def test_what_lies_between_words_is_never_passed_over(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    for count in {len(pieces), MANY}:
        assert read(content, count, ["call", "put"]) == one_by_one(content, count)


@pytest.mark.parametrize("words", [["x" * 300, "put"], [f"w{i}" for i in range(300)], ["", "e"], ["a\0", "e"]])
def test_words_that_have_no_codes_are_read_one_by_one(words: list[str]) -> None:
    strings = (words * MANY)[:1000]
    found = Raw(raw("BYTES", strings)).strings("kind", [len(strings)], words)
    assert found == strings
