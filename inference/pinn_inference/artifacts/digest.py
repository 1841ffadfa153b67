"""The digest of a model: one SHA-256 that covers every file of it, the manifest included.

Canonical form, so that anyone can compute it with standard tools: for each file of the model, sorted by name, the line
`<sha256 of its bytes in hex><two spaces><name><newline>`, as sha256sum prints it; the digest is the SHA-256 of those lines.
Of manifest.json, which states the digest itself, the bytes counted are those with the digest's 64 hex digits set to zeros
and the training time, which no seed decides, set to 0: training again gives the same digest. Both are found by their place in the
layout that `manifest.write` gives: nothing is parsed before it is proven, and sed finds them as well.
"""

import hashlib
import re
from collections.abc import Mapping

MANIFEST = "manifest.json"
_STATED = re.compile(rb'^(  "digest": "sha256:)[0-9a-f]{64}"', re.MULTILINE)
_TRAINING = re.compile(rb'^  "training": \{$.*?(?:^  \}|\Z)', re.MULTILINE | re.DOTALL)
_SECONDS = re.compile(rb'^(    "seconds": )[0-9.]+', re.MULTILINE)


def digest(files: Mapping[str, bytes]) -> str:
    """`sha256:...` of a model's files."""
    lines = "".join(f"{file_digest(_canonical(name, files[name]))}  {name}\n" for name in sorted(files))
    return f"sha256:{file_digest(lines.encode())}"


def stated(manifest: bytes, value: str) -> bytes:
    """The manifest with its digest field set to `value`."""
    return _STATED.sub(lambda found: found[1] + value.removeprefix("sha256:").encode() + b'"', manifest)


def states_one(manifest: bytes) -> bool:
    """Whether a manifest has its digest where it is looked for."""
    return _STATED.search(manifest) is not None


def file_digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _canonical(name: str, content: bytes) -> bytes:
    if name != MANIFEST:
        return content
    timeless = _TRAINING.sub(lambda found: _SECONDS.sub(rb"\g<1>0", found[0]), content)
    return stated(timeless, "0" * 64)
