"""What is returned while second stages are not compiled yet."""

import importlib
import itertools
import threading

import numpy as np
import pytest

import nco
from nco.classical import compiling
from nco.instances.capital_budgeting import CapitalBudgeting, CapitalBudgetingLoans
from nco.instances.core import Budget, Status, Stop
from nco.instances.facility_location import FacilityLocation
from nco.instances.registry import problems
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.mip.backend import Form, Limits
from nco.mip.highs import HighsEngine
from nco.robust import cold, recourse, transport
from nco.robust.auto import TwoStage
from nco.robust.ccg import CCG
from nco.robust.masters import static_master
from nco.robust.neur2ro import Neur2RO

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


def static_optimum(problem):
    """The best that one recourse for all scenarios guarantees, in the problem's direction."""
    form = Form(static_master(problem).mip)
    engine = HighsEngine(form)
    try:
        found = engine.solve(Limits(30.0, gap=1e-9))
    finally:
        engine.close()
    assert found.status is Status.OPTIMAL
    return problem.sign * form.original(found.objective)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("solver", [TwoStage(), CCG(backend="scip"), Neur2RO()])
def test_the_static_first_stage_is_returned_with_its_interval(stuck, cls, solver):
    instance = cls.generate(6, seed=2)
    result = solve_until_static(stuck, solver, instance)
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.INTERRUPTED
    assert result.evaluation == "interval"
    assert result.trajectory[-1].by == "static"
    best = static_optimum(instance.two_stage)
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
    assert not any(result.solution["x"])


@pytest.mark.parametrize("cls", CLASSES)
def test_a_start_is_kept(cls, stuck):
    instance = cls.generate(6, seed=2)
    problem = instance.two_stage
    x = next(
        np.array(x, dtype=float)
        for x in itertools.product([1, 0], repeat=problem.n)
        if (problem.first.A @ x <= problem.first.row_upper).all()
    )
    found = cold.static_solutions(problem, HighsEngine, Budget(0.0), x)
    assert [solution["x"] for solution in found] == [x.astype(int).tolist()]
    result = CCG().solve(instance, Budget(0.0), start=found[0])
    assert result.solution["x"] == found[0]["x"]
    # With time, others may be better.
    better = solve_until_static(stuck, CCG(), instance, start=found[0])
    assert problem.sign * better.objective >= problem.sign * result.objective


def test_what_is_compiled_in_time_is_used(monkeypatch):
    """The static first stage is for those who have nothing else."""
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
    assert "static" not in {e.by for e in result.trajectory}
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
