"""What all types of the resource share: frozen, camelCase on the wire, tolerant of fields a newer resource brings.

A model's rules are listed in `rules` and travel with its schema.
"""

from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from pinn_operator.api import rules as r

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"


class Part(BaseModel):
    """A part of the resource. Unknown fields are dropped when parsing: the resource may be newer than the operator."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")

    rules: ClassVar[tuple[r.Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        node = handler(core)
        handler.resolve_ref_schema(node).update({r.RULES: cls.rules} if cls.rules else {})
        return node


def _written(value: Any) -> Any:
    """A number where a quantity may stand, as a string."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class IntOrString:
    """Marks a string that may be written as an integer (`memory: 1000000`)."""

    @staticmethod
    def __get_pydantic_json_schema__(core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        node = handler(core)
        return {key: value for key, value in node.items() if key not in ("type", "anyOf")} | {
            "x-kubernetes-int-or-string": True
        }


class FreeForm:
    """Marks an object whose parts are somebody else's: their fields are kept as they are."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "object", "properties": {part: {"type": "object", PRESERVE: True} for part in self.parts}}


Duration = Annotated[str, Field(max_length=16), r.DURATION]
"""A span such as "30m", "1h30m" or "1d"; `units.seconds` reads it."""
Timeout = Annotated[str, Field(max_length=16), r.DURATION, r.NOT_ZERO]
"""A span longer than nothing."""
Interval = Annotated[str, Field(max_length=16), r.DURATION, r.AT_LEAST_A_SECOND]
"""A span of a second or more."""
LatencyLimit = Annotated[str, Field(max_length=16), r.DURATION_OR_OFF]
"""A span such as "500ms" without days, or "Off"."""
Percentage = Annotated[str, Field(max_length=9), r.PERCENTAGE]
"""A share such as "90%"; `units.fraction` reads it."""
RateLimit = Annotated[str, Field(max_length=9), r.PERCENTAGE_OR_OFF]
"""A share such as "0.1%", or "Off"."""
Utilisation = Annotated[str, Field(max_length=9), r.UTILISATION_OR_OFF]
"""A whole percentage that may exceed 100%, or "Off"."""
Quantity = Annotated[str, BeforeValidator(_written), IntOrString(), Field(max_length=24), r.QUANTITY]
"""A Kubernetes quantity; `units.quantity` reads it."""
Bytes = Annotated[str, BeforeValidator(_written), IntOrString(), Field(max_length=24), r.BYTES]
"""An amount of memory such as "256Mi"; `units.bytes_of` reads it."""
MemoryLimit = Annotated[str, BeforeValidator(_written), IntOrString(), Field(max_length=24), r.BYTES_OR_OFF]
"""An amount of memory, or "Off"."""
BinWidth = Annotated[str, BeforeValidator(_written), IntOrString(), Field(max_length=16), r.BIN_WIDTH]
"""A width of a cache bin: relative ("1%") or absolute ("0.01")."""
Name = Annotated[str, Field(max_length=253), r.OBJECT_NAME]
"""The name of another object."""
