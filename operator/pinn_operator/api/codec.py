"""Evidence and journals as JSON and back: stored on every tick and before every step, read again after a restart.

Only what they are made of: frozen dataclasses, tuples, mappings by name, numbers, strings, None. An unknown field is left out
and a missing one gets its default, so that a newer and an older operator can read each other.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def dump(value: Any) -> Any:
    """What `json.dumps` takes."""
    if is_dataclass(value):
        return {field.name: dump(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): dump(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [dump(one) for one in value]
    return value


def load(kind: type[T], value: Any) -> T:
    """The value that was dumped. Raises ValueError or TypeError when it is none of that kind."""
    return cast(T, _load(kind, value))


def _load(kind: Any, value: Any) -> Any:
    if kind is Any:
        return value
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _load_fields(cast(type, kind), value)
    if origin in (Union, types.UnionType):
        return None if value is None else _load(next(one for one in args if one is not type(None)), value)
    if origin is tuple:
        kinds = args[:1] * len(_of(list, value)) if args[1:] == (...,) else args
        return tuple(_load(one, item) for one, item in zip(kinds, value, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _load(args[1], one) for key, one in _of(dict, value).items()}
    if kind is float:
        return float(_of((int, float), value))
    return _of(kind, value) if isinstance(kind, type) else value


def _load_fields(kind: type, value: Any) -> Any:
    known = _hints(kind)
    return kind(**{name: _load(known[name], one) for name, one in _of(dict, value).items() if name in known})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"stored evidence is damaged: {value!r:.60} where {kind} is meant")
    return value
