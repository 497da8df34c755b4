"""Engines against brute force, and that each call leaves the model as it was."""

import importlib
import itertools
import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances.core import Budget, InputError, Sense, Status, Stop
from nco.instances.mip import MIP
from nco.instances.registry import backends
from nco.instances.tsp import TSP
from nco.mip.backend import Form, Limits, Neighborhood, Watch, polish, run_interruptible
from nco.mip.balans import Balans
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP, ScipEngine

ENGINES = [entry.load() for entry in backends]
SOLVERS = [SCIP, HiGHS]


@st.composite
def small_mips(draw):
    n = draw(st.integers(1, 4))
    m = draw(st.integers(0, 3))
    number = st.integers(-5, 5)
    A = draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=m, max_size=m))
    right = draw(st.lists(st.integers(-6, 10), min_size=m, max_size=m))
    width = draw(st.lists(st.integers(0, 6), min_size=m, max_size=m))
    ranged = draw(st.lists(st.booleans(), min_size=m, max_size=m))
    upper = np.array(right, dtype=float)
    lower = np.where(ranged, upper - np.array(width), -math.inf) if m else np.zeros(0)
    low = np.array(draw(st.lists(st.integers(-3, 1), min_size=n, max_size=n)), dtype=float)
    return MIP(
        c=np.array(draw(st.lists(number, min_size=n, max_size=n)), dtype=float),
        A=np.array(A, dtype=float).reshape(m, n),
        row_lower=lower,
        row_upper=upper,
        lower=low,
        upper=low + np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))),
        integrality=np.ones(n, dtype=bool),
        offset=draw(st.sampled_from([0.0, 100.0, -7.0])),
        sense=draw(st.sampled_from(list(Sense))),
    )


def brute_force(mip):
    best = None
    ranges = [range(int(a), int(b) + 1) for a, b in zip(mip.lower, mip.upper, strict=True)]
    for point in itertools.product(*ranges):
        x = np.array(point, dtype=float)
        activity = mip.A @ x
        if (activity >= mip.row_lower).all() and (activity <= mip.row_upper).all():
            value = mip.value(x)
            if best is None or (value < best if mip.sense is Sense.MINIMIZE else value > best):
                best = value
    return best


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=60, deadline=None)
@given(mip=small_mips())
def test_optimum_of_small_models(solver, mip):
    expected = brute_force(mip)
    result = solver().solve(mip, Budget(20))
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert result.solution is None
    else:
        assert result.status is Status.OPTIMAL
        assert result.objective == expected == result.bound
        assert result.stopped is Stop.PROVED


def model(**changes):
    data = {
        "c": [3.0, 2.0, 4.0, -1.0],
        "A": [[1, 1, 1, 0], [2, 1, 0, 1], [0, 1, -1, 1]],
        "row_lower": [2, -math.inf, -1],
        "row_upper": [math.inf, 5.5, 3],
        "upper": [3, 3, 3, 2.5],
        "integrality": [True, True, True, False],
        "offset": 10.0,
    }
    return MIP(**{**data, **changes})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sense", list(Sense))
def test_every_restriction_is_undone(engine, sense):
    form = Form(model(sense=sense))
    one = engine(form)
    plain = one.solve(Limits(10))
    assert plain.status is Status.OPTIMAL
    restrictions = [
        Neighborhood(fix=(np.array([0]), np.array([2.0]))),
        Neighborhood(bounds=(np.array([1, 3]), np.array([1.0, 0.5]), np.array([2.0, 1.0]))),
        Neighborhood(rows=(np.array([[0, 0, 1.0, 0]]), np.array([1.0]), np.array([2.0]))),
        Neighborhood(objective=np.array([0, 0, 1.0, 1.0])),
        Neighborhood(cutoff=plain.objective),
        Neighborhood(objective=np.array([0, 1.0, 0, 0]), cutoff=plain.objective + 1.0),
        Neighborhood(cutoff=plain.objective - 1.0),
    ]
    for restriction in restrictions:
        outcome = one.solve(Limits(10), restriction, plain.x)
        again = one.solve(Limits(10))
        assert again.status is Status.OPTIMAL
        assert again.objective == pytest.approx(plain.objective)
        if outcome.x is None:
            continue
        assert form.feasible(form.rounded(outcome.x))
        if restriction.fix is not None:
            assert outcome.x[0] == pytest.approx(2.0)
        if restriction.bounds is not None:
            assert 1 <= outcome.x[1] <= 2
            assert 0.5 - 1e-6 <= outcome.x[3] <= 1 + 1e-6
        if restriction.rows is not None:
            assert 1 <= round(outcome.x[2]) <= 2
        if restriction.cutoff is not None:
            assert form.value(outcome.x) <= restriction.cutoff + 1e-6
    assert one.solve(Limits(10), restrictions[-1]).x is None
    one.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_objective_of_a_restriction_is_its_own(engine):
    form = Form(model())
    one = engine(form)
    outcome = one.solve(Limits(10), Neighborhood(objective=np.array([1.0, 0, 0, 0])))
    assert outcome.objective == pytest.approx(0.0)
    assert one.solve(Limits(10)).objective == pytest.approx(form.value(one.solve(Limits(10)).x))


@pytest.mark.parametrize("engine", ENGINES)
def test_contradicting_bounds_are_infeasible_at_once(engine):
    one = engine(Form(model()))
    crossed = Neighborhood(bounds=(np.array([0]), np.array([2.0]), np.array([1.0])))
    assert one.solve(Limits(10), crossed).status is Status.INFEASIBLE
    assert one.solve(Limits(10)).status is Status.OPTIMAL


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_are_kept_as_closely_as_a_form_asks(engine):
    """Half of 1e-6 is missing for the whole column."""
    mip = MIP(
        c=np.array([1.0, 0.5]), A=np.ones((1, 2)), row_upper=np.array([1.0 - 5e-7]),
        upper=np.ones(2), integrality=np.array([True, False]), sense=Sense.MAXIMIZE,
    )  # fmt: skip
    loose, close = (engine(Form(mip, t)).solve(Limits(10)) for t in (None, 1e-9))
    assert loose.x[0] == pytest.approx(1.0, abs=1e-5)
    assert close.x[0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_events_and_stop(engine, hard_mip):
    form = Form(hard_mip)
    one = engine(form)
    seen, bounds = [], []
    watch = Watch(
        on_solution=lambda x: seen.append(form.value(x)),
        on_bound=bounds.append,
        stop=lambda: len(seen) >= 1,
    )
    outcome = one.solve(Limits(30), watch=watch)
    assert outcome.stopped is Stop.INTERRUPTED
    assert seen
    assert outcome.x is not None
    assert bounds == sorted(bounds)
    assert one.solve(Limits(0.2)).stopped is Stop.TIME


def test_scip_is_asked_again_where_it_cannot_be_interrupted(hard_mip):
    class Refusing:
        left = 3

        def __init__(self, model):
            self.model = model

        def __getattr__(self, name):
            return getattr(self.model, name)

        def interruptSolve(self):
            if self.left > 0:
                self.left -= 1
                raise Exception("cannot be called at this time")
            self.model.interruptSolve()

    engine, seen = ScipEngine(Form(hard_mip)), []
    engine._model = Refusing(engine._model)
    outcome = engine.solve(
        Limits(30), watch=Watch(on_solution=seen.append, stop=lambda: bool(seen))
    )
    assert outcome.stopped is Stop.INTERRUPTED
    assert engine._model.left == 0
    assert not engine.lost


@pytest.mark.parametrize("engine", ENGINES)
def test_an_exception_of_a_listener_reaches_the_caller(engine):
    one = engine(Form(model()))

    def listener(x):
        raise RuntimeError("listener")

    with pytest.raises(RuntimeError, match="listener"):
        one.solve(Limits(10), watch=Watch(on_solution=listener))
    assert one.solve(Limits(10)).status is Status.OPTIMAL


@pytest.mark.parametrize("engine", ENGINES)
def test_node_limit_repeats(engine, hard_mip):
    def run():
        one = engine(Form(hard_mip), seed=3)
        outcome = one.solve(Limits(60, nodes=20))
        return outcome.objective, outcome.bound

    assert run() == run()


@pytest.mark.parametrize("solver", SOLVERS)
class TestSolver:
    def test_constant_is_part_of_the_objective(self, solver):
        mip = MIP(c=[3, 2, 4], A=[[1, 1, 1]], row_lower=[2], upper=[1, 1, 1],
                  integrality=[1, 1, 1], offset=100)  # fmt: skip
        result = solver().solve(mip, Budget(10))
        assert result.objective == 105
        assert result.trajectory[-1].objective == 105

    def test_infeasible(self, solver):
        mip = model(row_lower=[20, -math.inf, -1])
        result = solver().solve(mip, Budget(10))
        assert (result.status, result.solution) == (Status.INFEASIBLE, None)

    @pytest.mark.parametrize(
        "changes", [{"lower": [4, 0, 0, 0]}, {"row_lower": [0, 6, 0]}, {"row_lower": [9] * 3}]
    )
    def test_contradicting_limits(self, solver, changes):
        assert solver().solve(model(**changes), Budget(10)).status is Status.INFEASIBLE

    def test_empty_row_that_cannot_hold(self, solver):
        mip = MIP(c=[1.0], A=np.zeros((1, 1)), row_lower=[1.0])
        assert solver().solve(mip, Budget(10)).status is Status.INFEASIBLE

    @pytest.mark.parametrize("sense", list(Sense))
    @pytest.mark.parametrize("whole", [True, False])
    def test_unbounded(self, solver, sense, whole):
        c = [1.0, -1.0] if sense is Sense.MINIMIZE else [-1.0, 1.0]
        mip = MIP(c=c, A=[[1.0, -1.0]], row_upper=[3], integrality=[whole] * 2, sense=sense)
        result = solver().solve(mip, Budget(10))
        assert (result.status, result.solution, result.bound) == (Status.UNBOUNDED, None, None)

    def test_infeasible_and_unbounded_ray_is_infeasible(self, solver):
        mip = MIP(c=[-1.0, 0.0], A=[[0.0, 2.0]], row_lower=[1.0], row_upper=[1.0],
                  upper=[math.inf, 3], integrality=[1, 1])  # fmt: skip
        assert solver().solve(mip, Budget(10)).status is Status.INFEASIBLE

    def test_no_rows(self, solver):
        mip = MIP(c=[1.0, -2.0], A=np.zeros((0, 2)), upper=[5, 5], integrality=[1, 0])
        result = solver().solve(mip, Budget(10))
        assert (result.objective, result.solution) == (-10.0, {"x1": 5.0})

    def test_no_columns(self, solver):
        mip = MIP(c=np.zeros(0), A=np.zeros((0, 0)), offset=4.0)
        result = solver().solve(mip, Budget(10))
        assert (result.status, result.objective) == (Status.OPTIMAL, 4.0)

    def test_linear_program(self, solver):
        mip = MIP(c=[-3.0, -5.0], A=[[1, 0], [0, 2], [3, 2]], row_upper=[4, 12, 18])
        result = solver().solve(mip, Budget(10))
        assert result.status is Status.OPTIMAL
        assert result.objective == pytest.approx(-36.0)

    def test_free_whole_column_and_fixed_column(self, solver):
        mip = MIP(c=[1.0, 1.0], A=[[2.0, 1.0]], row_lower=[-7.0], lower=[-math.inf, 1],
                  upper=[math.inf, 1], integrality=[1, 0])  # fmt: skip
        result = solver().solve(mip, Budget(10))
        assert result.objective == -3.0
        assert result.solution == {"x0": -4.0, "x1": 1.0}

    def test_constant_objective(self, solver):
        mip = model(c=np.zeros(4), offset=3.0)
        result = solver().solve(mip, Budget(10))
        assert (result.status, result.objective) == (Status.OPTIMAL, 3.0)

    def test_start_is_kept(self, solver, hard_mip):
        start = {name: 0.0 for name in hard_mip.columns}
        result = solver().solve(hard_mip, Budget(20, iterations=0), start=start)
        assert result.objective >= 0
        assert result.trajectory[0].objective == 0

    def test_infeasible_start_is_a_hint(self, solver):
        result = solver().solve(model(), Budget(10), start={"x0": 0.0})
        assert result.status is Status.OPTIMAL

    def test_start_with_unknown_columns(self, solver):
        with pytest.raises(InputError, match="'nope' does not exist"):
            solver().solve(model(), Budget(10), start={"nope": 1.0})

    def test_gap_limit(self, solver, hard_mip):
        result = solver().solve(hard_mip, Budget(30, gap=0.5))
        assert result.gap is not None
        assert result.gap <= 0.5
        assert result.stopped in (Stop.GAP, Stop.PROVED)

    def test_target(self, solver, hard_mip):
        result = solver().solve(hard_mip, Budget(30, target=1.0))
        assert result.objective >= 1.0

    def test_interrupted_before_the_start(self, solver, hard_mip):
        budget = Budget(30)
        budget.interrupt()
        result = solver().solve(hard_mip, budget)
        assert result.stopped is Stop.INTERRUPTED

    def test_interrupted_by_a_listener(self, solver, hard_mip):
        budget = Budget(60)
        result = solver().solve(hard_mip, budget, on_event=lambda event: budget.interrupt())
        assert result.stopped is Stop.INTERRUPTED

    def test_tiny_time_limit(self, solver, hard_mip):
        result = solver().solve(hard_mip, Budget(0.1))
        assert result.stopped is Stop.TIME

    def test_same_seed_same_result(self, solver, hard_mip):
        runs = [solver().solve(hard_mip, Budget(iterations=5), seed=7) for _ in range(2)]
        assert runs[0].solution == runs[1].solution
        assert runs[0].bound == runs[1].bound

    def test_nothing_is_printed(self, solver, capfd):
        solver().solve(model(), Budget(10))
        assert capfd.readouterr() == ("", "")

    def test_bad_threads(self, solver):
        with pytest.raises(ValueError, match="threads"):
            solver(threads=0)


def test_polish_solves_the_rest_again():
    mip = MIP(c=[1.0, 1.0], A=[[1.0, 1.0]], row_lower=[2.5], row_upper=[2.5], upper=[3, 3],
              integrality=[1, 0])  # fmt: skip
    form = Form(mip)
    x = polish(form, np.array([1.999999, 0.51]))
    assert x is not None
    assert x.tolist() == pytest.approx([2.0, 0.5])
    assert polish(form, np.array([3.0, 0.0])) is None


def test_safe_bound_rounds_whole_objectives_only():
    whole = Form(model(c=[1, 1, 1, 0], offset=0))
    assert whole.safe_bound(2.3) == 3
    assert whole.safe_bound(2.0000001) == 2
    assert Form(model()).safe_bound(2.3) == 2.3


def test_a_bad_scip_parameter():
    with pytest.raises(ValueError, match="limits/nothing"):
        SCIP(params={"limits/nothing": 3}).solve(model(), Budget(5))


def test_an_engine_that_does_not_answer_is_left_behind():
    release, asked = threading.Event(), []

    def work():
        release.wait(30)

    ended = run_interruptible(work, lambda: True, lambda: asked.append(1))
    assert not ended
    assert asked
    release.set()
    assert run_interruptible(lambda: None, lambda: False, lambda: None)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_lost_engine_tells_what_it_had_found(engine, hard_mip, monkeypatch):
    module = importlib.import_module(engine.__module__)
    whole = module.run_interruptible

    def lose(work, stop, interrupt):
        whole(work, stop, interrupt)
        return False

    monkeypatch.setattr(module, "run_interruptible", lose)
    form = Form(hard_mip)
    lost = engine(form)
    outcome = lost.solve(Limits(20, nodes=50))
    assert outcome.status is Status.FEASIBLE
    assert form.feasible(form.rounded(outcome.x))
    assert outcome.objective == pytest.approx(form.value(outcome.x))
    lost.close()


def test_a_problem_too_large_for_its_time_keeps_the_constructive_start():
    instance = TSP.generate(3000, seed=1)
    for solver in (SCIP(), HiGHS(), Balans()):
        result = solver.solve(instance, Budget(0.01))
        assert result.feasible
        assert result.stopped is Stop.TIME
