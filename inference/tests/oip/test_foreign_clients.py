"""Clients that we did not write, as they are published, against a server process."""

from typing import Any

import pytest
from pinn_inference.oip import messages

from ..process import ServerProcess  # noqa: TID252 - the tests are no package with a name of its own
from .asked import MODEL, OUTPUTS
from .environment import said

OPTION = {"strike": 105.0, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
ITEMS = [{**OPTION, "spot": spot, "kind": kind} for spot, kind in ((100.0, "put"), (101.0, "put"), (102.0, "call"))]
HERE = "this server has 'black-scholes' version '2.0.0'"
NO_MODEL, NO_VERSION = f"there is no model 'other' here; {HERE}", f"there is no version '9' here; {HERE}"
STATUS = {
    "http": {"bad": "400", "gone": "404", "config": "404"},
    "grpc": {
        "bad": "StatusCode.INVALID_ARGUMENT",
        "gone": "StatusCode.NOT_FOUND",
        "config": "StatusCode.UNIMPLEMENTED",
    },
}


@pytest.fixture(scope="module")
def expected(both: ServerProcess) -> dict[str, list[float]]:
    """What /predict answers, by output."""
    with both.client() as client:
        answers = client.post("/predict", json=ITEMS).json()
    return {name: [answer[name] for answer in answers] for name in OUTPUTS}


@pytest.fixture(scope="module")
def exact(both: ServerProcess) -> list[float]:
    """The same prices past the cache."""
    with both.client() as client:
        return [client.post("/predict", json={**item, "exact": True}).json()["price"] for item in ITEMS]


def reached(both: ServerProcess, kind: str) -> str:
    return str(both.log[-1]["grpc"]) if kind.startswith("grpc") else both.url.removeprefix("http://")


def close(values: list[float]) -> Any:
    """One alone and one among others may be evaluated by different instructions."""
    return pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("kind", ["http", "http_aio", "grpc", "grpc_aio"])
def test_tritonclient(both: ServerProcess, expected: dict[str, list[float]], exact: list[float], kind: str) -> None:
    found = said("triton.py", kind, reached(both, kind))
    status = STATUS[kind.removesuffix("_aio")]
    assert [found[key] for key in ("live", "ready", "model_ready", "version_ready")] == [True] * 4
    assert found["plain"] == {name: close(expected[name]) for name in ("price", "delta", "rho")}
    assert found["single"] == {"price": pytest.approx(expected["price"], abs=1e-5)}  # single precision
    assert found["chosen"]["price"] == close(expected["price"])
    assert set(found["chosen"]["method"]) <= {"model", "cache"}
    assert all(0 < bound < 1e-5 for bound in found["chosen"]["error_bound.price"])
    assert found["id"] == "mine"
    assert found["exact"] == {"price": close(exact), "method": ["model"] * 3}
    assert found["another_model"] == {"status": status["gone"], "message": NO_MODEL}
    assert found["another_version"] == {"status": status["gone"], "message": NO_VERSION}
    for key, words in (
        ("wrong_datatype", "spot has the datatype 'BYTES'"),
        ("missing", "spot is missing"),
        ("another_output", "'vanna' is no output of black-scholes"),
    ):
        assert found[key]["status"] == status["bad"]
        assert words in found[key]["message"]
    assert found["config"]["status"] == status["config"]


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritonclient_reads_what_the_server_says_of_itself(both: ServerProcess, kind: str) -> None:
    found = said("triton.py", kind, reached(both, kind))
    with both.client() as client:
        server, model = client.get("/v2").json(), client.get(MODEL).json()
    assert {**server, **found["server"]} == server
    theirs = found["model"]
    for tensor in (*theirs["inputs"], *theirs["outputs"]):
        tensor["shape"] = [int(size) for size in tensor["shape"]]  # protobuf's JSON writes 64 bits as text
    assert theirs == model


@pytest.mark.parametrize("kind", ["http", "http_aio"])
def test_tritonclient_sends_and_reads_json_and_bytes_as_it_is_told(
    both: ServerProcess, expected: dict[str, list[float]], kind: str
) -> None:
    found = said("triton.py", kind, reached(both, kind))
    for key in ("json_to_json", "bytes_to_json", "json_to_both"):
        assert found[key]["price"] == close(expected["price"])
        assert len(found[key]["method"]) == 3
    assert found["answer_may_be_packed"]["price"] == close(expected["price"])
    assert found["packed"]["status"] == "415"


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_kserve(both: ServerProcess, expected: dict[str, list[float]], exact: list[float], kind: str) -> None:
    found = said("kserve_clients.py", kind, reached(both, kind) if kind == "grpc" else both.url)
    status = STATUS["grpc" if kind == "grpc" else "http"]
    assert [found[key] for key in ("live", "ready", "model_ready")] == [True] * 3
    for key in ("plain", "typed"):
        assert found[key] == {name: close(expected[name]) for name in OUTPUTS}
    assert found["chosen"]["price"] == close(expected["price"])
    assert set(found["chosen"]["method"]) <= {"model", "cache"}
    assert found["exact"] == {"price": close(exact), "method": ["model"] * 3}
    assert found["id"] == "mine"
    assert (found["another_model"]["status"], found["missing"]["status"]) == (status["gone"], status["bad"])
    assert NO_MODEL in found["another_model"]["message"]
    assert "spot is missing" in found["missing"]["message"]


def test_kserve_over_http_reads_bytes_and_takes_a_plain_dict(
    both: ServerProcess, expected: dict[str, list[float]]
) -> None:
    found = said("kserve_clients.py", "rest", both.url)
    assert found["other_ready"] is False
    assert found["as_bytes"] == {name: close(expected[name]) for name in OUTPUTS}
    assert len(found["a_dict"]["price"]) == 1


def test_kserve_over_grpc_is_told_that_another_model_is_not_here(both: ServerProcess) -> None:
    found = said("kserve_clients.py", "grpc", reached(both, "grpc"))
    assert found["other_ready"] == {"status": STATUS["grpc"]["gone"], "message": NO_MODEL}


@pytest.mark.parametrize("package", ["triton", "kserve"])
def test_our_messages_have_the_numbers_of_theirs(package: str) -> None:
    """Every field, in name, number and type; KServe's parameters lack two kinds that the protocol and Triton's have."""
    theirs = said("field_numbers.py", package)
    ours = {name: fields for kind in _all() for name, fields in _fields(kind.DESCRIPTOR).items()}
    assert len(ours) == 23
    for message, fields in ours.items():
        lacking = {"double_param", "uint64_param"} if (package, message) == ("kserve", PARAMETER) else set()
        mine = {name: found for name, found in fields.items() if name not in lacking}
        assert mine == {name: theirs[message].get(name) for name in mine}, message


PARAMETER = "inference.InferParameter"


def _all() -> list[Any]:
    return [each for name, each in vars(messages).items() if name.endswith(("Request", "Response"))]


def _fields(message: Any) -> dict[str, Any]:
    """Of a message and of all that it is made of."""
    own = {f.name: [f.number, f.message_type.full_name if f.message_type else f.type] for f in message.fields}
    found = {message.full_name: own}
    for field in message.fields:
        if field.message_type:
            found.update(_fields(field.message_type))
    return found
