"""Whose a live object is. Names can collide with a user's objects and with those of a deleted namesake; uids cannot."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from pinn_operator.api.names import FIELD_MANAGER, GROUP, KIND


class Owner(Enum):
    """Whose object it is, from the point of view of one PinnDeployment."""

    OURS = "ours"
    NAMESAKE = "of a deleted PinnDeployment of the same name"
    OTHER = "somebody else's"


def owner_of(live: Mapping[str, Any], uid: str, name: str = "") -> Owner:
    """From the point of view of the PinnDeployment of this uid and name; without a name it has no namesakes.

    An object whose owner reference was stripped is still ours when this operator applied it.
    """
    controller = controller_of(live)
    if controller is None:
        return Owner.OURS if _applied_by_us(live) else Owner.OTHER
    if controller["uid"] == uid:
        return Owner.OURS
    same_kind = controller["kind"] == KIND and controller["apiVersion"].startswith(f"{GROUP}/")
    return Owner.NAMESAKE if same_kind and controller["name"] == name else Owner.OTHER


def controller_of(live: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The reference to whoever controls it; None where nobody does."""
    return next((ref for ref in live["metadata"].get("ownerReferences", ()) if ref.get("controller")), None)


def _applied_by_us(live: Mapping[str, Any]) -> bool:
    return any(
        entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        for entry in live["metadata"].get("managedFields", ())
    )
