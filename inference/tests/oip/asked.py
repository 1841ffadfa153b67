"""Requests as others write them, and one option to ask about."""

import struct
from collections.abc import Sequence
from typing import Any

import msgspec

OPTION: dict[str, Any] = {
    "spot": 100.0, "strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2, "kind": "put",
}  # fmt: skip
PRICE = 7.6150
MODEL = "/v2/models/black-scholes"
INFER = f"{MODEL}/infer"
HEADER = "inference-header-content-length"
OUTPUTS = ["price", "delta", "gamma", "vega", "theta", "rho"]
CODES = {"FP64": "d", "FP32": "f", "FP16": "e", "INT64": "q", "INT32": "i", "INT16": "h", "INT8": "b",
         "UINT64": "Q", "UINT32": "I", "UINT16": "H", "UINT8": "B"}  # fmt: skip


def tensor(name: str, data: list[Any], datatype: str | None = None, shape: list[int] | None = None) -> dict[str, Any]:
    """An input as JSON."""
    kind = datatype or ("BYTES" if isinstance(data[0], str) else "FP64")
    return {"name": name, "datatype": kind, "shape": shape or [len(data)], "data": data}


def inputs(count: int = 1, **changed: Any) -> list[dict[str, Any]]:
    """The option so many times, some of its inputs other ones (None: left out; a dict: another tensor)."""
    columns = {name: [value] * count for name, value in OPTION.items()} | changed
    found = [tensor(name, data) if isinstance(data, list) else data for name, data in columns.items()]
    return [each for each in found if each is not None]


def request(count: int = 1, outputs: Sequence[str] | None = None, **changed: Any) -> dict[str, Any]:
    """The whole of it."""
    asked: dict[str, Any] = {"inputs": inputs(count, **changed)}
    return asked if outputs is None else {**asked, "outputs": [{"name": name} for name in outputs]}


def raw(datatype: str, data: Sequence[Any]) -> bytes:
    """Elements as the binary extension has them."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in data)
    return struct.pack(f"<{len(data)}{CODES[datatype]}", *data)


def binary(document: dict[str, Any], *names: str) -> tuple[bytes, bytes]:
    """The same request as JSON and as what lies behind it, these inputs (none: all) as bytes."""
    moved, behind = [], b""
    for each in document["inputs"]:
        if names and each["name"] not in names:
            moved.append(each)
            continue
        content = raw(each["datatype"], each["data"])
        rest = {key: value for key, value in each.items() if key != "data"}
        moved.append({**rest, "parameters": {"binary_data_size": len(content)}})
        behind += content
    return msgspec.json.encode({**document, "inputs": moved}), behind


def column(answer: dict[str, Any], name: str) -> Any:
    """The data of an output."""
    (found,) = [each["data"] for each in answer["outputs"] if each["name"] == name]
    return found
