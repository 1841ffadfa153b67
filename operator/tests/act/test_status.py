"""Events as the API server takes them."""

import pytest
from pinn_operator.act.status import NOTE_LIMIT, announce
from pinn_operator.api.outcome import Happening
from tests.fake_kube import FakeKube
from tests.given import observed, resource


@pytest.mark.parametrize("character", ["a", "é", "→", "🙂"])
async def test_a_note_is_cut_to_the_bytes_that_the_server_takes_and_between_two_characters(character: str) -> None:
    kube = FakeKube()
    told = Happening("ChildRefused", "Apply", f"x{character * 2000}", warning=True)
    await announce(kube, [told], observed(resource()), "test")
    (event,) = kube.objects.values()
    assert NOTE_LIMIT - 4 < len(event["note"].encode()) <= NOTE_LIMIT
    assert told.note.startswith(event["note"])
