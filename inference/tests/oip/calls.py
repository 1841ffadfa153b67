"""A caller of the gRPC service, with this project's own messages; clients that others wrote are in test_foreign_clients.py."""

from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
from pinn_inference.oip import messages

from .asked import inputs, raw

FIELDS = {"FP64": "fp64_contents", "FP32": "fp32_contents", "INT64": "int64_contents", "UINT64": "uint64_contents",
          "INT32": "int_contents", "INT16": "int_contents", "INT8": "int_contents", "UINT32": "uint_contents",
          "UINT16": "uint_contents", "UINT8": "uint_contents", "BYTES": "bytes_contents"}  # fmt: skip
PATIENCE = 30.0


class Refused(NamedTuple):
    """How a call ended that has no answer."""

    code: grpc.StatusCode
    sentence: str
    trailing: dict[str, str]


class Caller:
    """One channel."""

    def __init__(self, address: str, *options: tuple[str, Any]) -> None:
        self.channel = grpc.insecure_channel(address, options=options)

    def __call__(self, method: str, message: Any, **metadata: str) -> Any:
        """The answer, or how it was refused."""
        request = message if isinstance(message, bytes) else message.SerializeToString()
        ask = self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            answer = ask(request, timeout=PATIENCE, metadata=tuple(metadata.items()))
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            return Refused(error.code(), error.details(), trailing)
        return getattr(messages, f"{method}Response").FromString(answer)

    def infer(self, message: Any, **metadata: str) -> Any:
        return self("ModelInfer", message, **metadata)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.channel.close()


def question(count: int = 1, outputs: list[str] | None = None, as_bytes: bool = False, **changed: Any) -> Any:
    """A ModelInferRequest; inputs as in asked.inputs."""
    message = messages.ModelInferRequest(model_name="black-scholes")
    for each in inputs(count, **changed):
        tensor = message.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        data = each["data"]
        if as_bytes:
            message.raw_input_contents.append(data if isinstance(data, bytes) else raw(each["datatype"], data))
        else:
            field = getattr(tensor.contents, FIELDS.get(each["datatype"], "fp64_contents"))
            field.extend([each.encode() if isinstance(each, str) else each for each in data])
    for name in outputs or ():
        message.outputs.add(name=name)
    return message


def column(answer: Any, name: str) -> list[Any]:
    """The elements of an output that came typed."""
    (found,) = [output for output in answer.outputs if output.name == name]
    return list(getattr(found.contents, FIELDS[found.datatype]))
