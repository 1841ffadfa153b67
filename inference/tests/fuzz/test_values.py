"""Whatever a body says: an answer of finite numbers, or a refusal that names the field. Never 500, never silence."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .client import SHARE, Client, Got, finite
from .conftest import Target

ITEM: dict[str, Any] = {"spot": 100, "strike": 105, "maturity": 0.5, "rate": 0.03, "volatility": 0.2}
FIELDS = (*ITEM, "dividend_yield", "kind", "outputs", "exact")
DEPENDS = {"strike": "spot"}
"""A changed strike may put the spot, a multiple of it, out of range."""

NUMBERS = [
    "NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e999", "1e308", "1.7976931348623157e308", "5e-324", "4.9e-324", "2.2e-308",
    "1e-400", "-0.0", "-0", "0", "-1", "0.1e1", "1E+2", "01", "1.", ".5", "+1", "0x10", "1_000", "--1", "1e",
    "9" * 400, "-" + "9" * 400,
    "1" + "0" * 5000, "18446744073709551616", "9223372036854775808", "0." + "1" * 5000, "1e" + "9" * 30,
]  # fmt: skip
OTHERS = [
    "true", "false", "null", "True", "None", "undefined", '""', '"1"', '"NaN"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"',
    '"call"', '"' + "x" * 5000 + '"', "[]", "[1]", "[[1]]", "{}", '{"a":1}',
    "[" * 600 + "]" * 600, "'1'", "", " ", '"\\x"', '"\n"', '"\x00"',
]  # fmt: skip

once = settings(max_examples=SHARE, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def text(fields: dict[str, str]) -> str:
    """An object whose values are written as given, JSON or not."""
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields.items()) + "}"


def written(item: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in item.items()}


def proper(got: Got) -> Got:
    """What every answer to a body must be."""
    assert got.status in (200, 400, 413), got
    if got.status == 200:
        assert finite(got.json)
    else:
        assert got.sentence
    return got


def refused_by_name(got: Got, field: str) -> None:
    if got.status != 200:
        named = field in got.sentence or DEPENDS.get(field, field) in got.sentence
        assert named or "not JSON" in got.sentence, (field, got.sentence)


@pytest.fixture(scope="module")
def client(target: Target) -> Client:
    return Client(target.server.port)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", NUMBERS + OTHERS, ids=lambda value: repr(value[:24]))
def test_a_value_nobody_means_is_answered_or_refused_by_its_name(client: Client, field: str, value: str) -> None:
    body = text({**written(ITEM), field: value}).encode("utf-8", "surrogatepass")
    refused_by_name(proper(client.predict(body)), field)
    inside = f"[{text(written(ITEM))},{body.decode()}]".encode("utf-8", "surrogatepass")
    got = proper(client.predict(inside))
    refused_by_name(got, field)
    if got.status != 200 and "not JSON" not in got.sentence:
        assert "item 1" in got.sentence


@pytest.mark.parametrize("field", ITEM)
def test_a_missing_field_is_named(client: Client, field: str) -> None:
    got = client.predict(json.dumps({name: value for name, value in ITEM.items() if name != field}).encode())
    assert got.status == 400
    assert field in got.sentence


@pytest.mark.parametrize(
    "name",
    ["Spot", "spot ", "", "\x00", "\ud800", "__proto__", "constructor", "x" * 10_000, "é", "type", "self", "kind\n"],
)
def test_an_unknown_field_is_named_as_far_as_it_can_be_written(client: Client, name: str) -> None:
    got = client.predict(json.dumps({**ITEM, name: 1}).encode())
    assert got.status == 400
    assert (
        "not JSON" in got.sentence
        or name[:20].encode("unicode_escape").decode() in got.sentence
        or name[:20] in got.sentence
    )


ITEM_TEXT = json.dumps(ITEM)
DOCUMENTS: dict[str, bytes] = {
    "nothing": b"", "space": b" \n\t ", "null": b"null", "true": b"true", "number": b"1", "nan": b"NaN", "string": b'"spot"',
    "empty list": b"[]", "list of nothing": b"[null]", "list of lists": b"[[]]", "ragged": f"[{ITEM_TEXT},[1,2],{{}}]".encode(),
    "ragged objects": f'[{ITEM_TEXT},{{"spot":1}}]'.encode(), "columns": b'{"spot":[1,2],"strike":[1]}',
    "unclosed": b'{"spot":', "unclosed string": b'{"spot', "comma": b'{"spot":1,}', "two": b"{}{}", "comment": b"{}//",
    "deep list": b"[" * 100_000, "deep object": b'{"a":' * 50_000, "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "bom": b"\xef\xbb\xbf" + ITEM_TEXT.encode(), "utf-16": ITEM_TEXT.encode("utf-16"), "utf-32": ITEM_TEXT.encode("utf-32"),
    "latin-1": b'{"sp\xf6t":1}', "nul": b"\x00", "overlong": b'{"\xc0\xaf":1}', "surrogate bytes": b'{"\xed\xa0\x80":1}',
    "gzip": gzip.compress(ITEM_TEXT.encode()), "bomb": gzip.compress(b"\0" * 10_000_000), "form": b"spot=1&strike=2",
    "xml": b"<spot>1</spot>", "pickle": b"\x80\x04K\x01.", "many empties": b"[" + b"{}," * 60_000 + b"{}]",
    "many numbers": b"[" + b"1," * 200_000 + b"1]", "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(50_000)) + b"}",
    "large string": b'"' + b"x" * 1_000_000 + b'"', "large key": b'{"' + b"x" * 1_000_000 + b'":1}',
}  # fmt: skip


@pytest.mark.parametrize("body", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_that_is_no_question_is_refused_with_a_sentence(client: Client, body: bytes) -> None:
    got = proper(client.predict(body))
    assert got.status in (400, 413)
    assert len(got.sentence) < 1000


def test_of_a_field_given_twice_the_last_counts(client: Client) -> None:
    once, twice = text(written(ITEM)), text(written(ITEM))[:-1] + ',"spot":100}'
    wrong = '{"spot":"x",' + text(written(ITEM))[1:]
    answers = [client.predict(body.encode()) for body in (once, twice)]
    assert [got.status for got in answers] == [200, 200]
    assert answers[0].json["price"] == pytest.approx(answers[1].json["price"])
    refused_by_name(proper(client.predict(wrong.encode())), "spot")


def test_a_number_that_no_decoder_takes_is_named_behind_another_mistake(client: Client) -> None:
    """The typed decoder stops at the first mistake, and what then looks for a sentence reads all of it."""
    changes = {"spot": '"x"', "strike": "1" + "0" * 6000}
    got = proper(client.predict(text({**written(ITEM), **changes}).encode()))
    assert got.status == 400
    assert "strike" in got.sentence


BOMB = gzip.compress(gzip.compress(b"\0" * 100_000_000, 1))
"""100 MB in under a thousand bytes."""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x-anything"])
def test_a_compressed_bomb_is_never_inflated(client: Client, target: Target, encoding: str) -> None:
    before = target.server.resident_mib()
    got = client.send("POST", "/predict", BOMB, **{"content-encoding": encoding})
    assert got.status == 415
    assert "without compression" in got.sentence
    assert target.server.resident_mib() < before + 50


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
values = (
    st.sampled_from(NUMBERS + OTHERS)
    | st.floats().map(repr)
    | st.floats(0, 200).map(repr)
    | st.integers().map(str)
    | anything.map(json.dumps)
)


@once
@given(changes=st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=3))
def test_any_values_in_any_fields(client: Client, changes: dict[str, str]) -> None:
    got = proper(client.predict(text({**written(ITEM), **changes}).encode("utf-8", "surrogatepass")))
    if got.status != 200 and "not JSON" not in got.sentence:
        named = {*changes, *(DEPENDS[name] for name in changes if name in DEPENDS)}
        assert any(name in got.sentence for name in named), (named, got.sentence)


@once
@given(document=anything)
def test_any_document(client: Client, document: object) -> None:
    proper(client.predict(json.dumps(document).encode("utf-8", "surrogatepass")))


@once
@given(body=st.binary(max_size=300))
def test_any_bytes(client: Client, body: bytes) -> None:
    assert proper(client.predict(body)).status == 400


@once
@given(data=st.data(), body=st.just(f"[{ITEM_TEXT},{ITEM_TEXT}]".encode()))
def test_a_question_damaged_anywhere(client: Client, data: st.DataObject, body: bytes) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 8)))
    proper(client.predict(body[:start] + data.draw(st.binary(max_size=4)) + body[end:]))


inside = {
    "strike": st.floats(1e-3, 1e6),
    "maturity": st.floats(0.02, 2),
    "rate": st.floats(0, 0.1),
    "dividend_yield": st.floats(0, 0.1),
    "volatility": st.floats(0.05, 0.6),
    "kind": st.sampled_from(["call", "put"]),
}


@once
@given(item=st.fixed_dictionaries(inside), ratio=st.floats(0.501, 1.999), exact=st.booleans())
def test_any_question_inside_the_ranges_is_answered_within_the_bounds_of_arbitrage(
    client: Client, item: dict[str, Any], ratio: float, exact: bool
) -> None:
    got = client.predict(json.dumps({**item, "spot": ratio * item["strike"], "exact": exact}).encode())
    assert got.status == 200, got
    assert finite(got.json)
    assert -1e-5 * item["strike"] <= got.json["price"] <= 2.0 * item["strike"]
