"""Tensors as bytes behind the JSON: what is read, what is written, and every length that is not true."""

import struct
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from ..process import ServerProcess  # noqa: TID252 - the tests are no package with a name of its own
from .asked import CODES, HEADER, INFER, OUTPUTS, binary, column, request, tensor

Json = dict[str, Any]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


def post(client: httpx.Client, text: bytes, behind: bytes = b"", stated: object = None) -> httpx.Response:
    headers = {HEADER: str(len(text) if stated is None else stated)}
    return client.post(INFER, content=text + behind, headers=headers)


def read(answer: httpx.Response) -> tuple[Json, dict[str, list[Any]]]:
    """The JSON of an answer, and the outputs that lie behind it, all of it used up."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers[HEADER])
    found: Json = msgspec.json.decode(answer.content[:length])
    at, columns = length, {}
    for output in found["outputs"]:
        if size := output.get("parameters", {}).get("binary_data_size"):
            columns[output["name"]] = elements(output["datatype"], answer.content[at : at + size])
            at += size
    assert at == len(answer.content)
    return found, columns


def elements(datatype: str, content: bytes) -> list[Any]:
    if datatype == "FP64":
        return list(np.frombuffer(content, "<f8"))
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return found


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 400, answer.text
    found = answer.json()
    assert list(found) == ["error"]
    return str(found["error"])


def plain(client: httpx.Client, document: Json) -> Json:
    found: Json = client.post(INFER, json=document).json()
    return found


@pytest.mark.parametrize("names", [(), ("kind",), ("spot", "rate"), ("kind", "volatility")])
def test_inputs_may_come_as_bytes_all_or_some(client: httpx.Client, names: tuple[str, ...]) -> None:
    document = request(3, ["price"], spot=[100.0, 101.0, 102.0], kind=["call", "put", "call"])
    answer = post(client, *binary(document, *names))
    assert answer.headers["content-type"] == "application/json"
    assert HEADER not in answer.headers
    assert column(answer.json(), "price") == column(plain(client, document), "price")


@pytest.mark.parametrize("datatype", CODES)
def test_bytes_are_read_in_every_datatype(client: httpx.Client, datatype: str) -> None:
    spots = tensor("spot", [100, 101], datatype)
    answer = post(client, *binary(request(2, ["price"], spot=spots)))
    assert column(answer.json(), "price") == column(plain(client, request(2, ["price"], spot=[100.0, 101.0])), "price")


def test_outputs_come_as_bytes_when_the_request_says_so(client: httpx.Client) -> None:
    document = request(3, spot=[100.0, 101.0, 102.0])
    answer = client.post(INFER, json={**document, "parameters": {"binary_data_output": True}})
    found, columns = read(answer)
    assert answer.headers["content-type"] == "application/octet-stream"
    expected = plain(client, document)
    assert columns == {name: column(expected, name) for name in OUTPUTS}
    assert found["outputs"][0] == {
        "name": "price", "datatype": "FP64", "shape": [3], "parameters": {"binary_data_size": 24},
    }  # fmt: skip


def test_an_output_says_for_itself_whether_it_comes_as_bytes(client: httpx.Client) -> None:
    wanted = [("delta", True), ("method", True), ("price", False), ("reason", None), ("rho", None)]
    outputs = [{"name": n, **({} if b is None else {"parameters": {"binary_data": b}})} for n, b in wanted]
    document = {**request(2, volatility=[0.2, 0.9]), "outputs": outputs}
    _, some = read(client.post(INFER, json=document))
    assert list(some) == ["delta", "method"]
    found, most = read(client.post(INFER, json={**document, "parameters": {"binary_data_output": True}}))
    assert list(most) == ["delta", "method", "reason", "rho"]
    assert most["reason"] == ["", "out_of_domain"]
    assert len(column(found | {"outputs": found["outputs"][2:3]}, "price")) == 2


def test_ten_thousand_options_go_there_and_back_as_bytes(client: httpx.Client) -> None:
    document = {**request(10_000, spot=list(np.linspace(60, 200, 10_000))), "parameters": {"binary_data_output": True}}
    _, columns = read(post(client, *binary(document)))
    assert len(columns["price"]) == 10_000
    assert columns["price"] == sorted(columns["price"], reverse=True)


TEXT, BEHIND = binary(request(2))
STATED: dict[str, tuple[object, str]] = {
    "a word": ("many", "'many'"), "nothing": ("", "''"), "a fraction": ("1.5", "'1.5'"), "below nothing": ("-1", "'-1'"),
    "a sign": ("+5", "'+5'"), "more than there is": (len(TEXT + BEHIND) + 1, f"of {len(TEXT + BEHIND)} in the body"),
    "more than a number has": ("9" * 30, "'999"), "no ASCII": ("١", "'Ù¡'"),
    "nothing at all": (0, "not JSON"), "one too few": (len(TEXT) - 1, "not JSON"), "one too many": (len(TEXT) + 1, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("stated", "words"), STATED.values(), ids=STATED.keys())
def test_a_length_of_the_json_that_is_not_true_is_refused(client: httpx.Client, stated: object, words: str) -> None:
    headers = [(HEADER.encode(), str(stated).encode())]
    assert words in refused(client.post(INFER, content=TEXT + BEHIND, headers=headers))


def test_bytes_without_a_stated_length_are_no_json(client: httpx.Client) -> None:
    assert "not JSON" in refused(client.post(INFER, content=TEXT + BEHIND))


def test_a_body_that_ends_early_or_late_is_refused(client: httpx.Client) -> None:
    assert "kind states 14 bytes, and 13 are left" in refused(post(client, TEXT, BEHIND[:-1]))
    assert "1 bytes behind the JSON belong to no tensor" in refused(post(client, TEXT, BEHIND + b"x"))
    assert "spot states 16 bytes, and 0 are left" in refused(post(client, TEXT))


def sized(size: object, **more: Any) -> bytes:
    """A request whose spot states so many bytes."""
    spot = {"name": "spot", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": size}, **more}
    return msgspec.json.encode(request(spot=spot))


SIZES: dict[str, tuple[object, bytes, str]] = {
    "below nothing": (-8, b"x" * 8, "binary_data_size of spot must be a number of bytes"),
    "a fraction": (8.0, b"x" * 8, "binary_data_size of spot"),
    "a word": ("8", b"x" * 8, "binary_data_size of spot"),
    "true": (True, b"x", "binary_data_size of spot"),
    "a list": ([8], b"x" * 8, "binary_data_size of spot"),
    "more than there is": (2**62, b"x" * 8, "spot states 4611686018427387904 bytes, and 8 are left"),
    "half a number": (4, b"x" * 4, "spot has 4 bytes; 1 of FP64 are 8"),
    "two for one": (16, b"x" * 16, "spot has 16 bytes; 1 of FP64 are 8"),
    "nothing": (0, b"", "spot has 0 bytes; 1 of FP64 are 8"),
    "not a number": (8, struct.pack("<d", float("nan")), "spot is nan, which is not finite"),
    "infinite": (8, struct.pack("<d", float("inf")), "spot is inf, which is not finite"),
}


@pytest.mark.parametrize(("size", "behind", "words"), SIZES.values(), ids=SIZES.keys())
def test_a_size_that_is_not_true_is_refused_by_its_tensor(
    client: httpx.Client, size: object, behind: bytes, words: str
) -> None:
    assert words in refused(post(client, sized(size), behind))


def test_data_and_bytes_at_once_are_refused(client: httpx.Client) -> None:
    assert "both data and binary_data_size" in refused(post(client, sized(8, data=[1.0]), b"x" * 8))


CHOICES: dict[str, tuple[bytes, str]] = {
    "half a length": (b"\x03\x00", "kind ends within the length of element 0"),
    "half an element": (b"\x03\x00\x00\x00pu", "kind: element 0 states 3 bytes, and 2 are left"),
    "a length beyond everything": (b"\xff\xff\xff\xffput", "kind: element 0 states 4294967295 bytes, and 3 are left"),
    "a length that is big-endian": (b"\x00\x00\x00\x03put", "kind: element 0 states 50331648 bytes"),
    "one more": (b"\x03\x00\x00\x00put" * 2, "kind has 2 elements; its shape is [1]"),
    "half of one more": (b"\x03\x00\x00\x00put\x03", "kind ends within the length of element 1"),
    "none": (b"", "kind has 0 elements"),
    "an empty one": (b"\x00\x00\x00\x00", "kind: element 0 is ''"),
    "no text": (b"\x01\x00\x00\x00\xff", "kind has an element that is no UTF-8 text"),
    "a surrogate": (b"\x03\x00\x00\x00\xed\xa0\x80", "no UTF-8 text"),
    "the word with its end": (b"\x04\x00\x00\x00put\x00", "kind: element 0 is 'put\\x00'"),
}


@pytest.mark.parametrize(("behind", "words"), CHOICES.values(), ids=CHOICES.keys())
def test_strings_that_are_not_as_they_say_are_refused(client: httpx.Client, behind: bytes, words: str) -> None:
    kind = {"name": "kind", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(behind)}}
    assert words in refused(post(client, msgspec.json.encode(request(kind=kind)), behind))
