# The command line: python3 -m tests.e2e.cluster up|down|status|run|kubectl|build-image|load
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import images
from .cache import Cache, remove_tree
from .cluster import DEFAULT_NAME, Cluster
from .errors import EXIT_FAILED, ClusterError
from .proc import interruptible, say

EXIT_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 -m tests.e2e.cluster", description="A cluster for the tests.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name (default: %(default)s)")
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="start it, or reuse the one that runs")
    up.add_argument("--nodes", type=positive, default=1, help="one control plane, the rest workers (default: 1)")
    down = commands.add_parser("down", parents=[common], help="remove everything that runs")
    down.add_argument("--caches", action="store_true", help="remove what was built and downloaded as well")
    commands.add_parser("status", parents=[common], help="say whether it runs; exit status 0 if it does")
    run = commands.add_parser("run", parents=[common], help="run a command where the cluster is reachable")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    kubectl = commands.add_parser("kubectl", help="run kubectl against it", add_help=False)
    kubectl.add_argument("argv", nargs=argparse.REMAINDER)
    build = commands.add_parser("build-image", help="build an image and print its archive's path")
    build.add_argument("--file", type=Path, required=True, help="the Dockerfile")
    build.add_argument("--tag", required=True, help="the image's name and tag")
    build.add_argument("--context", type=Path, default=Path(), help="the folder to build in (default: this one)")
    build.add_argument("--out", type=Path, help="copy the archive to this path")
    build.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    build.add_argument("--target", help="the stage to build")
    load = commands.add_parser("load", parents=[common], help="load image archives into its nodes")
    load.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    return top


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def protected(argv: list[str]) -> list[str]:
    """`kubectl -n x` -> `kubectl -- -n x`: argparse would take kubectl's first option for its own."""
    return ["kubectl", "--", *argv[1:]] if argv[:1] == ["kubectl"] else argv


def without_separator(argv: list[str]) -> list[str]:
    return argv[1:] if argv[:1] == ["--"] else argv


def up(arguments: argparse.Namespace) -> int:
    cluster = Cluster(arguments.name)
    cluster.up(arguments.nodes)
    option = "" if arguments.name == DEFAULT_NAME else f" --name {arguments.name}"
    print(f"KUBECONFIG={cluster.kubeconfig}")
    print(f"Use it by: python3 -m tests.e2e.cluster run{option} -- COMMAND, or ... kubectl ARGS", file=sys.stderr)
    return 0


def down(arguments: argparse.Namespace) -> int:
    cache = Cache()
    Cluster(arguments.name, cache=cache).down()
    if arguments.caches:
        others = [p.name for p in (cache.root / "state").glob("*")]
        if others:
            raise ClusterError(f"the cache is in use by {', '.join(others)}: `down --name` first")
        images.remove_storage(cache)
        if cache.root.exists():
            remove_tree(cache.root)
    say("nothing is left running")
    return 0


def status(arguments: argparse.Namespace) -> int:
    found = Cluster(arguments.name).status()
    print(f"way: {found.way.value}\nstate: {'up' if found.running else 'down'} ({found.detail})")
    print(f"KUBECONFIG={found.kubeconfig}")
    return 0 if found.running else EXIT_FAILED


def run(arguments: argparse.Namespace) -> int:
    argv = without_separator(arguments.argv)
    if not argv:
        raise ClusterError("run: no command given")
    Cluster(arguments.name).exec(argv)
    return 0


def kubectl(arguments: argparse.Namespace) -> int:
    cluster = Cluster()
    cluster.exec([cluster.kubectl(), *without_separator(arguments.argv)])
    return 0


def build_image(arguments: argparse.Namespace) -> int:
    request = images.Request(
        dockerfile=arguments.file,
        tag=arguments.tag,
        context=arguments.context,
        build_args=tuple(arguments.build_arg),
        target=arguments.target,
    )
    print(images.build(Cache(), request, arguments.out))
    return 0


def load(arguments: argparse.Namespace) -> int:
    Cluster(arguments.name).load(*arguments.archives)
    return 0


COMMANDS = {
    "up": up,
    "down": down,
    "status": status,
    "run": run,
    "kubectl": kubectl,
    "build-image": build_image,
    "load": load,
}


def main() -> int:
    arguments = parser().parse_args(protected(sys.argv[1:]))
    try:
        with interruptible():
            return COMMANDS[arguments.command](arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; `up` carries on from here, `down` cleans up", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
