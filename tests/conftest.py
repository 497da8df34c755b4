"""Fixtures that all tests share."""

import itertools
import json
import logging
import runpy
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from nco.instances.core import better

settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=5000)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def level_of_the_log():
    """What a command has done to the log does not reach the next test."""
    logging.getLogger("nco").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Benchmark data beside the repository; the test is skipped without it."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("benchmark data are not here")
    return path


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """What a script of scripts/bench prints of rows; words go before their file."""

    def call(script, rows, *words):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(sys, "argv", [script, *map(str, words), str(path)])
        bench = Path(__file__).resolve().parents[1] / "scripts" / "bench"
        runpy.run_path(str(bench / script), run_name="__main__")
        return capsys.readouterr().out

    return call


def _candidates(instance):
    """All solutions of a tiny routing instance, feasible or not."""
    customers = range(1, instance.n + 1)
    if instance.solution_form == "routes":
        for order in itertools.permutations(customers):
            for k in range(instance.n):
                for cuts in itertools.combinations(range(1, instance.n), k):
                    ends = [0, *cuts, instance.n]
                    yield [list(order[a:b]) for a, b in itertools.pairwise(ends)]
    else:
        for size in range(instance.n + 1):
            yield from map(list, itertools.permutations(customers, size))


@pytest.fixture(scope="session")
def optimum():
    """Best objective of a tiny routing instance over all its solutions, or None."""

    def search(instance):
        best = None
        for solution in _candidates(instance):
            if not instance.violations(solution):
                value = instance.objective(solution)
                if best is None or better(value, best, instance.sense):
                    best = value
        return best

    return search
