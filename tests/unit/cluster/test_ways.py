# Which way to a cluster is taken, from what is found on a machine.
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.ways import Surroundings, Way, choose, is_debian, is_own_engine, look

BARE = Surroundings(kubeconfig_e2e=None, engine_answers=False, linux=True, root=True, debian=True)


def test_a_given_kubeconfig_comes_before_everything_else() -> None:
    assert choose(replace(BARE, kubeconfig_e2e="/some/config", engine_answers=True)) is Way.GIVEN


def test_a_container_engine_comes_before_one_of_our_own() -> None:
    assert choose(replace(BARE, engine_answers=True)) is Way.ENGINE


def test_debian_with_root_makes_its_own_engine() -> None:
    assert choose(BARE) is Way.OWN


def test_an_engine_is_enough_on_any_system() -> None:
    assert choose(Surroundings(None, engine_answers=True, linux=False, root=False, debian=False)) is Way.ENGINE


@pytest.mark.parametrize(
    ("lacking", "said"), [({"root": False}, "root"), ({"debian": False}, "Debian"), ({"linux": False}, "Linux")]
)
def test_what_is_missing_is_said_in_one_sentence_and_exits_3(lacking: dict[str, bool], said: str) -> None:
    with pytest.raises(ClusterError, match=said) as caught:
        choose(replace(BARE, **lacking))  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_an_empty_kubeconfig_variable_counts_as_not_set() -> None:
    assert look({"KUBECONFIG_E2E": ""}).kubeconfig_e2e is None


def test_an_engine_of_our_own_does_not_count_as_the_machines() -> None:
    root = Path("/cache")
    assert is_own_engine({"DOCKER_HOST": "unix:///cache/state/pinn/docker.sock"}, root)
    assert not is_own_engine({"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, root)
    assert not is_own_engine({}, root)


def test_debian_is_told_from_what_descends_from_it() -> None:
    assert is_debian('NAME="Debian"\nID=debian\n')
    assert not is_debian("ID=ubuntu\nID_LIKE=debian\n")
