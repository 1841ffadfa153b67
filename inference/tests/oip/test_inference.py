"""What an answer says of itself as a whole, where its items differ."""

from pinn_inference.evaluation import Answer
from pinn_inference.oip.inference import _least, _said

CACHED = Answer([1.0], None, "cache", "litert")
MODEL = Answer([1.0], None, "model", "litert")
SPARE = Answer([1.0], None, "model", "xla", "gpu_oom")


def test_of_the_slowest_items_one_that_was_not_the_first_choice_speaks_for_all() -> None:
    assert _said(_least([CACHED, MODEL, SPARE], "model")) == {"method": "model", "engine": "xla", "reason": "gpu_oom"}
    assert _said(_least([CACHED, MODEL], "model")) == {"method": "model", "engine": "litert"}
