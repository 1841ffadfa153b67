"""The PinnDeployment that a person gives in a file: read as kubectl reads it, and refused with the file's name and a remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pinn_operator.api.check import is_ours
from pinn_operator.plugin.kubectl import Object, Trouble
from pinn_operator.validate import documents


def given(file: str, service: str, namespace: str) -> Object:
    """The only one in the file, which must have the Service's name, and its namespace if it says one."""
    found = _documents(file)
    if len(found) != 1 or not is_ours(found[0]):
        raise Trouble(f"{file}: one PinnDeployment is wanted, and nothing else", code=2)
    metadata = found[0].get("metadata")
    if not isinstance(metadata, dict):
        raise Trouble(f"{file}: metadata must be a mapping with name: {service}, as the Service is called", code=2)
    if (name := metadata.get("name")) != service:
        raise Trouble(f"{file}: metadata.name is {name}; it must be {service}, as the Service is called", code=2)
    if (other := metadata.get("namespace") or namespace) != namespace:
        raise Trouble(
            f"{file}: metadata.namespace is {other}, and Service/{service} is looked for in {namespace}; "
            f"say -n {other}, or take the namespace out of the file",
            code=2,
        )
    return dict(found[0])


def _documents(file: str) -> list[Any]:
    try:
        return documents(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise Trouble(
            f"{file} cannot be read: {error.strerror}; name a file that you may read with -f", code=2
        ) from None
    except UnicodeDecodeError:
        raise Trouble(f"{file} is no UTF-8 text; save it as UTF-8", code=2) from None
    except yaml.YAMLError as error:
        raise Trouble(f"{file} is no YAML: {' '.join(str(error).split())}; correct it there", code=2) from None
