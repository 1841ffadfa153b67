"""Which problems this server knows: those that come with it, and those that installed packages offer as entry points.

A package names its problem under the group `pinn_inference.problems`. Only the problem a model asks for is imported, so that a
package that is broken keeps nobody from being served but those who want it.
"""

from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any, Final

from pinn_inference.errors import ModelError
from pinn_inference.problems import Formulation, Input
from pinn_inference.problems.error_table import ErrorTable

GROUP: Final = "pinn_inference.problems"
BUILT_IN: Final = {
    "american-put": "pinn_inference.problems.american_put:Formulation",
    "black-scholes": "pinn_inference.problems.black_scholes:Formulation",
    "burgers": "pinn_inference.problems.burgers:Burgers",
}
MEMBERS: Final = tuple(sorted(name for name in vars(Formulation) if not name.startswith("_")))
"""What a formulation must have."""


def names() -> list[str]:
    """Of every problem that could be asked for."""
    return [*BUILT_IN, *sorted({point.name for point in metadata.entry_points(group=GROUP)} - BUILT_IN.keys())]


def formulation(name: str, inputs: Sequence[Input], table: ErrorTable | None) -> Formulation:
    """The problem `name` with one model's ranges and error table.

    Raises ModelError, naming the problem and where it is from, when it is not known, cannot be imported or does not do what a
    formulation must; ValueError, with the problem's own sentence, where ranges or table are not its own.
    """
    source, problem = _found(name)
    try:
        made = problem(inputs, table)
    except (ValueError, KeyError):
        raise
    except Exception as error:  # somebody else's code: whatever it raises, the sentence must name it
        raise _refused(name, source, f"cannot be made: {_said(error)}") from error
    missing = [member for member in MEMBERS if not hasattr(made, member)]
    if missing:
        raise _refused(name, source, f"lacks {', '.join(missing)}")
    if made.name != name:
        raise _refused(name, source, f"calls itself {made.name!r}; the names must be the same")
    complete: Formulation = made
    return complete


def _found(name: str) -> tuple[str, Any]:
    """Where a problem is from, for a sentence, and what makes it."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return "this server", getattr(import_module(module), attribute)
    offers = list(metadata.entry_points(group=GROUP, name=name))
    if not offers:
        raise ModelError(f"the model solves {name!r}; this server knows {', '.join(names())}")
    sources = [_source(offer) for offer in offers]
    if len(set(sources)) > 1:
        raise ModelError(f"the problem {name!r} is offered by {' and by '.join(sorted(set(sources)))}; uninstall one")
    try:
        return sources[0], offers[0].load()
    except Exception as error:  # importing runs somebody else's code
        raise _refused(name, sources[0], f"cannot be imported: {_said(error)}") from error


def _source(offer: metadata.EntryPoint) -> str:
    package = f"the package {offer.dist.name} {offer.dist.version}" if offer.dist else "a package"
    return f"{package} ({offer.value})"


def _refused(name: str, source: str, complaint: str) -> ModelError:
    return ModelError(f"the problem {name!r} of {source} {complaint}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
