"""Every command in the documents is one that the programs take: an option, a target or a file that is gone is found here."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pinn_operator.api.check import whole_schema
from pinn_operator.validate import Verdict, validate

from tests.unit.documents import ROOT, Command, blocks, commands, pages, simple

COMMANDS = commands()
OTHERS = {  # not ours, and nothing to look up
    *(
        "cat",
        "cd",
        "curl",
        "docker",
        "grep",
        "kind",
        "oras",
        "pip",
        "python",
        "pytest",
        "tar",
        "date",
        "sudo",
        "git",
        "read",
    ),
    *(
        "while",
        "do",
        "done",
        "flux",
        "argocd",
        "helm",
        "jq",
        "echo",
        "crane",
        "kustomize",
        "watch",
        "apt-get",
        "go",
        "head",
        "less",
    ),
    *("sh", "sed", "tr", "export", "openssl", "py-spy", "nvidia-smi", "xargs", "tail"),
}

TWO_WORDS = {"top", "rollout", "create", "config", "set", "auth"}
"""Commands of kubectl that are nothing without a second word."""


def _parsed(command: Any, words: list[str]) -> None:
    """By click or typer, whose groups are much the same and have no class in common."""
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    if "--help" not in words and "--version" not in words:
        command.make_context("documented", list(words))
        assert not getattr(command, "commands", {}), f"{words} is no command of it"


def _pinn_operator(words: list[str]) -> None:
    from pinn_operator.cli import app

    _parsed(typer.main.get_command(app), words)


def _pinn_train(words: list[str]) -> None:
    from pinn_inference.training.cli import app

    _parsed(typer.main.get_command(app), words)


def _kubectl_pinn(words: list[str]) -> None:
    from pinn_operator.plugin.app import app

    _parsed(app, words)


def _pinn_server(words: list[str]) -> None:
    from pinn_inference.cli import _parser

    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            arguments, rest = _parser().parse_known_args(words)
        except SystemExit as stop:
            if not stop.code:  # --help
                return
            raise AssertionError(told.getvalue()) from stop
    assert not rest or words[0] == "predict", f"{rest} is not known; {arguments}"


def _make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def _python3(words: list[str]) -> None:
    if words[:1] == ["-m"] and words[1].startswith(("tests", "benchmarks", "hack", "pinn_")):
        folder = ROOT / words[1].replace(".", "/")
        assert folder.is_dir() or folder.with_suffix(".py").is_file() or words[1].startswith("pinn_")


def _kubectl(words: list[str]) -> None:
    words = list(words)
    while words and words[0] in ("-n", "--context", "--kubeconfig"):
        words = words[2:]
    if words[:1] == ["pinn"]:
        _kubectl_pinn(words[1:])
        return
    depth = 3 if words[:2] == ["create", "secret"] else 2 if words[0] in TWO_WORDS else 1
    verb = " ".join(words[:depth])
    known = _options(verb)
    for word in words:
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in known or word[:2] in known, f"kubectl {verb} has no {word}"
    for flag, value in itertools.pairwise(words):
        if flag in ("-f", "-k") and re.match(r"^(manifests|charts|models|tests)/", value):
            assert (ROOT / value).exists(), f"there is no {value}"
        if flag == "-p":
            json.loads(value)


@functools.cache
def _options(verb: str) -> frozenset[str]:
    """Every option of a command of kubectl, out of its own help; fails where there is no such command."""
    kubectl = shutil.which("kubectl", path=str(ROOT / ".venv/bin")) or "kubectl"
    told = subprocess.run(
        [kubectl, *verb.split(), "--help"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert f"kubectl {verb} " in told, f"kubectl has no {verb}"
    always = subprocess.run([kubectl, "options"], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)", told + always, re.MULTILINE)
    return frozenset(option for pair in found for option in pair if option) | {"--help", "-h"}


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "kubectl": _kubectl,
    "make": _make,
    "pinn-operator": _pinn_operator,
    "pinn-server": _pinn_server,
    "pinn-train": _pinn_train,
    "python3": _python3,
}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_documented_command_is_one_that_there_is(command: Command) -> None:
    program, *words = command.words
    name = Path(program).name
    if name in CHECKS:
        CHECKS[name](words)
    else:
        assert name in OTHERS, f"{program}: which program is that? Correct the page, or add the program to OTHERS"


PINNS = {"pinn", "pinns", "pinndeployment", "pinndeployments"}
BRACES = re.compile(r"{([^{}]*)}")
NAMED = re.compile(r"`\.?(status\.[^`\s]+)`")
OF_OTHERS = {"status.parents"}
"""Statuses that pages speak of and that are not ours: an HTTPRoute's."""


def _paths(words: tuple[str, ...]) -> list[str]:
    """Fields of a PinnDeployment that a command of kubectl prints or waits for; what is within a range from its beginning."""
    named = {word.partition("/")[0] for word in words}
    if words[0] != "kubectl" or not {"get", "wait"} & set(words) or not PINNS & named:
        return []
    asked = [word.partition("jsonpath=")[2] for word in words if "jsonpath=" in word]
    found, within = [], ""
    for part in BRACES.findall(" ".join(asked)):
        if part == "end":
            within = ""
        elif part.startswith("range "):
            within = part.removeprefix("range ")
            found.append(within)
        elif part.startswith("."):
            found.append(within + part)
    return found


def _is_there(path: str) -> bool:
    """Whether the definition has a field under this path of JSONPath; items of a list are looked at, whichever they are."""
    node: Any = whole_schema()
    for name in re.sub(r"\[[^\]]*\]", ".[]", path).strip(".").split("."):
        node = node.get("items") if name == "[]" else node.get("properties", {}).get(name)
        if node is None:
            return False
    return True


ASKED_FOR = sorted(
    {(command.page, path) for command in COMMANDS for path in _paths(command.words)}
    | {
        (str(page.relative_to(ROOT)), path)
        for page in pages()
        for path in NAMED.findall(page.read_text())
        if path not in OF_OTHERS
    }
)


@pytest.mark.parametrize(("page", "path"), ASKED_FOR)
def test_a_field_that_a_page_reads_is_one_that_the_definition_has(page: str, path: str) -> None:
    assert _is_there(path), f"{page}: a PinnDeployment has no {path}"


def test_the_fields_of_a_range_are_those_of_its_items() -> None:
    words = ("kubectl", "get", "pinn", "x", "-o", "jsonpath={range .status.history[*]}{.at}{end}{.spec.cache}")
    assert _paths(words) == [".status.history[*]", ".status.history[*].at", ".spec.cache"]
    assert all(map(_is_there, _paths(words)))
    assert _is_there('.status.conditions[?(@.type=="Ready")].message')
    assert not _is_there(".status.history[-1:].reason")
    assert not _is_there(".status.history.at")


def test_events_are_sorted_by_a_time_that_they_have() -> None:
    """Those of the operator are of events.k8s.io: they have no lastTimestamp."""
    found = {word for command in COMMANDS if "events" in command.words for word in command.words if "sort-by" in word}
    assert found == {"--sort-by=.metadata.creationTimestamp"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_whole_manifest_in_a_document_is_one_that_is_accepted(page: Path, tmp_path: Path) -> None:
    for number, body in enumerate(blocks(page.read_text(), "yaml")):
        documents = [
            one for one in yaml.safe_load_all(body) if isinstance(one, dict) and "model" in one.get("spec", {})
        ]
        if not documents or "..." in body:
            continue
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump_all(documents))
        assert [line.text for line in validate([str(file)]) if line.verdict is not Verdict.ACCEPTED] == []


def test_the_commands_of_a_line_are_told_apart() -> None:
    line = "X=1 a $(b -c 'd e') --f=g | h - && i > j  # k"
    assert list(simple(line)) == [["b", "-c", "d e"], ["a", "SUBSTITUTED", "--f=g"], ["h", "-"], ["i"]]


def test_there_are_commands_to_be_checked() -> None:
    assert len({command.words[0] for command in COMMANDS} & CHECKS.keys()) >= 4
    assert len(COMMANDS) > 50
