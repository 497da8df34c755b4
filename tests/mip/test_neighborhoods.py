"""Laws of all operators: pure, sized, and never without the current solution."""

import dataclasses

import numpy as np
import pytest

from nco.instances.core import Sense
from nco.instances.mip import MIP
from nco.instances.registry import operators
from nco.instances.tsp import TSP
from nco.mip.backend import Form, Limits, Neighborhood
from nco.mip.highs import HighsEngine
from nco.mip.neighborhoods import Incumbents, count
from nco.mip.relaxation import solve_lp

NAMES = [entry.name for entry in operators]


def mixed(seed, sense=Sense.MINIMIZE):
    rng = np.random.default_rng(seed)
    n, m = 24, 8
    A = rng.integers(0, 9, (m, n)) * (rng.random((m, n)) < 0.4)
    upper = np.where(np.arange(n) < 16, 1.0, np.where(np.arange(n) < 20, 5.0, 9.5))
    return MIP(
        c=rng.integers(1, 20, n) * (1 if sense is Sense.MINIMIZE else -1),
        A=A,
        row_lower=np.floor(A @ (upper / 3)),
        upper=upper,
        integrality=np.arange(n) < 20,
        sense=sense,
    )


def known(mip, groups=()):
    form = Form(mip)
    engine = HighsEngine(form)
    pool = [form.rounded(mip.upper.copy())]
    for k in range(3):
        objective = np.random.default_rng(k).normal(size=form.n)
        outcome = engine.solve(Limits(10), Neighborhood(objective=objective))
        pool.append(form.rounded(outcome.x))
    pool.sort(key=form.value)
    lp = solve_lp(form, 10).x
    return Incumbents(form, pool[0], pool, lp, lp, groups)


@pytest.fixture(scope="module", params=[Sense.MINIMIZE, Sense.MAXIMIZE])
def incumbents(request):
    mip = mixed(3, request.param)
    return known(mip, [np.arange(k, k + 2) for k in range(0, 24, 2)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.05, 0.4, 1.0])
def test_laws(name, size, incumbents):
    operator, form = operators.load(name), incumbents.form
    before = incumbents.current.copy(), form.lower.copy(), form.upper.copy()
    offered = 0
    for seed in range(5):
        first = operator(incumbents, size, np.random.default_rng(seed))
        again = operator(incumbents, size, np.random.default_rng(seed))
        assert (first is None) == (again is None)
        if first is None:
            continue
        offered += 1
        for a, b in ((first.fix, again.fix), (first.bounds, again.bounds)):
            if a is not None:
                for left, right in zip(a, b, strict=True):
                    np.testing.assert_array_equal(left, right)
        if first.fix is not None:
            columns, values = first.fix
            assert form.whole[columns].all()
            assert len(set(columns.tolist())) == len(columns)
            base = [x for x in incumbents.pool if np.allclose(x[columns], values)]
            assert base
        if first.bounds is not None:
            columns, low, high = first.bounds
            assert form.whole[columns].all()
            assert (low <= incumbents.current[columns]).all()
            assert (incumbents.current[columns] <= high).all()
        if first.rows is not None:
            A, low, high = first.rows
            activity = A @ incumbents.current
            assert (activity >= low).all()
            assert (activity <= high).all()
        assert np.array_equal(before[0], incumbents.current)
        assert np.array_equal(before[1], form.lower)
        assert np.array_equal(before[2], form.upper)
    # Whatever frees all whole columns is no neighbourhood.
    if size < 1.0:
        assert offered


@pytest.mark.parametrize(
    "name", ["mutation", "crossover", "rins", "variable-patch", "objective-guided", "lb-relax"]
)
def test_sizes(name, incumbents):
    form = incumbents.form
    for size in (0.1, 0.3, 0.6):
        found = operators.load(name)(incumbents, size, np.random.default_rng(1))
        free = len(form.integers) - len(found.fix[0])
        assert free == count(incumbents, size)


@pytest.mark.parametrize("name", ["rins", "rens", "dins", "crossover"])
def test_sizes_of_papers_are_shares_of_what_disagrees(name, incumbents):
    plain = dataclasses.replace(incumbents, filled=False)
    form = incumbents.form
    free = {}
    for size in (0.5, 1.0):
        found = operators.load(name)(plain, size, np.random.default_rng(1))
        free[size] = len(form.integers) - len(found.fix[0])
    assert 2 <= free[0.5] < free[1.0] < len(form.integers)


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_bounds_fix_are_not_counted(name):
    mip = mixed(3)
    lower = np.where(np.arange(24) < 10, mip.upper, mip.lower)
    fixed = dataclasses.replace(mip, lower=lower)
    incumbents = known(fixed, [np.arange(k, k + 2) for k in range(0, 24, 2)])
    form = incumbents.form
    assert form.integers.tolist() == list(range(10, 20))
    for seed in range(5):
        found = operators.load(name)(incumbents, 0.4, np.random.default_rng(seed))
        if found is not None and found.fix is not None:
            assert form.movable[found.fix[0]].all()


def test_crossover_begins_where_it_fixes(incumbents):
    for seed in range(5):
        found = operators.load("crossover")(incumbents, 0.4, np.random.default_rng(seed))
        if found is not None:
            assert found.start is not None
            assert np.array_equal(found.start[found.fix[0]], found.fix[1])


@pytest.mark.parametrize("name", NAMES)
def test_sub_models_hold_the_current_solution_or_better(name, incumbents):
    form = incumbents.form
    engine = HighsEngine(form)
    found = operators.load(name)(incumbents, 0.4, np.random.default_rng(2))
    outcome = engine.solve(Limits(10), found, incumbents.current)
    if name in ("crossover", "proximity"):
        return
    assert outcome.x is not None
    assert form.feasible(form.rounded(outcome.x))
    if found.objective is None:
        assert outcome.objective <= form.value(incumbents.current) + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_nothing_known(name):
    """No relaxation, no pool, no groups, no binaries: an operator may only decline."""
    mip = MIP(c=[1.0, 1.0, 1.0], A=[[2.0, 3.0, 1.0]], row_lower=[5.0], upper=[9, 9, 9],
              integrality=[1, 1, 0])  # fmt: skip
    form = Form(mip)
    found = operators.load(name)(
        Incumbents(form, np.array([1.0, 1.0, 0.0])), 0.5, np.random.default_rng(0)
    )
    assert found is None or isinstance(found, Neighborhood)


def test_structure_frees_neighbours_of_a_tour():
    instance = TSP.generate(30, seed=2)
    view = instance.to_mip()
    form = Form(view.mip)
    x = view.encode(list(range(30)))
    incumbents = Incumbents(form, x, [x], groups=view.groups)
    operator = operators.load("structure")
    found = operator(incumbents, 0.2, np.random.default_rng(4))
    free = np.setdiff1d(form.integers, found.fix[0])
    nodes = {
        k for k, group in enumerate(view.groups) if np.isin(group[form.whole[group]], free).all()
    }
    # The freed customers are one stretch of the tour.
    gaps = [k for k in nodes if (k + 1) % 30 not in nodes]
    assert len(nodes) > 1
    assert len(gaps) == 1
