"""What is read from a worker is checked, field by field, and what is shared with it keeps its size."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinn_inference.engines.frames import HEADER, MAX_TEXT, Frame, Kind, Memory, NotAFrame, decode, new_memory

NUMBERS = st.integers(0, 2**32 - 1)


@given(st.sampled_from(Kind), NUMBERS, NUMBERS, st.text(max_size=2000))
def test_a_frame_is_read_as_it_was_written_with_at_most_so_much_text(
    kind: Kind, number: int, count: int, text: str
) -> None:
    content = Frame(kind, number, count, text).encode()
    frame, length = decode(content[: HEADER.size])
    assert frame == Frame(kind, number, count)
    assert len(content) == HEADER.size + length <= HEADER.size + MAX_TEXT
    assert text.encode().startswith(content[HEADER.size :])


@given(st.binary(min_size=HEADER.size, max_size=HEADER.size))
def test_bytes_of_another_kind_are_no_frame(content: bytes) -> None:
    with pytest.raises(NotAFrame):
        decode(content if not content.startswith(b"PINN") else b"X" + content[1:])


@pytest.mark.parametrize("header", [(b"PINN", 0, 0), (b"PINN", 99, 0), (b"PINN", 4, MAX_TEXT + 1), (b"pinn", 4, 0)])
def test_a_header_with_one_wrong_field_is_no_frame(header: tuple[bytes, int, int]) -> None:
    with pytest.raises(NotAFrame):
        decode(HEADER.pack(*header, 1, 1))


def test_points_and_jets_do_not_overlap() -> None:
    descriptor = new_memory(10, (3, 5))
    memory, other = Memory(descriptor, 10, (3, 5)), Memory(descriptor, 10, (3, 5))
    os.close(descriptor)
    memory.points(10)[:] = 1.0
    memory.jets(10)[:] = 2.0
    assert (other.points(10) == 1.0).all()
    assert (other.jets(10) == 2.0).all()
    assert (other.jets(3).shape, other.points(3).shape) == ((5, 3), (3, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="seals exist on Linux only")
def test_nobody_can_shrink_the_memory_under_its_reader() -> None:
    descriptor = new_memory(10, (2, 4))
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    os.close(descriptor)
