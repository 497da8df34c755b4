"""The script that makes reference sets."""

import runpy
import sys
from pathlib import Path

import pytest

import nco
from nco.instances.registry import problems, solvers

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench" / "references.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the script in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["references.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return ended.value.code

    return call


def test_recipes_name_what_exists():
    module = runpy.run_path(str(SCRIPT))
    for recipe in module["RECIPES"].values():
        assert recipe.problem in problems
        assert all(name in solvers for name in recipe.names)
    assert all(name in solvers for name in module["STRONG"])


def test_a_set_is_made_and_never_made_worse(run):
    """The second run begins from the references of the first."""
    assert run("op200", "--count", "2", "--seconds", "0.3") == 0
    first = nco.read("references/op200.npz")
    assert len(first) == 2
    assert first[0].digest == nco.generate("op", 200, seed=1000).digest
    assert first.violations(first.ref_solution) == [[], []]
    assert first.ref_method == "best of prize-tour, 0.3 s each"
    assert run("op200", "--count", "2", "--seconds", "0.2") == 0
    second = nco.read("references/op200.npz")
    assert (second.ref_cost >= first.ref_cost).all()


def test_a_set_grows_and_is_never_cut(run):
    assert run("tsp100-clustered", "--count", "2", "--seconds", "0.1") == 0
    assert run("tsp100-clustered", "--count", "1", "--seconds", "0.1") == 0
    two = nco.read("references/tsp100-clustered.npz")
    assert run("tsp100-clustered", "--count", "3", "--seconds", "0.1") == 0
    three = nco.read("references/tsp100-clustered.npz")
    assert (len(two), len(three)) == (2, 3)
    assert [i.digest for i in three] == [
        nco.generate("tsp", 100, seed=s, distribution="clustered").digest for s in range(1000, 1003)
    ]
    assert (three.ref_cost[:2] <= two.ref_cost).all()


def test_a_kill_keeps_what_was_found(run, monkeypatch):
    solve, calls = nco.solve, []

    def stopping(*words, **options):
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return solve(*words, **options)

    monkeypatch.setattr(nco, "solve", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("tsp100-rotation", "--seconds", "0.1")
    assert len(nco.read("references/tsp100-rotation.npz")) == 2


def test_sizes_that_differ_and_improvement_of_a_file(run):
    assert run("mis-er", "--count", "2", "--recipes") == 0
    files = sorted(Path("references/mis-er").iterdir())
    assert [700 <= nco.read(file).n <= 800 for file in files] == [True, True]
    nco.write(nco.generate("knapsack", 30, seed=1, count=2), "own.npz")
    assert run("own.npz", "--seconds", "0.2") == 0
    assert nco.read("references/own.npz").ref_method.startswith("best of knapsack")


def test_what_is_refused(run, capsys):
    assert run("nosuch.npz") == 2
    assert "no such file" in capsys.readouterr().err
