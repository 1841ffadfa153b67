"""A SavedModel, packed as a zip: its graph is looked through, function by function, for operations that are not arithmetic.

TensorFlow says of itself that it is not a sandbox: a graph may read and write files, call Python, load libraries. Here every
operation must be on a list. A SavedModel also holds the functions that saved it, which write files; they are passed on to nobody.
"""

from typing import Final

from pinn_inference import formats
from pinn_inference.artifacts import archive
from pinn_inference.errors import ModelError
from pinn_inference.formats import Network, wire

GRAPH: Final = "saved_model.pb"
VARIABLES: Final = "variables/"
OTHERS: Final = ("fingerprint.pb", "keras_metadata.pb")
SIGNATURE: Final = "serving_default"

OPERATIONS: Final = formats.words(
    # structure
    "Placeholder Const NoOp Identity IdentityN StopGradient PreventGradient PartitionedCall StatefulPartitionedCall "
    # variables of the graph itself, in memory
    "VarHandleOp ReadVariableOp AssignVariableOp VarIsInitializedOp DisableCopyOnRead "
    # arithmetic
    "Add AddV2 AddN Sub Mul Div RealDiv DivNoNan Neg Abs Sign Square SquaredDifference Sqrt Rsqrt Pow Reciprocal Inv Exp Expm1 "
    "Log Log1p Sin Cos Tan Asin Acos Atan Atan2 Sinh Cosh Tanh Asinh Acosh Atanh Erf Erfc Sigmoid Softplus Softsign Elu Selu "
    "Relu Relu6 LeakyRelu Softmax Maximum Minimum Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr "
    "LogicalNot Select SelectV2 ZerosLike OnesLike ClipByValue Floor Round "
    # their gradients
    "TanhGrad SigmoidGrad SoftplusGrad SoftsignGrad EluGrad SeluGrad ReluGrad Relu6Grad LeakyReluGrad SqrtGrad RsqrtGrad "
    "BiasAddGrad BroadcastGradientArgs "
    # linear algebra, and the shapes of tensors
    "MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Einsum Sum Mean Max Min Prod Cast Shape ShapeN Size Rank Reshape "
    "ExpandDims Squeeze Concat ConcatV2 Pack Unpack Split SplitV Slice StridedSlice StridedSliceGrad Pad PadV2 Tile Transpose "
    "Fill Range BroadcastTo GatherV2 Gather ConcatOffset"
)
SAVING: Final = formats.words(
    "SaveV2 RestoreV2 MergeV2Checkpoints ShardedFilename StringJoin StaticRegexFullMatch DisableCopyOnRead"
)
"""In the functions that saved a model, which nothing else may call."""

FLOATS: Final = {1: "float32", 2: "float64"}


def read(content: bytes) -> Network:
    """Raises ModelError, "has ..." or "is ...", for all that is not arithmetic from a point to one number."""
    if said := formats.disguised(content):
        raise ModelError(said)
    files = _top(archive.contents(content, formats.MOST))
    if GRAPH not in files:
        raise ModelError(f"holds no {GRAPH}; pack the folder that model.export(FOLDER) makes")
    for name in files:
        if name != GRAPH and name not in OTHERS and not name.startswith(VARIABLES):
            raise ModelError(f"holds {name!r}: a SavedModel with files of its own beside its variables is not read")
    takes = check(files[GRAPH])
    kept = {name: part for name, part in files.items() if name not in OTHERS}
    return Network("saved-model", kept, takes)


def check(graph: bytes) -> int:
    """How many numbers a point of this saved_model.pb has. Raises ModelError."""
    graphs = list(wire.messages(graph, 2))
    if len(graphs) != 1 or len(objects := list(wire.messages(graphs[0], 7))) != 1:
        raise ModelError("is no SavedModel of TensorFlow 2, which has one graph and one tree of objects")
    _check_objects(objects[0])
    nodes = wire.texts(graphs[0], 2, 1, 2)
    functions = list(wire.messages(graphs[0], 2, 2, 1))
    saving = _saving(functions, objects[0])
    for operation in [*nodes, *(op for f in functions if f not in saving for op in operations(f))]:
        if operation not in OPERATIONS:
            raise ModelError(f"has the operation {operation[:100]}, which is not on this server's list of arithmetic")
    return _signature(graphs[0])


def operations(function: bytes) -> list[str]:
    """The names of a FunctionDef's operations."""
    return wire.texts(function, 3, 2)


def saving_functions(functions: list[bytes]) -> list[str]:
    """The names of those that read or write files."""
    return [_name(f) for f in functions if not SAVING.isdisjoint(set(operations(f)) - {"DisableCopyOnRead"})]


def _saving(functions: list[bytes], objects: bytes) -> list[bytes]:
    """The functions that saved the model. Raises ModelError where another, or an object, so much as names one of them."""
    found = [f for f in functions if _name(f) in saving_functions(functions)]
    for function in found:
        if strange := sorted(set(operations(function)) - OPERATIONS - SAVING):
            raise ModelError(f"has the operation {strange[0][:100]}, which is not on this server's list of arithmetic")
        name = _name(function).encode()
        if any(name in other for other in (*(f for f in functions if f is not function), objects)):
            raise ModelError(f"has a function that reads or writes files, {_name(function)[:100]}, and calls it")
    return found


def _name(function: bytes) -> str:
    return "".join(wire.texts(function, 1, 1))


def _check_objects(objects: bytes) -> None:
    """SavedObject: 5 is an asset, 10 a resource that makes itself, 11, 14 and 16 have ways of their own to be restored."""
    for one in wire.messages(objects, 1):
        if {number for number, _ in wire.fields(one)} & {5, 10, 11, 14, 16}:
            raise ModelError("has an asset, a table, or an object that is restored by code of its own")


def _signature(graph: bytes) -> int:
    """Of `serving_default`: one input (n, d) and one output (n, 1) of numbers."""
    for entry in wire.messages(graph, 5):
        if wire.texts(entry, 1) == [SIGNATURE]:
            inputs, outputs = ([_tensor(t) for t in wire.messages(entry, 2, which, 2)] for which in (1, 2))
            if (
                len(inputs) == len(outputs) == 1
                and outputs[0][1:] == (1,)
                and len(inputs[0]) == 2
                and 1 <= inputs[0][1] <= 64
            ):
                return inputs[0][1]
            raise ModelError(
                f"takes {inputs} and gives {outputs}; it must take (points, numbers of each) and give (points, 1)"
            )
    raise ModelError(f"has no signature {SIGNATURE}; make one by model.export(FOLDER)")


def _tensor(info: bytes) -> tuple[int, ...]:
    """The shape of a TensorInfo, -1 where it is open. Raises ModelError where it is not of floats."""
    kinds = [value for number, value in wire.fields(info) if number == 2]
    if len(kinds) != 1 or kinds[0] not in FLOATS:
        raise ModelError("takes or gives something else than float32 or float64")
    return tuple(_size(dim) for dim in wire.messages(info, 3, 2))


def _size(dim: bytes) -> int:
    sizes = [value for number, value in wire.fields(dim) if number == 1 and isinstance(value, int)]
    return sizes[-1] if sizes and sizes[-1] < 2**63 else -1 if sizes else 0


def _top(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files as from the folder with the graph, where that was packed as a folder."""
    folders = {name.partition("/")[0] for name in files}
    if GRAPH not in files and len(folders) == 1:
        return {name.partition("/")[2]: content for name, content in files.items()}
    return files
