"""Requests/s and p99 of each server as bars: medians as JSON on stdin, an SVG at the path given.

Needs matplotlib and nothing of ours.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return"
# Runs in an environment of its own, which the type checker does not see.

import json
import sys

from matplotlib import pyplot as plt

plt.switch_backend("svg")
plt.rcParams["svg.hashsalt"] = "pinn"  # the same figures make the same file


def draw(medians: dict[str, dict[str, float]], path: str) -> None:
    """Ours in colour, the peers in grey."""
    names = list(medians)
    colours = ["#2a6f97", *["#a0a0a0"] * (len(names) - 1)]
    figure, (rate, tail) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
    for axes, key, title, form in (
        (rate, "per_second", "requests/s (more is better)", "{:,.0f}"),
        (tail, "p99_ms", "p99 in ms (less is better)", "{:.1f}"),
    ):
        bars = axes.barh(names, [medians[name][key] for name in names], color=colours)
        axes.bar_label(bars, fmt=form, padding=3)
        axes.margins(x=0.18)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
