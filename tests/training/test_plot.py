from __future__ import annotations

import json
from pathlib import Path

from nco.training.plot import plot_curve, read_metrics, save_curve

ROWS = """{"step": 1, "loss": 3.0, "action_loss": 2.0}
{"step": 1, "gap": 20.0}
{"step": 2, "loss": 2.0, "action_loss": 1.0}
{"step": 2, "gap": 10.0}
{"step": 3, "gap": null}
{"step": 3, "lo"""


def test_the_curve_shows_loss_and_gap(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    assert len(read_metrics(tmp_path)) == 5
    axes = plot_curve(tmp_path)
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[2.0, 1.0]]
    assert len(axes.figure.axes) == 2
    assert save_curve(tmp_path).stat().st_size > 1000


def test_a_run_without_rows_is_an_empty_curve(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    assert plot_curve(tmp_path).get_lines()[:] == []


def test_the_curve_of_a_value_network_shows_its_errors(tmp_path: Path) -> None:
    rows = [{"step": k, "mae": 1.0 / k, "mae_scale": 0.1, "accuracy": 0.5} for k in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    axes = plot_curve(tmp_path)
    assert [list(line.get_ydata()) for line in axes.get_lines()] == [[1.0, 0.5]]
    assert axes.get_ylabel() == "mean absolute error, scaled"
    (_, right) = axes.figure.axes
    assert list(right.get_lines()[0].get_ydata()) == [50.0, 50.0]
