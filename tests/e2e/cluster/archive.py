# Writes container images as a docker-archive, the format of `docker save`, without a container engine.
# Layers are plain tar files and may be shared by several images in one archive.
from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CREATED = "2026-01-01T00:00:00Z"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layer:
    tar: Path
    sha256: str


@dataclass(frozen=True)
class Image:
    name: str
    layers: Sequence[Layer]
    config: dict[str, Any] = field(default_factory=dict)


def architecture() -> str:
    return ARCHITECTURES.get(platform.machine(), platform.machine())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def layer(tar: Path, fill: Callable[[tarfile.TarFile], None]) -> Layer:
    """A layer from entries that `fill` adds."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as file:
        fill(file)
    return Layer(tar, file_sha256(tar))


def layer_of_tree(tar: Path, root: Path) -> Layer:
    """A layer from a folder, by GNU tar: it keeps owners, links and extended attributes."""
    command = ["tar", "--create", "--file", str(tar), "--directory", str(root), "--numeric-owner", "--xattrs", "."]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return Layer(tar, file_sha256(tar))


def add_folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    entry.mode = mode
    tar.addfile(entry)


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.SYMTYPE
    entry.linkname = target
    tar.addfile(entry)


def add_program(tar: tarfile.TarFile, name: str, source: Path) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o755
    entry.size = source.stat().st_size
    with source.open("rb") as file:
        tar.addfile(entry, file)


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def image_config(image: Image) -> bytes:
    document = {
        "architecture": architecture(),
        "os": "linux",
        "created": CREATED,
        "config": {"Env": [DEFAULT_PATH], **image.config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in image.layers]},
        # Two images of the same layers and settings would be one to a runtime: the name keeps them apart.
        "history": [{"created": CREATED, "comment": image.name} for _ in image.layers],
    }
    return json.dumps(document, sort_keys=True).encode()


def images_in(archive: Path) -> dict[str, str]:
    """The names in a docker-archive and the ids of their images; empty for an archive of another format."""
    with tarfile.open(archive) as tar:
        try:
            file = tar.extractfile("manifest.json")
        except KeyError:
            return {}
        manifest = json.load(file) if file is not None else []
    found = {}
    for entry in manifest:
        image_id = Path(entry["Config"]).name.removesuffix(".json")
        found.update(dict.fromkeys(entry.get("RepoTags") or [], f"sha256:{image_id}"))
    return found


def write_archive(out: Path, images: Sequence[Image]) -> None:
    written: set[str] = set()
    manifest = []
    with tarfile.open(out, "w") as tar:
        for image in images:
            config = image_config(image)
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            add_bytes(tar, config_name, config)
            for part in image.layers:
                if part.sha256 not in written:
                    tar.add(part.tar, arcname=f"{part.sha256}.tar")
                    written.add(part.sha256)
            layers = [f"{part.sha256}.tar" for part in image.layers]
            manifest.append({"Config": config_name, "RepoTags": [image.name], "Layers": layers})
        add_bytes(tar, "manifest.json", json.dumps(manifest).encode())
