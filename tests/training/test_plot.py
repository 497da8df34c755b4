from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

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


def test_losses_and_gaps_of_either_sign_are_shown(tmp_path: Path) -> None:
    rows = [{"step": k, "action_loss": 1.0 - k, "gap": -k} for k in (0, 1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    axes = plot_curve(tmp_path)
    assert axes.get_yscale() == "linear"
    assert axes.figure.axes[1].get_ylim()[0] <= -2.0
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    axes = plot_curve(tmp_path)
    assert axes.get_yscale() == "log"
    assert axes.figure.axes[1].get_ylim()[0] == 0.0


def test_the_curve_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    before = save_curve(tmp_path).read_bytes()

    def fails(self: Figure, path: Path, **how: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        save_curve(tmp_path)
    assert (tmp_path / "curve.png").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "metrics.jsonl"]


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
