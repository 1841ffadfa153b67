"""The messages are those of inference.proto, read as protobuf reads one; test_foreign_clients.py compares the numbers."""

import pytest
from google.protobuf import descriptor_pool, message_factory
from pinn_inference.oip import messages
from pinn_inference.oip.datatypes import NUMBERS

SMALL = """
syntax = "proto3";
package small; // a comment { with braces }
service Nothing { rpc Do(A) returns (A); }
message A {
  message B { repeated int64 many = 3; }
  oneof either { bool yes = 1; string why = 2; }
  B one = 4;
  map<string, Other> others = 5;
}
message Other { double value = 1; }
"""


def test_a_file_is_read_as_it_is_written() -> None:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(messages.described(SMALL).SerializeToString())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("small.A"))
    found = kind(why="so", one={"many": [1, 2]})
    found.others["x"].value = 0.5
    assert found.WhichOneof("either") == "why"
    again = kind.FromString(found.SerializeToString())
    assert (again.why, list(again.one.many), again.others["x"].value) == ("so", [1, 2], 0.5)
    assert found.SerializeToString()[:2] == b"\x12\x02"  # field 2, of two bytes


def test_what_is_no_such_file_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read from character 17"):
        messages.described("message A { int32!a = 1; }")


def test_every_datatype_has_a_field_for_its_elements_or_none() -> None:
    kind = messages.ModelInferRequest.DESCRIPTOR.fields_by_name["inputs"].message_type
    fields = set(kind.fields_by_name["contents"].message_type.fields_by_name)
    assert {datatype.contents for datatype in NUMBERS.values()} - {None} <= fields
    assert NUMBERS["FP16"].contents is None


@pytest.mark.parametrize("sizes", [[], [0], [1, 127, 128], [16_383, 16_384, 300_000]])
def test_elements_behind_a_message_are_its_own(sizes: list[int]) -> None:
    contents = [bytes([at]) * size for at, size in enumerate(sizes, 65)]
    without = messages.ModelInferResponse(model_name="a", id="b")
    whole = messages.ModelInferResponse(model_name="a", id="b", raw_output_contents=contents)
    views = [memoryview(content) for content in contents]
    parts = [without.SerializeToString(), *messages.elements(messages.RAW_OUTPUT_CONTENTS, views)]
    assert b"".join(parts) == whole.SerializeToString(deterministic=True)


def test_nothing_of_an_answer_comes_behind_its_raw_contents() -> None:
    fields = messages.ModelInferResponse.DESCRIPTOR.fields_by_name
    assert (
        fields["raw_output_contents"].number == messages.RAW_OUTPUT_CONTENTS == max(f.number for f in fields.values())
    )
