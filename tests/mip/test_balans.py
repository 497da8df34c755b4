"""The meta-solver: statuses, limits, repetition, arms, faults of one engine call."""

import copy
import dataclasses
import math
import threading
import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances.core import Budget, InputError, Sense, Status, Stop, Tracker
from nco.instances.cvrp import CVRP
from nco.instances.mip import MIP
from nco.instances.tsp import TSP
from nco.mip import alns
from nco.mip.backend import Form, Neighborhood, Outcome, OutOfTimeError, polish
from nco.mip.balans import ARMS, PRESETS, Balans
from nco.mip.bandit import Bandit, load_memory
from nco.mip.highs import HiGHS, HighsEngine
from nco.mip.main_solve import MainSolve
from nco.mip.neighborhoods import Incumbents
from nco.mip.neighborhoods.lb_relax import lb_relax
from nco.mip.relaxation import LinearProgram
from nco.mip.scip import ScipEngine


class Engine:
    """One that answers by a function, and keeps its arguments."""

    name = "highs"
    lost = False

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        self.calls.append((limits, neighborhood, start))
        return self.answer()

    def close(self):
        pass


def searching(mip, engine, **plan):
    """A search by counts with one arm and no main engine of its own."""
    counted = {"arms": ("mutation",), "accept": lambda: None, "deterministic": True}
    plan = alns.Plan(**counted | plan)
    tracker = Tracker(mip, Budget(60), solver="test")
    return alns.Search(Form(mip), mip.to_mip(), tracker, plan, Bandit(plan.arms, "ucb1"),
                       lambda number: engine, {"highs": lambda: engine}, 0)  # fmt: skip


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    sense=st.sampled_from(list(Sense)),
    main=st.sampled_from(["highs", "scip"]),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_small_models_are_solved_to_the_end(seed, sense, main, offset):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 6)), int(rng.integers(0, 4))
    mip = MIP(
        c=rng.integers(-9, 9, n),
        A=rng.integers(-9, 9, (m, n)),
        row_upper=rng.integers(-3, 20, m),
        lower=np.full(n, -2),
        upper=np.full(n, 3),
        integrality=rng.random(n) < 0.7,
        offset=offset,
        sense=sense,
    )
    expected = HiGHS().solve(mip, Budget(10))
    result = Balans(main=main).solve(mip, Budget(20))
    assert result.status is expected.status
    assert result.objective == (expected.objective and pytest.approx(expected.objective))


@pytest.mark.parametrize("main", ["highs", "scip"])
@pytest.mark.parametrize("sub", ["highs", "scip"])
def test_time_is_used_and_kept(hard_mip, main, sub):
    result = Balans(main=main, sub=sub).solve(hard_mip, Budget(5))
    assert result.status is Status.FEASIBLE
    assert result.stopped is Stop.TIME
    assert result.bound >= result.objective
    assert result.extra["iterations"] > 0
    arms = result.extra["arms"]
    assert sum(a["tries"] for a in arms.values()) > 0
    objectives = [e.objective for e in result.trajectory if e.objective is not None]
    assert objectives == sorted(objectives)


def test_counting_nodes_repeats_everything(hard_mip):
    solver = Balans(deterministic=True, sub_nodes=20)
    runs = [solver.solve(hard_mip, Budget(iterations=12), seed=4) for _ in range(2)]
    assert runs[0].solution == runs[1].solution
    assert runs[0].bound == runs[1].bound
    assert runs[0].extra["arms"] == runs[1].extra["arms"]
    assert [e.objective for e in runs[0].trajectory] == [e.objective for e in runs[1].trajectory]
    assert runs[0].stopped is Stop.ITERATIONS
    assert runs[0].extra["iterations"] == 12


@pytest.mark.parametrize("kind", [HighsEngine, ScipEngine])
def test_sub_solves_end_where_they_stall(hard_mip, monkeypatch, kind):
    given, solve = [], kind.solve

    def spy(self, limits, neighborhood=None, *rest):
        outcome = solve(self, limits, neighborhood, *rest)
        if neighborhood is not None:
            given.append((limits.stall_nodes, outcome.nodes))
        return outcome

    monkeypatch.setattr(kind, "solve", spy)
    most = {}
    for stall in (1, None):
        given.clear()
        solver = Balans(deterministic=True, sub_nodes=60, sub_stall=stall, arms="mutation:0.6",
                        main_share=0.0, sub=kind.name)  # fmt: skip
        solver.solve(hard_mip, Budget(iterations=3))
        assert {limit for limit, _ in given} == {stall}
        most[stall] = max(nodes for _, nodes in given)
    assert most[1] < most[None]


def test_a_deterministic_search_says_where_the_clock_ended_it(hard_mip, caplog):
    solver = Balans(deterministic=True, sub_nodes=5)
    assert solver.solve(hard_mip, Budget(1.0)).stopped is Stop.TIME
    assert "limit its iterations" in caplog.text
    caplog.clear()
    assert solver.solve(hard_mip, Budget(60, iterations=1)).stopped is Stop.ITERATIONS
    assert not caplog.text


@pytest.mark.parametrize("counted", [True, False])
def test_counting_nodes_needs_no_clock_for_linear_programs(hard_mip, monkeypatch, counted):
    # Limits too short for any: only a search by the clock minds.
    monkeypatch.setattr("nco.mip.neighborhoods.lb_relax.SECONDS", 0.0)
    form = Form(hard_mip, left=Budget(60).left, counted=counted)
    known = Incumbents(form, np.zeros(form.n))
    neighborhood = lb_relax(known, 0.2, np.random.default_rng(0))
    assert (neighborhood is not None) is counted
    rest = MIP(c=[1.0, 1.0], A=[[1.0, 1.0]], row_lower=[1.5], upper=[1, 1], integrality=[1, 0])
    form = Form(rest, left=Budget(60).left, counted=counted)
    assert (polish(form, np.array([1.0, 0.2]), seconds=0.0) is not None) is counted


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("policy", ["softmax", "thompson", "ucb1", "epsilon-greedy", "lin-ucb"])
def test_presets_and_policies(hard_mip, preset, policy):
    solver = Balans(preset=preset, policy=policy, deterministic=True, sub_nodes=5)
    result = solver.solve(hard_mip, Budget(60, iterations=4))
    assert result.feasible
    assert result.params["preset"] == preset


def test_the_papers_preset():
    solver = Balans(preset="balans-ijcai25")
    assert len(solver.arms) == 16
    assert (solver.policy, solver.accept, solver.cutoff) == (
        "thompson", "simulated-annealing", False,
    )  # fmt: skip


def test_what_is_given_counts_more_than_the_preset():
    solver = Balans(preset="balans-ijcai25", policy="softmax")
    for same in (solver, copy.deepcopy(solver), dataclasses.replace(solver, jobs=2)):
        assert (same.policy, same.accept) == ("softmax", "simulated-annealing")
    second = Balans(**dataclasses.replace(solver, jobs=2).configurations()[1])
    assert (second.policy, second.sub) == ("softmax", "highs")


def test_linear_programs_end_with_the_rest(hard_mip):
    ends = Form(hard_mip, left=lambda: 0.5)
    assert (ends.within(5.0), ends.within(0.1), ends.within(5.0, least=1.0)) == (0.5, 0.1, 1.0)
    assert ends.within(0.0, least=1.0) == 0.0
    assert Form(hard_mip, left=lambda: 9.0, counted=True).within(5.0) == 9.0
    assert Form(hard_mip).within(5.0) == 5.0


def test_the_last_iteration_is_a_whole_one(hard_mip, monkeypatch):
    whole, asked = HighsEngine.solve, []

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if neighborhood is not None:
            asked.append(watch.stop())
        return whole(self, limits, neighborhood, start, watch)

    monkeypatch.setattr(HighsEngine, "solve", solve)
    solver = Balans(deterministic=True, sub_nodes=5, arms="mutation")
    result = solver.solve(hard_mip, Budget(60, iterations=1))
    assert asked == [False]
    assert result.extra["arms"]["mutation"]["tries"] == 1


@pytest.mark.parametrize("error", [OutOfTimeError(), RuntimeError("no such library")])
def test_an_engine_that_cannot_be_made_costs_its_sub_solves(hard_mip, monkeypatch, caplog, error):
    def make(self, *arguments, **options):
        raise error

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if neighborhood is None:
            return whole(self, limits, neighborhood, start, watch)
        return Outcome(stopped=Stop.TIME)

    whole = HighsEngine.solve
    monkeypatch.setattr(HighsEngine, "solve", solve)
    monkeypatch.setattr(ScipEngine, "__init__", make)
    solver = Balans(deterministic=True, sub_nodes=5, arms="mutation", sub="highs+scip")
    result = solver.solve(hard_mip, Budget(60, iterations=12))
    assert result.feasible
    assert result.extra["arms"]["mutation"]["tries"] == 12
    assert caplog.text.count("no such library") == isinstance(error, RuntimeError)


@pytest.mark.parametrize("accept", ["hill-climbing", "simulated-annealing", "record-to-record"])
def test_acceptance(hard_mip, accept):
    solver = Balans(accept=accept, cutoff=False, deterministic=True, sub_nodes=5, main_share=0.1)
    assert solver.solve(hard_mip, Budget(60, iterations=5)).feasible


def test_worse_answers_can_be_had_and_accepted(hard_mip):
    one, two = np.eye(2, hard_mip.n)
    better, worse = (one, two) if hard_mip.c[0] > hard_mip.c[1] else (two, one)
    engine = Engine(lambda: Outcome(Status.FEASIBLE, worse))
    search = searching(hard_mip, engine, accept=lambda: lambda *_: True, cutoff=False)
    search.offer(better, "test")
    assert search._trial()
    # With a start no engine would say what is worse.
    assert engine.calls[0][2] is None
    assert (search.current.x == worse).all()
    assert (search.pool[0].x == better).all()


def test_neighborhoods_keep_their_start_beside_a_cutoff(hard_mip):
    one, two = np.eye(2, hard_mip.n)
    engine = Engine(lambda: Outcome(Status.INFEASIBLE))
    search = searching(hard_mip, engine)
    search._operators["mutation"] = lambda *_: Neighborhood(start=two)
    search.offer(one, "test")
    assert search._trial()
    (_, neighborhood, start), *_ = engine.calls
    assert start is neighborhood.start is two
    assert neighborhood.cutoff == pytest.approx(-hard_mip.c[0] - 1)


def test_an_operator_that_fails_costs_its_turn(hard_mip, caplog):
    def fails(*_):
        raise ZeroDivisionError("no luck")

    engine = Engine(Outcome)
    search = searching(hard_mip, engine)
    search._operators["mutation"] = fails
    search.offer(np.zeros(hard_mip.n), "test")
    assert not search._trial()
    assert not engine.calls
    assert search.bandit.statistics["mutation"].empty == 1
    assert "mutation failed: no luck" in caplog.text

    def late(*_):
        raise OutOfTimeError

    search._operators["mutation"] = late
    with pytest.raises(OutOfTimeError):
        search._trial()


def test_relaxations_that_fail_cost_their_turns(hard_mip, monkeypatch, caplog):
    def fails(*_, **__):
        raise RuntimeError("LP trouble")

    monkeypatch.setattr(LinearProgram, "solve", fails)
    solver = Balans(deterministic=True, sub_nodes=5, arms="rins+mutation")
    result = solver.solve(hard_mip, Budget(60, iterations=4))
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.ITERATIONS)
    assert result.extra["arms"]["mutation"]["tries"] > 0
    assert "rins failed: LP trouble" in caplog.text


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("method", ["__init__", "solve"])
def test_a_main_engine_that_fails_leaves_the_trials(hard_mip, monkeypatch, caplog, counted, method):
    def fails(*_, **__):
        raise RuntimeError("no such library")

    monkeypatch.setattr(ScipEngine, method, fails)
    monkeypatch.setattr(ScipEngine, "close", lambda self: None)
    solver = Balans(main="scip", sub="highs", arms="mutation", deterministic=counted, sub_nodes=5)
    result = solver.solve(hard_mip, Budget(60, iterations=3))
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.ITERATIONS)
    assert result.extra["arms"]["mutation"]["tries"] == 3
    assert caplog.text.count("no such library") == 1


def test_the_other_engines_look_for_a_first_solution_too(hard_mip, monkeypatch):
    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if limits.solutions == 1:
            return Outcome(Status.FEASIBLE, found) if self.name == "scip" else Outcome()
        while not watch.stop():
            watch.pause()
            time.sleep(0.005)
        return Outcome(stopped=Stop.TIME)

    found = np.zeros(hard_mip.n)
    for engine in (HighsEngine, ScipEngine):
        monkeypatch.setattr(engine, "solve", solve)
    monkeypatch.setattr(alns.Search, "_start_up", lambda self, hint: hint)
    result = Balans(sub="highs+scip").solve(hard_mip, Budget(3.0, target=0.0))
    assert result.stopped is Stop.TARGET
    assert [event.by for event in result.trajectory if event.objective is not None] == ["first"]


def test_the_other_engine_is_not_asked_before_there_is_a_gap(hard_mip):
    search = searching(hard_mip, Engine(Outcome))
    search._ask_rival()
    assert not search._asked
    search.offer(np.zeros(hard_mip.n), "test")
    search.offer_bound(-1e9, "test")
    search._ask_rival()
    assert search._asked


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_without_a_share_the_main_engine_does_nothing(hard_mip, share):
    engine = Engine(Outcome)
    search = searching(hard_mip, engine, main_share=share)
    search.tracker.budget.iterations = 0
    search._start_up = lambda hint: hint
    assert search.run(np.zeros(hard_mip.n)).stopped is Stop.ITERATIONS
    assert len(engine.calls) == (share > 0)


def test_an_exact_solve_deep_in_a_relaxation_is_waited_for(hard_mip):
    class Deep:
        engine, error, outcome, nodes, seconds = "highs", None, None, 0, 0.0
        idle = finished = False

        def run(self, seconds, until):
            self.finished, self.outcome = True, Outcome(Status.OPTIMAL, best, value, value)
            return 0.0

        def stop(self):
            return True

    best = np.eye(1, hard_mip.n)[0]
    search = searching(hard_mip, Engine(Outcome))
    value = search.form.value(best)
    search._main, search._broken = Deep(), {"highs"}
    assert search._trials(lambda: None) is None
    assert (search.pool[0].x == best).all()


def test_the_first_call_of_the_starters_is_ended_in_time(hard_mip, monkeypatch):
    def late(load, stop):
        asked.append((load, stop))
        return False

    asked = []
    search = searching(hard_mip, Engine(Outcome))
    monkeypatch.setattr(alns, "compiled_before", late)
    monkeypatch.setattr(alns, "run_starters", None)
    search._start_up(None)
    assert asked == [(alns.load_starters, search._stop)]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("what", ["objective", "bound"])
def test_what_a_listener_raises_is_not_an_engines_fault(hard_mip, caplog, counted, what):
    def listener(event):
        if getattr(event, what) is not None:
            heard.append(event)
            raise LookupError("mine")

    heard = []
    with pytest.raises(LookupError, match="mine"):
        Balans(deterministic=counted).solve(hard_mip, Budget(60), on_event=listener)
    assert len(heard) == 1
    assert "failed" not in caplog.text


def test_first_solves_that_fail_count(hard_mip):
    def fails():
        raise RuntimeError("broken")

    search = searching(hard_mip, Engine(fails))
    for _ in range(alns.FAILURES):
        assert not search._broken
        search._find()
    assert search._broken == {"highs"}


@pytest.mark.parametrize("instance", [TSP.generate(25, seed=1), CVRP.generate(12, seed=1)])
def test_tours_and_routes_have_structure(instance):
    result = Balans(deterministic=True, sub_nodes=5).solve(instance, Budget(60, iterations=3))
    assert result.feasible
    assert "structure" in result.extra["arms"]
    assert result.trajectory[0].by == "constructive"


class TestStatuses:
    def test_infeasible(self):
        mip = MIP(c=[1.0], A=[[2.0]], row_lower=[1], row_upper=[1], upper=[5], integrality=[1])
        assert Balans().solve(mip, Budget(10)).status is Status.INFEASIBLE

    @pytest.mark.parametrize("whole", [True, False])
    def test_unbounded(self, whole):
        mip = MIP(c=[-1.0], A=[[0.0]], integrality=[whole])
        assert Balans().solve(mip, Budget(10)).status is Status.UNBOUNDED

    @pytest.mark.parametrize("rows", [False, True])
    def test_unbounded_without_a_main_solve(self, rows):
        # Only its relaxation says so; where rows contradict for whole columns, it says too much.
        mip = MIP(c=[-1.0, 0.0], A=[[0.0, 2.0]], row_lower=[1], row_upper=[1 if rows else 9],
                  upper=[math.inf, 9], integrality=[1, 1])  # fmt: skip
        result = Balans(main_share=0.0, arms="rins").solve(mip, Budget(20, iterations=200))
        assert result.status is (Status.INFEASIBLE if rows else Status.UNBOUNDED)

    def test_linear_program(self):
        mip = MIP(c=[-3.0, -5.0], A=[[1, 0], [0, 2], [3, 2]], row_upper=[4, 12, 18])
        result = Balans().solve(mip, Budget(10))
        assert (result.status, result.objective) == (Status.OPTIMAL, pytest.approx(-36.0))

    def test_no_rows_and_no_binaries(self):
        mip = MIP(c=[1.0, -1.0], A=np.zeros((0, 2)), lower=[-9, 0], upper=[9, 9],
                  integrality=[1, 1])  # fmt: skip
        assert Balans().solve(mip, Budget(10)).objective == -18

    def test_fixed_columns_and_free_whole_columns(self):
        mip = MIP(c=[1.0, 1.0], A=[[2.0, 1.0]], row_lower=[-7.0], lower=[-math.inf, 1],
                  upper=[math.inf, 1], integrality=[1, 0])  # fmt: skip
        assert Balans().solve(mip, Budget(10)).objective == -3.0

    def test_contradicting_bounds(self):
        mip = MIP(c=[1.0], A=[[1.0]], lower=[3], upper=[2], integrality=[1])
        assert Balans().solve(mip, Budget(10)).status is Status.INFEASIBLE


def test_trivial_points_end_with_the_search(monkeypatch):
    mip = MIP(c=[-1.0, -1.0], A=[[1.0, 1.0]], row_lower=[-9], row_upper=[9], lower=[-2, -2],
              upper=[2, 2], integrality=[1, 1])  # fmt: skip
    budget, offered = Budget(60), []
    plain = alns.Search.offer

    def offer(search, x, by, **options):
        offered.append(by)
        budget.interrupt()
        return plain(search, x, by, **options)

    monkeypatch.setattr(alns.Search, "offer", offer)
    result = Balans(main_share=0.0).solve(mip, budget)
    assert offered == ["trivial"]
    assert (result.feasible, result.stopped) == (True, Stop.INTERRUPTED)


def test_starts(hard_mip):
    zero = {name: 0.0 for name in hard_mip.columns}
    result = Balans().solve(hard_mip, Budget(0.5), start=zero)
    assert result.trajectory[0].objective == 0
    full = {name: 1.0 for name in hard_mip.columns}
    assert Balans().solve(hard_mip, Budget(1.0), start=full).feasible
    with pytest.raises(InputError, match="does not exist"):
        Balans().solve(hard_mip, Budget(1.0), start={"nope": 1.0})


def test_tiny_time_limit_and_interruption(hard_mip):
    assert Balans().solve(hard_mip, Budget(0.1)).stopped is Stop.TIME
    budget = Budget(60)
    result = Balans().solve(hard_mip, budget, on_event=lambda event: budget.interrupt())
    assert result.stopped is Stop.INTERRUPTED
    assert Balans().solve(hard_mip, Budget(30, target=1.0)).stopped is Stop.TARGET


def test_a_failing_sub_solve_is_lost_alone(hard_mip, monkeypatch, caplog):
    whole = HighsEngine.solve
    calls = []

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if neighborhood is not None:
            calls.append(1)
            if len(calls) % 2:
                raise RuntimeError("engine crashed")
        return whole(self, limits, neighborhood, start, watch)

    monkeypatch.setattr(HighsEngine, "solve", solve)
    solver = Balans(deterministic=True, sub_nodes=5)
    result = solver.solve(hard_mip, Budget(60, iterations=6))
    assert result.feasible
    assert len(calls) >= 4
    assert "engine crashed" in caplog.text


def test_a_lost_engine_is_replaced(hard_mip, monkeypatch):
    whole = HighsEngine.solve
    used = []

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        assert not self.lost
        outcome = whole(self, limits, neighborhood, start, watch)
        if neighborhood is not None:
            used.append(self)
            self.lost = True
        return outcome

    monkeypatch.setattr(HighsEngine, "solve", solve)
    solver = Balans(deterministic=True, sub_nodes=5, sub="highs", arms="mutation+crossover")
    assert solver.solve(hard_mip, Budget(60, iterations=5)).feasible
    assert len({id(engine) for engine in used}) == len(used) >= 2


def test_the_second_engine_joins_where_the_first_is_slow(hard_mip, monkeypatch):
    def tries(slow):
        def solve(self, limits, neighborhood=None, start=None, watch=None):
            if neighborhood is None:
                return whole(self, limits, neighborhood, start, watch)
            return Outcome(stopped=Stop.TIME) if slow else Outcome(Status.INFEASIBLE)

        monkeypatch.setattr(HighsEngine, "solve", solve)
        solver = Balans(deterministic=True, sub_nodes=5, arms="mutation", sub="highs+scip")
        return solver.solve(hard_mip, Budget(60, iterations=8)).extra["engines"]

    whole = HighsEngine.solve
    assert tries(slow=False)["scip"] == 0
    assert tries(slow=True)["scip"] > 0


@pytest.mark.parametrize(("finds", "wide"), [(True, True), (False, True), (True, False)])
def test_the_other_engine_is_asked_where_a_wide_gap_is_left(hard_mip, monkeypatch, finds, wide):
    """It keeps a share of the time if it found something."""
    asked = []

    def engine(found, bound):
        def solve(self, limits, neighborhood=None, start=None, watch=None):
            if neighborhood is not None:
                return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
            asked.append(self.name)
            watch.nodes = 1
            watch.pause()
            if found is not None:
                watch.on_solution(found)
            watch.on_bound(bound)
            while not watch.stop():
                watch.pause()
                time.sleep(0.005)
            return Outcome(stopped=Stop.TIME)

        return solve

    one, two = np.zeros(hard_mip.n), np.zeros(hard_mip.n)
    one[0] = two[:2] = 1.0
    value = float(hard_mip.c @ one)
    monkeypatch.setattr(HighsEngine, "solve", engine(one, -value * (3 if wide else 1.01)))
    monkeypatch.setattr(ScipEngine, "solve", engine(two if finds and wide else None, -1e9))
    monkeypatch.setattr(alns, "RIVAL_SECONDS", 0.05)
    monkeypatch.setattr(alns.Search, "_start_up", lambda self, hint: hint)
    result = Balans(arms="mutation").solve(hard_mip, Budget(2.0))
    assert ("scip" in asked) == wide
    assert (result.extra["rival_seconds"] > 0) == wide
    assert ("scip" in [event.by for event in result.trajectory]) == (finds and wide)


def test_the_main_engine_has_more_time_where_it_has_found_more(hard_mip, monkeypatch):
    def seconds(finds):
        tried = []

        def solve(self, limits, neighborhood=None, start=None, watch=None):
            if neighborhood is not None:
                tried.append(time.sleep(0.02))
                return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
            watch.on_solution(np.zeros(hard_mip.n))
            watch.on_bound(-1e9)
            watch.nodes = 1
            better = np.eye(1, hard_mip.n)[0] if finds else None
            while not watch.stop():
                watch.pause()
                time.sleep(0.005)
                if tried and better is not None:
                    watch.on_solution(better)
                    better = None
            return Outcome(stopped=Stop.TIME)

        monkeypatch.setattr(HighsEngine, "solve", solve)
        solver = Balans(arms="mutation", sub="highs")
        return solver.solve(hard_mip, Budget(4.0)).extra["main_seconds"]

    monkeypatch.setattr(alns.Search, "_start_up", lambda self, hint: hint)
    assert seconds(finds=True) > 1.2 * seconds(finds=False)


def test_another_engine_left_behind_is_told_again_at_the_end(hard_mip, monkeypatch):
    stops = []

    def stop(self, patience=0.3):
        stops.append((self.engine, told(self, patience)))
        return stops[-1][1]

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if self.name == "highs" and neighborhood is None:
            watch.on_solution(np.zeros(hard_mip.n))
            watch.on_bound(-1e9)
            watch.nodes = 1
        while neighborhood is None and not watch.stop():
            watch.pause()
            time.sleep(0.005)
        if self.name == "scip":
            late.wait(10)
        return Outcome(stopped=Stop.TIME)

    def learn(*_, **__):
        late.set()

    late = threading.Event()
    told = MainSolve.stop
    monkeypatch.setattr(MainSolve, "stop", stop)
    monkeypatch.setattr(alns.Bandit, "learn", learn)
    for engine in (HighsEngine, ScipEngine):
        monkeypatch.setattr(engine, "solve", solve)
    monkeypatch.setattr(alns, "RIVAL_SECONDS", 0.05)
    monkeypatch.setattr(alns.Search, "_start_up", lambda self, hint: hint)
    result = Balans(arms="mutation").solve(hard_mip, Budget(2.0))
    assert [answer for name, answer in stops if name == "scip"] == [False, True]
    assert result.extra["rival_seconds"] > 0


@pytest.mark.parametrize("near", [True, False])
def test_the_root_is_begun_anew_where_nothing_pays(hard_mip, monkeypatch, near):
    """Unless a trial has found far more than roots do."""
    begun = []

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        if neighborhood is not None:
            time.sleep(0.05)
            return Outcome(Status.INFEASIBLE if near else Status.FEASIBLE, None if near else far)
        if limits.nodes == 1:
            begun.append((self.seed, start))
            return Outcome(Status.FEASIBLE, better)
        watch.on_solution(first)
        watch.on_bound(-1e9)
        watch.pause()
        watch.nodes = 1
        while not watch.stop():
            watch.pause()
            time.sleep(0.005)
        return Outcome(stopped=Stop.TIME)

    def init(self, form, *, seed=0, threads=1, stop=None):
        self.form, self.seed, self.lost = form, seed, False

    order = np.argsort(-hard_mip.c)
    first, better, far = np.zeros((3, hard_mip.n))
    first[order[1:40]] = better[order[:40]] = far[order[:60]] = 1.0
    better[order[1]] = 0.0
    assert abs(hard_mip.c @ (better - first)) < alns.ROOT_GAP * (hard_mip.c @ first)
    monkeypatch.setattr(HighsEngine, "__init__", init)
    monkeypatch.setattr(HighsEngine, "close", lambda self: None)
    monkeypatch.setattr(HighsEngine, "solve", solve)
    monkeypatch.setattr(alns.Search, "_start_up", lambda self, hint: hint)
    monkeypatch.setattr(alns, "RIVAL_SECONDS", math.inf)
    result = Balans(arms="mutation", sub="highs").solve(hard_mip, Budget(5.0))
    assert result.extra["roots"] == len(begun)
    assert [event.by for event in result.trajectory].count("root") == near
    if near:
        seeds = {seed for seed, start in begun if start is None}
        assert len(seeds) == len(begun) > 0
    else:
        assert result.objective == hard_mip.c @ far
        assert not begun


def test_a_relaxation_that_took_too_long_is_not_solved_anew(hard_mip, monkeypatch):
    calls = []

    def solve(self, seconds, stop=None):
        calls.append(1)
        return solved(self, seconds, stop) if len(calls) == 1 else Outcome(stopped=Stop.TIME)

    solved = LinearProgram.solve
    monkeypatch.setattr(LinearProgram, "solve", solve)
    solver = Balans(deterministic=True, sub_nodes=1, arms="rins")
    solver.solve(hard_mip, Budget(60, iterations=3 * alns.REFRESH))
    assert len(calls) == 2


def test_memory(hard_mip, tmp_path):
    path = str(tmp_path / "arms.json")
    solver = Balans(memory=path, deterministic=True, sub_nodes=5)
    solver.solve(hard_mip, Budget(60, iterations=5))
    first = sum(arm.tries for arm in load_memory(path).values())
    solver.solve(hard_mip, Budget(60, iterations=5), seed=1)
    assert sum(arm.tries for arm in load_memory(path).values()) > first > 0


@pytest.mark.parametrize(
    "bad",
    [
        {"preset": "best"}, {"arms": ()}, {"arms": ("rins:2",)}, {"arms": ("rins:x",)},
        {"policy": "none"}, {"accept": "never"}, {"main_share": 2.0}, {"sub_seconds": 0.0},
        {"sub": 3}, {"accept": ["always"]}, {"memory": 3}, {"arms": 3}, {"arms": [3]},
        {"sub_nodes": 0}, {"sub_stall": 0}, {"sub": "highs+highs"}, {"arms": "rins+rins"},
        {"policy": "ucb1", "policy_parameter": -1.0},
    ],
)  # fmt: skip
def test_bad_parameters(bad):
    with pytest.raises(ValueError, match=r"not understood|outside|twice"):
        Balans(**bad)


def test_what_is_accepted_needs_no_cutoff():
    assert Balans(accept="always").cutoff is False
    assert Balans(accept="always", cutoff=True).cutoff
    assert Balans(accept="hill-climbing").cutoff
    assert Balans().cutoff


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_whole_model_is_settled_without_a_main_solve(share):
    none = MIP(c=[1.0], A=[[2.0]], row_lower=[1], row_upper=[1], upper=[5], integrality=[1])
    assert Balans(main_share=share).solve(none, Budget(60)).status is Status.INFEASIBLE
    assert Balans(preset="balans-ijcai25").solve(none, Budget(60)).status is Status.INFEASIBLE
    open_ended = MIP(c=[-1.0, 0], A=[[1.0, -1]], row_upper=[0], integrality=[1, 1])
    assert Balans(main_share=share).solve(open_ended, Budget(60)).status is Status.UNBOUNDED


def test_trials_that_fail_are_worth_nothing(hard_mip, monkeypatch):
    solve = HighsEngine.solve

    def fail(self, limits, neighborhood=None, *rest):
        if neighborhood is not None:
            raise RuntimeError("broken")
        return solve(self, limits, neighborhood, *rest)

    monkeypatch.setattr(HighsEngine, "solve", fail)
    solver = Balans(deterministic=True, sub_nodes=5, sub="highs", arms="mutation+crossover")
    result = solver.solve(hard_mip, Budget(iterations=10))
    assert result.feasible
    # After a few failures the engine is given up, and with it the trials.
    assert sum(arm["tries"] for arm in result.extra["arms"].values()) == alns.FAILURES
    assert all(arm["reward"] == 0 for arm in result.extra["arms"].values())


def test_without_sub_solves_the_exact_one_goes_on(monkeypatch):
    def broken(self, *args, **kwargs):
        raise ValueError("no such engine")

    monkeypatch.setattr(ScipEngine, "__init__", broken)
    mip = MIP(c=[5, 4, 3], A=[[2, 3, 1], [4, 1, 2]], row_upper=[5, 11], upper=[3, 3, 3],
              integrality=[1, 1, 1], sense="maximize")  # fmt: skip
    result = Balans(sub="scip").solve(mip, Budget(60))
    assert result.status is Status.OPTIMAL


@pytest.mark.parametrize(("searched", "larger"), [(True, False), (False, True)])
def test_demands_fall_where_they_cannot_be_met(hard_mip, searched, larger):
    form = Form(hard_mip)
    search = alns.Search.__new__(alns.Search)
    search.plan = alns.Plan(("proximity",), lambda: None, deterministic=True)
    search.form, search._slow, search._adaptive = form, deque(maxlen=4), {"proximity"}
    search._sizes = {"proximity": alns.DEMANDING["proximity"]}
    status = Status.INFEASIBLE if searched else Status.UNKNOWN
    search._adapt("proximity", 0.0, Outcome(status, stopped=Stop.ITERATIONS))
    assert (search._sizes["proximity"] > alns.DEMANDING["proximity"]) is larger


def test_unknown_names():
    with pytest.raises(InputError, match="did you mean rins"):
        Balans(arms=("rinss",))
    with pytest.raises(InputError, match="backend"):
        Balans(main="gurobi")


def test_default_arms_are_registered():
    assert Balans(arms=ARMS).arms == ARMS


def test_arms_as_text():
    assert Balans(arms="rins:0.25+mutation").arms == ("rins:0.25", "mutation")
