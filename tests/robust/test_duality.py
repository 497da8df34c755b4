"""Worst cases of facility location by duality, against the list of all extreme scenarios."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances.core import Budget
from nco.instances.facility_location import FacilityLocation
from nco.robust import duality
from nco.robust.ccg import CCG
from nco.robust.duality import by_duality, static_recourse


def sites(n=4, seed=0, gamma=2.0):
    drawn = FacilityLocation.generate(n, seed=seed)
    fields = {
        "fixed_costs": drawn.fixed_costs, "capacities": drawn.capacities, "costs": drawn.costs,
        "demands": drawn.demands, "deviations": drawn.deviations, "penalties": drawn.penalties,
    }  # fmt: skip
    return FacilityLocation(**fields, gamma=gamma, name="sites")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50), st.sampled_from([0.0, 0.5, 1.0, 1.7, 2.0, 3.5]), st.integers(0, 15))
def test_no_extreme_scenario_is_worse(seed, gamma, which):
    problem = sites(seed=seed, gamma=gamma).two_stage
    x = np.array([which >> i & 1 for i in range(4)], dtype=float)
    found = problem.worst_case(x)
    vertices = problem.uncertainty.vertices()
    values, _ = problem.recourse_at(x, vertices)
    assert found.exact
    assert found.value == pytest.approx(problem.first.value(x) + values.min(), rel=1e-7)
    assert problem.uncertainty.contains(found.xi)


def test_terms_bounded_alone_give_the_same(monkeypatch):
    """Beyond the largest number of products, terms are bounded one by one."""
    problem, x = sites(seed=3).two_stage, np.array([1.0, 0.0, 1.0, 0.0])
    form = problem.uncertainty.binary_form()
    whole = by_duality(problem, x, Budget(), form, np.zeros((0, 8)))
    monkeypatch.setattr(duality, "PRODUCTS", 12)
    some = by_duality(problem, x, Budget(), form, np.zeros((0, 8)))
    assert some.exact
    assert some.value == pytest.approx(whole.value, rel=1e-9)


def test_out_of_time_one_recourse_for_all_scenarios_is_the_guarantee():
    instance = sites(seed=1)
    problem, x = instance.two_stage, np.array([1.0, 1.0, 0.0, 1.0])
    y, value = static_recourse(problem, x, Budget())
    true = problem.worst_case(x).value
    problem._known.clear()
    found = problem.worst_case(x, Budget(0.0))
    assert not found.exact
    assert found.guaranteed == pytest.approx(value)
    assert found.guaranteed <= true + 1e-9
    assert found.value >= true - 1e-9
    solution = problem.solution(found)
    assert problem.evaluation(solution) == "interval"
    assert problem.value(solution) == pytest.approx(-value)
    assert problem.check(solution) == []
    # A recourse that does for one scenario only.
    solution["policies"] = [found.y.tolist()]
    assert any("in some scenario" in line for line in problem.check(solution))
    assert len(y) == 4 * 8 + 8


def test_without_time_ccg_has_an_interval():
    instance = sites(n=6, seed=2)
    result = CCG().solve(instance, Budget(0.0))
    assert result.evaluation == "interval"
    assert instance.violations(result.solution) == []
    assert result.objective >= CCG().solve(instance, Budget(60)).objective
