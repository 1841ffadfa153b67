"""Text of others without what looks like a secret: log tails are kept with the report of a rollout and get passed around.

Rather too much than too little: a line that says `token` loses every long word after it. It is a net, not a proof; servers
should not log secrets.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

REDACTED: Final = "[redacted]"
LONGEST_LINE: Final = 2000
"""So that no pattern here has a long way to go."""

_WORDS: Final = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|credential|cookie|signature|authori[sz]ation|bearer|"
    r"(?:api|access|private|account|shared|master|signing|encryption|subscription)[-_ ]?key|session[-_ ]?id|x-amz-[a-z-]{1,40}|"
    r"(?<![a-z])(?:auth|sig)(?![a-z])|(?<!by)(?<!com)pass(?![a-z])|"
    r"(?<!cache)(?<!public)(?<!primary)(?<!foreign)(?<=[a-z0-9])[-_]key(?![a-z])"
    r"(?!: (?:[\d.]{1,20} %|no (?:rate|metrics,)|the canary) ))"
)
_NAME: Final = rf"{_WORDS}[\w.\-]{{0,40}}"
_SPACE: Final = r"\s{0,5}"
_ASSIGNED: Final = rf"""(?:\\*["'])?{_SPACE}(?:=>|->|={{1,2}}|>|%3d){_SPACE}"""
_SAID: Final = rf"""(?:(?:\\*["'])?{_SPACE}(?::=?|%3a){_SPACE}|\\*["']{_SPACE},{_SPACE})"""
_QUOTED: Final = (
    r"""[bruf]{0,2}(?:"(?:[^"\\]|\\.)*(?:["\\]|$)|'(?:[^'\\]|\\.)*(?:['\\]|$)|"""
    r"""\\+".*?(?:\\+"|$)|\\+'.*?(?:\\+'|$))[^\s,;:}\])]*"""
)

_OF_LINES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), kept + REDACTED)
    for pattern, kept in (
        (
            rf"((?:authori[sz]ation|cookie)[\w.\-]{{0,40}}{_ASSIGNED}|{_NAME}{_SAID})(?:{_QUOTED}|\S.*)"
            rf"|({_NAME}{_ASSIGNED})(?:{_QUOTED}|[\[{{(].*|\S+)",
            r"\1\2",
        ),
        (r"([a-z][a-z0-9+.\-]{1,20}://)(?:[^\s/@:]{0,200}:\S{0,500}|[^\s/@]{1,500})(?=@)", r"\1"),
        (
            r"[^\s:@/\"'(=]{1,100}:(?!//)[^\s@]\S{0,300}?(?=@(?:[a-z][a-z0-9]{1,20})?[(/])",
            "",
        ),  # user:password@tcp(host)
        (r"((?:[?&]|%3f|%26)key(?:=|%3d))[^\s&#\"'<>\\]+", r"\1"),
        (r"\b(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{12,}", ""),
        (
            r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|[sr]k_(?:live|test)_|hf_|npm_|pypi-|AIza)[\w\-]{12,}",
            "",
        ),
        (r"\beyJ[\w\-]{5,}\.[\w\-]+(?:\.[\w\-]*)?", ""),
        (rf"(--?{_NAME}\s{{1,5}}|--[\w\-]{{1,40}}?(?:pass|[-_]key)(?![a-z])\s{{1,5}})\S+", r"\1"),
        (
            r"((?<![\w\-])(?:-u\s{0,5}|--(?:proxy-)?user[\s=]{1,5}))(?!\d+:\d+(?!\S))(?=[^\s:]{1,200}:(?!//)\S)"
            rf"(?:{_QUOTED}|\S+)",  # as curl has it; numbers alone are a user's and a group's
            r"\1",
        ),
        (r"(\bbearer(?:\s{1,5}token)?[\s:=\"']{1,5})\S+", r"\1"),
        (r"(\b(?:basic|digest|negotiate)\s{1,5})[A-Za-z0-9+/=_\-]{6,}", r"\1"),
    )
)
_AFTER_A_WORD: Final = re.compile(rf"({_NAME})(.*)", re.IGNORECASE)
_LONG: Final = re.compile(r"[A-Za-z0-9+/_=~.\-]{16,}")
_KEY: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_END_OF_KEY: Final = re.compile(r"\A.*-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_UNPRINTABLE: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]"
)


def redacted(text: str) -> str:
    """The text with secrets replaced, without terminal codes; lines beyond 2,000 characters are cut."""
    plain = _UNPRINTABLE.sub("", text.encode("utf-8", "replace").decode())
    without_keys = _END_OF_KEY.sub(REDACTED, _KEY.sub(REDACTED, plain))
    return "\n".join(_line(line) for line in without_keys.split("\n"))


@lru_cache(4096)
def is_telling(name: str) -> bool:
    """Whether what goes under this name is a secret, whatever it looks like."""
    return bool(name) and redacted(f"{name}: x") != f"{name}: x"


def tail(text: str, most: int) -> str:
    """The last whole lines within so many characters: half a line may be a secret without the word that tells it."""
    if len(text) <= most:
        return text
    return text[-most:].partition("\n")[2] if most > 0 else ""


def _line(line: str) -> str:
    line = shortened(line, LONGEST_LINE)
    for pattern, instead in _OF_LINES:
        line = pattern.sub(instead, line)
    return _AFTER_A_WORD.sub(lambda found: found[1] + _LONG.sub(REDACTED, found[2]), line)


def shortened(text: str, most: int) -> str:
    """Its beginning, and that it was cut."""
    return text if len(text) <= most else text[: most - 6] + " [cut]"
