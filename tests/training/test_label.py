from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nco.instances.knapsack import Knapsack
from nco.training import label as module
from nco.training.label import label
from nco.training.labels import read_labels


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


@pytest.mark.parametrize(
    ("problem", "package", "effort"),
    [
        ("tsp", "fast_tsp", 0.001),
        ("cvrp", "hygese", 20),
        ("knapsack", "numpy", 0),
        ("atsp", "elkai", 1),
        ("op", "pyvrp", 20),
        ("acvrp", "pyvrp", 20),
        ("ovrp", "pyvrp", 20),
        ("pctsp", "numba", 20),
        ("spctsp", "numba", 20),
        ("mtsp", "numba", 20),
        ("mis", "numba", 20),
    ],
)
def test_labels_are_made_and_read(
    problem: str, package: str, effort: float, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    out = tmp_path / "labels.npz"
    assert label(problem, out, n=12, count=10, seed=3, effort=effort, first=5) == 10
    labels = read_labels(str(out))
    assert (len(labels), labels.problem) == (10, problem)
    assert list(tmp_path.iterdir()) == [out]
    again = tmp_path / "again.npz"
    label(problem, again, n=12, count=10, seed=3, effort=effort, first=5)
    if problem != "tsp":  # fast_tsp has no seed
        assert read_labels(str(again)).digest == labels.digest


def test_knapsack_labels_are_optimal(tmp_path: Path) -> None:
    label("knapsack", tmp_path / "a.npz", n=9, count=8, seed=1)
    fields = read_labels(str(tmp_path / "a.npz")).fields
    every = (np.arange(2**9)[:, None] >> np.arange(9)) & 1
    for i in range(8):
        fits = every @ fields["weights"][i] <= fields["capacity"][i]
        best = (every @ fields["values"][i])[fits].max()
        instance = Knapsack(
            values=fields["values"][i], weights=fields["weights"][i],
            capacity=int(fields["capacity"][i]),
        )  # fmt: skip
        chosen = [int(k) for k in np.flatnonzero(fields["chosen"][i])]
        assert instance.violations(chosen) == []
        assert instance.objective(chosen) == best


def test_a_run_that_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.npz"
    label("knapsack", whole, n=10, count=12, seed=2)
    out = tmp_path / "labels.npz"
    died: list[Path] = []
    write = module.write_labels

    def dying(path: Path, *arguments: object, **options: object) -> None:
        if path == out and not died:
            died.append(path)
            raise KeyboardInterrupt
        write(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_labels", dying)
    with pytest.raises(KeyboardInterrupt):  # after all parts, before the file
        label("knapsack", out, n=10, count=12, seed=2)
    assert not out.exists()
    (tmp_path / "labels.npz.parts" / "000000004-4.npz").unlink()
    assert label("knapsack", out, n=10, count=12, seed=2) == 12
    assert read_labels(str(out)).digest == read_labels(str(whole)).digest


def test_bad_arguments_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no expert lkh for tsp; known: fast-tsp"):
        label("tsp", tmp_path / "a.npz", n=5, count=1, seed=0, expert="lkh")
    with pytest.raises(ValueError, match="recipe 'cvrp-mixed' for tsp is not known"):
        label("tsp", tmp_path / "a.npz", n=5, count=1, seed=0, recipe="cvrp-mixed")
    (tmp_path / "a.npz.parts").mkdir()
    (tmp_path / "a.npz.parts" / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match="belongs to a call with other arguments"):
        label("tsp", tmp_path / "a.npz", n=5, count=1, seed=0)
    with pytest.raises(ValueError, match="not one label was finished"):
        label("tsp", tmp_path / "b.npz", n=5, count=1, seed=0, minutes=0.0)
    for minutes in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=r"minutes = .* not understood; at least 0"):
            label("tsp", tmp_path / "c.npz", n=5, count=1, seed=0, minutes=minutes)
    assert not (tmp_path / "c.npz.parts").exists()


def test_a_finished_file_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "labels.npz"
    options = {"n": 9, "count": 6, "seed": 1}
    label("knapsack", out, **options)
    before = out.read_bytes()

    class Made(Exception):
        pass

    def make(*_: object, **__: object) -> None:
        raise Made

    monkeypatch.setattr(module, "make_parts", make)
    assert label("knapsack", out, **options) == 6
    assert "holds these 6 labels already" in caplog.text
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]
    for change in ({"n": 8}, {"count": 7}, {"count": 5}, {"seed": 2}, {"first": 1}):
        other = tmp_path / f"{change}.npz"
        other.write_bytes(before)
        with pytest.raises(Made):
            label("knapsack", other, **{**options, **change})
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(before[:-30])
    with pytest.raises(Made):
        label("knapsack", damaged, **options)


def test_tours_by_kicks_repeat_after_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    whole, out = tmp_path / "whole.npz", tmp_path / "out.npz"
    options = {"n": 12, "count": 6, "seed": 3, "expert": "or-opt", "effort": 20}
    module.label("tsp", whole, **options)
    stamp = {"recipe": "tsp-uniform", "seed": 3, "first": 0, "n": 12, "expert": "or-opt",
             "effort": 20, "unit": "kicks"}  # fmt: skip
    parts = module.Parts(out, 6, stamp, module.CHUNK)
    module._write_part(parts, "or-opt", "tsp-uniform", 12, 3, 0, 20, 4, 2, math.inf)
    assert module.label("tsp", out, **options) == 6
    assert read_labels(str(out)).digest == read_labels(str(whole)).digest


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_smallest_tours_of_several_salesmen_are_labelled(n: int) -> None:
    pytest.importorskip("numba")
    for seed in range(5):
        made = module.make_chunk("ruin-recreate", "mtsp-mixed", n, seed, 0, 2, 200)
        assert (np.sort(made["tour"], 1) == np.arange(1, n + 1)).all()


def test_a_script_that_labels_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from nco.training.label import label\n"
        'print(label("knapsack", "labels.npz", n=9, count=5, seed=1))\n'
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


def test_processes_that_end_early_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = module.Parts(tmp_path / "labels.npz", 2, {}, 1)
    (tmp_path / "ending.py").write_text("import os\ndef write(*_):\n    os._exit(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    write = importlib.import_module("ending").write
    with pytest.raises(RuntimeError, match="a process that made labels ended early") as caught:
        module.make_parts(parts, write, jobs=2, minutes=math.inf, told=lambda _: None)
    assert "\n" not in str(caught.value)


def test_no_label_is_begun_after_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a chunk is kept, and the call goes on to the same labels."""
    whole, out = tmp_path / "whole.npz", tmp_path / "labels.npz"
    options = {"n": 10, "count": 12, "seed": 2}
    label("knapsack", whole, **options)
    now, draw = 0.0, module.draw

    def slowly(*arguments: object) -> object:
        nonlocal now
        now += 60.0
        return draw(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "draw", slowly)
        patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
        assert label("knapsack", out, **options, minutes=5.5) == 6
    labels = read_labels(str(out))
    assert len(labels) == 6
    assert label("knapsack", out, **options) == 12
    assert read_labels(str(out)).digest == read_labels(str(whole)).digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.npz", "whole.npz"]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    out = tmp_path / "labels.npz"
    parts = module.Parts(out, 8, {}, 4)
    for begin in (0, 4):
        parts.write(begin, 4, {"chosen": np.zeros((4, 2), dtype=np.uint8)})
    path = parts.path(4, 4)
    data = path.read_bytes()
    for spoilt in (data[:-30], b"", b"junk"):
        path.write_bytes(spoilt)
        with pytest.raises(
            ValueError, match=r"000000004-4\.npz: no labels: .*the same call goes on"
        ):
            parts.merge("knapsack", {})
    assert not out.exists()
    path.write_bytes(data)
    assert parts.merge("knapsack", {}) == 8


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"views": 8}, "views are for the expert bq, not for the default"),
        ({"device": "cuda", "expert": "knapsack"}, "device is for the expert bq, not for knapsack"),
        ({"expert": "bq", "jobs": 4}, "jobs = 4 not understood; bq"),
        ({"expert": "bq", "effort": 0.5}, "effort 0.5 not understood; whole rounds"),
    ],
)
def test_options_that_do_nothing_for_an_expert_are_refused(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        module.make("knapsack", tmp_path / "a.npz", n=5, count=1, seed=0, **options)
    assert list(tmp_path.iterdir()) == []
