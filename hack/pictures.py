"""The dashboards as pictures for the documents, docs/screens/dashboard-*.svg: what their panels showed of real rollouts.

    FULL=1 K=test_every_panel make e2e      records it in build/dashboards.json
    python hack/pictures.py                 draws it; needs matplotlib (requirements/bench.txt) and nothing of ours

Titles, units, queries and names of lines are those of hack/dashboards.py; the look is not Grafana's.
"""

# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc,no-any-return,no-any-unimported"
# Runs in an environment of its own, which the type checker does not see.

import json
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 3
UNITS = {
    "reqps": "{:g} req/s",
    "ops": "{:g}/s",
    "s": "{:g} s",
    "bytes": "{:g} MiB",
    "percent": "{:g} %",
    "percentunit": "{:g} %",
    "short": "{:g}",
}
FACTORS = {"bytes": 1 / 2**20, "percentunit": 100.0}
NAMED = 4
"""Lines with a name in the legend; of more, the number is said."""

plt.switch_backend("svg")
plt.rcParams.update({"svg.hashsalt": "pinn", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 7})


def draw(panels: list[dict[str, Any]], title: str, path: Path) -> None:
    """All panels of a dashboard, three in a row as on it; time in minutes."""
    rows = -(-len(panels) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(11, 1.9 * rows), layout="constrained", squeeze=False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axes in list(grid.flat)[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw_panel(axes, panel)
    figure.savefig(path, metadata={"Date": None})


def draw_panel(axes: Axes, panel: dict[str, Any]) -> None:
    factor = FACTORS.get(panel["unit"], 1.0)
    lines = [line for line in panel["lines"] if line["points"]]
    for number, line in enumerate(lines):
        style = {"lw": 1, "label": line["name"] if number < NAMED else None}
        if len(line["points"]) == 1:
            style["marker"] = "."
        axes.plot([at / 60 for at, _ in line["points"]], [value * factor for _, value in line["points"]], **style)
    axes.set_title(panel["title"], fontsize=8, loc="left", fontweight="bold")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: UNITS[panel["unit"]].format(round(value, 6))))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]), top=None if panel["most"] is None else panel["most"] * factor)
    axes.grid(visible=True, lw=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    more = f"and {len(lines) - NAMED} more" if len(lines) > NAMED else None
    axes.legend(fontsize=5.5, frameon=False, loc="upper left", title=more, title_fontsize=5.5)


def main() -> None:
    for uid, panels in json.loads((ROOT / "build/dashboards.json").read_text()).items():
        path = ROOT / f"docs/screens/dashboard-{uid}.svg"
        draw(panels, f"{uid}, over a promotion and a rollback (minutes)", path)
        path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
