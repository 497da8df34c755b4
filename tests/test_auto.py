"""The solver that chooses."""

import numpy as np
import pytest

from nco import auto
from nco.instances.core import Budget, InputError, Status, UnsupportedError
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.registry import Entry, Registry, solvers
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


def test_a_limit_on_iterations_is_that_of_every_step(monkeypatch):
    """It is not lost where a plan has several."""
    real, seen = solvers.load, []

    def load(name):
        class Seeing(real(name)):
            def solve(self, instance, budget, **options):
                seen.append((name, budget.iterations))
                return super().solve(instance, budget, **options)

        return Seeing

    monkeypatch.setattr(solvers, "load", load)
    budget = Budget(5.0, iterations=7)
    auto.Auto(plan="greedy@0.5+nearest-neighbor").solve(TSP.generate(9, seed=1), budget)
    assert seen == [("greedy", 7), ("nearest-neighbor", 7)]


class Timed:
    """Knows seconds only."""

    timed = True

    def supports(self, instance):
        return None


def test_what_knows_seconds_only_is_left_out_under_a_limit_on_iterations(monkeypatch):
    """So that a seed repeats; with nothing else, that is said."""
    own = Entry("timed", f"{__name__}:Timed")
    monkeypatch.setattr(auto, "table", list)
    monkeypatch.setattr(auto, "solvers", Registry("solver", "none", own, solvers.entry("greedy")))
    instance = TSP.generate(9, seed=1)
    assert list(auto.Auto().candidates(instance, 1.0)) == ["timed", "greedy"]
    assert auto.Auto().solve(instance, Budget(5.0, iterations=3)).extra["plan"] == "greedy"
    monkeypatch.setattr(auto, "solvers", Registry("solver", "none", own))
    with pytest.raises(UnsupportedError, match="no solver of tsp counts iterations"):
        auto.Auto().solve(instance, Budget(5.0, iterations=3))


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
