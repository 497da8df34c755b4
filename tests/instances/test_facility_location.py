"""Facility location: laws of the recourse, files, generator, bad input."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

import nco
from nco import Budget
from nco.instances import io
from nco.instances.core import InputError
from nco.instances.facility_location import FacilityLocation

SMALL = {
    "fixed_costs": [10, 8], "capacities": [6, 5], "costs": [[1, 2, 3], [3, 1, 1]],
    "demands": [2, 3, 1], "deviations": [1, 2, 1], "penalties": [20, 20, 20], "gamma": 2,
}  # fmt: skip
TEXT = "2 3 2\n6 10\n5 8\n2 1 20 1 3\n3 2 20 2 1\n1 1 20 3 1\n"


def shipping(instance, x, xi):
    """The recourse by its definition."""
    n, m = instance.costs.shape
    A = np.zeros((n + m, n * m + m))
    for i, j in itertools.product(range(n), range(m)):
        A[i, i * m + j] = 1.0
        A[n + j, i * m + j] = -1.0
    A[n + np.arange(m), n * m + np.arange(m)] = -1.0
    demand = instance.demands + instance.deviations * xi
    found = linprog(
        np.concatenate([instance.costs.ravel(), instance.penalties]),
        A, np.concatenate([instance.capacities * x, -demand]),
    )  # fmt: skip
    return found.fun


def brute(instance):
    """Least cost over all choices of sites, the worst over all vertices."""
    corners = instance.two_stage.uncertainty.vertices()
    costs = {
        x: instance.fixed_costs @ np.array(x)
        + max(shipping(instance, np.array(x), xi) for xi in corners)
        for x in itertools.product((0, 1), repeat=instance.n)
    }
    return min(costs.values()), costs


def test_worst_cases_are_those_of_the_definition():
    instance = FacilityLocation.generate(3, seed=2, customers=4, budget_factor=0.5)
    _, costs = brute(instance)
    for x, cost in costs.items():
        found = instance.two_stage.worst_case(x)
        assert found.exact
        assert -found.value == pytest.approx(cost, rel=1e-7)


def test_a_fractional_gamma_is_exact_too():
    instance = FacilityLocation(**{**SMALL, "gamma": 1.5})
    _, costs = brute(instance)
    for x, cost in costs.items():
        assert -instance.two_stage.worst_case(x).value == pytest.approx(cost, rel=1e-7)


def test_solutions_are_checked():
    instance = FacilityLocation(**SMALL)
    found = instance.two_stage.worst_case([1, 1], Budget())
    solution = instance.two_stage.solution(found)
    assert instance.violations(solution) == []
    assert instance.evaluation(solution) == "exact"
    assert instance.objective(solution) == pytest.approx(brute(instance)[1][1, 1])
    assert "second-stage row 0" in instance.violations({**solution, "y": [0.0] * 9})[0]
    assert "uncertainty set" in instance.violations({**solution, "xi": [1, 1, 1]})[0]
    assert "not whole" in instance.violations({**solution, "x": [0.5, 1]})[0]


@pytest.mark.parametrize("name", ["f.rfl", "plain", "f.json", "f.npz"])
def test_round_trip(tmp_path, name):
    """By content where there is no suffix; every bit survives."""
    drawn = FacilityLocation.generate(4, seed=3)
    path = tmp_path / name
    io.write(drawn, tmp_path / (name if "." in name else "x.rfl"))
    if "." not in name:
        (tmp_path / "x.rfl").rename(path)
    assert io.read(path).digest == drawn.digest


def test_text_is_read_as_written(tmp_path):
    path = tmp_path / "two.rfl"
    path.write_text(TEXT)
    assert io.read(path).digest == FacilityLocation(**SMALL).digest


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("2 3 2\n", "2 3 4\n", "two.rfl:1: Gamma = 4 is not within 0 and m = 3"),
        ("2 3 2\n", "2 3 -1\n", "two.rfl:1: Gamma = -1"),
        ("2 3 2\n", "2.5 3 2\n", "two.rfl:1: 2.5 is not a number of sites"),
        ("2 3 2\n", "2 4 2\n", "6 lines of numbers, expected 7"),
        ("5 8\n", "5 8 1\n", "two.rfl:3: 3 numbers, expected 2"),
        ("5 8\n", "-5 8\n", "two.rfl:3: capacity -5 < 0"),
        ("3 2 20", "3 -2 20", "two.rfl:5: deviation -2 < 0"),
        ("20 3 1\n", "20 -3 1\n", "two.rfl:6: cost -3 < 0"),
        ("20 3 1\n", "20 3\n", "two.rfl:6: 4 numbers, expected 5"),
        ("20 3 1\n", "20 3 x\n", "two.rfl:6: 'x' is not a number"),
        ("20 3 1\n", "20 3 nan\n", "two.rfl:6: 'nan' is not a number"),
    ],
)
def test_bad_files(tmp_path, old, new, what):
    path = tmp_path / "two.rfl"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(InputError) as caught:
        io.read(path)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"gamma": 3.5}, "gamma = 3.5"),
        ({"gamma": float("nan")}, "gamma = nan"),
        ({"demands": [2, -3, 1]}, "customer 1: demands < 0"),
        ({"costs": [[1, 2, 3], [3, 1, -1]]}, "site 1: costs < 0"),
        ({"capacities": [6]}, "1 capacities for costs of 2 sites"),
        ({"fixed_costs": [10, float("inf")]}, "fixed_costs"),
        ({"costs": np.zeros((2, 0)), "demands": [], "deviations": [], "penalties": []}, "no sites"),
    ],
)
def test_bad_numbers(changed, what):
    with pytest.raises(ValueError, match=what):
        FacilityLocation(**{**SMALL, **changed})


def test_generator_follows_its_recipe():
    drawn = FacilityLocation.generate(50, seed=1, ratio=2.0, budget_factor=0.2, deviation=0.3)
    assert (drawn.n, drawn.costs.shape, drawn.gamma) == (50, (50, 100), 20)
    assert drawn.capacities.sum() == pytest.approx(2 * drawn.demands.sum(), rel=0.01)
    assert (drawn.demands.min() >= 5) & (drawn.demands.max() <= 35)
    assert np.allclose(drawn.deviations, 0.3 * drawn.demands, atol=0.01)
    assert drawn.costs.max() <= 10 * 2**0.5
    assert drawn.penalties[0] == 70.71
    with pytest.raises(InputError, match="unknown option"):
        FacilityLocation.generate(5, seed=1, colour="red")
    with pytest.raises(InputError, match="budget_factor"):
        FacilityLocation.generate(5, seed=1, budget_factor=2)


@pytest.mark.parametrize("solver", ["auto", "ccg", "static", "nominal", "scenario"])
def test_every_general_method_applies(solver):
    """Each is feasible and honest about its bound; generation is exact."""
    instance = FacilityLocation.generate(3, seed=2, customers=4, budget_factor=0.5)
    best, costs = brute(instance)
    result = nco.solve(instance, solver, time_limit=60)
    assert result.objective == pytest.approx(costs[tuple(result.solution["x"])])
    assert result.bound is None or result.bound <= best + 1e-6 * best
    assert result.evaluation == "exact"
    if solver in ("auto", "ccg"):
        assert result.status == "optimal"
        assert result.objective == pytest.approx(best)
