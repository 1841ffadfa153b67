"""What a revision is: the part of the spec that changes an answer or its latency, under one name for ever.

The name is a hash of what the user wrote, so a default that a later release adds changes no name and rolls nothing out. The
record keeps the pod template as it was rendered then: a newer operator reads it and never renders it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pinn_operator.api.names import LABEL_REVISION
from pinn_operator.api.placement import Placement
from pinn_operator.api.spec import Gpu, Spec

SECTIONS = frozenset({"model", "cache", "gpu", "fallback", "limits", "resources", "image", "template"})
"""The fields of the spec that make a revision; replicas, rollout, sla, traffic and metrics roll nothing out."""

HASH_DIGITS = 10

RUNS_ON: Final[Mapping[str, tuple[Placement, ...]]] = {
    "Never": ("CPU",),
    "Prefer": ("GPU", "CPU"),
    "Require": ("GPU",),
}


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision that was, or is about to be, written down.

    `template` is the rendered pod template of its servers on CPUs, `gpu_template` that of its servers on GPUs. A revision has the
    ones that it may need, and one that is not written down yet has none.
    """

    name: str
    number: int
    content: Mapping[str, Any]
    image: str
    template: Mapping[str, Any] | None = None
    created: datetime | None = None
    gpu_template: Mapping[str, Any] | None = None

    @property
    def written(self) -> bool:
        """Whether it has been rendered."""
        return self.template is not None or self.gpu_template is not None

    @property
    def gpu(self) -> Gpu:
        """What it asks for."""
        return Gpu.model_validate(self.content.get("gpu", {}))

    @property
    def runs_on(self) -> tuple[Placement, ...]:
        """Where its servers may run. One that an older release wrote down has CPU servers only, whatever it asks for."""
        if self.written:
            found: tuple[tuple[Placement, object], ...] = (("GPU", self.gpu_template), ("CPU", self.template))
            return tuple(where for where, template in found if template is not None)
        return RUNS_ON[self.gpu.policy]

    @property
    def model_version(self) -> str:
        return str(self.content["model"]["version"])

    @property
    def model_digest(self) -> str | None:
        digest = self.content["model"].get("digest")
        return str(digest) if digest else None


def content_of(spec: Spec) -> dict[str, Any]:
    """The revision part of a spec as its user wrote it: what equals a default is left out, so both ways to say it are one."""
    return spec.model_dump(mode="json", by_alias=True, include=set(SECTIONS), exclude_defaults=True)


def name_of(content: Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of the SHA-256 of the content in canonical JSON: 40 bits are ample for one object's history."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:HASH_DIGITS]


def recovered(deployment: Mapping[str, Any] | None, on_gpus: Mapping[str, Any] | None = None) -> Revision:
    """A revision whose record is lost, from its Deployments (at least one): the templates as they run, and of the content what
    they still say."""
    templates = [one["spec"]["template"] if one else None for one in (deployment, on_gpus)]
    template = next(one for one in templates if one is not None)
    labels = template["metadata"]["labels"]
    server = template["spec"]["containers"][0]
    said = {entry["name"]: entry.get("value", "") for entry in server.get("env", ())}
    model = {"name": said.get("PINN_SERVER_MODEL_NAME", ""), "version": labels.get("app.kubernetes.io/version", "")}
    return Revision(
        name=labels[LABEL_REVISION],
        number=0,
        content={"model": model},
        image=server["image"],
        template=templates[0],
        gpu_template=templates[1],
    )


def stored(revision: Revision) -> dict[str, Any]:
    """The `data` of the ControllerRevision."""
    templates = {"template": revision.template, "gpuTemplate": revision.gpu_template}
    kept = {name: template for name, template in templates.items() if template is not None}
    return {"content": revision.content, "image": revision.image, **kept}


def from_stored(obj: Mapping[str, Any]) -> Revision:
    """A revision read back from its ControllerRevision. KeyError when somebody else made the object."""
    data = obj["data"]
    content, image = data["content"], data["image"]
    template, gpu_template = data.get("template"), data.get("gpuTemplate")
    if template is None and gpu_template is None:
        raise KeyError("template")
    return Revision(
        name=obj["metadata"]["name"].rpartition("-")[2],  # a label can be stripped, a name cannot
        number=int(obj["revision"]),
        content=content,
        image=image,
        template=template,
        gpu_template=gpu_template,
        created=datetime.fromisoformat(obj["metadata"]["creationTimestamp"]),
    )
