"""What the strings of the resource mean: durations, percentages, quantities.

The resource keeps them as the user wrote them, so that a diff shows the user's own words; these turn them into numbers.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeVar

T = TypeVar("T")

OFF: Final = "Off"

_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_POWERS: Final = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def seconds(text: str) -> float:
    """Seconds of a duration such as "500ms", "1h30m" or "1d". Raises ValueError when it is none."""
    if re.fullmatch(r"[0-9]+d", text):
        return float(int(text[:-1]) * 86400)
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f'"{text}" is no duration; write e.g. "30m", "1h30m" or "1d"')
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts))


def fraction(text: str) -> float:
    """The share a percentage names: 0.01 of "1%". Raises ValueError when it is none."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text):
        raise ValueError(f'"{text}" is no percentage; write e.g. "1%" or "0.1%"')
    return float(Decimal(text[:-1]) / 100)


def quantity(text: str | int) -> Decimal:
    """The number a Kubernetes quantity names, exactly: 0.25 of "250m". Raises ValueError when it is none."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(m|[kMGTPE]|[KMGTPE]i)?", str(text))
    if match is None:
        raise ValueError(f'"{text}" is no quantity; write e.g. "256Mi" or "1G"')
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix == "m":
        return number / 1000
    if suffix.endswith("i"):
        return number * Decimal(1024) ** _POWERS[suffix[0].replace("K", "k")]
    return number * Decimal(1000) ** _POWERS[suffix]


def bytes_of(text: str | int) -> int:
    """Bytes of a quantity such as "10Mi". Raises ValueError when it is none."""
    return int(quantity(text))


def unless_off(parse: Callable[[str], T], text: str | None) -> T | None:
    """The parsed limit of a gate, or None where the gate is "Off" or absent."""
    return None if text is None or text == OFF else parse(text)
