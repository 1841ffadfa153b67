"""`pinn-train`: trains a model from a recipe and a seed, measures it, and writes its folder."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pinn_inference.training.recipes import BLACK_SCHOLES, Recipe

if TYPE_CHECKING:
    from pinn_inference.training.train import Progress

HELP = """Train the models that pinn-server serves, from a recipe and a seed.

A model is trained on its differential equation alone, then measured against the closed formula, and written as a folder:
weights.npz (float64), model.tflite (what is served), manifest.json (ranges, measured errors, digest).
"""

EXAMPLES = """Examples:

  pinn-train black-scholes --recipe 2.0.0 --seed 1 --out models/black-scholes/2.0.0     the shipped model, again

  pinn-train black-scholes --recipe 1.0.0 --iterations 30 --out /tmp/coarse             a worse one, to see a rollout refuse it

  PINN_SERVER_MODEL_URI=file:///tmp/coarse pinn-server serve                            serve it
"""

app = typer.Typer(help=HELP, epilog=EXAMPLES, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """One command a problem."""


@app.command("black-scholes", epilog=EXAMPLES, help="Train the European option under Black-Scholes.")
def black_scholes(
    out: Annotated[Path, typer.Option(help="Folder to write; its three files are replaced.")],
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(BLACK_SCHOLES)}.")] = "2.0.0",
    seed: Annotated[int, typer.Option(min=0, help="Decides the first weights and the training points.")] = 1,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many steps instead of the recipe's.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The version in the manifest; the recipe's name if absent.")
    ] = None,
) -> None:
    """Trains, measures and writes one model."""
    import dataclasses

    from pinn_inference.training import build

    if recipe not in BLACK_SCHOLES:
        raise typer.BadParameter(f"there is no recipe {recipe!r}; there are {', '.join(BLACK_SCHOLES)}")
    chosen = BLACK_SCHOLES[recipe]
    if iterations is not None:
        chosen = dataclasses.replace(chosen, iterations=iterations)

    started = time.monotonic()
    last = _train(chosen, seed)
    seconds = round(time.monotonic() - started, 1)
    typer.echo(f"\ntrained in {seconds} s; exporting and measuring", err=True)
    facts = {
        "command": f"pinn-train black-scholes --recipe {recipe} --seed {seed} --iterations {chosen.iterations}",
        "recipe": recipe,
        "seed": seed,
        "optimizer": "self-scaled BFGS, float64",
        "loss": "log mean square of the equation's residual; no price in it",
        "points": chosen.points,
        "iterations": last.iteration,
        "residual": float(f"{last.residual:.3g}"),
        "seconds": seconds,
    }
    files = build.folder_files(last.network, version or recipe, chosen, facts)
    build.write(out, files)
    _summary(out, files)


def _train(recipe: Recipe, seed: int) -> "Progress":
    from pinn_inference.training.train import train

    last: Progress | None = None
    shown = 0.0
    for last in train(recipe, seed):
        if time.monotonic() - shown > 1 or last.iteration == recipe.iterations:
            shown = time.monotonic()
            _progress(f"step {last.iteration} of {recipe.iterations}, residual {last.residual:.1e}")
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
    """Entry point. Ctrl-C ends with status 130 and writes nothing."""
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(
            threads, "1"
        )  # before NumPy: one thread adds in one order, so a seed gives the same weights
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; nothing was written\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
