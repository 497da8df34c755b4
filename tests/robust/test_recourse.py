"""The compiled second stages against enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances.capital_budgeting import (
    CapitalBudgeting,
    CapitalBudgetingLoans,
    strong_worst_case,
)
from nco.robust.recourse import (
    budget_recourse,
    choose_options,
    cut_of_orders,
    knapsack_recourse,
    loans_recourse,
    worst_budgets,
)


def enumerate_options(v1, w1, v2, w2, capacity):
    best = 0.0
    for options in itertools.product(range(3), repeat=len(v1)):
        weight = sum((0, w1[i], w2[i])[o] for i, o in enumerate(options))
        if weight <= capacity:
            best = max(best, sum((0, v1[i], v2[i])[o] for i, o in enumerate(options)))
    return best


numbers = st.integers(0, 12)
items = st.lists(st.tuples(st.integers(-3, 20), numbers, st.integers(-3, 25), numbers),
                 min_size=1, max_size=6)  # fmt: skip


def test_what_fits_but_for_rounding_fits():
    """0.1 + 0.2 > 0.3, and 0.6 - 0.1 - 0.3 < 0.2."""
    f, d = np.full(3, 12.0), np.full(3, 4.0)
    c, t = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.1, 0.1])
    values, y, _ = knapsack_recourse(f, d, c, t, 0.3, [1, 1, 0], np.zeros(3))
    assert values[0, 0] == 24
    assert y[0, 0].tolist() == [True, True, False]
    cut = cut_of_orders([d, t, c, f], 0.6, np.array([1.0, 0.0, 1.0]), np.zeros(3))
    assert cut is not None
    # All three can be produced.
    assert cut[0][:3].sum() <= cut[1] + 1e-6


@given(items, st.integers(0, 40))
def test_options_are_the_best_choice(rows, capacity):
    v1, w1, v2, w2 = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    value, choice = choose_options(v1, w1, v2, w2, capacity)
    assert value == enumerate_options(v1, w1, v2, w2, capacity)
    taken = np.arange(len(v1))
    assert np.stack([0 * w1, w1, w2])[choice, taken].sum() <= capacity
    assert np.stack([0 * v1, v1, v2])[choice, taken].sum() == value


def test_larger_problems_agree_with_the_mip():
    from nco.mip.highs import HiGHS

    rng = np.random.default_rng(5)
    n = 40
    f, c = rng.uniform(50, 500, n), rng.integers(1, 1000, n).astype(float)
    d, t = f * rng.uniform(0.2, 0.8, n), np.ceil(c * rng.random(n))
    x, xi = (rng.random(n) < 0.8).astype(float), rng.random(n)
    capacity = 0.4 * float(c.sum())
    values, y, r = knapsack_recourse(f, d, c, t, capacity, x, xi)

    from nco.instances.core import Budget
    from nco.instances.mip import MIP

    eye, zero = np.eye(n), np.zeros((n, n))
    mip = MIP(
        c=np.concatenate([f - d * xi, d * xi]),
        A=np.vstack([np.concatenate([c, t])[None], np.hstack([eye, zero]), np.hstack([-eye, eye])]),
        row_upper=np.concatenate([[capacity], x, np.zeros(n)]),
        upper=np.ones(2 * n),
        integrality=np.ones(2 * n),
        sense="maximize",
    )
    result = HiGHS().solve(mip, Budget(20, gap=1e-9))
    assert values[0, 0] == pytest.approx(result.objective, rel=1e-7)
    y, r = y[0, 0], r[0, 0]
    assert not (r & ~y).any()
    assert not (y & (x < 0.5)).any()
    assert c @ y + t @ r <= capacity
    assert f @ y - (d * xi) @ (y & ~r) == pytest.approx(values[0, 0])


def test_budget_recourse_by_enumeration_and_without_room():
    rng = np.random.default_rng(1)
    value, weight = rng.random((3, 5)), rng.random((3, 5))
    x = np.array([[0, 1, 0, 0, 0], [1, 1, 1, 1, 1.0]])
    values, y = budget_recourse(value, weight, 1.2, x)
    for b in range(3):
        best = 0.0
        for late in itertools.product([0.0, 1.0], repeat=5):
            both = np.array(late) + x[0]
            if both.max() <= 1 and weight[b] @ both <= 1.2:
                best = max(best, value[b] @ np.array(late))
        assert values[0, b] == pytest.approx(best)
        assert value[b] @ y[0, b] == pytest.approx(best)
        assert np.isnan(values[1, b]) == (weight[b].sum() > 1.2)


def test_a_late_loan_is_taken_where_it_pays():
    # Room 1 without a loan, 3 with it; projects cost 2 and bring 10.
    args = ([[10.0, 10.0]], [2.0, 2.0], 1.0, (0.0, 2.0, 4.0), np.zeros((1, 2)), [0.0])
    values, y, y0 = loans_recourse(*args)
    assert (values[0, 0], y[0, 0].sum(), y0[0, 0]) == (6.0, 1, True)
    values, _, y0 = loans_recourse(*args[:3], (0.0, 2.0, 11.0), *args[4:])
    assert (values[0, 0], y0[0, 0]) == (0.0, False)


@pytest.mark.parametrize("change", [{"capacity": -1.0}, {"w1": [-1.0]}, {"v1": [np.nan]}])
def test_numbers_that_make_no_sense_are_refused(change):
    arguments = {"v1": [1.0], "w1": [1.0], "v2": [1.0], "w2": [1.0], "capacity": 1.0} | change
    with pytest.raises(ValueError, match=r"must (not )?be"):
        choose_options(**arguments)


def best_subset(value, weight, capacity):
    """The largest value of a subset within the capacity, from all subsets of either half."""
    halves = []
    for part in (slice(None, len(value) // 2), slice(len(value) // 2, None)):
        every = np.array(list(itertools.product([0.0, 1.0], repeat=len(value[part]))))
        total = every @ weight[part]
        order = np.argsort(total, kind="stable")
        halves.append((np.maximum.accumulate((every @ value[part])[order]), total[order]))
    (v1, w1), (v2, w2) = halves
    k = np.searchsorted(w2, capacity - w1 + 1e-9, side="right") - 1
    return float((v1 + np.where(k >= 0, v2[k], -np.inf)).max())


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0])
def test_loans_are_exact_with_costs_in_cents(spread):
    """Profits that are proportional to costs are the hard case."""
    rng = np.random.default_rng(4)
    n = 18
    instance = CapitalBudgetingLoans.generate(n, seed=4)
    costs = np.round(rng.uniform(1, 100, n), 2)
    instance = instance.replace(
        costs=costs, profits=costs / 5, budget=float(costs.sum() / 3), late_loan=33.333
    )
    problem, xi = instance.two_stage, spread * rng.uniform(-1, 1, instance.loadings.shape[1])
    values, _ = problem.recourse_at(np.zeros(n + 1), xi)
    late = instance.late_share * (1 + 0.5 * instance.loadings @ xi) * instance.profits
    without = best_subset(late, costs, instance.budget)
    with_loan = best_subset(late, costs, instance.budget + 33.333) - instance.late_price
    assert values[0, 0] == pytest.approx(max(without, with_loan), rel=1e-12)


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-3])
@pytest.mark.parametrize("n", [20, 26, 30])
def test_values_that_are_nearly_proportional_to_fractional_weights(n, spread):
    """States without number: lists of half the items each, of which the best pair is found."""
    projects = CapitalBudgeting.generate(n, seed=1)
    xi = spread * np.random.default_rng(1).uniform(-1, 1, (4, 4))
    cost, revenue = projects.factors(xi)
    values, y = budget_recourse(revenue, cost, projects.budget, np.zeros(n))
    for b in range(4):
        exact = best_subset(revenue[b], cost[b], projects.budget)
        assert values[0, b] == pytest.approx(exact, rel=2e-6)
        assert revenue[b] @ y[0, b] == pytest.approx(values[0, b], rel=1e-12)
        assert cost[b] @ y[0, b] <= projects.budget * (1 + 2e-9)


def test_loans_with_finer_costs_are_refused():
    instance = CapitalBudgetingLoans.generate(3, seed=0)
    with pytest.raises(ValueError, match=r"project 1: costs 0\.125: more than two decimals"):
        instance.replace(costs=np.array([0.1, 0.125, 0.3]))


def test_whole_weights_are_exact_within_any_capacity():
    values, y = budget_recourse(
        [[3.0, 4.0, 5.0]], [[2.0, 3.0, 4.0]], [5.999, 1.5], np.zeros((2, 3))
    )
    assert values.tolist() == [[7.0], [0.0]]
    assert y[0, 0].tolist() == [True, True, False]


def test_scenarios_that_are_nearly_the_worst_are_no_worse():
    rng = np.random.default_rng(2)
    value = rng.uniform(1, 2, 24) * (1 + 1e-4 * rng.normal(size=(300, 24)))
    weight = np.broadcast_to(rng.uniform(1, 10, 24), value.shape)
    first, x, capacity = 1e-4 * rng.random(300), np.zeros(24), 60.0
    exact = first + budget_recourse(value, weight, capacity, x)[0][0]
    worst = np.full(3, np.inf)
    values, _ = worst_budgets(first, value, weight, capacity, x, worst)
    assert worst == pytest.approx(np.sort(exact)[:3], rel=2e-6)
    assert (values <= exact * (1 + 2e-6)).all()
    joined = values < worst[-1]
    assert values[joined] == pytest.approx(exact[joined], rel=1e-9)


@pytest.mark.parametrize(("n", "seed", "taken"), [
    (10, 0, [4]), (15, 5, [0, 1, 6, 13]), (25, 3, [0, 5, 15, 16, 21]),
    (36, 1, [0, 3, 6, 7, 9, 29, 35]),
])  # fmt: skip
def test_the_worst_case_is_what_the_recourse_there_brings(n, seed, taken):
    """A search that ended early passed for a value just below the worst: 2 % too little."""
    instance = CapitalBudgeting.generate(n, seed=seed)
    x = np.zeros(n)
    x[taken] = 1.0
    found = strong_worst_case(instance, x)
    values, _ = instance.two_stage.recourse_at(x, found.xi)
    assert found.value == pytest.approx(values[0, 0], rel=1e-9)
