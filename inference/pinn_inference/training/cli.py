"""`pinn-train`: trains a model from a recipe and a seed, measures it, and writes its folder."""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinn_inference.training.recipes import AMERICAN_PUT, BLACK_SCHOLES, BURGERS, Recipe

if TYPE_CHECKING:
    from pinn_inference.network import Network
    from pinn_inference.training.train import Progress

    Train = Callable[[Recipe, int], Iterator[Progress]]
    Build = Callable[[Network, str, Recipe, dict[str, Any]], dict[str, bytes]]

HELP = """Train the models that pinn-server serves, from a recipe and a seed.

A model is trained on its differential equation alone, then measured against a solver that it has never seen, and written as a
folder: weights.npz (float64), model.tflite (what is served), errors.npz (how wrong it is where), manifest.json (ranges, measured
errors, digest).
"""

EXAMPLES = """Examples:

  pinn-train black-scholes --recipe 2.0.0 --seed 1 --out models/black-scholes/2.0.0     the shipped model, again

  pinn-train black-scholes --recipe 1.0.0 --iterations 30 --out /tmp/coarse             a worse one, to see a rollout refuse it

  PINN_SERVER_MODEL_URI=file:///tmp/coarse pinn-server serve                            serve it

  pinn-train burgers --iterations 500 --out /tmp/burgers                                a front, in half a minute
"""

app = typer.Typer(help=HELP, epilog=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

Out = Annotated[Path, typer.Option(help="Folder to write; its files are replaced.")]
Seed = Annotated[int, typer.Option(min=0, help="Decides the first weights and the training points.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Stop after so many steps instead of the recipe's.")]
Version = Annotated[str | None, typer.Option(help="The version in the manifest; the recipe's name if absent.")]


@app.callback()
def _root() -> None:
    """One command a problem."""


@app.command("black-scholes", epilog=EXAMPLES, help="Train the European option under Black-Scholes.")
def black_scholes(
    out: Out,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(BLACK_SCHOLES)}.")] = "2.0.0",
    seed: Seed = 1,
    iterations: Iterations = None,
    version: Version = None,
) -> None:
    """Trains, measures and writes one model."""
    from pinn_inference.training import build
    from pinn_inference.training.train import train

    chosen = _chosen(BLACK_SCHOLES, recipe, iterations)
    loss = "log mean square of the equation's residual; no price in it"
    _make("black-scholes", recipe, chosen, seed, version, loss, (train, build.folder_files), out)


@app.command("burgers", epilog=EXAMPLES, help="Train the viscous Burgers equation.")
def burgers(
    out: Out,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(BURGERS)}.")] = "1.0.0",
    seed: Seed = 1,
    iterations: Iterations = None,
    version: Version = None,
) -> None:
    """Trains, measures and writes one model."""
    from pinn_inference.training.burgers import folder_files, train

    chosen = _chosen(BURGERS, recipe, iterations)
    loss = "log mean square of the equation's residual over 1 + |u_x|; no solution in it"
    _make("burgers", recipe, chosen, seed, version, loss, (train, folder_files), out)


@app.command("american-put", epilog=EXAMPLES, help="Train the American put under Black-Scholes, without dividends.")
def american_put(
    out: Out,
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(AMERICAN_PUT)}.")] = "1.0.0",
    seed: Seed = 1,
    iterations: Iterations = None,
    version: Version = None,
) -> None:
    """Trains, measures and writes one model: the exercise boundary (shown as step 0), then the premium."""
    from pinn_inference.training.american_put import train
    from pinn_inference.training.american_put_model import folder_files

    chosen = _chosen(AMERICAN_PUT, recipe, iterations)
    loss = "log mean squares of the residuals of smooth pasting as an integral equation and of the equation; no price in it"
    how: Any = (train, folder_files)  # of two networks, where the others have one
    _make("american-put", recipe, chosen, seed, version, loss, how, out)


def _chosen(recipes: Mapping[str, Recipe], name: str, iterations: int | None) -> Recipe:
    if name not in recipes:
        raise typer.BadParameter(f"there is no recipe {name!r}; there are {', '.join(recipes)}")
    recipe = recipes[name]
    return recipe if iterations is None else dataclasses.replace(recipe, iterations=iterations)


def _make(
    problem: str,
    name: str,
    recipe: Recipe,
    seed: int,
    version: str | None,
    loss: str,
    how: "tuple[Train, Build]",
    out: Path,
) -> None:
    from pinn_inference.training import folder

    with _told_of_trouble(out):
        _probe(out)
    try:
        files = _trained(problem, name, recipe, seed, version or name, loss, how)
    except KeyboardInterrupt:
        typer.echo("\nstopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    with _told_of_trouble(out):
        folder.write(out, files)
    _summary(out, files)


def _trained(
    problem: str, name: str, recipe: Recipe, seed: int, version: str, loss: str, how: "tuple[Train, Build]"
) -> dict[str, bytes]:
    """The files of the model, by name."""
    train, build = how
    started = time.monotonic()
    last = _last(train(recipe, seed), recipe.iterations)
    seconds = round(time.monotonic() - started, 1)
    typer.echo(f"\ntrained in {seconds} s; exporting and measuring", err=True)
    facts = {
        "command": f"pinn-train {problem} --recipe {name} --seed {seed} --iterations {recipe.iterations}",
        "recipe": name,
        "seed": seed,
        "optimizer": "self-scaled BFGS, float64",
        "loss": loss,
        "points": recipe.points,
        "iterations": last.iteration,
        "residual": float(f"{last.residual:.3g}"),
        "seconds": seconds,
    }
    return build(last.network, version, recipe, facts)


@contextmanager
def _told_of_trouble(out: Path) -> Iterator[None]:
    """What a disk refuses is a sentence."""
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error.strerror}", param_hint="--out") from None


def _probe(out: Path) -> None:
    """Raises OSError where the folder cannot be written: better now than after minutes of training. Leaves nothing behind."""
    made = [one for one in (out, *out.parents) if not one.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    finally:
        for one in made:
            if one.is_dir():
                one.rmdir()


def _last(steps: "Iterator[Progress]", iterations: int) -> "Progress":
    last: Progress | None = None
    shown = 0.0
    for last in steps:
        if time.monotonic() - shown > 1 or last.iteration == iterations:
            shown = time.monotonic()
            _progress(f"step {last.iteration} of {iterations}, residual {last.residual:.1e}")
    if last is None:
        raise typer.BadParameter("training found no first step; try another seed")
    return last


def _progress(text: str) -> None:
    end = "" if sys.stderr.isatty() else "\n"
    sys.stderr.write(("\r\033[K" if sys.stderr.isatty() else "") + text + end)
    sys.stderr.flush()


def _summary(out: Path, files: dict[str, bytes]) -> None:
    from pinn_inference.artifacts import manifest as manifests

    manifest = manifests.parse(files["manifest.json"])
    typer.echo(f"wrote {out} ({manifest.digest})")
    for label, errors in (("served", manifest.accuracy.served), ("float64", manifest.accuracy.float64)):
        typer.echo(f"  largest error, {label}: " + ", ".join(f"{k} {v:.1e}" for k, v in errors.largest.items()))


def main() -> None:
    """Entry point. Ctrl-C in training ends with status 130 and writes nothing."""
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(
            threads, "1"
        )  # before NumPy: one thread adds in one order, so a seed gives the same weights
    app(standalone_mode=True)


if __name__ == "__main__":
    main()
