"""`field_numbers.py triton|kserve`: the fields of the messages in these packages, as {message: {field: [number, type]}}."""

import json
import sys
from typing import Any


def fields(message: Any) -> dict[str, Any]:
    """Of a message and of those within it, by full name."""
    own = {f.name: [f.number, f.message_type.full_name if f.message_type else f.type] for f in message.fields}
    found = {message.full_name: own}
    for nested in message.nested_types:
        found.update(fields(nested))
    return found


def main(package: str) -> None:
    """Prints them."""
    if package == "triton":
        from tritonclient.grpc import service_pb2 as theirs  # type: ignore[import-not-found]  # only where this runs
    else:
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs  # type: ignore[import-not-found]  # only where this runs
    found: dict[str, Any] = {}
    for message in theirs.DESCRIPTOR.message_types_by_name.values():
        found.update(fields(message))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
