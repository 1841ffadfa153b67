"""What was valid in a release stays valid, and an upgrade rolls nothing out: tests/manifests/releases has what was recorded."""

import json
from typing import Any

import pytest
from pinn_operator.api import PinnDeployment
from pinn_operator.api.check import problems, whole_schema, with_defaults
from pinn_operator.api.revision import content_of, name_of
from pinn_operator.settings import RELEASE

from tests.manifests import cases

RELEASES = cases.HERE / "releases"


def _revisions() -> dict[str, str]:
    """The names that the release gave, by release, file and object."""
    return {
        f"{file.parent.name}/{name}": revision
        for file in sorted(RELEASES.glob("*/revisions.json"))
        for name, revision in json.loads(file.read_text()).items()
    }


def test_this_release_has_its_manifests_recorded() -> None:
    assert (RELEASES / RELEASE).is_dir(), f"record it as CONTRIBUTING.md says, in tests/manifests/releases/{RELEASE}"


def test_each_recorded_manifest_has_its_revision_recorded() -> None:
    assert _revisions().keys() == cases.released().keys()


@pytest.mark.parametrize("name", cases.released())
def test_a_manifest_of_every_release_is_accepted(name: str) -> None:
    assert problems(cases.released()[name]) == []


@pytest.mark.parametrize("name", cases.released())
def test_a_manifest_of_every_release_has_the_revision_it_had(name: str) -> None:
    """Should this fail, objects in every cluster would roll out at the next upgrade."""
    kept: dict[str, Any] = with_defaults(cases.released()[name], whole_schema())  # as an API server stores it
    assert name_of(content_of(PinnDeployment.model_validate(kept).spec)) == _revisions()[name]
