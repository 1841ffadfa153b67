"""The gateway in the cluster: installed once, then only waited for, as it may be there from an earlier run on a kept cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.cluster.cache import Cache
from tests.e2e.gateway.build import crds
from tests.e2e.kubectl import Object, find, kubectl

MANIFEST = Path(__file__).resolve().parent / "gateway.yaml"
NAMESPACE = "gateway"
DEFINITION = "httproutes.gateway.networking.k8s.io"


@dataclass(frozen=True)
class Gateway:
    """Where clients inside the cluster send requests, and what a route names as its parent."""

    address: str = f"http://gateway.{NAMESPACE}"
    name: str = "pinn"
    namespace: str = NAMESPACE

    def url(self, path: str = "/predict") -> str:
        return self.address + path

    def parent(self) -> Object:
        """An entry of `parentRefs`, in a route or in `spec.traffic.gateway`."""
        return {"name": self.name, "namespace": self.namespace}


def install() -> Gateway:
    """The Gateway API's definitions where a cluster has none, Traefik, and its Gateway; returns when it takes routes."""
    if find("crd", DEFINITION, NAMESPACE) is None:
        kubectl("apply", "--server-side", "-f", str(crds(Cache())))
        kubectl("wait", f"crd/{DEFINITION}", "--for=condition=Established", "--timeout=30s")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(MANIFEST))
    kubectl("-n", NAMESPACE, "rollout", "status", "deployment/traefik", "--timeout=110s")
    gateway = Gateway()
    kubectl("-n", NAMESPACE, "wait", f"gateway/{gateway.name}", "--for=condition=Programmed", "--timeout=30s")
    return gateway
