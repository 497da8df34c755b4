"""The compiled second stages against enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.robust.recourse import (
    budget_recourse,
    choose_options,
    cut_of_orders,
    knapsack_recourse,
    loans_recourse,
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
