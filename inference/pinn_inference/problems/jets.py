"""A network's value and derivatives, moved from one point to another near by, and by how much the move can be wrong.

A jet is named by letters: with the coordinates "xt" its rows may be "", "x", "xx" and "t", for N, N_x, N_xx and N_t. From them
follows which terms of Taylor's theorem are there, and of which derivatives beyond them one must know how large they get.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

Powers = tuple[int, ...]
"""How often a derivative goes by each coordinate; and the powers of a displacement that belong to it."""


class Term(NamedTuple):
    """A derivative, by its place among the rows or among those beyond, times a monomial of the displacement."""

    monomial: int
    place: int


@dataclass(frozen=True)
class Jets:
    """`coordinates`: a letter each. `rows`: the derivatives a network gives, in its order; the first is its value, "".

    Raises ValueError where a row is named by other letters, or twice.
    """

    coordinates: str
    rows: tuple[str, ...]

    def __post_init__(self) -> None:
        if strange := set("".join(self.rows)) - set(self.coordinates):
            raise ValueError(
                f"{min(strange)!r} in the rows of a jet is no coordinate; they are {', '.join(self.coordinates)}"
            )
        if not self.rows or self.rows[0] or len(self._places) != len(self.rows):
            raise ValueError('the rows of a jet are "", the value, and derivatives, each once')

    @property
    def shape(self) -> tuple[int, int]:
        """How many coordinates, how many rows."""
        return len(self.coordinates), len(self.rows)

    @cached_property
    def beyond(self) -> tuple[str, ...]:
        """The derivatives that the remainders need, which no row has."""
        found = {self._powers(row, b) for row in self.rows for b in self._rest(row)}
        return tuple(self._letters(powers) for powers in sorted(found, reverse=True))

    def moved(self, jet: Any, by: Any) -> list[Any]:
        """The jet (k,) or (k, n) a displacement (d,) or (d, n) away, each row by the terms of Taylor's theorem that there are."""
        monomials = self._monomials(by)
        return [_total(terms, monomials, jet) for terms in self._terms]

    def remainders(self, by: Any, largest: Any) -> list[Any]:
        """What each row of `moved` can be wrong by; `by` without signs, `largest` the absolute values of `beyond` on the way.

        Lagrange's remainder, coordinate by coordinate from the last to the first.
        """
        monomials = self._monomials(by)
        return [_total(terms, monomials, largest) for terms in self._rests]

    def _monomials(self, by: Any) -> list[Any]:
        """1/b! times the displacement to the powers b, for every b there is, each from a smaller one."""
        found: list[Any] = [1.0]
        for smaller, coordinate, factor in self._recipe:
            found.append(found[smaller] * by[coordinate] * factor)
        return found

    @cached_property
    def _recipe(self) -> list[tuple[int, int, float]]:
        """Of every b but 0, in `_known`'s order: which is one smaller, in which coordinate, and by what to multiply."""
        recipe = []
        for b in self._known[1:]:
            coordinate = next(i for i, power in enumerate(b) if power)
            smaller = (*b[:coordinate], b[coordinate] - 1, *b[coordinate + 1 :])
            recipe.append((self._known.index(smaller), coordinate, 1.0 / b[coordinate]))
        return recipe

    @cached_property
    def _known(self) -> list[Powers]:
        """Every b of a term, or on the way to one; smaller ones first."""
        found = {b for row in self.rows for b in (*self._there(row), *self._rest(row))}
        while more := set().union(*(_below(b) for b in found)) - found:
            found |= more
        return sorted(found, key=lambda b: (sum(b), b))

    @cached_property
    def _places(self) -> dict[Powers, int]:
        return {self._powers(row): place for place, row in enumerate(self.rows)}

    @cached_property
    def _terms(self) -> list[list[Term]]:
        return [
            [Term(self._known.index(b), self._places[self._powers(row, b)]) for b in sorted(self._there(row))]
            for row in self.rows
        ]

    @cached_property
    def _rests(self) -> list[list[Term]]:
        return [
            [
                Term(self._known.index(b), self.beyond.index(self._letters(self._powers(row, b))))
                for b in self._rest(row)
            ]
            for row in self.rows
        ]

    def _there(self, row: str) -> set[Powers]:
        """The powers b for which the b-th derivative of this row is a row, and that of everything smaller."""
        found: set[Powers] = set()
        waiting = [tuple(0 for _ in self.coordinates)]
        while waiting:
            b = waiting.pop()
            if b not in found and self._powers(row, b) in self._places and _below(b) <= found:
                found.add(b)
                waiting += [(*b[:i], b[i] + 1, *b[i + 1 :]) for i in range(len(b))]
        return found

    def _rest(self, row: str) -> list[Powers]:
        return _remainder(self._there(row), len(self.coordinates))

    def _powers(self, row: str, more: Powers | None = None) -> Powers:
        own = tuple(row.count(letter) for letter in self.coordinates)
        return own if more is None else tuple(a + b for a, b in zip(own, more, strict=True))

    def _letters(self, powers: Powers) -> str:
        return "".join(letter * count for letter, count in zip(self.coordinates, powers, strict=True))


def _below(b: Powers) -> set[Powers]:
    """One less in one place."""
    return {(*b[:i], b[i] - 1, *b[i + 1 :]) for i in range(len(b)) if b[i]}


def _remainder(there: set[Powers], coordinates: int) -> list[Powers]:
    """What is left after the terms `there`: along the last coordinate, and for each of its powers along the others."""
    if not coordinates:
        return []
    most = max(b[coordinates - 1] for b in there)
    rest = [(*(0 for _ in range(coordinates - 1)), most + 1)]
    for power in range(most + 1):
        inner = {b[: coordinates - 1] for b in there if b[coordinates - 1] == power}
        rest += [(*b, power) for b in _remainder(inner, coordinates - 1)]
    return rest


def _total(terms: Sequence[Term], monomials: Sequence[Any], numbers: Any) -> Any:
    total: Any = 0.0
    for monomial, place in terms:
        total = total + monomials[monomial] * numbers[place]
    return total
