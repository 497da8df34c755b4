"""CP-SAT against brute force and other exact solvers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.classical.cp_sat import CPSAT, whole_factor
from nco.instances.atsp import ATSP
from nco.instances.core import Budget, InputError, Sense, Status, Stop, UnsupportedError, better
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.op import OP
from nco.instances.registry import problems
from nco.instances.tsp import TSP
from nco.mip.highs import HiGHS


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(0, 10**6), st.booleans())
def test_tour(n, seed, explicit):
    if explicit:
        matrix = np.random.default_rng(seed).integers(1, 50, (n, n))
        instance = ATSP(matrix=matrix * (1 - np.eye(n, dtype=int)))
    else:
        instance = TSP.generate(n, seed=seed)
    best = min(instance.objective([0, *p]) for p in itertools.permutations(range(1, n)))
    result = CPSAT().solve(instance, Budget(20))
    assert result.objective == pytest.approx(best, rel=1e-6)
    assert result.bound <= best * (1 + 1e-9)
    if explicit:
        assert result.status is Status.OPTIMAL


@settings(max_examples=15)
@given(
    n=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    vehicles=st.sampled_from([None, 2]),
    limit=st.sampled_from([None, 120, 300]),
)
def test_routes(n, seed, vehicles, limit):
    rng = np.random.default_rng(seed)
    instance = CVRP(
        coords=rng.integers(0, 100, (n + 1, 2)),
        metric="EUC_2D",
        demands=np.r_[0, rng.integers(1, 8, n)],
        capacity=10,
        vehicles=vehicles,
        max_distance=limit,
        service_time=3,
    )
    other = HiGHS().solve(instance, Budget(20))
    result = CPSAT().solve(instance, Budget(20))
    assert (result.status, result.objective) == (other.status, other.objective)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_independent_set(n, seed):
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(n) for j in range(i) if rng.random() < 0.5]
    instance = MIS(edges=np.array(pairs).reshape(-1, 2), weights=rng.integers(0, 9, n))
    subsets = (s for r in range(n + 1) for s in itertools.combinations(range(n), r))
    best = max(instance.objective(list(s)) for s in subsets if not instance.violations(list(s)))
    result = CPSAT().solve(instance, Budget(20))
    assert (result.status, result.objective) == (Status.OPTIMAL, best)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(list(Sense)))
def test_integer_program(seed, sense):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    mip = MIP(
        c=rng.integers(-9, 9, n) / 4,
        A=rng.integers(-9, 9, (m, n)) / 10,
        row_lower=np.where(rng.random(m) < 0.5, -math.inf, -1.05),
        row_upper=rng.integers(0, 20, m) / 10,
        lower=np.full(n, -2),
        upper=np.full(n, 3),
        integrality=np.ones(n),
        offset=10,
        sense=sense,
    )
    other = HiGHS().solve(mip, Budget(20))
    result = CPSAT().solve(mip, Budget(20))
    assert result.status is other.status
    assert result.objective == (other.objective and pytest.approx(other.objective))


def test_reasons_to_refuse():
    whole = {"integrality": [1], "upper": [3]}
    cases = {
        "whole columns only": MIP(c=[1.0], A=[[1.0]], upper=[3]),
        "bounded": MIP(c=[1.0], A=[[1.0]], integrality=[1]),
        "does not scale": MIP(c=[1.0], A=[[1 / 3]], row_upper=[1], **whole),
        "too large": MIP(c=[1.0], A=[[1e17]], row_upper=[1], **whole),
        "weights do not scale": Knapsack(values=[1.0], weights=[1 / 3], capacity=2),
        "nodes": TSP.generate(400, seed=1),
    }
    for text, instance in cases.items():
        assert text in CPSAT().supports(instance)
        with pytest.raises(UnsupportedError, match=text):
            CPSAT().solve(instance, Budget(1))


def test_start_events_and_repetition():
    instance = TSP.generate(30, seed=3)
    start = list(range(30))
    events = []
    first = CPSAT().solve(instance, Budget(20, iterations=200), start=start, on_event=events.append)
    assert first.objective <= instance.objective(start)
    assert events[0].objective == instance.objective(start)
    assert list(first.trajectory) == events
    again = CPSAT().solve(instance, Budget(20, iterations=200), start=start)
    assert again.solution == first.solution


def test_interruption_and_limits():
    instance = TSP.generate(120, seed=3)
    budget = Budget(60)
    result = CPSAT().solve(instance, budget, on_event=lambda event: budget.interrupt())
    assert result.stopped is Stop.INTERRUPTED
    assert CPSAT().solve(instance, Budget(0.1)).stopped is Stop.TIME
    mip = MIP(c=[1.0], A=[[1.0]], upper=[3], integrality=[1])
    with pytest.raises(InputError, match="does not exist"):
        CPSAT().solve(mip, Budget(1), start={"nope": 1.0})
    with pytest.raises(ValueError, match="workers"):
        CPSAT(workers=0)


def test_whole_factor():
    assert whole_factor([1.0, 2.0]) == 1
    assert whole_factor([0.25, 1.5]) == 100
    assert whole_factor([1 / 3]) is None


@pytest.mark.parametrize("problem", ["op", "pctsp", "mtsp"])
@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_tours_of_some_and_of_many(problem, n, optimum):
    """Against brute force; bounds hold, and proofs with whole numbers are proofs."""
    options = {"op": {"max_length": 1.7}, "mtsp": {"salesmen": 2}}.get(problem, {})
    for seed in (1, 2, 3):
        instance = problems.load(problem).generate(n, seed=seed, **options)
        best = optimum(instance)
        result = CPSAT().solve(instance, Budget(20))
        assert result.objective == pytest.approx(best, rel=1e-4)
        assert not better(best, result.bound, instance.sense) or result.bound == (
            pytest.approx(best, rel=1e-9)
        )
        whole = instance.replace(coords=np.round(100 * instance.coords), metric="EUC_2D")
        if problem == "op":
            whole = whole.replace(max_length=170, prizes=np.arange(n + 1))
        if problem == "pctsp":
            prizes = np.arange(n + 1)
            whole = whole.replace(penalties=prizes, prizes=prizes, min_prize=n)
        result = CPSAT().solve(whole, Budget(20))
        assert result.objective == optimum(whole)
        assert result.status is Status.OPTIMAL


def test_an_orienteering_limit_that_leaves_nothing():
    instance = OP(coords=[[0, 0], [5, 0]], prizes=[3, 4], max_length=1.0)
    result = CPSAT().solve(instance, Budget(10), start=[])
    assert (result.solution, result.objective, result.bound) == ([], 3, 3)


def test_a_search_that_does_not_answer_is_left_behind(monkeypatch):
    found, left = [], []

    def never(work, stop, interrupt):
        left.append(work)
        return False

    monkeypatch.setattr("nco.mip.backend.run_interruptible", never)
    instance = Knapsack.generate(30, seed=1)
    result = CPSAT().solve(instance, Budget(10.0), on_event=found.append)
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.TIME)
    before = len(found)
    left[0]()  # what it finds now comes too late
    assert len(found) == before


def test_tiny_values_are_not_taken_for_zero():
    """Any solution was called optimal."""
    instance = Knapsack(values=np.array([1e-10, 3e-10, 9e-10]), weights=[1, 1, 1], capacity=1)
    result = CPSAT().solve(instance, Budget(20), start=[0])
    assert result.status is not Status.OPTIMAL or result.objective == 9e-10
    assert result.bound >= 9e-10


def test_factors_tell_tiny_numbers_from_zero_and_large_ones_from_whole():
    assert whole_factor([0.0, 0.1 + 0.2, 7.0]) == 10
    assert whole_factor([1e-10]) is None
    assert whole_factor([1e9 + 0.5]) == 10


def test_scaled_numbers_beyond_64_bits():
    heavy = Knapsack(values=[5, 5], weights=np.array([1e13, 1e-6]), capacity=1e13)
    assert "large" in CPSAT().supports(heavy)
    dear = Knapsack(values=np.array([1e13, 1e-6, 2e13]), weights=[1, 1, 1], capacity=2)
    assert CPSAT().solve(dear, Budget(20)).objective == 3e13
    roomy = Knapsack(values=[5, 5], weights=[1, 2], capacity=1e25)
    assert CPSAT().solve(roomy, Budget(20)).objective == 10
