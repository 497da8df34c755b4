"""The shipped value networks do what they are for."""

import pytest

import nco
from nco.robust import LEARNED

pytest.importorskip("torch")


@pytest.mark.parametrize("problem", LEARNED)
def test_every_learned_problem_has_weights_within_its_target(problem):
    from nco.robust.neur2ro import load_model

    card = load_model(problem).card
    assert card["problem"] == problem
    assert card["measured"]["mae"] <= {"two-stage-knapsack": 0.003}.get(problem, 0.03)


def test_capital_budgeting_by_the_network_alone_is_near_the_bound():
    """No neighbours, and no worst cases but the network's own in the masters."""
    instance = nco.generate("capital-budgeting", 10, seed=3)
    bound = nco.solve(instance, solver="ccg", iterations=3, time_limit=300).bound
    learned = nco.solve(
        instance, solver="neur2ro", iterations=4, time_limit=300, neighbors=0, worst=False
    )
    nothing = instance.two_stage.worst_case([0.0] * 10).value
    assert instance.violations(learned.solution) == []
    assert nothing < learned.objective <= bound + 1e-6
    assert bound - learned.objective < 0.25 * (bound - nothing)


@pytest.mark.parametrize("options", [{}, {"backend": "scip", "master": "value"}])
def test_facility_location_by_the_network_is_near_the_optimum(options):
    instance = nco.generate("facility-location", 8, seed=3)
    best = nco.solve(instance, solver="ccg", time_limit=300)
    learned = nco.solve(instance, solver="neur2ro", iterations=4, time_limit=300, **options)
    assert best.status == "optimal"
    assert learned.evaluation == "exact"
    assert best.objective - 1e-6 <= learned.objective <= 1.01 * best.objective
