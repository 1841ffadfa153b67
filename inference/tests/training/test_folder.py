"""A folder is made of one network that has answers everywhere, whatever files it is made of."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pinn_inference.errors import ModelError
from pinn_inference.problems.burgers import Burgers
from pinn_inference.training import folder, measured
from pinn_inference.training.folder import Told
from pinn_inference.training.measured import Cells

TOLD = Told("1.0.0", "A test's.", "the problem's own solver")
PROBLEM = Burgers(Burgers.domain, None)


@pytest.fixture
def network(models: Path) -> dict[str, bytes]:
    """The shipped files of one."""
    return {name: (models / "burgers/1.0.0" / name).read_bytes() for name in ("model.tflite", "weights.npz")}


def test_weights_of_another_network_are_not_packed_with_a_graph(network: dict[str, bytes]) -> None:
    with np.load(io.BytesIO(network["weights.npz"])) as found:
        arrays = dict(found)
    other = io.BytesIO()
    np.savez(other, **{**arrays, "w3": 1.03 * arrays["w3"]})
    with pytest.raises(
        ModelError, match=r"^weights\.npz is of another network than model\.tflite: number 1 of its jet"
    ):
        folder.files(PROBLEM, {**network, "weights.npz": other.getvalue()}, TOLD, Cells((0.1, 0.1, 0.4)))


class Spoiled:
    """A network of nothing but zeros, with one number more."""

    name = "spoiled"
    shape = PROBLEM.shape

    def __init__(self, value: float) -> None:
        self._value = value

    def jet(self, *at: float) -> Any:
        raise NotImplementedError

    def jets(self, points: Any) -> Any:
        found = np.zeros((self.shape[1], len(points)))
        found[3, 0] = self._value
        return found


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("measure", [measured.errors, measured.excesses])
def test_a_network_that_is_not_finite_at_a_corner_is_refused_with_the_output_and_the_place(
    value: float, measure: Any
) -> None:
    words = r"^the network gives u_t -?(inf|nan) at x -1, t 0, viscosity 0\.003; give it ranges in which it has finite"
    with pytest.raises(ModelError, match=words):
        measure(PROBLEM, Spoiled(value), measured.everywhere(PROBLEM, 10))


@pytest.mark.parametrize("excess", [np.inf, np.nan])
def test_no_tolerance_allows_what_is_no_number(excess: float) -> None:
    with pytest.raises(ModelError, match="no tolerance allows that"):
        folder.tolerance(excess)
