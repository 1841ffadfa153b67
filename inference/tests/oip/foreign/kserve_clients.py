"""KServe's own clients, as published: `kserve_clients.py rest|grpc ADDRESS` does what their users do and says what came back.

Run by the environment of requirements/oip-clients.txt, in which there is nothing of ours.
"""

import asyncio
import json
import logging
import sys
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import (  # type: ignore[import-not-found]  # only where this runs
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput  # type: ignore[import-not-found]  # only where this runs

MODEL = "black-scholes"
OPTION = {"strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
SPOTS = [100.0, 101.0, 102.0]
KINDS = ["put", "put", "call"]


def request(model: str = MODEL, as_bytes: bool = True, without: str = "", **more: Any) -> InferRequest:
    """Three options that differ in their spot, one of them a call."""
    numbers = {"spot": SPOTS, **{name: [value] * 3 for name, value in OPTION.items()}}
    inputs = []
    for name, values in numbers.items():
        inputs.append(InferInput(name, [3], "FP64"))
        inputs[-1].set_data_from_numpy(np.array(values), binary_data=as_bytes)
    inputs.append(InferInput("kind", [3], "BYTES"))
    inputs[-1].set_data_from_numpy(np.array(KINDS, np.object_), binary_data=as_bytes)
    return InferRequest(model, [each for each in inputs if each.name != without], **more)


def read(response: Any) -> dict[str, Any]:
    """All outputs as lists."""
    found = {}
    for output in response.outputs:
        values = output.as_numpy().tolist()
        found[output.name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return found


async def refusal(asked: Any) -> dict[str, str]:
    """How the clients report what the server refuses."""
    try:
        await asked
    except httpx.HTTPStatusError as error:
        return {"status": str(error.response.status_code), "message": str(error)}
    except grpc.aio.AioRpcError as error:
        return {"status": str(error.code()), "message": str(error.details())}
    raise AssertionError("it was answered")


def wanted(**parameters: Any) -> list[RequestedOutput]:
    """An output that says how it was made beside one that is a number."""
    return [RequestedOutput(name, parameters or None) for name in ("price", "method")]


async def rest(base: str) -> dict[str, Any]:
    """InferenceRESTClient."""
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=1))

    async def infer(asked: InferRequest) -> Any:
        return await client.infer(base, asked, model_name=asked.model_name)

    document = {"inputs": [{"name": "spot", "shape": [1], "datatype": "FP64", "data": [100.0]}] + [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]} for name, value in OPTION.items()
    ]}  # fmt: skip
    try:
        return {
            "live": await client.is_server_live(base),
            "ready": await client.is_server_ready(base),
            "model_ready": await client.is_model_ready(base, MODEL),
            "other_ready": await client.is_model_ready(base, "other"),
            "plain": read(await infer(request())),
            "typed": read(await infer(request(as_bytes=False))),
            "chosen": read(await infer(request(request_outputs=wanted(binary_data=True)))),
            "exact": read(await infer(request(request_outputs=wanted(), parameters={"exact": True}))),
            "as_bytes": read(await infer(request(parameters={"binary_data_output": True}))),
            "id": (await infer(request(request_id="mine"))).id,
            "a_dict": read(await client.infer(base, document, model_name=MODEL)),
            "another_model": await refusal(infer(request("other"))),
            "missing": await refusal(infer(request(without="spot"))),
        }
    finally:
        await client.close()


async def rpc(address: str) -> dict[str, Any]:
    """InferenceGRPCClient."""
    logging.disable(logging.CRITICAL)  # it logs what it raises
    client = InferenceGRPCClient(address)
    try:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready(MODEL),
            "other_ready": await refusal(client.is_model_ready("other")),
            "plain": read(await client.infer(request())),
            "typed": read(await client.infer(request(as_bytes=False))),
            "chosen": read(await client.infer(request(request_outputs=wanted()))),
            "exact": read(await client.infer(request(request_outputs=wanted(), parameters={"exact": True}))),
            "id": (await client.infer(request(request_id="mine", model_version="2.0.0"))).id,
            "another_model": await refusal(client.infer(request("other"))),
            "missing": await refusal(client.infer(request(without="spot"))),
        }
    finally:
        await client.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run({"rest": rest, "grpc": rpc}[sys.argv[1]](sys.argv[2]))))
