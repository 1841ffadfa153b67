"""Evidence and journals as JSON and back: stored on every tick and before every step, read again after a restart.

Only what they are made of: frozen dataclasses, tuples, mappings by name, numbers, strings, None. An unknown field is left out
and a missing one gets its default, so that a newer and an older operator can read each other.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Loader = Callable[[Any], Any]
NOT_FINITE: Final = ("inf", "-inf", "nan")


def dump(value: Any) -> Any:
    """What `json.dumps` takes. JSON has no number for what is not finite: "inf", "-inf" and "nan" stand for those."""
    if names := _names(cast(Any, type(value))):
        return {name: dump(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): dump(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [dump(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def load(kind: type[T], value: Any) -> T:
    """The value that was dumped. Raises ValueError or TypeError when it is none of that kind."""
    return cast(T, _loader(cast(Any, kind))(value))


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Of the fields of a dataclass; none of any other type."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


@cache
def _loader(kind: Any) -> Loader:
    """Made once for each type: evidence is read on every pass, and looking at its types would take most of the time."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if is_dataclass(kind):
        return lambda value: _load_fields(cast(type, kind), value)
    if origin in (Union, types.UnionType):
        present = _loader(next(one for one in args if one is not type(None)))
        return lambda value: None if value is None else present(value)
    if origin is tuple:
        return _tuple_loader(args)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        item = _loader(args[1])
        return lambda value: {key: item(one) for key, one in _of(dict, value).items()}
    if kind is float:
        return lambda value: float(value if value in NOT_FINITE else _of((int, float), value))
    return (lambda value: _of(kind, value)) if isinstance(kind, type) else (lambda value: value)


def _tuple_loader(args: tuple[Any, ...]) -> Loader:
    if args[1:] == (...,):
        item = _loader(args[0])
        return lambda value: tuple(item(one) for one in _of(list, value))
    each = tuple(_loader(one) for one in args)
    return lambda value: tuple(item(one) for item, one in zip(each, _of(list, value), strict=True))


def _load_fields(kind: type, value: Any) -> Any:
    known = _field_loaders(kind)
    return kind(**{name: known[name](one) for name, one in _of(dict, value).items() if name in known})


@cache
def _field_loaders(kind: type) -> Mapping[str, Loader]:
    return {name: _loader(hint) for name, hint in get_type_hints(kind).items()}


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"stored evidence is damaged: {value!r:.60} where {kind} is meant")
    return value
