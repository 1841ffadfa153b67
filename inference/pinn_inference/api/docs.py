"""GET /docs: one page that shows the model, what it was measured to be worth, and the API, and tries it out.

Self-contained, so that it works where nothing but this server can be reached, and under a content policy that lets the page run
its own script, by hash, and talk to its own server only. What a model is made of comes from its manifest.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from pinn_inference.api import openapi
from pinn_inference.api.openapi import REFUSALS, Offered
from pinn_inference.artifacts.manifest import Field, Manifest

MEDIA_TYPE: Final = "text/html; charset=utf-8"
_PAGE: Final = Path(__file__).with_name("docs.html")
_SLOT: Final = re.compile(r"\{\{([a-z_]+)\}\}")
_TAG: Final = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def page(manifest: Manifest, offered: Offered, version: str | None = None) -> bytes:
    """The page as UTF-8. `version` is the label the model is served under, where it is not its own."""
    description = openapi.document(manifest, offered)
    slots = {
        "title": escape(manifest.name),
        "version": escape(version or manifest.version),
        "description": escape(manifest.description),
        "digest": escape(manifest.digest),
        "first_output": escape(manifest.outputs[0].name),
        "inputs": _rows(_input_row(field) for field in manifest.inputs),
        "outputs": _rows(_output_row(field, manifest) for field in manifest.outputs),
        "accuracy": _accuracy(manifest),
        "facts": _facts(manifest),
        "tolerances": _rows((_code(name), f"{value:g}") for name, value in manifest.tolerances.items()),
        "paths": _rows(_path_rows(description["paths"])),
        "refusals": _rows((_code(str(status)), _marked(text)) for status, text in REFUSALS.items()),
        "limits": _rows(_limit_rows(offered)),
        "data": _data(manifest),
    }
    template = _PAGE.read_text(encoding="utf-8")
    return _SLOT.sub(lambda slot: slots[slot[1]], template).encode()


def headers(content: bytes) -> tuple[tuple[str, str], ...]:
    """The header fields to send with a page: it may run what is written in it, and nothing else."""
    allowed: dict[str, list[str]] = {"style": [], "script": []}
    for tag, text in _TAG.findall(content.decode()):
        allowed[tag].append(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
    policy = (
        f"default-src 'none'; style-src {' '.join(allowed['style'])}; script-src {' '.join(allowed['script'])}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return (
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    )


def _data(manifest: Manifest) -> str:
    """What the page's script knows of the model. No text of a manifest can end the element it stands in."""
    fields = [
        {
            "name": f.name, "unit": f.unit, "low": f.low, "high": f.high, "per": f.per, "choices": f.choices,
        }
        for f in manifest.inputs
    ]  # fmt: skip
    outputs = [{"name": f.name, "unit": f.unit} for f in manifest.outputs]
    text = json.dumps({"inputs": fields, "outputs": outputs, "example": openapi.example(manifest)})
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _input_row(field: Field) -> tuple[str, ...]:
    if field.choices:
        return _code(field.name), _words(field.choices), "", f"absent: {_code(field.choices[0])}"
    low, high = (f"{end:,.9g}" for end in (field.low or 0.0, field.high or 0.0))
    of = f" × {_code(field.per)}" if field.per else ""
    default = f"absent: {_code(f'{field.default:g}')}" if field.default is not None else "required"
    return _code(field.name), f"{low} to {high}{of}", escape(field.unit), default


def _output_row(field: Field, manifest: Manifest) -> tuple[str, ...]:
    served = manifest.accuracy.served.largest.get(field.name)
    return _code(field.name), escape(field.unit), "" if served is None else f"{served:.1e}"


def _accuracy(manifest: Manifest) -> str:
    said = manifest.accuracy
    return f"{said.points:,} points, against: {escape(said.reference)}. Sampling: {escape(said.sampling)}."


def _facts(manifest: Manifest) -> str:
    said: dict[str, Any] = {
        "problem": manifest.problem,
        **{f"precision, {part}": kind for part, kind in manifest.precision.items()},
        **manifest.architecture,
        **{f"training, {key}": value for key, value in manifest.training.items() if not isinstance(value, Mapping)},
    }
    return _rows((escape(key), escape(_said(value))) for key, value in said.items())


def _said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _path_rows(paths: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            yield f'<span class="verb">{method.upper()}</span> {_code(path)}', escape(operation["summary"])


def _limit_rows(offered: Offered) -> Iterable[tuple[str, str]]:
    yield "bytes of a body", f"{offered.max_body:,}"
    yield "items of a list", f"{offered.max_batch:,}"
    yield "seconds for an answer", f"{offered.timeout:g}"
    yield "requests worked on at once", str(offered.concurrency)
    yield "and waiting", str(offered.queue)


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)


def _words(names: Iterable[str]) -> str:
    return " or ".join(map(_code, names))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
