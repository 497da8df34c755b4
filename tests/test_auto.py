"""The solver that chooses."""

import numpy as np
import pytest

from nco import auto
from nco.instances.core import Budget, InputError, Status, UnsupportedError
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.registry import solvers
from nco.instances.tsp import TSP


def test_plans_run_in_order_from_the_best_so_far():
    """Each step starts from what the last one found."""
    instance = TSP.generate(30, seed=1)
    result = auto.Auto(plan="greedy@0.5+nearest-neighbor").solve(instance, Budget(5.0), seed=3)
    single = solvers.load("greedy")().solve(instance, Budget())
    assert result.objective <= single.objective
    assert result.extra["plan"] == "greedy+nearest-neighbor"
    assert {e.by for e in result.trajectory} <= {"greedy", "nearest-neighbor"}


@pytest.mark.parametrize(
    ("plan", "text"),
    [("greedi", "did you mean greedy"), ("greedy@2", "share"), ("greedy@x", "share")],
)
def test_bad_plans(plan, text):
    """One clear line."""
    with pytest.raises(InputError, match=text):
        auto.Auto(plan=plan)


def test_table_decides(monkeypatch):
    """The nearest measured size and time limit win; what cannot run is passed over."""
    rows = [
        {"problem": "tsp", "n": 10, "time_limit": 1.0, "solvers": [["greedy", 9.0, 3, 0.1]]},
        {
            "problem": "tsp", "n": 1000, "time_limit": 1.0,
            "solvers": [["savings", 0.0, 3, 0.1], ["nearest-neighbor", 1.0, 3, 0.1]],
        },
    ]  # fmt: skip
    monkeypatch.setattr(auto, "table", lambda: rows)
    chooser = auto.Auto()
    assert next(chooser.candidates(TSP.generate(12, seed=1), 1.0)) == "greedy"
    assert next(chooser.candidates(TSP.generate(900, seed=1), 1.0)) == "nearest-neighbor"


def test_every_measured_choice_is_registered():
    """The shipped table names real solvers and sane numbers."""
    for row in auto.table():
        assert row["n"] > 0
        assert row["time_limit"] > 0
        for spec, gap, runs, seconds in row["solvers"]:
            auto.parse_plan(spec.removeprefix("auto:plan="))
            assert np.isfinite([gap, runs, seconds]).all()


def test_failing_step_is_reported_and_survived(monkeypatch):
    """A crash of one step loses that step only."""
    real = solvers.load

    class Broken:
        def supports(self, instance):
            return None

        def solve(self, *args, **kwargs):
            raise RuntimeError("library crashed")

    monkeypatch.setattr(solvers, "load", lambda name: Broken if name == "greedy" else real(name))
    result = auto.Auto(plan="greedy+nearest-neighbor").solve(TSP.generate(9, seed=1), Budget(5.0))
    assert result.feasible
    assert result.extra["errors"] == ["greedy: library crashed"]


def test_infeasible_is_passed_on():
    """A proof of one solver is the answer."""
    instance = CVRP(
        coords=np.random.default_rng(0).random((4, 2)), demands=[0, 3, 3, 3], capacity=3, vehicles=2
    )
    result = auto.Auto(plan="savings").solve(instance, Budget(5.0))
    assert result.status is Status.INFEASIBLE


def test_nothing_supports_it():
    """Refused in one line."""
    chooser = auto.Auto(plan="savings")
    assert chooser.supports(Knapsack(values=[1], weights=[1], capacity=1))
    with pytest.raises(UnsupportedError):
        chooser.solve(Knapsack(values=[1], weights=[1], capacity=1), Budget(1.0))
