"""The service port described as OpenAPI 3.1, made from the model that is served: its inputs, ranges, outputs and errors.

Nothing here knows an equation. The description is exact enough to generate a client from, and to fuzz the server by.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Final

import msgspec

from pinn_inference import __version__
from pinn_inference.api.http import Answer, Request, Routes
from pinn_inference.artifacts.manifest import Field, Manifest
from pinn_inference.problems import Input

Json = dict[str, Any]

METHODS: Final = ("cache", "model", "solver")
REFUSALS: Final = {
    400: "Not JSON, or a field is missing, unknown, of a wrong type, not finite, or out of range; the sentence names it",
    404: "No such path",
    405: "The path exists, the method does not; `allow` says which do",
    408: "The body did not arrive in time",
    413: "The body or the list is too long",
    415: "The body is compressed; send it as it is",
    429: "As many requests as the limits allow are being worked on; `retry-after` says when to come back",
    500: "No engine and no fallback could answer; never the caller's fault",
    504: "No answer within the time limit",
}
"""What each status other than 200 means, on every path where it may occur."""


@dataclass(frozen=True)
class Offered:
    """What this server takes and does, beside what its model says."""

    max_batch: int = 10_000
    max_body: int = 4 * 1024 * 1024
    timeout: float = 1.0
    concurrency: int = 64
    queue: int = 256
    solver: Sequence[Input] = ()
    """Ranges in which the reference solver answers what the model may not; empty where there is no such fallback."""
    moves: Mapping[str, float] = dataclass_field(default_factory=dict)
    """By how much of itself an input moves between two calls that mean the same."""
    label: tuple[str, str] | None = None
    """The name and the version the model is served under, where they are not its own."""


def document(manifest: Manifest, offered: Offered) -> Json:
    """The whole description of the service port."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{manifest.name} model server",
            "version": manifest.version,
            "summary": manifest.description,
            "description": _description(manifest, offered),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "x-server-version": __version__,
        },
        "servers": [{"url": "./", "description": "where this document was read"}],
        "paths": {
            "/predict": {"post": _predict(manifest, offered)},
            **_protocol_paths(manifest, offered),
            **_health_paths(),
            **_self_paths(),
        },
        "components": {
            "schemas": {
                "Question": question(manifest, offered),
                "Answer": _answer(manifest),
                "Error": _ERROR,
                "Health": _HEALTH,
            },
            "responses": {f"E{status}": _refusal(status, text) for status, text in REFUSALS.items()},
        },
        "x-model": _model(manifest),
    }


def routes(path: str, body: Callable[[], bytes], media_type: str, headers: tuple[tuple[str, str], ...] = ()) -> Routes:
    """A document that is made when the model is loaded, under its path."""

    async def get(_: Request) -> Answer:
        return Answer(200, body(), media_type, (("cache-control", "no-cache"), *headers))

    return {path: {"GET": get}}


def encoded(description: Json) -> bytes:
    """As it is served."""
    return msgspec.json.encode(description)


def question(manifest: Manifest, offered: Offered) -> Json:
    """The JSON schema of one item."""
    solvable = {field.name: field for field in offered.solver}
    by_name = {field.name: field for field in manifest.inputs}
    properties = {f.name: _input(f, by_name, solvable.get(f.name), offered.moves) for f in manifest.inputs}
    names = [f.name for f in manifest.outputs]
    return {
        "type": "object",
        "description": f"One question to {manifest.name}.",
        "properties": {
            **properties,
            "outputs": {
                "type": ["array", "null"],
                "items": {"enum": names},
                "minItems": 1,
                "description": "Which outputs to answer with; absent: all",
            },
            "exact": {
                "type": "boolean",
                "default": False,
                "description": "Evaluate at these very inputs, past the cache",
            },
        },
        "required": [f.name for f in manifest.inputs if f.default is None and not f.choices],
        "additionalProperties": False,
        "examples": [example(manifest)],
    }


def example(manifest: Manifest) -> dict[str, float | str]:
    """A question the model answers: defaults, the first of choices, and otherwise plain numbers well inside the ranges."""
    found: dict[str, float | str] = {}
    numbers: dict[str, float] = {}
    for field in sorted(manifest.inputs, key=lambda f: f.per is not None):  # what others are multiples of comes first
        if field.choices:
            found[field.name] = field.choices[0]
            continue
        value = field.default
        if value is None:
            value = _plain(field.low or 0.0, field.high or 0.0, field.per is not None) * numbers.get(
                field.per or "", 1.0
            )
        found[field.name] = numbers[field.name] = value
    return {field.name: found[field.name] for field in manifest.inputs}


def _plain(low: float, high: float, multiple: bool) -> float:
    """A number of one digit inside a range: 1 for a multiple, a power of ten in a range of many decades."""
    if multiple and low <= 1 <= high:
        return 1.0
    if low > 0 and high / low > 1e4:
        return float(10 ** round((math.log10(low) + math.log10(high)) / 2))
    number = low + 0.3 * (high - low)
    rounded = float(f"{number:.1g}")
    return rounded if low <= rounded <= high else number


def _input(field: Field, fields: Mapping[str, Field], solvable: Input | None, moves: Mapping[str, float]) -> Json:
    if field.choices:
        return {"enum": list(field.choices), "default": field.choices[0], "description": field.unit}
    low, high = bounds(field, fields)
    schema: Json = {
        "type": "number",
        "description": f"{field.unit}; trained on {field.low:g} to {field.high:g}"
        + (f" times {field.per}" if field.per else ""),
        "minimum": min(low, solvable.low) if solvable else low,
        "maximum": max(high, solvable.high) if solvable else high,
        "x-unit": field.unit,
        "x-trained": [field.low, field.high],
    }
    if field.per:
        schema["x-trained-per"] = field.per
    if field.name in moves:
        schema["x-moves"] = moves[field.name]
    if field.default is not None:
        schema["default"] = field.default
    return schema


def bounds(field: Field, fields: Mapping[str, Field]) -> tuple[float, float]:
    """The range of a number whatever the other inputs are."""
    low, high = field.low or 0.0, field.high or 0.0
    if field.per:
        per = fields[field.per]
        return low * (per.low or 0.0), high * (per.high or 0.0)
    return low, high


def _answer(manifest: Manifest) -> Json:
    numbers = {f.name: {"type": "number", "description": f.unit, "x-unit": f.unit} for f in manifest.outputs}
    return {
        "type": "object",
        "description": "The outputs asked for, and how they were made.",
        "properties": {
            **numbers,
            "method": {
                "enum": list(METHODS),
                "description": "From the cache, by the model now, or by the reference solver",
            },
            "engine": {"type": "string", "description": "What evaluated the network or solved the problem"},
            "reason": {"type": ["string", "null"], "description": "Why it was not the first choice; null when it was"},
            "error_bound": {
                "type": ["object", "null"],
                "description": "By output, how far it may be from the truth; null where that is not known",
                "additionalProperties": {"type": "number", "minimum": 0},
            },
            "model": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "version": {"type": "string"}},
                "required": ["name", "version"],
            },
        },
        "required": ["method", "engine", "model"],
    }


def _predict(manifest: Manifest, offered: Offered) -> Json:
    one, many = {"$ref": "#/components/schemas/Question"}, {"$ref": "#/components/schemas/Answer"}
    items = {"type": "array", "items": one, "minItems": 1, "maxItems": offered.max_batch}
    asked = {"schema": {"anyOf": [one, items]}, "example": example(manifest)}
    answered = {"schema": {"anyOf": [many, {"type": "array", "items": many, "minItems": 1}]}}
    return {
        "operationId": "predict",
        "summary": f"Ask {manifest.name}: one question, or a list of up to {offered.max_batch:,}",
        "description": "A list is answered by a list in its order; one bad item refuses it, named by its place.",
        "parameters": [_SOURCE],
        "requestBody": {"required": True, "content": {"application/json": asked}},
        "responses": {
            "200": {"description": "The answer, or a list of them", "content": {"application/json": answered}},
            **_refused(400, 408, 413, 415, 429, 500, 504),
        },
    }


def _protocol_paths(manifest: Manifest, offered: Offered) -> Json:
    """The Open Inference Protocol v2; each path of a model with its version, too."""
    name, version = offered.label or (manifest.name, manifest.version)
    bases = {"": f"/v2/models/{name}", "Version": f"/v2/models/{name}/versions/{version}"}
    found: Json = {"/v2": {"get": _told("server", "What this server is, in the Open Inference Protocol v2", "name")}}
    for suffix, base in bases.items():
        found |= {
            base: {"get": _told(f"model{suffix}", "What goes in and out, as tensors", "inputs")},
            f"{base}/ready": {"get": _told(f"modelReady{suffix}", "Whether the model wants traffic", "ready", 503)},
            f"{base}/infer": {"post": _infer(f"infer{suffix}", manifest, offered)},
        }
    return found


def _told(name: str, summary: str, field: str, not_so: int | None = None) -> Json:
    schema = {"type": "object", "required": [field]}
    answers = _done("It", schema)
    if not_so is not None:
        content = {"application/json": {"schema": _ERROR_REF}}
        answers[str(not_so)] = {"description": "No, and why", "content": content}
    return {"operationId": name, "summary": summary, "responses": answers}


def _infer(name: str, manifest: Manifest, offered: Offered) -> Json:
    """JSON only: tensors as bytes behind it are no schema's business, and are described in the reference."""
    inputs, parameters = [field.name for field in manifest.inputs], {"type": ["object", "null"]}
    shape = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2}
    tensor = {
        "type": "object",
        "properties": {
            "name": {"enum": inputs},
            "datatype": {"enum": [*_NUMBERS, "BYTES"]},
            "shape": {**shape, "description": "[n] or [n, 1]"},
            "data": {"type": "array", "minItems": 1},
            "parameters": parameters,
        },
        "required": ["name", "datatype", "shape", "data"],
    }
    request = {
        "type": "object",
        "properties": {
            "id": {"type": ["string", "null"]},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": ["array", "null"], "items": {"type": "object", "required": ["name"]}},
            "parameters": parameters,
        },
        "required": ["inputs"],
    }
    answer = {"type": "object", "required": ["model_name", "model_version", "outputs", "parameters"]}
    asked = {"schema": request, "example": {"inputs": [_example(f) for f in example(manifest).items()]}}
    return {
        "operationId": name,
        "summary": f"Ask {manifest.name} by tensors: an input each, of up to {offered.max_batch:,} elements",
        "parameters": [_SOURCE],
        "requestBody": {"required": True, "content": {"application/json": asked}},
        "responses": {**_done("An output tensor each", answer), **_refused(400, 408, 413, 415, 429, 500, 504)},
    }


def _example(field: tuple[str, float | str]) -> Json:
    name, value = field
    return {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP64", "shape": [1], "data": [value]}


def _health_paths() -> Json:
    def get(name: str, summary: str, schema: Json) -> Json:
        content = {"application/json": {"schema": schema}}
        not_so = {
            "description": "No, and why",
            "content": {"application/json": {"schema": _either(schema, _ERROR_REF)}},
        }
        return {
            "get": {
                "operationId": name,
                "summary": summary,
                "responses": {"200": {"description": "Yes", "content": content}, "503": not_so},
            }
        }

    def said(name: str) -> Json:
        return {"type": "object", "properties": {name: {"const": True}}, "required": [name]}

    plain = {"type": "object", "properties": {"status": {"const": "healthy"}}, "required": ["status"]}
    return {
        "/health": get("health", "Whether it wants traffic", plain),
        "/health/detailed": get("healthDetailed", "How each part is", {"$ref": "#/components/schemas/Health"}),
        "/v2/health/live": get("live", "Whether the process is to be left alone", said("live")),
        "/v2/health/ready": get("ready", "Whether it wants traffic", said("ready")),
    }


def _self_paths() -> Json:
    def get(name: str, summary: str, media_type: str, schema: Json) -> Json:
        content = {media_type: {"schema": schema}}
        return {
            "get": {
                "operationId": name,
                "summary": summary,
                "responses": {"200": {"description": "It", "content": content}},
            }
        }

    return {
        "/openapi.json": get("openapi", "This document", "application/json", {"type": "object"}),
        "/docs": get("docs", "A page to read and to try it on", "text/html; charset=utf-8", {"type": "string"}),
    }


def admin_document(manifest: Manifest, offered: Offered) -> Json:
    """The same for the admin port."""
    token: list[Json] = [{"token": []}]
    keys = _parameter("keys", 1, 100_000, 1000)
    seed = _parameter("seed", 0, 2**32 - 1, 0)
    shadow = _items(_shadowed(manifest, offered), offered, solver={"type": "boolean", "default": False})
    anything = {"description": "A question; what this model cannot answer is left out"}
    secret = _refused(400, 401, 403, 408, 413, 415, 429, 500, 504)
    ok = _done("Done", {"type": "object"})
    text = {
        "200": {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    inputs = {"type": "object"}
    listed = {"type": "object", "properties": {"keys": {"type": "array", "items": inputs}}, "required": ["keys"]}
    count = {"type": "integer", "minimum": 0}
    warmed = {"type": "object", "properties": {"warmed": count}, "required": ["warmed"]}
    renewed = {"type": "object", "properties": {"seconds": {"type": "number"}}, "required": ["seconds"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{manifest.name} model server, admin port", "version": manifest.version},
        "paths": {
            "/metrics": {"get": {"operationId": "metrics", "responses": text}},
            "/model": {"get": {"operationId": "model", "responses": ok}},
            "/cache/hottest": {
                "get": {
                    "operationId": "hottest",
                    "security": token,
                    "parameters": [keys],
                    "responses": {**_done("Bin centres", listed), **secret},
                }
            },
            "/cache/warm": {
                "post": {
                    "operationId": "warm",
                    "security": token,
                    "requestBody": _items(anything, offered),
                    "responses": {**_done("How many of them are in the cache", warmed), **secret},
                }
            },
            "/connections/renew": {
                "post": {
                    "operationId": "renew",
                    "security": token,
                    "responses": {**_done("For how many seconds answers close their connections", renewed), **secret},
                }
            },
            "/samples": {
                "get": {
                    "operationId": "samples",
                    "security": token,
                    "parameters": [keys, seed],
                    "responses": {**_done("Questions at random", listed), **secret},
                }
            },
            "/shadow": {
                "post": {
                    "operationId": "shadow",
                    "security": token,
                    "requestBody": shadow,
                    "responses": {**ok, **secret},
                }
            },
            "/reload": {"post": {"operationId": "reload", "security": token, "responses": {**ok, **secret}}},
            **_health_paths(),
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, "Health": _HEALTH},
            "responses": {
                f"E{status}": _refusal(status, text)
                for status, text in {
                    **REFUSALS,
                    401: "The token is missing or wrong",
                    403: "No token is configured",
                }.items()
            },
        },
    }


def _parameter(name: str, low: int, high: int, default: int) -> Json:
    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return {"name": name, "in": "query", "schema": schema}


def _items(item: Json, offered: Offered, **wishes: Json) -> Json:
    """A body with items, and perhaps wishes."""
    items = {"type": "array", "items": item, "minItems": 1, "maxItems": offered.max_batch}
    schema = {
        "type": "object",
        "properties": {"items": items, **wishes},
        "required": ["items"],
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _done(description: str, schema: Json) -> Json:
    return {"200": {"description": description, "content": {"application/json": {"schema": schema}}}}


def _shadowed(manifest: Manifest, offered: Offered) -> Json:
    """A question as live callers ask it, whose wishes do not count: all outputs are compared, past the cache."""
    schema = question(manifest, offered)
    del schema["properties"]["outputs"]["minItems"]
    return schema


_NUMBERS: Final = (
    "FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8",
)  # fmt: skip
_SOURCE: Final[Json] = {
    "name": "pinn-source",
    "in": "header",
    "description": "Who asks: live, shadow, probe or warmup, each counted apart; anything else is live",
    "schema": {"type": "string", "default": "live", "examples": ["shadow", "probe", "warmup"]},
}
_ERROR: Final[Json] = {
    "type": "object",
    "description": "Every error is one sentence.",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "additionalProperties": False,
}
_ERROR_REF: Final[Json] = {"$ref": "#/components/schemas/Error"}
_STATUS: Final[Json] = {"enum": ["healthy", "degraded", "unhealthy"]}
_HEALTH: Final[Json] = {
    "type": "object",
    "properties": {
        "status": _STATUS,
        "reason": {"type": "string"},
        "components": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"status": _STATUS}, "required": ["status"]},
        },
    },
    "required": ["status", "components"],
}


def _either(one: Json, other: Json) -> Json:
    return {"anyOf": [one, other]}


def _refused(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/E{status}"} for status in statuses}


def _refusal(status: int, text: str) -> Json:
    found: Json = {"description": text, "content": {"application/json": {"schema": _ERROR_REF}}}
    if status == 429:
        found["headers"] = {"retry-after": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}}
    return found


def _description(manifest: Manifest, offered: Offered) -> str:
    beyond = (
        "Outside the trained ranges the reference solver answers, and the answer says so."
        if offered.solver
        else "Outside the trained ranges a question is refused: there is no extrapolation."
    )
    return (
        f"{manifest.description} {beyond} A body may have {offered.max_body:,} bytes and a list {offered.max_batch:,} items; "
        f"an answer takes at most {offered.timeout:g} s; {offered.concurrency} requests are worked on at once and "
        f"{offered.queue} more wait. Errors are measured, not estimated: {manifest.accuracy.points:,} points, "
        f"against {manifest.accuracy.reference}."
    )


def _model(manifest: Manifest) -> Json:
    return {
        "name": manifest.name,
        "version": manifest.version,
        "problem": manifest.problem,
        "digest": manifest.digest,
        "precision": dict(manifest.precision),
        "largest-error": dict(manifest.accuracy.served.largest),
        "tolerances": dict(manifest.tolerances),
    }
