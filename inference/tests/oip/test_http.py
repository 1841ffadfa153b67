"""The protocol over HTTP, corner by corner, JSON in and out."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ..process import ServerProcess  # noqa: TID252 - the tests are no package with a name of its own
from .asked import INFER, MODEL, OPTION, OUTPUTS, PRICE, column, inputs, request, tensor

Json = dict[str, Any]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def infer(client: httpx.Client, document: Json, status: int = 200, path: str = INFER) -> Json:
    answer = client.post(path, json=document)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def refused(client: httpx.Client, document: Json, status: int = 400) -> str:
    found = infer(client, document, status)
    assert list(found) == ["error"]
    return str(found["error"])


def test_the_server_and_its_model_describe_themselves(client: httpx.Client) -> None:
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("pinn-server", ["binary_tensor_data"])
    assert server["version"]
    model = client.get(MODEL).json()
    assert {key: model[key] for key in ("name", "versions", "platform")} == {
        "name": "black-scholes", "versions": ["2.0.0"], "platform": "pinn_litert",
    }  # fmt: skip
    kinds = {each["name"]: (each["datatype"], each["shape"]) for each in model["inputs"]}
    assert kinds == {**dict.fromkeys([*OPTION, "dividend_yield"], ("FP64", [-1])), "kind": ("BYTES", [-1])}
    assert model["outputs"] == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in OUTPUTS]


@pytest.mark.parametrize("base", [MODEL, f"{MODEL}/versions/2.0.0", "/v2/models/black%2Dscholes"])
def test_the_model_is_found_with_and_without_its_version(client: httpx.Client, base: str) -> None:
    assert client.get(base).json()["name"] == "black-scholes"
    assert client.get(f"{base}/ready").json() == {"name": "black-scholes", "ready": True}
    assert infer(client, request(), path=f"{base}/infer")["model_version"] == "2.0.0"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/other", "there is no model 'other' here; this server has 'black-scholes' version '2.0.0'"),
        ("/v2/models/other/ready", "'other'"),
        ("/v2/models/", "there is no model ''"),
        (f"{MODEL}/versions/9", "there is no version '9' here; this server has 'black-scholes' version '2.0.0'"),
        (f"{MODEL}/versions/9/ready", "'9'"),
        (f"{MODEL}/versions/9/infer", "'9'"),
        (f"{MODEL}/config", f"{MODEL}/config"),
    ],
)
def test_another_model_or_version_is_said_not_to_be_here(client: httpx.Client, path: str, words: str) -> None:
    for answer in (client.get(path), client.post(path, json=request())):
        assert answer.status_code == 404
        assert words in answer.json()["error"]


def test_an_option_is_priced_and_the_answer_says_how(client: httpx.Client) -> None:
    document = request(spot=[97.53])
    found = infer(client, {**document, "id": "a question"})
    assert {key: found[key] for key in ("model_name", "model_version", "id", "parameters")} == {
        "model_name": "black-scholes", "model_version": "2.0.0", "id": "a question",
        "parameters": {"method": "model", "engine": "litert"},
    }  # fmt: skip
    assert [(o["name"], o["datatype"], o["shape"]) for o in found["outputs"]] == [(n, "FP64", [1]) for n in OUTPUTS]
    plain = client.post("/predict", json={**OPTION, "spot": 97.53}).json()
    assert {name: column(found, name) for name in OUTPUTS} == {name: [plain[name]] for name in OUTPUTS}
    again = infer(client, document)
    assert again["parameters"]["method"] == "cache"
    assert "id" not in again


def test_many_are_answered_in_their_order_and_each_as_alone(client: httpx.Client) -> None:
    spots = [80 + i / 10 for i in range(600)]
    prices = column(infer(client, request(600, ["price"], spot=spots)), "price")
    assert prices == sorted(prices, reverse=True)
    alone = infer(client, request(spot=[spots[417]]))
    assert column(alone, "price") == pytest.approx([prices[417]], abs=1e-4)


def test_outputs_are_those_asked_for_in_that_order(client: httpx.Client) -> None:
    assert [o["name"] for o in infer(client, request(outputs=["rho", "price"]))["outputs"]] == ["rho", "price"]
    assert [o["name"] for o in infer(client, request(outputs=[]))["outputs"]] == OUTPUTS


def test_each_item_says_how_it_was_made_and_how_wrong_it_can_be(client: httpx.Client) -> None:
    """The second is outside the trained range, where the reference solver answers."""
    wanted = ["method", "engine", "reason", "error_bound.price"]
    found = infer(client, request(2, wanted, volatility=[0.2, 0.9]))
    assert {name: column(found, name) for name in wanted[1:3]} == {
        "engine": ["litert", "reference"], "reason": ["", "out_of_domain"],
    }  # fmt: skip
    assert column(found, "method")[1] == "solver"
    assert all(0 < bound < 1e-5 for bound in column(found, "error_bound.price"))
    assert found["parameters"] == {"method": "solver", "engine": "reference", "reason": "out_of_domain"}
    assert [o["datatype"] for o in found["outputs"]] == ["BYTES", "BYTES", "BYTES", "FP64"]


def test_exact_goes_past_the_cache(client: httpx.Client) -> None:
    document = request(outputs=["price", "method"])
    infer(client, document)
    exact = infer(client, {**document, "parameters": {"exact": True}})
    assert column(exact, "method") == ["model"]
    assert column(exact, "price") == client_price(client, exact=True)


def client_price(client: httpx.Client, **wishes: Any) -> list[float]:
    return [client.post("/predict", json={**OPTION, **wishes}).json()["price"]]


def test_what_is_absent_has_its_default(client: httpx.Client) -> None:
    call = column(infer(client, request(kind=None)), "price")
    assert call == column(infer(client, request(kind=["call"], dividend_yield=[0.0])), "price")
    assert call != column(infer(client, request()), "price")


NUMBERS = ["FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8"]


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_a_number_may_be_of_any_datatype_of_numbers(client: httpx.Client, datatype: str, shape: list[int]) -> None:
    data: list[Any] = [100, 101] if len(shape) == 1 else [[100], [101]]
    found = infer(client, request(2, ["price"], spot=tensor("spot", data, datatype, shape)))
    assert found["outputs"][0]["shape"] == [2]
    assert column(found, "price") == column(infer(client, request(2, ["price"], spot=[100.0, 101.0])), "price")


def test_of_a_column_the_elements_may_stand_one_after_the_other_too(client: httpx.Client) -> None:
    found = infer(client, request(2, ["price"], spot=tensor("spot", [100, 101], "FP64", [2, 1])))
    assert len(column(found, "price")) == 2


def test_the_fp32_nearest_to_the_end_of_a_range_is_that_end(client: httpx.Client) -> None:
    """A caller with single precision who asks about a rate of 10 % means the end of the range, not a little beyond it."""
    beyond = 0.10000000149011612
    for datatype, method in (("FP32", "model"), ("FP64", "solver")):
        document = request(outputs=["method"], rate=tensor("rate", [beyond], datatype))
        assert column(infer(client, {**document, "parameters": {"exact": True}}), "method") == [method]


def test_parameters_that_this_server_does_not_know_change_nothing(client: httpx.Client) -> None:
    document = request(outputs=["price"])
    more = {**document, "parameters": {"priority": 3, "timeout": 10, "my_own": "x"}, "my_own": [1]}
    assert column(infer(client, more), "price") == column(infer(client, document), "price")


CHANGED: dict[str, tuple[Any, str]] = {
    "missing": (None, "spot is missing"),
    "a string": (tensor("spot", ["100"], "FP64"), "spot[0]"),
    "null": (tensor("spot", [None], "FP64"), "spot[0]"),
    "a boolean": (tensor("spot", [True], "FP64"), "spot[0]"),
    "an object": ({"name": "spot", "datatype": "FP64", "shape": [1], "data": {}}, "spot"),
    "not a list": ({"name": "spot", "datatype": "FP64", "shape": [1], "data": 100.0}, "spot"),
    "infinite": (tensor("spot", [10**400], "FP64"), "spot"),
    "BYTES": (tensor("spot", ["100"], "BYTES"), "spot has the datatype 'BYTES'"),
    "BOOL": (tensor("spot", [True], "BOOL"), "spot has the datatype 'BOOL'; send FP64"),
    "no datatype": (tensor("spot", [100.0], "float"), "'float'"),
    "a fraction for an integer": (tensor("spot", [100.5], "INT32"), "spot[0]"),
    "an integer too large": (tensor("spot", [300], "UINT8"), "outside UINT8, 0 to 255"),
    "an integer too small": (tensor("spot", [-1], "UINT64"), "outside UINT64"),
    "none": (tensor("spot", [100.0], "FP64", [0]), "shape [0]"),
    "fewer than none": (tensor("spot", [100.0], "FP64", [-1]), "shape [-1]"),
    "a scalar": ({"name": "spot", "datatype": "FP64", "shape": [], "data": [1]}, "shape []"),
    "a row": (tensor("spot", [100.0], "FP64", [1, 2]), "shape [1, 2]"),
    "a cube": (tensor("spot", [100.0], "FP64", [1, 1, 1]), "shape [1, 1, 1]"),
    "more axes than anybody has": (tensor("spot", [100.0], "FP64", [1] * 99), "[1, 1, 1, 1, 1, 1, 1, 1, ...]"),
    "too few elements": ({"name": "spot", "datatype": "FP64", "shape": [1], "data": []}, "spot has 0 elements"),
    "too many elements": (tensor("spot", [100.0, 101.0], "FP64", [1]), "spot has 2 elements"),
    "another length": (tensor("spot", [100.0, 101.0]), "all tensors must be of one length"),
    "in a list where it is none": (tensor("spot", [[100.0]], "FP64", [1]), "spot[0]"),
    "too deep": (tensor("spot", [[[100.0]]], "FP64", [1, 1]), "spot[0]"),
    "two in a row of one": (tensor("spot", [[100.0, 1.0]], "FP64", [1, 1]), "spot[0]"),
    "no data": ({"name": "spot", "datatype": "FP64", "shape": [1]}, "spot has neither data nor binary_data_size"),
    "no shape": ({"name": "spot", "datatype": "FP64", "data": [1.0]}, "shape"),
    "a shape of fractions": ({"name": "spot", "datatype": "FP64", "shape": [0.5], "data": [1.0]}, "shape"),
    "bytes that are not there": (
        {"name": "spot", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}, "spot states 8 bytes",
    ),
    "memory of its own": (
        {**tensor("spot", [1.0]), "parameters": {"shared_memory_region": "x"}}, "shared_memory_region",
    ),
    "out of every range": (tensor("spot", [-1.0]), "spot is -1.0"),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "words"), CHANGED.values(), ids=CHANGED.keys())
def test_a_tensor_that_cannot_be_read_is_refused_by_its_name(client: httpx.Client, changed: Any, words: str) -> None:
    assert words in refused(client, request(spot=changed))


KINDS: dict[str, tuple[Any, str]] = {
    "another": (tensor("kind", ["straddle"]), 'kind: element 0 is \'straddle\'; it must be "call" or "put"'),
    "a number": (tensor("kind", [1], "BYTES"), "kind[0]"),
    "as a number": (tensor("kind", [1], "FP64"), "kind has the datatype 'FP64'; send BYTES"),
    "two": (tensor("kind", ["call", "put"], "BYTES", [1]), "kind has 2 elements"),
}


@pytest.mark.parametrize(("changed", "words"), KINDS.values(), ids=KINDS.keys())
def test_a_choice_that_is_none_is_refused_by_its_name(client: httpx.Client, changed: Any, words: str) -> None:
    assert words in refused(client, request(kind=changed))


DOCUMENTS: dict[str, tuple[Json, str]] = {
    "nothing": ({}, "inputs"),
    "no inputs": ({"inputs": []}, "inputs is empty"),
    "inputs that are none": ({"inputs": {}}, "inputs"),
    "an input without a name": ({"inputs": [{"datatype": "FP64", "shape": [1], "data": [1]}]}, "name"),
    "an input twice": ({"inputs": [*inputs(), *inputs()[:1]]}, "spot is given more than once"),
    "an input of another": ({"inputs": [*inputs(), tensor("skew", [1.0])]}, "'skew' is no input of black-scholes"),
    "an input of no name": ({"inputs": [*inputs(), tensor("", [1.0])]}, "'' is no input of black-scholes"),
    "an output of no name": (request(outputs=[""]), "'' is no output of black-scholes"),
    "an output of another": (request(outputs=["vanna"]), "'vanna' is no output of black-scholes; there are price"),
    "an output twice": (request(outputs=["price", "price"]), "price is asked for more than once"),
    "an output without a name": ({**request(), "outputs": [{}]}, "name"),
    "classes": ({**request(), "outputs": [{"name": "price", "parameters": {"classification": 3}}]}, "classification"),
    "an id that is none": ({**request(), "id": 7}, "id"),
    "parameters that are none": ({**request(), "parameters": 7}, "parameters"),
    "exact that is none": ({**request(), "parameters": {"exact": 1}}, "exact must be true or false"),
    "binary that is none": ({**request(), "parameters": {"binary_data_output": "x"}}, "binary_data_output must be"),
    "one bad item": (request(3, spot=[100.0, 100.0, -1.0]), "item 2: spot is -1.0"),
    "one bad choice": (request(3, kind=["put", "put", "x"]), "kind: element 2 is 'x'"),
}


@pytest.mark.parametrize(("document", "words"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_request_that_cannot_be_answered_is_refused_with_the_reason(
    client: httpx.Client, document: Json, words: str
) -> None:
    assert words in refused(client, document)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"inputs":[{"data":[NaN]}]}', b"\xff", b"[" * 5000])
def test_a_body_that_is_no_request_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post(INFER, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_limits_are_those_of_predict(client: httpx.Client) -> None:
    assert "10001 items; at most 10000" in refused(client, request(10_001), 413)
    assert client.post(INFER, content=b" " * (4 * 1024 * 1024 + 1)).status_code == 413
    assert client.post(INFER, content=b"x", headers={"content-encoding": "gzip"}).status_code == 415
    assert client.get(INFER).headers["allow"] == "POST, OPTIONS"


def test_one_call_is_one_event_however_many_items_it_carries(server: ServerProcess, client: httpx.Client) -> None:
    def counted() -> list[float]:
        metrics = server.metrics()
        calls = [("ok", "live"), ("refused", "live"), ("error", "live"), ("ok", "probe")]
        names = [f'pinn_requests_total{{outcome="{outcome}",source="{source}"}}' for outcome, source in calls]
        items = [f'pinn_predictions_total{{method="{method}",source="live"}}' for method in ("cache", "model")]
        return [*(metrics[name] for name in names), sum(metrics[name] for name in items)]

    before = counted()
    infer(client, request(300))
    refused(client, request(spot=None))
    client.post(INFER, json=request(), headers={"pinn-source": "probe"})
    infer(client, request(), 404, "/v2/models/other/infer")
    assert [after - b for after, b in zip(counted(), before, strict=True)] == [1, 1, 0, 1, 300]


def test_an_overloaded_server_says_when_to_come_back() -> None:
    """Both ways in have one set of limits: with it taken by a list, the other is told to wait."""
    import threading

    with ServerProcess.started(concurrency="1", queue="0", timeout="20s") as server:
        with server.client() as busy, server.client() as other:
            done = threading.Event()

            def keep() -> None:
                while not done.is_set():
                    assert busy.post("/predict", json=[OPTION] * 10_000).status_code in (200, 429)

            thread = threading.Thread(target=keep)
            thread.start()
            try:
                answers = (other.post(INFER, json=request()) for _ in range(2000))
                late = next(answer for answer in answers if answer.status_code == 429)
            finally:
                done.set()
                thread.join()
        assert late.headers["retry-after"] == "1"
        assert "busy" in late.json()["error"]


def test_a_server_that_drains_says_that_its_model_is_not_ready() -> None:
    with ServerProcess.started(drain="30s") as server, server.client() as client:
        server.terminate()
        statuses = (client.get(f"{MODEL}/ready") for _ in range(500))
        answer = next(each for each in statuses if each.status_code != 200)
        assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert column(infer(client, request()), "price") == pytest.approx([PRICE], abs=1e-4)
