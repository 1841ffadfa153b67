# Debian's packages without installing them: single packages unpacked into a folder of the cache, and
# whole root file systems by debootstrap. The machine's own packages and services are left alone, and the
# mirror is the one that its own apt sources name.
from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .cache import Cache, digest
from .errors import ClusterError
from .proc import output_of, run_logged

MINUTE = 60.0
APT = ["apt-get", "-o", "APT::Get::AllowUnauthenticated=false", "-o", "Acquire::Retries=3"]
SUITE = "bookworm"


@dataclass(frozen=True)
class Package:
    name: str
    version: str


def parse_simulation(text: str) -> list[Package]:
    """What `apt-get install --simulate` would add; packages it would only upgrade are there already."""
    new = re.compile(r"^Inst (\S+) \((\S+) ")
    found = (new.match(line) for line in text.splitlines())
    return sorted((Package(m[1], m[2]) for m in found if m), key=lambda p: p.name)


def parse_mirror(index_targets: str, suite: str) -> str | None:
    """The site that apt itself has for a suite's main component."""
    for line in index_targets.splitlines():
        fields = line.split()
        if fields[1:] == [suite, "main"]:
            return fields[0]
    return None


def update_lists(cache: Cache) -> None:
    run_logged(
        [*APT, "update"], what="updating apt's package lists", log=cache.logs / "apt.log", limit=5 * MINUTE, expected=5
    )


def mirror(suite: str = SUITE) -> str:
    fields = "$(SITE) $(RELEASE) $(COMPONENT)"
    targets = output_of(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    site = parse_mirror(targets, suite)
    if site is None:
        raise ClusterError(f"apt's sources have no `main` of {suite}: `apt-get indextargets` names none")
    return site


def unpacked(cache: Cache, name: str, packages: list[str]) -> Path:
    """The packages with what they depend on and this machine lacks, unpacked but not installed."""
    wanted = resolve(cache, packages)
    if not cache.has(name, packages_key(wanted)):
        update_lists(cache)  # or the mirror may have newer versions only
        wanted = resolve(cache, packages)

    def download(place: Path) -> None:
        archives = place / "archives"
        archives.mkdir()
        log = cache.logs / f"{name}.log"
        # `_apt` must not be asked to write into a folder of root's.
        run_logged(
            [*APT, "-o", "APT::Sandbox::User=root", "download", *(f"{p.name}={p.version}" for p in wanted)],
            what=f"downloading {len(wanted)} packages for {name}",
            log=log,
            limit=15 * MINUTE,
            expected=15,
            cwd=archives,
        )
        for archive in sorted(archives.glob("*.deb")):
            run_logged(
                ["dpkg-deb", "--extract", archive, place], what=f"unpacking {archive.name}", log=log, limit=5 * MINUTE
            )
        shutil.rmtree(archives)
        link_iptables(place)

    return cache.artefact(name, packages_key(wanted), download, keep_others=True)


def packages_key(packages: list[Package]) -> str:
    return digest(["1", *(f"{p.name}={p.version}" for p in packages)])


def resolve(cache: Cache, packages: list[str]) -> list[Package]:
    simulate = [*APT, "install", "--simulate", "--no-install-recommends", *packages]
    try:
        return parse_simulation(output_of(simulate))
    except ClusterError:
        update_lists(cache)  # a fresh machine may have no lists yet
        return parse_simulation(output_of(simulate))


def link_iptables(root: Path) -> None:
    """Unpacking runs no maintainer scripts, and those make the names by which iptables is called."""
    if not (root / "usr/sbin/xtables-nft-multi").exists():
        return
    for name in ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"):
        (root / "usr/sbin" / name).symlink_to("xtables-nft-multi")


def tools_environment(root: Path) -> dict[str, str]:
    """An environment in which the programs unpacked at `root` find each other and their libraries."""
    libraries = [str(p) for p in sorted((root / "usr/lib").glob("*-linux-gnu"))]
    binaries = [str(root / "usr/sbin"), str(root / "usr/bin")]
    env = dict(os.environ)
    env["PATH"] = ":".join([*binaries, env.get("PATH", ""), "/usr/sbin", "/sbin"])
    env["LD_LIBRARY_PATH"] = ":".join([*libraries, *filter(None, [env.get("LD_LIBRARY_PATH")])])
    for xtables in (root / "usr/lib").glob("*-linux-gnu/xtables"):
        env["XTABLES_LIBDIR"] = str(xtables)
    return env


def root_filesystem(
    cache: Cache, name: str, packages: list[str], expected: float, finish: Callable[[Path], None] | None = None
) -> Path:
    """A minimal Debian with the given packages in a folder of the cache; `finish` may change it once more."""
    tools = unpacked(cache, "debootstrap", ["debootstrap"])
    site = mirror()

    def bootstrap(place: Path) -> None:
        env = tools_environment(tools) | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        env.pop("LD_LIBRARY_PATH")
        if (tools / "usr/share/debootstrap").is_dir():
            env["DEBOOTSTRAP_DIR"] = str(tools / "usr/share/debootstrap")
        log = cache.logs / f"{name}.log"
        run_logged(
            ["nice", "debootstrap", "--variant=minbase", SUITE, place / "root", site],
            what=f"debootstrap for {name}",
            log=log,
            limit=20 * MINUTE,
            expected=45,
            env=env,
        )
        with prepared_for_apt(place / "root"):
            run_logged(
                ["nice", "chroot", place / "root", *APT, "install", "-y", "--no-install-recommends", *packages],
                what=f"installing packages for {name}",
                log=log,
                limit=20 * MINUTE,
                expected=expected,
                env=env,
            )
        trim(place / "root")
        if finish is not None:
            finish(place / "root")

    return cache.artefact(name, digest(["3", SUITE, *packages]), bootstrap)


@contextlib.contextmanager
def prepared_for_apt(root: Path) -> Iterator[None]:
    """/proc for maintainer scripts, name resolution for apt, and no service started by an installation."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    output_of(["mount", "-t", "proc", "proc", root / "proc"])
    try:
        yield
    finally:
        output_of(["umount", "--lazy", root / "proc"])
        policy.unlink()
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n")


def trim(root: Path) -> None:
    """Drop what an image needs least: half of a minimal Debian is lists, caches and texts."""
    for name in ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(root / name, ignore_errors=True)
    for locale in (root / "usr/share/locale").glob("*"):
        shutil.rmtree(locale, ignore_errors=True)
    for log in (root / "var/log").rglob("*"):
        if log.is_file():
            log.unlink()
    for name in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / name).mkdir(parents=True)
