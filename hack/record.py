"""Before a release: its manifests and the names of their revisions, kept where every later release must honour them.

`python -m hack.record` writes tests/manifests/releases/VERSION anew.
"""

from __future__ import annotations

import json
import shutil

from pinn_operator.api import PinnDeployment
from pinn_operator.api.check import whole_schema, with_defaults
from pinn_operator.api.revision import content_of, name_of
from pinn_operator.settings import RELEASE

from hack.install import ROOT, say
from tests.manifests import cases

FOLDER = cases.HERE / "releases" / RELEASE


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for file in (cases.HERE / "valid").glob("*.yaml"):
        shutil.copyfile(file, FOLDER / file.name)
    for file in (ROOT / "manifests/samples").glob("*.yaml"):
        shutil.copyfile(file, FOLDER / f"sample-{file.name}")
    (FOLDER / "revisions.json").write_text(json.dumps(_revisions(), indent=2) + "\n")
    say(f"wrote {FOLDER.relative_to(ROOT)}; add the chart with `helm package`")


def _revisions() -> dict[str, str]:
    """The name that each manifest's revision has, as an API server stores the manifest."""
    return {
        name.partition("/")[2]: name_of(
            content_of(PinnDeployment.model_validate(with_defaults(manifest, whole_schema())).spec)
        )
        for name, manifest in cases.released().items()
        if name.startswith(f"{RELEASE}/")
    }


if __name__ == "__main__":
    main()
