"""The curve of a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Draw loss and held-out gap over the steps of a run.

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
    loss = [(r["step"], r["action_loss"]) for r in rows if "action_loss" in r]
    gaps = [(r["step"], r["gap"]) for r in rows if "gap" in r]
    if loss:
        ax.plot(*zip(*loss, strict=True), color="tab:blue", label="loss of the next action")
    ax.set(xlabel="step", ylabel="cross-entropy", yscale="log")
    handles = ax.get_lines()[:]
    if gaps:
        twin = ax.twinx()
        handles += twin.plot(
            *zip(*gaps, strict=True), color="tab:red", marker="o", label="greedy gap"
        )
        twin.set(ylabel="gap to the labels [%]", ylim=(0, None))
    ax.legend(handles=handles)
    return ax


def save_curve(folder: str | Path) -> Path:
    """Draw the curve into the run's folder as ``curve.png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    plot_curve(folder, figure.subplots())
    path = Path(folder) / "curve.png"
    figure.savefig(path, dpi=120)
    return path
