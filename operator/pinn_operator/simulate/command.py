"""The command line of `pinn-operator simulate`: files and options in, a text and an exit code out."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from pinn_operator.api.check import as_stored, is_ours, problems
from pinn_operator.api.resource import PinnDeployment
from pinn_operator.decide.evidence.rules import rules_of
from pinn_operator.simulate.recording import Unusable, read_recording
from pinn_operator.simulate.scenario import Source, scenario_of
from pinn_operator.simulate.story import Outcome, story_of
from pinn_operator.simulate.words import as_document, as_text
from pinn_operator.validate import documents

USUAL_RATE: Final = 10.0
OUTCOMES: Final = get_args(Outcome)


@dataclass(frozen=True)
class Options:
    """As they were given."""

    file: str
    metrics: str | None = None
    scenario: str | None = None
    rate: str | None = None
    seed: int = 0
    repeat: bool = False
    approve: bool = False
    expect: str | None = None
    output: str = "text"


@dataclass(frozen=True)
class Answer:
    """What is printed, and the exit code."""

    text: str
    code: int = 0


def simulated(options: Options) -> Answer:
    """The answer, whatever the files hold."""
    try:
        _check(options)
        resource = _resource(options.file)
        source = _source(options, resource)
    except ValueError as error:
        return Answer(str(error), 2)
    story = story_of(resource, source, seed=options.seed, approve=options.approve)
    text = json.dumps(as_document(story), indent=2) if options.output == "json" else as_text(story)
    return Answer(text, int(options.expect is not None and options.expect != story.outcome))


def _check(options: Options) -> None:
    if options.metrics and options.scenario:
        raise ValueError("--metrics and --scenario: choose one of the two")
    if options.repeat and not options.metrics:
        raise ValueError("--repeat: only a recording can be repeated (--metrics)")
    if options.output not in ("text", "json"):
        raise ValueError(f'--output: "{options.output}" is neither text nor json')
    if options.expect is not None and options.expect not in OUTCOMES:
        raise ValueError(f'--expect: "{options.expect}" is none of {", ".join(OUTCOMES)}')


def _source(options: Options, resource: PinnDeployment) -> Source:
    rate = _rate(options.rate) if options.rate else None
    if options.metrics is None:
        return scenario_of(options.scenario or "healthy", USUAL_RATE if rate is None else rate)
    return replace(read_recording(options.metrics, rules_of(resource.spec)), rate=rate, repeat=options.repeat)


def _rate(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(/s|/m|/h)?", text)
    if found is None or float(found[1]) > 1e6:
        raise ValueError(f'--rate: "{text}" is no rate; write e.g. 12/s or 30/m')
    return float(found[1]) / {"/m": 60, "/h": 3600}.get(found[2] or "", 1)


def _resource(path: str) -> PinnDeployment:
    """The one PinnDeployment of the file, as an API server would keep it. ValueError with what it would refuse."""
    ours = [one for one in _documents(path) if is_ours(one)]
    if len(ours) != 1:
        raise ValueError(f"{path}: {len(ours)} objects of kind PinnDeployment in it; give a file with one")
    if found := problems(ours[0]):
        raise ValueError("\n".join(f"{path}: {problem}" for problem in found))
    wanted = as_stored(ours[0])
    return PinnDeployment.model_validate({"metadata": {"name": wanted["metadata"]["name"]}, "spec": wanted["spec"]})


def _documents(path: str) -> list[Any]:
    try:
        return documents(sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise Unusable(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise Unusable(f"{path}: no YAML: {' '.join(str(error).split())}") from None
