"""What every registered problem and solver keeps, without a test written for it."""

import functools
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

import nco
from nco.instances import io, plot
from nco.instances.core import Batch, Budget, Result, Stop, better
from nco.instances.registry import problems, solvers
from nco.weights import WeightsError

PROBLEMS = problems.names()


@functools.cache
def small(problem):
    return nco.generate(problem, 8, seed=3)


@functools.cache
def solved(problem):
    result = nco.solve(small(problem), iterations=20, time_limit=1.5, seed=1)
    assert result.feasible
    return result


@pytest.mark.parametrize("problem", PROBLEMS)
def test_results_are_what_the_instance_says(problem):
    instance, result = small(problem), solved(problem)
    assert instance.violations(result.solution) == []
    assert instance.objective(result.solution) == pytest.approx(result.objective)
    canonical = instance.canonical(result.solution)
    assert instance.canonical(canonical) == canonical
    assert instance.objective(canonical) == pytest.approx(result.objective)
    assert instance.violations(canonical) == []
    again = Result.from_dict(json.loads(result.to_json()))
    assert again == result


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if small(p).solution_form != "two-stage"])
@pytest.mark.parametrize(
    "value", [None, 5, float("nan"), [0.5], ["a"], [True], [[[1]]], [[1.5]], [None], {"x": None}]
)
def test_what_is_no_solution_is_no_error(problem, value):
    report = nco.check(small(problem), value) if value is not None else None
    assert report is None or not report.feasible
    assert small(problem).violations(value)


@pytest.mark.parametrize("problem", ["cvrp", "ovrp", "mtsp"])
def test_routes_may_be_arrays_or_tuples(problem):
    instance, solution = small(problem), solved(problem).solution
    for kind in (np.array, tuple):
        routes = [kind(route) for route in solution]
        assert instance.violations(routes) == []
        assert instance.objective(routes) == instance.objective(solution)
        assert instance.canonical(routes) == solution


@pytest.mark.parametrize("suffix", [".npz", ".json"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_instances_and_solutions_come_back_from_files(problem, suffix, tmp_path):
    instance, solution = small(problem), solved(problem).solution
    forms = [f.load() for f in nco.formats if f.load().problem == problem]
    if not any(suffix in form.suffixes for form in forms) and problem == "mip":
        pytest.skip("models have .mps and .lp")
    nco.write(instance, tmp_path / f"x{suffix}")
    assert nco.read(tmp_path / f"x{suffix}", problem=problem).digest == instance.digest
    io.write_solution(instance, solution, tmp_path / "s.json")
    assert nco.check(instance, tmp_path / "s.json").feasible
    if suffix == ".npz":
        batch = Batch.of([instance, instance], name="two")
        nco.write(batch, tmp_path / "two.npz")
        assert [i.digest for i in nco.read(tmp_path / "two.npz", problem=problem)] == [
            i.digest for i in batch
        ]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_pictures(problem):
    """What has places is drawn; others are, or are refused in words."""
    instance, solution = small(problem), solved(problem).solution
    try:
        title = plot.plot(instance, solution).get_title()
    except ValueError as error:
        title = str(error)
        assert getattr(instance, "coords", None) is None
    assert title
    plt.close("all")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_models_hold_the_solution(problem):
    instance, result = small(problem), solved(problem)
    if not callable(getattr(instance, "to_mip", None)):
        pytest.skip("has no compact model")
    view = instance.to_mip(start=result.solution) if problem != "mip" else instance.to_mip()
    x = view.encode(result.solution)
    assert view.mip.vector_violations(x) == []
    assert view.mip.value(x) == pytest.approx(result.objective)
    assert instance.canonical(view.decode(x)) == instance.canonical(result.solution)


PAIRS = [
    (entry.name, problem)
    for entry in solvers
    if entry.installed
    for problem in PROBLEMS
    if entry.load()().supports(small(problem)) is None
]


@pytest.mark.parametrize(("name", "problem"), PAIRS)
def test_solvers_keep_starts_and_interruptions(name, problem):
    """Nothing is lost by a start, a Ctrl-C before the first step, or a limit of nothing."""
    instance = small(problem)
    start = None if problem == "spctsp" else solved(problem).solution
    for budget in (Budget(30.0), Budget(0.0)):
        if budget.left():
            budget.interrupt()
        try:
            result = solvers.load(name)().solve(instance, budget, seed=2, start=start)
        except WeightsError as error:
            pytest.skip(str(error))
        assert result.solver == name
        assert result.digest == instance.digest
        if start is not None:
            assert not better(solved(problem).objective, result.objective, instance.sense)
        assert result.stopped is not Stop.ERROR
        assert np.isfinite([event.seconds for event in result.trajectory]).all()


@pytest.mark.parametrize(("name", "problem"), PAIRS)
def test_solvers_have_something_at_once(name, problem):
    """Without time and start: a solution where one is made by a simple rule."""
    if not hasattr(small(problem), "to_routing") and problem not in ("knapsack", "mis", "spctsp"):
        pytest.skip("has no such rule")
    assert solvers.load(name)().solve(small(problem), Budget(0.0)).feasible
