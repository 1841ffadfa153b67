"""What every child has: a name, the recommended labels, and its owner."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import API_VERSION, KIND
from pinn_operator.api.observed import Observed
from pinn_operator.api.revision import Revision
from pinn_operator.build.pod import labels_of


def metadata_of(seen: Observed, name: str, component: str, revision: Revision | None = None) -> dict[str, Any]:
    """The metadata of a child of the object."""
    owner = {"apiVersion": API_VERSION, "kind": KIND, "name": seen.key.name, "uid": seen.uid, "controller": True}
    return {
        "name": name,
        "namespace": seen.key.namespace,
        "labels": labels_of(seen.key.name, component, revision),
        "ownerReferences": [owner],
    }
