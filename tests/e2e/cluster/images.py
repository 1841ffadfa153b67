# Builds images from Dockerfiles into archives that `load` takes: by a container engine where one answers,
# else by buildah, which needs none. An archive is kept under a hash of all that went into it, so building
# an unchanged image again is instant; third-party images can be built by the same call.
from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .archive import architecture
from .cache import Cache, digest, remove_tree, tree_digest
from .errors import EXIT_NO_WAY, ClusterError
from .proc import run_logged
from .ways import Surroundings, is_own_engine, look

BASE_NAME = "localhost/python:3.11"
BASE_PACKAGES = ["python3", "python3-venv", "python3-pip", "ca-certificates"]
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
IMAGE_LOCK = "images"  # images may take long, and a cluster need not wait for them
MINUTE = 60.0


@dataclass(frozen=True)
class Request:
    dockerfile: Path
    tag: str
    context: Path = Path()
    build_args: tuple[str, ...] = ()
    target: str | None = None


def full_name(tag: str) -> str:
    """An image's name as Kubernetes completes it: registry and tag made explicit."""
    first, slash, _ = tag.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    name = tag if has_registry else f"docker.io/{tag}" if slash else f"docker.io/library/{tag}"
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"


def copied_paths(dockerfile: str) -> list[str] | None:
    """What a Dockerfile takes from its context; None when only the whole context will do."""
    paths: set[str] = set()
    for keyword, rest in instructions(dockerfile):
        if keyword == "RUN" and re.search(r"--mount=\S*type=bind", rest):
            return None
        if keyword not in ("COPY", "ADD"):
            continue
        sources = copy_sources(rest)
        if any("$" in s for s in sources):
            return None
        paths.update(s for s in sources if "://" not in s)
    return sorted(paths)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(KEYWORD, rest) of each instruction, with continued lines joined and comments dropped."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(keyword.upper(), rest.strip()) for keyword, _, rest in found]


def copy_sources(rest: str) -> list[str]:
    words = rest.split()
    while words and words[0].startswith("--"):
        if words[0].startswith("--from="):
            return []
        words.pop(0)
    remainder = " ".join(words)
    operands = json.loads(remainder) if remainder.startswith("[") else shlex.split(remainder)
    return [str(operand) for operand in operands[:-1]]


def context_files(context: Path, dockerfile: str) -> list[Path]:
    """The files and folders whose content decides what the image will be."""
    ignore = [p for p in [context / ".dockerignore"] if p.exists()]
    copied = copied_paths(dockerfile)
    if copied is None:
        return [context]
    found: list[Path] = []
    for pattern in copied:
        relative = pattern.lstrip("/").removeprefix("./").rstrip("/")
        matches = list(context.glob(relative)) if relative not in ("", ".") else [context]
        if not matches:
            raise ClusterError(f"the Dockerfile copies {pattern}, and {context} has no such file")
        found += matches
    return found + ignore


def request_key(request: Request, builder: str) -> str:
    text = request.dockerfile.read_text()
    content = tree_digest(context_files(request.context, text), request.context)
    return digest(["2", builder, architecture(), text, content, request.tag, request.target or "", *request.build_args])


def build(cache: Cache, request: Request, out: Path | None = None) -> Path:
    """The image's archive: one already built from the same files, or a new one."""
    request = Request(
        request.dockerfile.absolute(), request.tag, request.context.absolute(), request.build_args, request.target
    )
    if not request.dockerfile.is_file():
        raise ClusterError(f"{request.dockerfile}: no such file")
    found = look()
    builder = choose_builder(found)
    name = "image-" + re.sub(r"[^a-z0-9]+", "_", full_name(request.tag).lower())
    if builder == "docker":
        key = request_key(request, builder)
        folder = cache.artefact(
            name, key, lambda place: build_with_docker(cache, request, place / "image.tar"), lock=IMAGE_LOCK
        )
    else:
        buildah = Buildah(cache)
        key = request_key(request, f"buildah {buildah.base_key}")
        folder = cache.artefact(name, key, lambda place: buildah.build(request, place / "image.tar"), lock=IMAGE_LOCK)
    archive = folder / "image.tar"
    if out is None:
        return archive
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(archive, out)
    return out.absolute()


def choose_builder(found: Surroundings) -> str:
    if found.engine_answers:
        return "docker"
    missing = found.missing_for_own()
    if not missing:
        return "buildah"
    raise ClusterError(
        "No image can be built here: no container engine answers `docker info`, "
        f"and building without one lacks {' and '.join(missing)}.",
        exit_code=EXIT_NO_WAY,
    )


def options(request: Request) -> list[str]:
    arguments = [word for pair in request.build_args for word in ("--build-arg", pair)]
    return arguments + (["--target", request.target] if request.target else [])


def build_with_docker(cache: Cache, request: Request, out: Path) -> None:
    log = cache.logs / "images.log"
    tag = request.tag
    command: list[str | Path] = [
        "docker",
        "build",
        "--file",
        request.dockerfile,
        "--tag",
        tag,
        *options(request),
        request.context,
    ]
    run_logged(command, what=f"building {tag}", log=log, limit=60 * MINUTE, expected=60)
    run_logged(["docker", "save", "--output", out, tag], what=f"saving {tag}", log=log, limit=10 * MINUTE)


class Buildah:
    """Builds in chroots on the machine's own network, on a base image made from Debian's packages."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.log = cache.logs / "images.log"
        self.tools = debian.unpacked(cache, "buildah", ["buildah"])
        self.base = debian.root_filesystem(cache, "python-root", BASE_PACKAGES, expected=20, finish=finish_python)
        self.base_key = self.base.name
        self.storage = cache.root / "buildah"

    def build(self, request: Request, out: Path) -> None:
        if is_own_engine(os.environ, self.cache.root):
            raise ClusterError(f"{request.tag} is to be built, and under `run` there is no network: build it before")
        self._configure()
        self._ensure_base()
        name = full_name(request.tag)
        arguments: list[str | Path] = ["--isolation", "chroot", "--network", "host"]
        arguments += ["--format", "docker", "--layers", "--pull-never", "--file", request.dockerfile]
        arguments += ["--tag", name, *self._volumes(), "--build-arg", f"BASE_IMAGE={BASE_NAME}"]
        self._run(
            f"building {request.tag}", 60, "build-using-dockerfile", *arguments, *options(request), request.context
        )
        self._run(f"writing the archive of {request.tag}", 5, "push", name, f"docker-archive:{out}:{name}")

    def _run(self, what: str, expected: float, command: str, *arguments: str | Path) -> None:
        argv: list[str | Path] = ["buildah", "--root", self.storage / "root", "--runroot", self.storage / "run"]
        argv += ["--storage-driver", storage_driver(), "--registries-conf", self.storage / "registries.conf"]
        argv += [command, "--signature-policy", self.storage / "policy.json", *arguments]
        # Mounts of its own: however it ends, none stays. In them the loader's cache knows the libraries that
        # were unpacked with it; LD_LIBRARY_PATH would not reach the process that buildah starts for RUN.
        script = 'ldconfig -C "$CACHE" "$@" && mount --bind "$CACHE" /etc/ld.so.cache'
        libraries = sorted((self.tools / "usr/lib").glob("*-linux-gnu"))
        prefix: list[str | Path] = ["unshare", "--mount", "nice", "sh", "-c", f'{script} && eval "exec $COMMAND"', "sh"]
        env = debian.tools_environment(self.tools)
        env.pop("LD_LIBRARY_PATH")
        env["TMPDIR"] = str(self.storage / "tmp")
        env["CACHE"] = str(self.storage / "ld.so.cache")
        env["COMMAND"] = shlex.join(map(str, argv))
        run_logged([*prefix, *libraries], what=what, log=self.log, limit=60 * MINUTE, expected=expected, env=env)

    def _configure(self) -> None:
        (self.storage / "tmp").mkdir(parents=True, exist_ok=True)
        (self.storage / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        (self.storage / "registries.conf").write_text("unqualified-search-registries = []\n")
        (self.storage / "pip.conf").write_text(f"[global]\ncert = {BUNDLE}\ndisable-pip-version-check = true\n")

    def _volumes(self) -> list[str]:
        """The machine's certificates and pip's setting to use them: mounted, so that no image contains them."""
        mounts = {self.storage / "pip.conf": Path("/etc/pip.conf")}
        if BUNDLE.exists():
            mounts[BUNDLE] = BUNDLE
        return [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")]

    def _ensure_base(self) -> None:
        """Import the base's root file system once; a mark beside the storage tells which one is in it."""
        mark = self.storage / "base"
        if mark.exists() and mark.read_text() == self.base_key:
            return
        scratch = self.storage / "base-image"
        if scratch.exists():
            remove_tree(scratch)
        scratch.mkdir()
        (scratch / "Dockerfile").write_text(
            "FROM scratch\nADD base.tar /\nENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin "
            'LANG=C.UTF-8\nCMD ["python3"]\n'
        )
        with tarfile.open(scratch / "base.tar", "w") as tar:
            tar.add(self.base / "root", arcname=".")
        arguments: list[str | Path] = ["--isolation", "chroot", "--format", "docker", "--tag", BASE_NAME]
        self._run(f"importing {BASE_NAME}", 10, "build-using-dockerfile", *arguments, scratch)
        remove_tree(scratch)
        mark.write_text(self.base_key)


def finish_python(root: Path) -> None:
    """Make Debian's Python look like the python image: `python` and `pip` that install for everyone."""
    for name, target in {"python": "/usr/bin/python3", "python3": "/usr/bin/python3", "pip": "/usr/bin/pip3"}.items():
        (root / "usr/local/bin" / name).symlink_to(target)
    for marker in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
        marker.unlink()


def storage_driver() -> str:
    return "overlay" if "\toverlay\n" in Path("/proc/filesystems").read_text() else "vfs"


def remove_storage(cache: Cache) -> None:
    storage = cache.root / "buildah"
    if storage.exists():
        remove_tree(storage)
