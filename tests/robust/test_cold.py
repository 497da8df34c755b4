"""What is returned while second stages are not compiled yet."""

import importlib
import itertools
import threading

import numpy as np
import pytest

import nco
from nco.classical import compiling
from nco.instances.capital_budgeting import CapitalBudgeting, CapitalBudgetingLoans
from nco.instances.core import Budget, InputError, Status, Stop
from nco.instances.facility_location import FacilityLocation
from nco.instances.registry import problems
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.mip.highs import HighsEngine
from nco.robust import cold, recourse, transport
from nco.robust.auto import TwoStage
from nco.robust.ccg import CCG
from nco.robust.master import Proposal
from nco.robust.masters import static_master
from nco.robust.neur2ro import Neur2RO
from nco.robust.two_stage import InfeasibleRecourseError, TwoStageProblem
from nco.weights import WeightsError

CLASSES = (TwoStageKnapsack, CapitalBudgeting, CapitalBudgetingLoans, FacilityLocation)
#: What needs kernels.
SECOND_STAGES = {
    recourse: ("knapsack_recourse", "cut_of_orders", "budget_recourse", "screen_budgets",
               "worst_budgets", "loans_recourse"),
    transport: ("transport_recourse",),
}  # fmt: skip


@pytest.fixture
def stuck(monkeypatch):
    """A compiler that does not end before its event is set, and no second stages."""
    event = threading.Event()

    def _compile():
        event.wait(100)

    def none(*_):
        raise AssertionError("a second stage was asked for")

    for module in compiling.MODULES:
        if module.startswith("nco.instances."):
            monkeypatch.setattr(importlib.import_module(module), "_compile", _compile)
    for module, names in SECOND_STAGES.items():
        for name in names:
            monkeypatch.setattr(module, name, none)
    monkeypatch.setattr(cold, "MOST", 600.0)
    yield monkeypatch
    event.set()
    for thread in compiling.running():
        thread.join()


def solve_until_static(stuck, solver, instance, **options):
    """Solve; time is up as soon as there is something to return."""
    budget, real = Budget(600), cold.static_solutions

    def static_solutions(*args):
        found = real(*args)
        budget.interrupt()
        return found

    stuck.setattr(cold, "static_solutions", static_solutions)
    return solver.solve(instance, budget, **options)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("solver", [TwoStage(), CCG(backend="scip"), Neur2RO()])
def test_the_static_first_stage_is_returned_with_its_interval(stuck, optimum_of, cls, solver):
    instance = cls.generate(6, seed=2)
    result = solve_until_static(stuck, solver, instance)
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.INTERRUPTED
    assert result.evaluation == "interval"
    assert result.trajectory[-1].by == "static"
    problem = instance.two_stage
    best = problem.sign * optimum_of(static_master(problem))[0]
    assert result.objective == pytest.approx(best, rel=2 * cold.GAP)
    assert instance.violations(result.solution) == []
    stuck.undo()
    # In its worst case the first stage is worth no less than what is claimed.
    sign = instance.two_stage.sign
    exact = instance.two_stage.worst_case(result.solution["x"]).value
    assert sign * result.objective <= exact + 1e-6 * max(1.0, abs(exact))


@pytest.mark.parametrize("cls", CLASSES)
def test_without_any_time_there_is_a_first_stage(stuck, cls):
    instance = cls.generate(6, seed=2)
    result = nco.solve(instance, time_limit=0)
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.TIME
    assert result.evaluation == "interval"
    assert result.extra["plan"] == TwoStage.name
    # Doing nothing is the least that is said.
    problem = instance.two_stage
    nothing = cold.static_solutions(problem, HighsEngine, Budget(0))[0]
    assert not any(nothing["x"])
    assert problem.sign * result.objective >= problem.sign * instance.objective(nothing) - 1e-9


@pytest.mark.parametrize("cls", CLASSES)
def test_a_start_is_kept(cls, stuck):
    instance = cls.generate(6, seed=2)
    problem = instance.two_stage
    x = next(
        np.array(x, dtype=float)
        for x in itertools.product([1, 0], repeat=problem.n)
        if (problem.first.A @ x <= problem.first.row_upper).all()
    )
    over = Budget()
    over.interrupt()
    found = cold.static_solutions(problem, HighsEngine, over, x)
    assert [solution["x"] for solution in found] == [x.astype(int).tolist()]
    result = CCG().solve(instance, over, start=found[0])
    assert result.solution["x"] == found[0]["x"]
    # With time, others may be better.
    better = solve_until_static(stuck, CCG(), instance, start=found[0])
    assert problem.sign * better.objective >= problem.sign * result.objective


def test_a_start_that_cannot_be_kept_leaves_what_does_nothing():
    problem, over = CapitalBudgeting.generate(6, seed=2).two_stage, Budget()
    over.interrupt()
    found = cold.static_solutions(problem, HighsEngine, over, np.ones(6))
    assert [solution["x"] for solution in found] == [[0] * 6]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_start_is_checked_as_far_as_time_allows(cls, stuck, optimum_of):
    """What its worst scenario is worth cannot be known before second stages are compiled."""
    instance = cls.generate(6, seed=2)
    start = cold.static_solutions(instance.two_stage, HighsEngine, Budget(600))[-1]
    del start["policies"]
    result = nco.solve(instance, "ccg", time_limit=0.1, start=start)
    assert result.stopped is Stop.TIME
    assert result.evaluation == "interval"
    problem = instance.two_stage
    best = problem.sign * optimum_of(static_master(problem))[0]
    assert result.objective == pytest.approx(best, rel=2 * cold.GAP)
    with pytest.raises(InputError, match="start is infeasible: x has 2 numbers"):
        nco.solve(instance, "ccg", time_limit=0.1, start=start | {"x": [0, 0]})


def test_scenarios_that_refuse_a_start_are_sought_once_that_can_be_done(monkeypatch):
    instance = CapitalBudgeting.generate(6, seed=2)
    start = cold.static_solutions(instance.two_stage, HighsEngine, Budget(600))[-1]
    del start["policies"]

    def refuse(self, x, budget=None, scenarios=None):
        raise InfeasibleRecourseError(np.zeros(4)) if budget.left() > 1 else TimeoutError

    monkeypatch.setattr(TwoStageProblem, "worst_case", refuse)
    assert instance.violations_in_time(start, Budget(0.0)) == []
    with pytest.raises(InputError, match="start is infeasible: the second stage is infeasible"):
        nco.solve(instance, "ccg", time_limit=600, start=start)


@pytest.mark.parametrize("solver", [CCG(), TwoStage()])
def test_ctrl_c_loses_nothing_that_was_known_before(solver, monkeypatch, optimum_of):
    """Once second stages are there, the static first stage is the first to be evaluated."""
    monkeypatch.setattr(cold, "MOST", 600.0)
    monkeypatch.setattr(cold, "_READY", set())
    instance, budget = TwoStageKnapsack.generate(20, seed=2), Budget(600)
    result = solver.solve(instance, budget, on_event=lambda event: budget.interrupt())
    assert result.stopped is Stop.INTERRUPTED
    best = optimum_of(static_master(instance.two_stage))[0]
    assert result.objective >= best * (1 - 2 * cold.GAP) > 0
    assert result.trajectory[0].by == "static"


def test_without_a_proposal_in_time_there_is_the_static_first_stage(monkeypatch, optimum_of):
    def solve_master(mip, x, budget, **_):
        budget.interrupt()
        return Proposal(np.zeros((0, len(x))), None)

    monkeypatch.setattr(cold, "MOST", 600.0)
    monkeypatch.setattr(cold, "_READY", set())
    monkeypatch.setattr("nco.robust.master.solve_master", solve_master)
    instance = TwoStageKnapsack.generate(20, seed=2)
    result = Neur2RO().solve(instance, Budget(600))
    assert result.evaluation == "interval"
    assert result.trajectory[-1].by == "static"
    best = optimum_of(static_master(instance.two_stage))[0]
    assert result.objective == pytest.approx(best, rel=2 * cold.GAP)


def test_missing_weights_are_found_at_once(stuck, tmp_path):
    with pytest.raises(WeightsError, match="no weights"):
        Neur2RO(weights=str(tmp_path)).solve(TwoStageKnapsack.generate(6, seed=2), Budget(0.0))


def test_what_is_compiled_in_time_is_used(monkeypatch):
    """The static first stage is where a method begins, and no more."""
    event, real = threading.Event(), cold.static_solutions

    def _compile():
        event.wait(100)

    def static_solutions(*args):
        found = real(*args)
        assert found
        event.set()
        return found

    monkeypatch.setattr("nco.instances.two_stage_knapsack._compile", _compile)
    monkeypatch.setattr(cold, "static_solutions", static_solutions)
    instance = TwoStageKnapsack.generate(6, seed=2)
    result = CCG().solve(instance, Budget(600))
    assert event.is_set()
    assert result.status is Status.OPTIMAL
    assert result.evaluation == "exact"
    # Once is enough.
    monkeypatch.setattr(cold, "compile_in_time", None)
    assert CCG().solve(instance, Budget(600)).objective == result.objective


def test_another_process_can_compile_what_is_left():
    kinds = [problems.load(name) for name in problems.names()]
    found = [k for k in kinds if k.solution_form == "two-stage" and k in CLASSES]
    assert set(found) == set(CLASSES)
    for cls in found:
        compiler = cls.generate(3, seed=0).two_stage.compiler
        assert compiler.__name__ == compiling.COMPILE
        assert compiler.__module__ in compiling.MODULES
        assert getattr(importlib.import_module(compiler.__module__), compiling.COMPILE) is compiler


@pytest.mark.parametrize("count", [1, 3])
def test_kernels_are_compiled_for_one_kind_of_array(count):
    """Others would be compiled within time limits."""
    recourse.compile_knapsack()
    recourse.compile_budgeting()
    transport.compile_shipments()
    frozen = np.arange(1.0, 5.0)
    frozen.setflags(write=False)
    for one in (frozen, frozen.astype(np.int64), np.repeat(frozen, 2)[::2], frozen.astype("f4")):
        many = np.asfortranarray(np.broadcast_to(one, (count, 4)))
        wide = np.broadcast_to(one, (count, 4))
        x = wide > 2
        recourse.knapsack_recourse(one, one, one, one, 5, x, many / 4)
        recourse.cut_of_orders([one] * 4, 5.0, one > 2, one * 0)
        recourse.budget_recourse(many, wide, np.broadcast_to(9, count), x)
        recourse.loans_recourse(many, one, 5, (1, 1, 1), x, np.zeros(count, dtype=int))
        recourse.screen_budgets(one, one, 5, x, np.zeros(count, dtype=int))
        recourse.worst_budgets(wide[:, 0], many, wide, 9, one > 3, np.full(2, np.inf))
        recourse.choose_options(one, one, one, one, 5)
        transport.transport_recourse(many.T, one, one[:count], one[:count], one > 2)
    for module, names in (
        (recourse, ("_solve", "_knapsack", "_lift", "_budget", "_screen", "_worst")),
        (transport, ("_recourses",)),
    ):
        for name in names:
            assert len(getattr(module, name).signatures) <= 1, name
