"""What a pod on GPUs has that the same pod on CPUs has not, as a patch over it, and where the image for it is."""

from __future__ import annotations

from typing import Any

from pinn_operator.api.names import LABEL_PLACEMENT
from pinn_operator.api.placement import ON_GPUS
from pinn_operator.api.spec import Gpu

Object = dict[str, Any]

SCRATCH = "tmp"
"""The folder that can be written to, the only one of the pod: XLA hands what it compiles for a GPU over in a small file there.

In memory, since the cluster autoscaler takes no node away whose pods have files on it.
"""

ROOM = "256Mi"

START_SECONDS = 300
"""Where a GPU is required a server is ready when TensorFlow is, which takes longer the first time on a node. The server gives it
less than that, so that the reason is said before the kubelet begins anew."""


def on_gpus(gpu: Gpu, container: str) -> Object:
    """The patch. Nodes with GPUs often carry a taint named like the resource, to keep other pods away."""
    probe = {"startupProbe": {"failureThreshold": START_SECONDS}} if gpu.policy == "Require" else {}
    spec: Object = {
        "tolerations": [{"key": gpu.resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [
            {
                "name": container,
                "env": [{"name": "PINN_SERVER_GPU_POLICY", "value": gpu.policy.lower()}],
                "resources": {"limits": {gpu.resource: str(gpu.count)}},
                "volumeMounts": [{"name": f"pinn-{SCRATCH}", "mountPath": f"/{SCRATCH}"}],
                **probe,
            }
        ],
        "volumes": [{"name": f"pinn-{SCRATCH}", "emptyDir": {"medium": "Memory", "sizeLimit": ROOM}}],
    }
    if gpu.runtime_class_name:
        spec["runtimeClassName"] = gpu.runtime_class_name
    return {"metadata": {"labels": {LABEL_PLACEMENT: "gpu"}}, "spec": spec}


def on_cpus() -> Object:
    """The patch for a pod of a revision that has some on GPUs too: their Deployments tell them apart by the label."""
    return {"metadata": {"labels": {LABEL_PLACEMENT: "cpu"}}}


def image_for_gpus(image: str) -> str:
    """The image of the same release for GPUs: its tag ends in -gpu. A digest is that of one image, so one without a tag is taken
    for both."""
    named, _, digest = image.partition("@")
    tag = named.rpartition("/")[2].partition(":")[2]
    if digest and not tag:
        return image
    return f"{named if tag else f'{named}:latest'}{ON_GPUS}"
