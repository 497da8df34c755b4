"""What engines take for feasible, optimal or infinite, and instances need not."""

import math
import threading

import numpy as np
import pytest

from nco.instances import io
from nco.instances.core import Budget, InputError, Sense, Status, Stop, Tracker
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.mip import backend, relaxation
from nco.mip.alns import Plan, Search
from nco.mip.backend import (
    Form,
    Limits,
    Neighborhood,
    Outcome,
    conclude,
    offer_bound,
    polish,
    prepare,
)
from nco.mip.balans import Balans
from nco.mip.bandit import Bandit
from nco.mip.highs import WHOLE, HiGHS, HighsEngine
from nco.mip.relaxation import solve_lp
from nco.mip.scip import SCIP, ScipEngine
from nco.mip.starters import trivial

SOLVERS = [HiGHS, SCIP, Balans]


def known(c, x, **fields):
    """A tracker that knows x of one column, with its form and view."""
    mip = MIP(c=[c], A=np.zeros((0, 1)), upper=[1e9], **fields)
    tracker = Tracker(mip, Budget(60), solver="test")
    assert tracker.offer({"x0": x})
    return tracker, Form(mip), mip.to_mip()


def end(case, **outcome):
    return conclude(*case, Outcome(**outcome), params={}, versions={})


# ------------------------------------------------------------------ bounds and optima


@pytest.mark.parametrize(
    ("c", "x", "fields", "below"),
    [
        (1.0, 500.0, {"offset": 1e9}, 400.0),
        (1.0, 500.0, {"offset": 1e9, "integrality": [1]}, 400.0),
        (0.5, 10_378_974.0, {}, 3.0),
        (1.0, 5_189_487.0, {"integrality": [1]}, 3.0),
    ],
)
def test_a_bound_near_the_incumbent_is_not_it(c, x, fields, below):
    case = known(c, x, **fields)
    tracker = case[0]
    best = tracker.objective
    offer_bound(*case, best - below)
    assert tracker.bound == best - below
    result = end(case, status=Status.FEASIBLE, stopped=Stop.TIME)
    assert (result.status, result.bound) == (Status.FEASIBLE, best - below)


def test_a_bound_just_beyond_the_incumbent_is_it():
    case = known(1.0, 500.0, offset=1e9)
    offer_bound(*case, 1e9 + 500 + 1e-5)
    assert case[0].bound == 1e9 + 500


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_an_optimum_is_believed_where_the_incumbent_has_it(offset):
    case = known(1.0, 500.0, offset=offset)
    offer_bound(*case, offset + 500 - 1e-4)
    result = end(case, status=Status.OPTIMAL, objective=offset + 500 - 1e-4, stopped=Stop.PROVED)
    assert (result.status, result.bound) == (Status.OPTIMAL, offset + 500)


def test_an_optimum_is_not_believed_because_of_a_constant(caplog):
    case = known(1.0, 500.0, offset=1e9)
    result = end(case, status=Status.OPTIMAL, objective=1e9 + 100, stopped=Stop.PROVED)
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.ERROR)
    assert "do not bear that out" in caplog.text


def test_whole_bounds_are_not_lost():
    whole = MIP(c=[1.0], A=np.zeros((0, 1)), integrality=[1], offset=1e9)
    assert Form(whole).safe_bound(1e9 + 2.3) == 1e9 + 3
    assert Form(whole).safe_bound(1e9 + 2.0000001) == 1e9 + 2
    assert Form(whole.replace(offset=0.0)).safe_bound(5_189_487.0) == 5_189_487


@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
def test_within_the_gap_is_not_optimal(engine, hard_mip):
    outcome = engine(Form(hard_mip)).solve(Limits(60, gap=0.5))
    assert outcome.objective > outcome.bound
    assert (outcome.status, outcome.stopped) == (Status.FEASIBLE, Stop.GAP)


def test_a_bound_that_the_incumbent_beats_is_left_out(caplog):
    case = known(1.0, 500.0)
    offer_bound(*case, 600.0)
    result = end(case, status=Status.FEASIBLE, stopped=Stop.TIME)
    assert (result.status, result.objective, result.bound) == (Status.FEASIBLE, 500, None)
    assert "beyond the objective" in caplog.text


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_better_than_the_optimum_is_no_error(solver):
    """The row's tolerance is relative to a number that is far larger than the objective."""
    mip = MIP(
        c=[1.0, 0.0], A=[[1.0, 1.0]], row_upper=[1e9], lower=[0, 1e9], upper=[math.inf, 1e9],
        columns=["s", "B"], sense=Sense.MAXIMIZE,
    )  # fmt: skip
    result = solver().solve(mip, Budget(20), start={"B": 1e9, "s": 500.0})
    assert result.objective == 500
    assert result.bound in (None, 500)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sense", list(Sense))
@pytest.mark.parametrize("whole", [0, 1])
def test_a_large_constant_hides_no_better_solution(solver, sense, whole):
    sign = 1 if sense is Sense.MINIMIZE else -1
    mip = MIP(c=[sign, sign], A=[[2, 1]], row_lower=[3], upper=[5, 5], integrality=[1, whole],
              offset=sign * 1e10, sense=sense)  # fmt: skip
    result = solver().solve(mip, Budget(20), start={"x0": 5, "x1": 5})
    assert (result.status, result.stopped) == (Status.OPTIMAL, Stop.PROVED)
    assert result.objective == pytest.approx(sign * (1e10 + 2), abs=1e-5, rel=0)


def test_a_large_constant_makes_no_bound_a_proof():
    mip = MIP(c=[1, 1], A=[[2, 1]], row_lower=[3], upper=[5, 5], integrality=[1, 1], offset=1e10)
    form = Form(mip)
    tracker = Tracker(mip, Budget(60), solver="test")
    plan = Plan(arms=("mutation",), accept=lambda: None)
    search = Search(form, mip.to_mip(), tracker, plan, Bandit(plan.arms, "ucb1"),
                    lambda number: HighsEngine(form), {"highs": HighsEngine}, 0)  # fmt: skip
    assert search.offer(np.array([5.0, 5.0]), "test")
    search.offer_bound(1e10 + 2, "test")
    assert search.done() is None
    assert search.offer(np.array([2.0, 2.0]), "test")
    assert tracker.objective == 1e10 + 4
    assert search._reward(6.0, 1.0) > 0.5
    assert search.offer(np.array([1.0, 1.0]), "test")
    assert search.done() is Stop.PROVED


def test_a_large_constant_widens_no_cutoff():
    mip = MIP(c=[1, 1], A=np.zeros((0, 2)), upper=[5, 5], integrality=[1, 1], offset=1e10)
    wanted = Neighborhood(cutoff=1e10 + 4)
    assert wanted.beyond(Form(mip), np.array([5.0, 0.0]))
    assert not wanted.beyond(Form(mip), np.array([4.0, 0.0]))


@pytest.mark.parametrize("solver", SOLVERS)
def test_limits_that_only_rounding_parts_are_equal(solver):
    low, high = 0.1 + 0.2, 0.3
    assert low > high
    for fields in ({"lower": [low], "upper": [high]}, {"row_lower": [low], "row_upper": [high]}):
        result = solver().solve(MIP(c=[1.0], A=[[1.0]], **fields), Budget(20))
        assert (result.status, result.objective) == (Status.OPTIMAL, pytest.approx(high))
    apart = MIP(c=[1.0], A=[[1.0]], lower=[0.3 + 1e-6], upper=[0.3])
    assert solver().solve(apart, Budget(20)).status is Status.INFEASIBLE


# ------------------------------------------------------------------ solutions


def big():
    """A whole column may be off by as much as opens the way for the other one."""
    return MIP(
        c=[0.0, 1.0], A=[[1.0, -1e7]], row_upper=[0.0], lower=[5, 0], upper=[9, 1],
        integrality=[0, 1], columns=["x", "y"],
    )  # fmt: skip


def test_rows_are_checked_with_rounded_columns():
    assert big().violations({"x": 5.0, "y": 5e-7})
    assert not big().violations({"x": 5.0, "y": 1.0 - 5e-7})


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_whole_column_is_not_half_open(solver):
    result = solver().solve(big(), Budget(20), start={"x": 5.0, "y": 5e-7})
    assert not big().violations(result.solution)
    assert (result.status, result.objective) == (Status.OPTIMAL, 1)


def test_starts_count_with_rounded_columns():
    mip = MIP(c=[1e7, 0.5], A=np.zeros((0, 2)), upper=[1, 1], integrality=[1, 0])
    tracker = Tracker(mip, Budget(60), solver="test")
    prepare(tracker, {"x0": 1.0 - 5e-7})
    assert tracker.objective == 1e7


#: Its weight is within the tolerance of rows, but not within that of items.
STRICT = Knapsack(values=[10, 9], weights=[1.0000005, 0.9], capacity=1.0)


@pytest.mark.parametrize("solver", [*SOLVERS, lambda: Balans(deterministic=True)])
def test_an_optimum_that_the_instance_refuses_is_sought_again(solver):
    result = solver().solve(STRICT, Budget(30, iterations=200))
    assert (result.status, result.objective) == (Status.OPTIMAL, 9)


@pytest.mark.parametrize(
    ("solver", "stopped"),
    [
        (HiGHS(), Stop.ERROR),
        # Where nothing can be freed, nothing is left to try.
        (Balans(arms="crossover"), Stop.ERROR),
    ],
)
def test_an_optimum_that_is_never_borne_out_is_told(solver, stopped, monkeypatch, caplog):
    def solve(self, limits, neighborhood=None, start=None, watch=None):
        return Outcome(Status.OPTIMAL, np.array([1.0, 0.0]), -10.0, -10.0, Stop.PROVED)

    monkeypatch.setattr(HighsEngine, "solve", solve)
    monkeypatch.setattr(ScipEngine, "solve", solve)
    result = solver.solve(STRICT, Budget(30, iterations=20))
    assert (result.status, result.objective, result.stopped) == (Status.FEASIBLE, 9, stopped)
    assert caplog.text.count("bear") == 1


def test_a_search_keeps_nothing_that_the_instance_refuses():
    view = STRICT.to_mip()
    tracker = Tracker(STRICT, Budget(60), solver="test")
    plan = Plan(("mutation",), lambda: None)
    search = Search(
        Form(view.mip), view, tracker, plan, Bandit(["mutation"]), lambda number: None,
        {"highs": lambda: None}, 0,
    )  # fmt: skip
    assert not search.offer(np.array([1.0, 0.0]), "test")
    assert (search.pool, search.current, tracker.solution) == ([], None, None)
    assert search.offer(np.array([0.0, 1.0]), "test")
    search._judge(np.array([1.0, 0.0]), "test")
    assert search.current.x.tolist() == [0.0, 1.0]
    assert tracker.objective == 9


def test_an_outcome_has_the_objective_of_the_last_solution():
    form = Form(MIP(c=[2.0], A=[[1.0]], row_lower=[1.0], offset=3.0, integrality=[1]))
    outcome = HighsEngine(form)._outcome(np.array([4.0]), WHOLE, Limits())
    assert (outcome.status, outcome.objective) == (Status.FEASIBLE, 11)


# ------------------------------------------------------------------ infinity


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("whole", [False, True])
def test_large_limits_are_infinite(solver, whole):
    mip = MIP(
        c=[1.0], A=[[1.0]], row_lower=[-1e20], row_upper=[1e30], lower=[-1e30], upper=[1e30],
        integrality=[whole], sense=Sense.MAXIMIZE,
    )  # fmt: skip
    form = Form(mip)
    assert (form.lower[0], form.upper[0]) == (-math.inf, math.inf)
    assert (form.row_lower[0], form.row_upper[0]) == (-math.inf, math.inf)
    assert [x.tolist() for x in trivial(form)] == [[0.0]] * 4
    assert solver().solve(mip, Budget(20)).status is Status.UNBOUNDED


# ------------------------------------------------------------------ interruption


def test_linear_programs_hear_an_interruption(monkeypatch):
    monkeypatch.setattr(backend, "POLISH", 30.0)
    mip = MIP(c=[1.0, 1.0], A=[[1.0, 1.0]], row_lower=[1.5], upper=[1, 1], integrality=[1, 0])
    budget = Budget(60)
    form, _, _ = prepare(Tracker(mip, budget, solver="test"), None)
    heard = []

    def run(work, stop, interrupt):
        budget.interrupt()
        heard.append(stop())
        # HiGHS refuses another number of threads than the first one of a Python thread.
        engine = threading.Thread(target=work)
        engine.start()
        engine.join()
        return True

    monkeypatch.setattr(relaxation, "run_interruptible", run)
    solve_lp(form, form.within(5.0))
    assert heard == [True]
    # What comes of the rest of a solution still counts, but nothing else is begun.
    assert polish(form, np.array([1.0, 0.2])) is not None
    assert heard == [True, False]
    assert form.within(5.0) == 0


# ------------------------------------------------------------------ sizes of costs


class TestTinyCosts:
    """Engines take reduced costs and improvements below 1e-6 or so for none."""

    @staticmethod
    def model(size, sense=Sense.MAXIMIZE, offset=0.0):
        rng = np.random.default_rng(5)
        n, m = 20, 3
        A = rng.integers(1, 1000, (m, n)).astype(float)
        c = np.round(A.mean(0) + rng.integers(0, 300, n)) / 1000
        return MIP(
            c=size * (c if sense is Sense.MAXIMIZE else -c), A=A, row_upper=np.floor(A.sum(1) / 2),
            upper=np.ones(n), integrality=np.ones(n), sense=sense, offset=offset,
        )  # fmt: skip

    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("sense", list(Sense))
    @pytest.mark.parametrize("offset", [0.0, 3.0])
    def test_the_optimum_is_one(self, solver, sense, offset):
        size = 1e-7
        mip = self.model(size, sense, offset)
        result = solver().solve(mip, Budget(60))
        assert result.status is Status.OPTIMAL
        sign = 1 if sense is Sense.MAXIMIZE else -1
        assert sign * (result.objective - offset) / size == pytest.approx(6.411, abs=1e-6)
        assert result.bound == pytest.approx(result.objective, abs=1e-6 * size)

    def test_the_bound_is_one(self):
        large, small = (relaxation.bound(self.model(size), Budget(60)) for size in (1.0, 1e-8))
        assert large >= 6.411
        assert small / 1e-8 == pytest.approx(large)

    @pytest.mark.parametrize(
        ("cost", "offset", "changed"),
        [(1e-2, 0, False), (9e-3, 0, True), (5e-324, 0, True), (0, 0, False), (1e-9, 1e9, False)],
    )
    def test_only_the_form_of_tiny_ones_differs(self, cost, offset, changed):
        mip = MIP(c=[cost, -cost], A=np.zeros((0, 2)), offset=offset, sense=Sense.MAXIMIZE)
        form, plain = Form(mip, scaled=True), Form(mip)
        assert bool(form.c[1] != plain.c[1]) is changed
        if changed and cost > 1e-300:
            assert 1 <= form.c[1] < 2
        for value in (0.0, cost, -3 * cost):
            assert form.original(form.minimised(value)) == value
            assert plain.minimised(value) == -value


# ------------------------------------------------------------------ names in LP files


@pytest.mark.parametrize("name", ["sos", "sos1", "SOS2", "s1"])
def test_rows_may_be_called_like_special_ordered_sets(name, tmp_path):
    path = tmp_path / "a.lp"
    path.write_text(f"Minimize\n obj: x + y\nSubject To\n {name}: x + y >= 1\nEnd\n")
    mip = io.read(path)
    assert (mip.m, mip.n) == (1, 2)
    path.write_text(f"Minimize\n obj: x + y\nSubject To\n r: x + y >= 1\n{name}\n")
    if name != "s1":
        with pytest.raises(InputError, match="special ordered sets"):
            io.read(path)
