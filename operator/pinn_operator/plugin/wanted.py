"""What an object asks for, by its spec alone: a status that a newer release wrote is not read for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pinn_operator.api.revision import content_of, name_of
from pinn_operator.api.spec import Spec
from pinn_operator.plugin.kubectl import Trouble


def content_wanted(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The revision part of the spec. Trouble where this release does not understand the spec."""
    try:
        return content_of(Spec.model_validate(obj.get("spec")))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in ("spec", *first["loc"]))
        raise Trouble(
            f"{field}: {first['msg']}; correct it, or if the cluster takes it, use the kubectl pinn of the operator's release"
        ) from None


def revision_wanted(obj: Mapping[str, Any]) -> str:
    """The name of the revision that the spec asks for."""
    return name_of(content_wanted(obj))
