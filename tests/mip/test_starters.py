"""Starters without LP: what they call feasible is, and they find what is easy to find."""

import importlib.util
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import io
from nco.instances.mip import MIP
from nco.mip.backend import Form, polish
from nco.mip.fix_propagate import fix_propagate
from nco.mip.jump import jump
from nco.mip.lift import lift
from nco.mip.starters import run_starters, trivial


def cover(n, m, seed):
    rng = np.random.default_rng(seed)
    A = (rng.random((m, n)) < 0.2).astype(float)
    A[np.arange(m), rng.integers(0, n, m)] = 1.0
    return MIP(
        c=rng.integers(1, 100, n), A=A, row_lower=np.ones(m), upper=np.ones(n),
        integrality=np.ones(n),
    )  # fmt: skip


def random_mixed(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 12)), int(rng.integers(1, 8))
    A = rng.integers(-5, 6, (m, n)) * (rng.random((m, n)) < 0.6)
    inside = rng.integers(0, 4, n)
    activity = A @ inside
    return MIP(
        c=rng.integers(-9, 9, n),
        A=A,
        row_lower=np.where(rng.random(m) < 0.5, -np.inf, activity - 1),
        row_upper=np.where(rng.random(m) < 0.5, np.inf, activity + 1),
        upper=np.full(n, 4),
        integrality=rng.random(n) < 0.8,
    )


@settings(max_examples=80)
@given(st.integers(0, 10**6))
def test_no_violated_rows_means_feasible(seed):
    form = Form(random_mixed(seed))
    x, count = jump(form, np.zeros(form.n), seed, lambda: False, steps=20_000)
    assert (x >= form.lower).all()
    assert (x <= form.upper).all()
    if count == 0:
        assert form.feasible(x)


@pytest.mark.parametrize("function", [fix_propagate, jump, lift])
def test_kernels_compile_where_no_cache_can_be_written(function, monkeypatch):
    from numba import njit

    def unwritable(function=None, **options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr("numba.njit", unwritable)
    source = importlib.util.find_spec(function.__module__)
    source.loader.exec_module(importlib.util.module_from_spec(source))


def test_jump_repeats_and_stops():
    form = Form(cover(60, 80, 1))
    first, count = jump(form, np.zeros(60), 3, lambda: False)
    assert count == 0
    np.testing.assert_array_equal(first, jump(form, np.zeros(60), 3, lambda: False)[0])
    x, count = jump(form, np.zeros(60), 3, lambda: True)
    assert count == 80
    assert not x.any()


def test_the_objective_is_a_row_under_a_cutoff():
    form = Form(cover(60, 80, 2))
    x, _ = jump(form, np.ones(60), 1, lambda: False)
    value = form.value(x)
    for _ in range(5):
        y, count = jump(form, x, 1, lambda: False, cutoff=0.9 * value, steps=200_000)
        if count:
            break
        assert form.feasible(y)
        assert form.value(y) <= 0.9 * value + 1e-6
        x, value = y, form.value(y)
    assert value < form.value(np.ones(60))


@settings(max_examples=80)
@given(st.integers(0, 10**6))
def test_fixing_stays_inside_and_repeats(seed):
    form = Form(random_mixed(seed))
    x, failures = fix_propagate(form, np.zeros(form.n), np.random.default_rng(seed))
    assert (x >= form.lower).all()
    assert (x <= form.upper).all()
    assert failures >= 0
    again, _ = fix_propagate(form, np.zeros(form.n), np.random.default_rng(seed))
    np.testing.assert_array_equal(x, again)


@pytest.mark.parametrize("seed", range(5))
def test_covers_are_found_by_propagation(seed):
    form = Form(cover(40, 30, seed))
    x, failures = fix_propagate(form, np.zeros(40), np.random.default_rng(seed))
    assert failures == 0
    assert form.feasible(x)


def test_fixing_stops_between_chunks(monkeypatch):
    module = sys.modules[fix_propagate.__module__]
    monkeypatch.setattr(module, "CHUNK", 10)
    form = Form(cover(40, 30, 0))
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 3

    x, _ = fix_propagate(form, np.zeros(40), np.random.default_rng(0), stop)
    assert len(asked) == 3
    assert (x >= form.lower).all()
    whole, failures = fix_propagate(form, np.zeros(40), np.random.default_rng(0))
    assert failures == 0
    assert form.feasible(whole)


def test_propagation_undoes_what_contradicts():
    # x0 = 1 forces x1 = 1 and x2 = 1 by two rows, which a third one forbids.
    mip = MIP(c=[1.0, 1, 1], A=[[-1.0, 1, 0], [-1, 0, 1], [0, 1, 1]], row_lower=[0, 0, -np.inf],
              row_upper=[np.inf, np.inf, 1], upper=[1, 1, 1], integrality=[1, 1, 1])  # fmt: skip
    for seed in range(5):
        x, failures = fix_propagate(Form(mip), np.ones(3), np.random.default_rng(seed))
        assert failures == 0
        assert Form(mip).feasible(x)


def test_propagation_with_infinite_bounds():
    mip = MIP(c=[1.0, 1, 0], A=[[1.0, 1, -1], [1, 0, 0]], row_lower=[4, -np.inf],
              row_upper=[4, 9], lower=[0, -np.inf, 0], upper=[np.inf, np.inf, 5],
              integrality=[1, 1, 1])  # fmt: skip
    for seed in range(5):
        x, failures = fix_propagate(Form(mip), np.zeros(3), np.random.default_rng(seed))
        assert failures == 0
        assert Form(mip).feasible(x)


def test_propagation_with_whole_columns_without_an_upper_bound():
    mip = MIP(c=[1.0, 1], A=[[1.0, 1]], row_lower=[5], integrality=[1, 1])
    for seed in range(5):
        x, failures = fix_propagate(Form(mip), np.zeros(2), np.random.default_rng(seed))
        assert failures == 0
        assert sorted(x) == [0, 5]
    # One that no bound holds below is tried a step lower.
    mip = MIP(c=[-1.0, 0], A=[[1.0, 1]], row_upper=[4], row_lower=[4], lower=[-np.inf, 1],
              upper=[4, 1], integrality=[1, 1])  # fmt: skip
    x, failures = fix_propagate(Form(mip), np.array([4.0, 1]), np.random.default_rng(0))
    assert failures == 0
    assert x.tolist() == [3, 1]


def test_propagation_meets_an_equation():
    mip = MIP(c=np.ones(4), A=np.ones((1, 4)), row_lower=[3], row_upper=[3], upper=np.ones(4),
              integrality=np.ones(4))  # fmt: skip
    x, failures = fix_propagate(Form(mip), np.zeros(4), np.random.default_rng(0))
    assert (failures, x.sum()) == (0, 3.0)


def test_benchmarks(shared_data):
    for name in ("seymour", "p0548", "50v-10"):
        form = Form(io.read(shared_data / "mip" / f"{name}.mps.gz"))
        x, _ = fix_propagate(form, np.zeros(form.n), np.random.default_rng(0))
        x, count = jump(form, x, 0, lambda: False, steps=300_000)
        if count == 0:
            assert polish(form, x) is not None


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_lifting_stays_feasible_and_never_loses(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 12)), int(rng.integers(0, 8))
    mip = MIP(
        c=rng.integers(-9, 9, n),
        A=rng.integers(-4, 9, (m, n)),
        row_lower=np.full(m, -200.0),
        row_upper=rng.integers(0, 40, m),
        upper=rng.choice([1.0, 5.0, math.inf], n),
        integrality=rng.random(n) < 0.7,
    )
    form = Form(mip)
    zero = np.zeros(n)
    assert form.feasible(zero)
    lifted = lift(form, zero, rng, lambda: False)
    assert form.feasible(lifted)
    assert form.value(lifted) <= form.value(zero) + 1e-9
    assert not zero.any()


def test_lifting_ends_where_no_column_can_gain():
    form = Form(cover(60, 80, 3))
    lifted = lift(form, np.ones(60), np.random.default_rng(1), lambda: False)
    for k in np.flatnonzero(lifted):
        less = lifted.copy()
        less[k] = 0.0
        assert not form.feasible(less)


@pytest.mark.parametrize(
    ("family", "sign"),
    [("set-cover", 1), ("auction", -1), ("independent-set", -1), ("vertex-cover", 1),
     ("gisp", 1), ("multiple-knapsack", -1)],
)  # fmt: skip
def test_every_family_has_a_trivial_start_that_lifting_improves(family, sign):
    form = Form(MIP.generate(60, seed=1, distribution=family))
    points = trivial(form)
    assert points
    assert all(form.feasible(x) for x in points)
    lifted = lift(form, points[0], np.random.default_rng(0), lambda: False)
    assert form.value(lifted) < min(form.value(points[0]), 0 if sign < 0 else math.inf)


def test_trivial_points_of_an_equation():
    equation = {"row_lower": [1], "row_upper": [1]}
    mip = MIP(c=[1.0, 1.0], A=[[1.0, 1.0]], upper=[1, 1], integrality=[1, 1], **equation)
    assert trivial(Form(mip)) == []


def test_points_that_violate_rows_are_promised():
    # Parity: no point is feasible.
    mip = MIP(c=[1.0, 1.0], A=[[2.0, 2.0]], row_lower=[3], row_upper=[3], upper=[5, 5],
              integrality=[1, 1])  # fmt: skip
    promised = []
    near = run_starters(
        Form(mip), 0, lambda x, by: None, lambda: False, lambda x, count: promised.append(count)
    )
    assert near is not None
    assert promised
    assert min(promised) == 1


def test_models_that_highs_refuses_have_starts():
    mip = MIP(
        c=[1.0, 1.0, 2.0],
        A=[[1e16, 3.0, -1.0], [1.0, 2.0, 1.0], [0.0, 1.0, 1.0]],
        row_lower=[-math.inf, 2.5, 1.3],
        row_upper=[5, math.inf, math.inf],
        upper=[3, 3, 3],
        integrality=[1, 1, 0],
    )
    form = Form(mip)
    best = run_starters(form, 0, lambda x, by: None, lambda: False)
    assert form.feasible(best)
