"""The solver or-opt; its search is tested in test_local_search."""

import itertools
import threading

import numpy as np
import pytest

from nco.classical import local_search, or_opt
from nco.classical.or_opt import OrOpt
from nco.instances.atsp import ATSP
from nco.instances.core import METRICS, Budget, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP


def solve(instance, *, solver=None, seed=0, start=None, on_event=None, **limits):
    return (solver or OrOpt()).solve(
        instance, Budget(**limits), seed=seed, start=start, on_event=on_event
    )


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric(metric):
    coords = np.random.default_rng(1).uniform(-80, 80, (40, METRICS[metric][1]))
    instance = TSP(coords=coords, metric=metric)
    result = solve(instance, iterations=50)
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.ITERATIONS
    assert result.objective < instance.objective(list(range(40)))


@pytest.mark.parametrize("n", range(1, 8))
@pytest.mark.parametrize("problem", [TSP, ATSP])
def test_small_instances_are_solved(problem, n):
    instance = problem(matrix=np.random.default_rng(n).integers(1, 99, (n, n)))
    result = solve(instance, iterations=300)
    shortest = min(instance.objective([0, *order]) for order in itertools.permutations(range(1, n)))
    assert result.objective == shortest


def test_the_same_seed_gives_the_same_tour():
    instance = TSP.generate(2000, seed=1)
    first = solve(instance, seed=4, iterations=100)
    assert solve(instance, seed=4, iterations=100).solution == first.solution
    assert solve(instance, seed=5, iterations=100).solution != first.solution


def test_without_limits_it_ends_after_kicks_per_node(monkeypatch):
    monkeypatch.setattr(or_opt, "KICKS_PER_NODE", 2)
    instance = TSP.generate(50, seed=1)
    result = solve(instance)
    assert result.stopped is Stop.FINISHED
    assert result.solution == solve(instance, iterations=100).solution


def test_no_iterations_leave_a_local_optimum():
    instance = TSP.generate(200, seed=1)
    result = solve(instance, iterations=0)
    assert result.stopped is Stop.ITERATIONS
    again = solve(instance, iterations=0, start=result.solution)
    assert again.objective == pytest.approx(result.objective, rel=0.01)


def test_events_improve_and_end_at_the_result():
    events = []
    result = solve(TSP.generate(500, seed=1), iterations=500, on_event=events.append)
    assert tuple(events) == result.trajectory
    objectives = [event.objective for event in events]
    assert len(objectives) >= 2
    assert objectives == sorted(set(objectives), reverse=True)
    assert objectives[-1] == result.objective
    assert [event.seconds for event in events] == sorted(event.seconds for event in events)


@pytest.mark.parametrize("problem", [TSP, ATSP])
def test_a_start_is_never_made_worse(problem):
    instance = problem.generate(60, seed=3)
    good = solve(instance, iterations=300).solution
    result = solve(instance, iterations=1, start=good, solver=OrOpt(heat=5.0))
    assert result.objective <= instance.objective(good)
    assert result.trajectory[0].by == "start"


def test_a_start_that_is_no_tour_is_refused():
    with pytest.raises(ValueError, match="start is infeasible: node 0 is visited 3 times"):
        solve(TSP.generate(3, seed=1), start=[0, 0, 0])


def test_a_target_ends_the_search():
    instance = TSP.generate(400, seed=2)
    reached = solve(instance, iterations=200).objective
    result = solve(instance, iterations=10**9, target=1.02 * reached)
    assert result.stopped is Stop.TARGET
    assert result.objective <= 1.02 * reached


def test_an_interruption_returns_the_best_so_far():
    instance = TSP.generate(400, seed=2)
    budget = Budget()

    def interrupt(event):
        if event.objective < 16:
            budget.interrupt()

    result = OrOpt().solve(instance, budget, on_event=interrupt)
    assert result.stopped is Stop.INTERRUPTED
    assert result.objective < 16


def test_a_time_limit_ends_the_search():
    result = solve(TSP.generate(300, seed=1), time_limit=1.0)
    assert result.stopped is Stop.TIME
    assert result.versions["numba"]


@pytest.mark.parametrize("start", [None, [*range(29, -1, -1)]])
def test_compilation_that_takes_too_long(monkeypatch, start, caplog):
    """The start or a constructive tour is returned, while the compiler goes on."""
    release = threading.Event()
    monkeypatch.setattr(local_search, "compile_kernels", release.wait)
    instance = TSP(coords=np.random.default_rng(0).random((30, 2)))
    try:
        result = solve(instance, start=start, time_limit=0.5)
    finally:
        release.set()
    assert result.stopped is Stop.TIME
    assert result.trajectory[-1].by == "constructive"
    assert result.objective < instance.objective(list(range(30)))
    assert "before its code is loaded" in caplog.text


def test_compilation_that_fails(monkeypatch):
    def fail():
        raise RuntimeError("no compiler today")

    monkeypatch.setattr(local_search, "compile_kernels", fail)
    with pytest.raises(RuntimeError, match="no compiler today"):
        solve(TSP.generate(30, seed=0), time_limit=1.0)


def test_time_that_ends_before_the_search_begins(monkeypatch):
    monkeypatch.setattr(or_opt, "WAY_BACK", 1.0)
    instance = TSP.generate(40, seed=0)
    result = solve(instance, time_limit=20.0)
    assert result.stopped is Stop.TIME
    assert [event.by for event in result.trajectory] == ["constructive"]


def test_what_is_refused():
    assert "not cvrp" in OrOpt().supports(CVRP.generate(5, seed=0))
    assert OrOpt().supports(TSP.generate(5, seed=0)) is None
    for parameters, text in (
        ({"neighbors": 0}, "neighbors < 1"),
        ({"segment": 0}, "segment < 1"),
        ({"breadth": -1}, "breadth < 0"),
        ({"depth": -1}, "depth < 0"),
        ({"depth": 11}, "depth > 10"),
        ({"heat": -0.1}, "heat < 0"),
    ):
        with pytest.raises(ValueError, match=text):
            OrOpt(**parameters)
    assert or_opt.MAX_DEPTH == local_search._MAX_DEPTH


@pytest.mark.parametrize(
    ("file", "published", "kicks"),
    [("att532.tsp", 27686, 20_000), ("ftv47.atsp", 1776, 20_000), ("gr202.tsp", 40160, 20_000)],
)
def test_published_instances(shared_data, file, published, kicks):
    from nco.instances.io import read

    result = solve(read(shared_data / "routing" / "lib" / file), iterations=kicks, seed=1)
    assert published <= result.objective <= 1.005 * published
