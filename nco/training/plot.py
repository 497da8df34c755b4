"""The curve of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nco.training.config import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``; half a line at the end is left out."""
    rows = []
    for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def plot_curve(folder: str | Path, ax: Axes | None = None) -> Axes:
    """Draw loss and held-out gap over the steps of a run; a value network's held-out errors.

    Parameters
    ----------
    folder
        The run's folder.
    ax
        Where to draw; a new figure by default.
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(7, 4), layout="constrained").subplots()
    rows = read_metrics(folder)

    def series(key: str, factor: float = 1.0) -> list[tuple[float, float]]:
        return [(r["step"], factor * r[key]) for r in rows if r.get(key) is not None]

    errors = series("mae")
    if errors:
        # A value network, which has no actions.
        left, what, unit = errors, "error on held-out labels", "mean absolute error, scaled"
        right, other, scale = series("accuracy", 100.0), "accuracy", "feasibility told right [%]"
    else:
        left, what, unit = series("action_loss"), "loss", "loss of actions"
        right, other, scale = series("gap"), "held-out gap", "gap [%]"
    if left:
        ax.plot(*zip(*left, strict=True), color="tab:blue", label=what)
    # Losses without labels have either sign.
    positive = all(value > 0.0 for _, value in left)
    ax.set(xlabel="step", ylabel=unit, yscale="log" if positive else "linear")
    handles = ax.get_lines()[:]
    if right:
        twin = ax.twinx()
        handles += twin.plot(*zip(*right, strict=True), color="tab:red", marker="o", label=other)
        twin.set_ylabel(scale)
        # What is better than its reference has a gap below zero.
        if all(value >= 0.0 for _, value in right):
            twin.set_ylim(bottom=0.0)
    ax.legend(handles=handles)
    return ax


def save_curve(folder: str | Path) -> Path:
    """Draw the curve into the run's folder as ``curve.png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_curve(folder, figure.subplots())
    path = Path(folder) / "curve.png"
    with replacing(path) as part:
        figure.savefig(part, dpi=120, format="png")
    return path
