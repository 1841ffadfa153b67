"""From types to the structural schema an API server accepts: no $ref, no anyOf-null, defaults throughout."""

from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema


class free_form:
    """Marks an object whose parts are somebody else's: their fields are kept as they are."""

    def __init__(self, *parts: str) -> None:
        self.parts = parts

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        kept = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return {"type": "object", "properties": {part: dict(kept) for part in self.parts}}
