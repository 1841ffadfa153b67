"""A copy of a shipped model with something changed, and a digest that is right all the same: damage that no digest shows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pinn_inference.artifacts import digest as digests
from pinn_inference.artifacts import folder as folders

Edit = Callable[[dict[str, Any]], None]


def rewritten(source: Path, to: Path, edit: Edit | None = None, **changed: bytes | None) -> Path:
    """`edit` changes the manifest; `changed` other files, a double underscore in the name for the dot, None to leave it out."""
    files = {**folders.read(source), **{name.replace("__", "."): content for name, content in changed.items()}}
    whole = {name: content for name, content in files.items() if content is not None}
    manifest = json.loads(whole[digests.MANIFEST])
    if edit:
        edit(manifest)
    whole[digests.MANIFEST] = json.dumps(manifest, indent=2).encode()
    whole[digests.MANIFEST] = digests.stated(whole[digests.MANIFEST], digests.digest(whole))
    to.mkdir(parents=True, exist_ok=True)
    for name in folders.FILES:
        (to / name).unlink(missing_ok=True)
    for name, content in whole.items():
        (to / name).write_bytes(content)
    return to
