"""`pinn-server`: serves a model, answers one question without a server, checks a server's health, lists and fetches models.

Plain argparse, and each command imports what it needs when it runs: a server's start is part of every scale-up.
"""

import argparse
import errno
import itertools
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pinn_inference import __version__

EXAMPLES = """examples:
  pinn-server serve                                    serve black-scholes 2.0.0 on port 8080, metrics on 8081
  pinn-server serve --model-version 1.0.0 --port 9000  another version, another port
  pinn-server predict --spot 100 --strike 105 --maturity 0.5 --rate 0.03 --volatility 0.2 --kind put
  pinn-server predict --model-name burgers --model-version 1.0.0 --x 0.01 --t 0.5 --viscosity 0.01
  pinn-server health http://127.0.0.1:8080             exit code 0 when ready, 1 when not
  pinn-server bench --json                             four scenarios and their verdicts
  pinn-server models                                   what can be served, and how wrong each is
  pinn-server models convert pinn.keras --manifest pinn.json --output /srv/pinn
  pinn-server models fetch oci://registry.example.com/models/bs:1 --to /srv/bs --digest sha256:...

Every option of `serve` is also a setting in the environment: PINN_SERVER_PORT=9000, PINN_SERVER_MODEL_VERSION=1.0.0."""

NOT_WRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of standard output: commands that write files say of those themselves what went wrong."""


def main(argv: list[str] | None = None) -> None:
    """Entry point; ends the process with the command's exit code."""
    try:
        try:
            code = _ran(argv)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # `pinn-server models | head`
        _drop_the_rest()
        code = 0
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        _drop_the_rest()
        code = _fail(f"error: standard output cannot be written: {error.strerror}")
    sys.exit(code)


def _drop_the_rest() -> None:
    """Of what is for standard output, or Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ran(argv: list[str] | None) -> int:
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    arguments.inputs = rest
    if rest and arguments.run is not _predict:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # before NumPy: the networks are small, and idle threads cost memory
    code: int = arguments.run(arguments)
    return code


def _serve(arguments: argparse.Namespace) -> int:
    # As process 1 of a container nothing is fatal by default: a SIGTERM while modules load would be lost.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from pinn_inference import logs, settings
    from pinn_inference.errors import SettingsError

    try:
        chosen = settings.load(
            model_name=arguments.model_name,
            model_version=arguments.model_version,
            model_uri=arguments.model_uri,
            models_dir=arguments.models_dir,
            host=arguments.host,
            port=arguments.port,
            admin_port=arguments.admin_port,
            log_format=arguments.log_format,
        )
    except SettingsError as error:
        logs.configure("info", settings.log_format_here())
        from pinn_inference.server import explain

        explain(error)
        return 1
    logs.configure(chosen.log_level, chosen.log_format)
    from pinn_inference import server

    code = server.serve(chosen)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _predict(arguments: argparse.Namespace) -> int:
    import asyncio

    import msgspec

    from pinn_inference import assembly, settings
    from pinn_inference.errors import PinnError
    from pinn_inference.monitoring import Metrics

    try:
        item = _inputs(arguments.inputs)
        chosen = settings.load(
            model_name=arguments.model_name, model_version=arguments.model_version, models_dir=arguments.models_dir
        )
        model = assembly.load(assembly.fetch(chosen), chosen, Metrics())
        question = model.codec.questions(msgspec.json.encode(item))
        answer = asyncio.run(_answered(model, question))
    except PinnError as error:
        return _fail(str(error))
    print(msgspec.json.format(msgspec.json.encode(model.codec.reply(answer, None)), indent=2).decode())
    return 0


async def _answered(model: Any, question: Any) -> Any:
    from pinn_inference import assembly

    await assembly.prepared(model)
    try:
        return await model.predictor.one(question, exact=True)
    finally:
        await model.engines.close()


def _inputs(given: list[str]) -> dict[str, float | str]:
    """`--dividend-yield 0.01 --kind=put` as the fields of a question: numbers where they are finite ones, else texts."""
    from pinn_inference.errors import InvalidInput

    found: dict[str, float | str] = {}
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for name, value in itertools.zip_longest(words[::2], words[1::2]):
        if not name.startswith("--") or value is None:
            raise InvalidInput(f"{name} stands alone; inputs are given as --NAME VALUE")
        found[name.removeprefix("--").replace("-", "_")] = _plain(value)
    return found


def _plain(text: str) -> float | str:
    try:
        return float(text) if math.isfinite(float(text)) else text
    except ValueError:
        return text


def _health(arguments: argparse.Namespace) -> int:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, build_opener

    url = arguments.url.rstrip("/") + "/v2/health/ready"
    if not url.startswith(("http://", "https://")):
        return _fail(f"{arguments.url!r} is no address; give one such as http://127.0.0.1:8080")
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=arguments.timeout):
            print("ready")
            return 0
    except HTTPError as error:
        return _fail(f"not ready: {url} answers {error.code} {_body(error)}")
    except (URLError, OSError, ValueError, OverflowError, HTTPException) as error:
        said = " ".join(str(getattr(error, "reason", error)).split())
        return _fail(f"not ready: {url}: {said or type(error).__name__}")


def _body(error: Any) -> str:
    """What came with an answer that is an error, as far as it came."""
    from http.client import HTTPException

    try:
        return str(error.read(1000).decode(errors="replace"))
    except (OSError, HTTPException):
        return ""


def _bench(arguments: argparse.Namespace) -> int:
    from pinn_inference import bench

    return bench.run(arguments)


def _iterations(text: str) -> int:
    from pinn_inference import bench

    return bench.iterations(text)


def _models(arguments: argparse.Namespace) -> int:
    from pinn_inference import settings
    from pinn_inference.artifacts import source
    from pinn_inference.errors import PinnError

    try:
        chosen = settings.load(models_dir=arguments.models_dir)
    except PinnError as error:
        return _fail(str(error))
    manifests, complaints = source.available(chosen.models_dir)
    if not manifests and not complaints:
        return _fail(f"there are no models in {chosen.models_dir}")
    for manifest in manifests:
        served = manifest.accuracy.served.largest
        print(f"{manifest.name} {manifest.version}\n  {manifest.description}\n  {manifest.digest}")
        print(f"  largest error over {manifest.accuracy.points} points, as served:")
        print("    " + "  ".join(f"{name} {error:.1e}" for name, error in served.items()))
    return _fail("\n".join(complaints)) if complaints else 0


def _fetch(arguments: argparse.Namespace) -> int:
    from pinn_inference.artifacts import command

    return command.run(arguments)


def _convert(arguments: argparse.Namespace) -> int:
    from pinn_inference.errors import PinnError

    try:
        from pinn_inference.training import convert, folder
    except ImportError as error:
        return _fail(f"{error.name} is missing: install pinn-operator[tensorflow] to convert models")
    try:
        if arguments.output.exists() and any(arguments.output.iterdir()):
            return _fail(f"{arguments.output} is not empty; name a new folder")
        done = convert.convert(arguments.source, arguments.manifest, arguments.as_it_is)
        folder.write(arguments.output, done.files)
    except PinnError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.strerror or error} ({error.filename})")
    print(f"{convert.report(done)}\n{arguments.output} is made; its digest is {folder.digest_of(done.files)}")
    return 0


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = _command(
        argparse.ArgumentParser, prog="pinn-server", description="A model server for PINNs.", epilog=EXAMPLES
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(
        commands.add_parser, "serve", help="answer predictions over HTTP", epilog=EXAMPLES, description=_serve_text()
    )
    _model_options(serve)
    serve.add_argument("--model-name", metavar="NAME", help="default black-scholes")
    serve.add_argument("--model-uri", metavar="URI", help="builtin:// (default) or file:///path/of/the/folder")
    serve.add_argument("--host", help="address to listen on; default: all, 0.0.0.0 or ::")
    serve.add_argument("--port", type=int, help="predictions and health; default 8080, 0 takes a free one")
    serve.add_argument("--admin-port", type=int, metavar="PORT", help="metrics; default 8081, 0 takes a free one")
    serve.add_argument("--log-format", choices=("json", "console"), help="default: console at a terminal, else json")
    serve.set_defaults(run=_serve)

    predict = _command(
        commands.add_parser,
        "predict",
        help="answer one question here, as JSON",
        description="Answers one question, given as --INPUT VALUE for each input of the model.",
        usage="pinn-server predict [--model-name NAME] [--model-version VERSION] [--models-dir DIR] --INPUT VALUE ...",
        epilog=EXAMPLES,
        allow_abbrev=False,  # an input may begin like an option
    )
    _model_options(predict)
    predict.add_argument("--model-name", metavar="NAME", help="default black-scholes")
    predict.set_defaults(run=_predict)

    health = _command(commands.add_parser, "health", help="is a server ready? exit code 0 or 1", epilog=EXAMPLES)
    health.add_argument("url", nargs="?", default="http://127.0.0.1:8080", help="default http://127.0.0.1:8080")
    health.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="default 2")
    health.set_defaults(run=_health)

    bench = _command(
        commands.add_parser,
        "bench",
        help="is a server as fast and as steady as promised? exit code 0 or 1",
        description=(
            "Four scenarios: cache hits against misses, hit rate under noise, 10 x 10 calls at once, memory over 1,000\n"
            "predictions. Against a running server, or against one it starts itself."
        ),
        epilog=EXAMPLES,
    )
    bench.add_argument(
        "--iterations", type=_iterations, default=1000, metavar="N", help="calls a scenario; default 1000"
    )
    bench.add_argument("--url", help="a running server; absent: one is started on a free port, and ended")
    bench.add_argument("--admin-url", metavar="URL", help="its admin port, for the memory scenario")
    bench.add_argument("--json", action="store_true", help="the documented JSON instead of a table")
    bench.add_argument("--compare", type=Path, metavar="FILE", help="an earlier --json: exit code 1 if 20 %% worse")
    bench.set_defaults(run=_bench)

    models = _command(commands.add_parser, "models", help="list the models and their measured errors", epilog=EXAMPLES)
    models.add_argument("--models-dir", type=Path, metavar="DIR", help="default: models/ of the checkout, or /models")
    models.set_defaults(run=_models)
    commands = models.add_subparsers(metavar="COMMAND")
    _convert_options(commands)
    fetch = _command(
        commands.add_parser,
        "fetch",
        help="fetch a model from https, s3 or oci into a folder",
        description="Fetches a model into a folder, from which `serve --model-uri file:///FOLDER` serves it.",
        epilog=EXAMPLES,
    )
    fetch.add_argument(
        "uri", nargs="?", help="https://HOST/PATH, s3://BUCKET/KEY, oci://HOST/REPO:TAG; default: PINN_SERVER_MODEL_URI"
    )
    fetch.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to make")
    fetch.add_argument(
        "--digest", metavar="sha256:...", help="what the model must be; default: PINN_SERVER_MODEL_DIGEST"
    )
    fetch.add_argument("--credentials", type=Path, metavar="DIR", help="a Secret's files; default: none are shown")
    fetch.set_defaults(run=_fetch)
    return parser


def _convert_options(commands: Any) -> None:
    convert = _command(
        commands.add_parser,
        "convert",
        help="make a model's folder of a .keras file or a SavedModel",
        description=(
            "Makes a folder that `serve --model-uri file:///FOLDER` serves: a fused graph of value and derivatives where the\n"
            "network's layers allow it, else the network as it is. Says what was gained, measured on this machine."
        ),
        epilog=EXAMPLES,
    )
    convert.add_argument("source", type=Path, help="a .keras file, or the folder that model.export(FOLDER) made")
    convert.add_argument(
        "--manifest", type=Path, required=True, metavar="FILE", help="version, problem, inputs, ... as JSON"
    )
    convert.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to make")
    convert.add_argument("--as-it-is", action="store_true", help="do not fuse, only measure and pack")
    convert.set_defaults(run=_convert)


def _command(make: Callable[..., argparse.ArgumentParser], *args: Any, **kwargs: Any) -> argparse.ArgumentParser:
    return make(*args, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-version", metavar="VERSION", help="default 2.0.0; see `pinn-server models`")
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="default: models/ of the checkout, or /models")


def _serve_text() -> str:
    return (
        "Answers POST /predict on the service port and /metrics on the admin port.\n"
        "SIGTERM drains: not ready at once, answering for PINN_SERVER_DRAIN (5s), then gone. Ctrl-C stops directly."
    )


if __name__ == "__main__":
    main()
