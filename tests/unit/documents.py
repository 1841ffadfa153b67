"""The commands that the documents name, as a shell would see them: for tests of what is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}\$ .*\n(?:^ {4}.*\n)*)+", re.MULTILINE)
SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
JOINED = re.compile(r"\\\n\s*")
AND = frozenset({"|", "||", "&&", ";", "&"})


@dataclass(frozen=True)
class Command:
    """One simple command: its words, and where it is written."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def pages() -> list[Path]:
    """Every document for people."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(text: str, kind: str) -> list[str]:
    """The bodies of a page's fenced blocks of one kind."""
    return [match["body"] for match in FENCE.finditer(text) if match["kind"] == kind]


def lines(text: str) -> list[str]:
    """What follows a prompt on a page, continued lines joined."""
    written = [*blocks(text, "console"), *(match[0] for match in INDENTED.finditer(FENCE.sub("", text)))]
    found: list[str] = []
    for block in written:
        body = JOINED.sub(" ", "\n".join(line.strip() for line in block.splitlines()))
        found += [_whole(body[start.end() :]) for start in re.finditer(r"^\$ ", body, re.MULTILINE)]
    return found


def commands() -> list[Command]:
    """Every simple command of every page, those in $(...) too."""
    return [
        Command(str(page.relative_to(ROOT)), tuple(words))
        for page in pages()
        for line in lines(page.read_text())
        for words in simple(line)
    ]


def simple(line: str) -> Iterator[list[str]]:
    """The simple commands of a line: parts of pipes and lists, and what is substituted; without redirections and settings."""
    for inner in SUBSTITUTION.findall(line):
        yield from simple(inner)
    lexer = shlex.shlex(SUBSTITUTION.sub("SUBSTITUTED", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token in AND:
            yield from ([_without_settings(words)] if _without_settings(words) else [])
            words = []
        else:
            words.append(token)


def _without_settings(words: list[str]) -> list[str]:
    while words and re.match(r"^[A-Za-z_]\w*=", words[0]):
        words = words[1:]
    for at, word in enumerate(words):
        if set(word) <= {"<", ">", "&"}:
            return words[:at]
    return words


def _whole(rest: str) -> str:
    """A command up to the end of its line, or of its quotes or pipe where those go on."""
    taken: list[str] = []
    for line in rest.split("\n"):
        taken.append(line)
        text = "\n".join(taken)
        if _closed(text) and not text.rstrip().endswith(("|", "&&")):
            return text
    return "\n".join(taken)


def _closed(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True
