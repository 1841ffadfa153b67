"""NVIDIA's tritonclient, as published: `triton.py http|http_aio|grpc|grpc_aio ADDRESS` does what users do, says what came.

Run by the environment of requirements/oip-clients.txt, in which there is nothing of ours.
"""

import asyncio
import importlib
import inspect
import json
import sys
from typing import Any

import numpy as np

MODEL = "black-scholes"
OPTION = {"strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
SPOTS = [100.0, 101.0, 102.0]


async def done(value: Any) -> Any:
    """The result of a call, whether the client is of asyncio or not."""
    return await value if inspect.isawaitable(value) else value


def inputs(client: Any, dtype: str = "FP64", **how: Any) -> list[Any]:
    """Three options that differ in their spot, one of them a call."""
    numbers = {"spot": SPOTS, **{name: [value] * 3 for name, value in OPTION.items()}}
    found = []
    for name, values in numbers.items():
        found.append(client.InferInput(name, [3], dtype))
        found[-1].set_data_from_numpy(np.array(values, client_types(dtype)), **how)
    found.append(client.InferInput("kind", [3], "BYTES"))
    found[-1].set_data_from_numpy(np.array([b"put", b"put", b"call"], np.object_), **how)
    return found


def client_types(dtype: str) -> Any:
    return {"FP64": np.float64, "FP32": np.float32}[dtype]


def read(result: Any, *names: str) -> dict[str, Any]:
    """Outputs as lists."""
    found = {}
    for name in names:
        values = result.as_numpy(name).tolist()
        found[name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return found


async def refusal(asked: Any) -> dict[str, str]:
    """How the client reports what the server refuses."""
    from tritonclient.utils import InferenceServerException  # type: ignore[import-not-found]  # only where this runs

    try:
        await done(asked())
    except InferenceServerException as error:
        return {"status": str(error.status()), "message": str(error.message())}
    raise AssertionError("it was answered")


async def common(module: Any, client: Any, rpc: bool) -> dict[str, Any]:
    """What all four have."""
    as_dict = {"as_json": True} if rpc else {}
    probe = {"headers": {"pinn-source": "probe"}}
    wanted = [module.InferRequestedOutput(name) for name in ("price", "method", "error_bound.price")]
    chosen = await done(client.infer(MODEL, inputs(module), outputs=wanted, request_id="mine", **probe))
    plain = await done(client.infer(MODEL, inputs(module), model_version="2.0.0"))
    single = await done(client.infer(MODEL, inputs(module, "FP32")))
    exact = await done(client.infer(MODEL, inputs(module), outputs=wanted, parameters={"exact": True}))
    wrong = inputs(module)
    wrong[0] = module.InferInput("spot", [3], "BYTES")
    wrong[0].set_data_from_numpy(np.array([b"x"] * 3, np.object_))
    return {
        "live": await done(client.is_server_live()),
        "ready": await done(client.is_server_ready()),
        "model_ready": await done(client.is_model_ready(MODEL)),
        "version_ready": await done(client.is_model_ready(MODEL, "2.0.0")),
        "server": await done(client.get_server_metadata(**as_dict)),
        "model": await done(client.get_model_metadata(MODEL, **as_dict)),
        "plain": read(plain, "price", "delta", "rho"),
        "single": read(single, "price"),
        "chosen": read(chosen, "price", "method", "error_bound.price"),
        "id": chosen.get_response(**as_dict)["id"],
        "exact": read(exact, "price", "method"),
        "another_model": await refusal(lambda: client.infer("other", inputs(module))),
        "another_version": await refusal(lambda: client.get_model_metadata(MODEL, "9")),
        "wrong_datatype": await refusal(lambda: client.infer(MODEL, wrong)),
        "missing": await refusal(lambda: client.infer(MODEL, inputs(module)[1:])),
        "another_output": await refusal(
            lambda: client.infer(MODEL, inputs(module), outputs=[module.InferRequestedOutput("vanna")])
        ),
        "config": await refusal(lambda: client.get_model_config(MODEL)),
    }


async def http_only(module: Any, client: Any) -> dict[str, Any]:
    """Tensors as JSON one way and as bytes the other; and compression."""
    in_json = [module.InferRequestedOutput(name, binary_data=False) for name in ("price", "method")]
    mixed = [module.InferRequestedOutput(name, binary_data=name == "price") for name in ("price", "method")]
    packed = {"request_compression_algorithm": "gzip"}
    everything = await done(client.infer(MODEL, inputs(module, binary_data=False), outputs=in_json))
    nothing = await done(client.infer(MODEL, inputs(module, binary_data=True), outputs=in_json))
    some = await done(client.infer(MODEL, inputs(module, binary_data=False), outputs=mixed))
    unpacked = await done(client.infer(MODEL, inputs(module), response_compression_algorithm="gzip"))
    return {
        "json_to_json": read(everything, "price", "method"),
        "bytes_to_json": read(nothing, "price", "method"),
        "json_to_both": read(some, "price", "method"),
        "answer_may_be_packed": read(unpacked, "price"),
        "packed": await refusal(lambda: client.infer(MODEL, inputs(module), **packed)),
    }


async def main(kind: str, address: str) -> dict[str, Any]:
    """All of it."""
    module = importlib.import_module({"http_aio": "tritonclient.http.aio", "grpc_aio": "tritonclient.grpc.aio"}.get(
        kind, f"tritonclient.{kind}"))  # fmt: skip
    client, rpc = module.InferenceServerClient(address), kind.startswith("grpc")
    try:
        found = await common(module, client, rpc)
        return found if rpc else {**found, **await http_only(module, client)}
    finally:
        await done(client.close())


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
