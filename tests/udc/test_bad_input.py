"""What bad input, missing memory and interruption get."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco.bq.network import Network
from nco.bq.solver import BQ
from nco.classical import compiling
from nco.classical.or_opt import OrOpt
from nco.instances.core import Budget, Status, Stop, better
from nco.instances.mis import MIS
from nco.instances.registry import problems
from nco.instances.tsp import TSP
from nco.udc import divide
from nco.udc.conquer import OrOptConqueror, SolverConqueror
from nco.udc.dividers import load_divider, tsp
from nco.udc.solver import UDC, stack_fields


@pytest.mark.parametrize(
    ("problem", "name"),
    [("cvrp", "ruin-recreate"), ("op", "prize-tour"), ("pctsp", "prize-tour"), ("tsp", "or-opt")],
)
def test_within_one_part_the_conqueror_solves_alone(
    problem: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = nco.generate(problem, 12, seed=0)
    with caplog.at_level(logging.WARNING, "nco"):
        result = UDC(conquer=name).solve(made, Budget(iterations=200))
    assert f"n = 12 is within one part: solved by {name} alone" in caplog.text
    assert result.feasible


def test_graphs_that_do_not_hang_together() -> None:
    """Sets in three cliques and ten lone nodes; tours through far clusters by sparse heat."""
    cliques = [[k + i, k + j] for k in (0, 30, 60) for i in range(30) for j in range(i)]
    graph = MIS(edges=np.array(cliques), weights=np.ones(100, dtype=np.int64))
    result = UDC(conquer="mis-tabu", size=20, stages=3).solve(graph, Budget())
    assert len(result.solution) == 13
    empty = MIS(edges=np.empty((0, 2), dtype=np.int64), weights=np.ones(50, dtype=np.int64))
    assert len(UDC(conquer="mis-tabu", size=20, stages=2).solve(empty, Budget()).solution) == 50
    near = np.random.default_rng(0).random((60, 2))
    far = TSP(coords=np.concatenate([near, near + 1e6, near - 1e6]))
    for kind in ("uniform", "distance"):
        solver = UDC(divide=kind, conquer="or-opt", size=20, neighbors=5, stages=3, samples=2)
        assert solver.solve(far, Budget(), seed=1).feasible


def test_what_is_learned_finds_its_way_between_parts_that_do_not_hang_together() -> None:
    cliques = [[k + i, k + j] for k in (0, 12, 24) for i in range(12) for j in range(i)]
    graph = MIS(edges=np.array(cliques), weights=np.ones(40, dtype=np.int64))
    near = np.random.default_rng(0).random((20, 2))
    far = TSP(coords=np.concatenate([near, near + 1e6, near - 1e6]))
    for start in ("auto", "network"):
        solver = UDC(divide=start, size=12, neighbors=5, stages=2, samples=2)
        assert len(solver.solve(graph, Budget()).solution) == 7
        assert solver.solve(far, Budget(), seed=1).feasible


@pytest.mark.parametrize("problem", ["cvrp", "op"])
def test_regions_where_there_are_none_are_told(
    problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = nco.generate(problem, 30, seed=0)
    UDC(size=10, stages=1).solve(made, Budget())
    assert "regions" not in caplog.text
    UDC(size=10, stages=1, regions=0.5).solve(made, Budget())
    assert "regions are for tours, and for routes of policies that are shown ways" in caplog.text


@pytest.mark.parametrize("problem", ["cvrp", "ovrp", "op", "pctsp", "mtsp"])
def test_equal_coordinates(problem: str) -> None:
    made = nco.generate(problem, 40, seed=0)
    flat = made.replace(coords=np.ones_like(made.coords))
    name = "prize-tour" if problem in ("op", "pctsp") else "ruin-recreate"
    assert UDC(conquer=name, size=12, stages=2).solve(flat, Budget()).feasible


@pytest.mark.parametrize("problem", [name for name in problems.names() if load_divider(name)])
def test_policies_where_all_is_alike(problem: str) -> None:
    """Places, costs, values and weights; a graph without edges."""
    made = nco.generate(problem, 40, seed=0)
    flat = {"matrix": 0.0, "coords": 1.0, "values": 1.0, "weights": 1.0}
    changes = {k: np.full_like(v, flat[k]) for k, v in made.data().items() if k in flat}
    if problem == "mis":
        changes = {"edges": np.empty((0, 2), dtype=np.int64)}
    same = made.replace(**changes)
    result = UDC(size=12, stages=2, samples=2 if problem != "spctsp" else 1).solve(same, Budget())
    assert result.feasible
    if problem in ("tsp", "atsp", "mtsp"):
        assert result.objective == 0.0
    if problem == "mis":
        assert len(result.solution) == 40


def test_regions_of_equal_coordinates() -> None:
    flat = TSP(coords=np.ones((150, 2)))
    solver = UDC(conquer="or-opt", size=10, stages=4, regions=1.0)
    assert solver.solve(flat, Budget()).objective == 0.0


def test_infeasible_prizes_and_lengths(caplog: pytest.LogCaptureFixture) -> None:
    op = nco.generate("op", 40, seed=0)
    still = UDC(conquer="prize-tour", size=12, stages=2).solve(op.replace(max_length=0.0), Budget())
    assert still.solution == []
    assert UDC(size=12, stages=2).solve(op.replace(max_length=0.0), Budget()).solution == []
    assert "failed" not in caplog.text
    pctsp = nco.generate("pctsp", 40, seed=0)
    with pytest.raises(ValueError, match=r"all prizes give .* < min_prize"):
        pctsp.replace(min_prize=float(pctsp.prizes.sum()) * 2)


def test_a_start_that_breaks_rules_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    pctsp = nco.generate("pctsp", 40, seed=0)
    monkeypatch.setitem(load_divider("pctsp").starts, "insertion", lambda *_: None)  # type: ignore[union-attr]
    result = UDC(conquer="prize-tour", size=12, stages=1).solve(pctsp, Budget())
    assert result.trajectory[0].by == "plain start"


def test_without_memory_fewer_samples_then_what_there_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = TSP.generate(60, seed=0)
    conquer = OrOptConqueror.conquer

    def small_memory(self: OrOptConqueror, cut: Any, *rest: Any) -> Any:
        if len(cut.owner.unique()) > 2:
            raise torch.OutOfMemoryError
        return conquer(self, cut, *rest)

    monkeypatch.setattr(OrOptConqueror, "conquer", small_memory)
    solver = UDC(conquer="or-opt", size=12, samples=8, stages=4)
    with caplog.at_level(logging.WARNING, "nco"):
        result = solver.solve(made, Budget())
    assert result.trajectory[-1].by == "reunion"
    assert result.stopped is Stop.FINISHED
    assert [r.message for r in caplog.records if "memory" in r.message] == [
        "out of memory: going on with fewer samples"
    ]

    def no_memory(self: OrOptConqueror, *_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(OrOptConqueror, "conquer", no_memory)
    kept = solver.solve(made, Budget())
    assert "what there is by now is kept" in caplog.text
    assert kept.feasible
    assert kept.trajectory[-1].by == "insertion"


def test_without_memory_for_the_network_the_start_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(BQ, "model", no_memory)
    result = UDC(size=12, samples=2).solve(TSP.generate(60, seed=0), Budget())
    assert result.trajectory[0].by == "insertion"
    assert result.stopped is Stop.FINISHED
    assert "out of memory: what there is by now is kept" in caplog.text


def test_without_memory_for_a_start_there_is_a_plain_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setitem(load_divider("tsp").starts, "insertion", no_memory)  # type: ignore[union-attr,arg-type]
    result = UDC(conquer="or-opt", size=12, stages=2).solve(TSP.generate(60, seed=0), Budget())
    assert result.trajectory[0].by == "plain start"
    assert "out of memory: insertion makes no start" in caplog.text


def test_different_warnings_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    solver = UDC()
    for left in (0.1, 0.2):
        solver._tell("%.1f s are too few", left)
        solver._tell("out of memory")
    assert [r.message for r in caplog.records] == ["0.1 s are too few", "out of memory"]


@pytest.mark.parametrize("most", [2, 0])
def test_without_memory_for_copies_there_are_fewer(
    most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def small_memory(names: Any, instances: Any) -> Any:
        if len(instances) > most:
            raise MemoryError
        return stack_fields(names, instances)

    monkeypatch.setattr("nco.udc.solver.stack_fields", small_memory)
    solver = UDC(conquer="or-opt", size=12, samples=8, stages=2)
    result = solver.solve(TSP.generate(60, seed=0), Budget())
    assert result.stopped is Stop.FINISHED
    assert result.trajectory[-1].by == ("reunion" if most else "insertion")
    assert "out of memory: going on with fewer samples" in caplog.text
    assert ("what there is by now is kept" in caplog.text) == (not most)


def test_with_fewer_samples_parts_are_still_of_their_instances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [nco.generate("cvrp", 40, seed=seed) for seed in range(2)]
    conquer, known = SolverConqueror.conquer, []

    def small_memory(self: SolverConqueror, cut: Any, *rest: Any) -> Any:
        known.append(list(self.wholes))
        if len(self.wholes) > 2:
            raise torch.OutOfMemoryError
        return conquer(self, cut, *rest)

    monkeypatch.setattr(SolverConqueror, "conquer", small_memory)
    solver = UDC(conquer="ruin-recreate", size=12, samples=2, stages=2, effort=1.0)
    results = solver.solve_batch(made, Budget())
    assert all(result.feasible for result in results)
    assert known[0] == [made[0], made[0], made[1], made[1]]
    assert known[-1] == made


@pytest.mark.parametrize("problem", ["tsp", "atsp", "cvrp", "op", "pctsp", "mtsp", "mis"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_parts_of_a_network_that_fails_are_feasible_and_kept_if_not_worse(
    problem: str, value: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = Network.forward
    monkeypatch.setattr(Network, "forward", lambda *a: torch.full_like(forward(*a), value))
    made = nco.generate(problem, 40, seed=0)
    result = UDC(size=12, stages=3, regions=0.0).solve(made, Budget())
    assert {record.getMessage() for record in caplog.records} == {
        "the network gave infinite or no numbers; what it decided is arbitrary"
    }
    assert result.stopped in (Stop.FINISHED, Stop.PROVED)
    first = result.trajectory[0].objective
    assert first is not None
    assert not better(first, result.objective, made.sense)


def test_errors_that_are_not_of_memory_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: OrOptConqueror, *_: Any) -> Any:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(OrOptConqueror, "conquer", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        UDC(conquer="or-opt", size=12).solve(TSP.generate(60, seed=0), Budget(iterations=2))


def test_without_time_to_import_what_improves_there_is_the_best_start() -> None:
    code = (
        "import sys, nco; from nco.instances.core import Budget\n"
        "from nco.udc.solver import UDC; from nco.udc.dividers import load_divider\n"
        "for problem in sys.argv[1:]:\n"
        "    for n in (20, 250):\n"
        "        result = UDC().solve(nco.generate(problem, n, seed=1), Budget(1.9))\n"
        "        assert result.feasible, problem\n"
        "    result = UDC(divide='uniform').solve(nco.generate(problem, 60, seed=1), Budget(1.9))\n"
        "    assert result.feasible, problem\n"
        "assert 'torch' not in sys.modules\n"
    )
    names = [name for name in problems.names() if load_divider(name)]
    run = subprocess.run(
        [sys.executable, "-c", code, *names], check=True, capture_output=True, text=True
    )
    assert run.stderr == ""  # a library does not print


@pytest.mark.parametrize("compiled", [True, False])
def test_kernels_that_are_not_there_in_time_leave_the_start(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "compiled_before", lambda *_: compiled)
    solver = UDC(conquer="or-opt", size=12, stages=2)
    with caplog.at_level(logging.WARNING, "nco"):
        result = solver.solve(TSP.generate(60, seed=0), Budget())
    assert result.trajectory[-1].by == ("reunion" if compiled else "insertion")
    assert ("kernels are still being compiled" in caplog.text) != compiled


def test_what_nothing_can_beat_is_optimal_and_the_end() -> None:
    mtsp = nco.generate("mtsp", 60, seed=0, salesmen=40)
    for conquer in ("bq", "ruin-recreate"):
        result = UDC(conquer=conquer, size=12).solve(mtsp, Budget(time_limit=600.0))
        assert (result.status, result.stopped) == (Status.OPTIMAL, Stop.PROVED)
        assert result.objective == pytest.approx(mtsp.unbeatable())


@pytest.mark.parametrize("stage", ["start", "later start", "heat", "first part", "alone"])
def test_interruption_at_any_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, budget = TSP.generate(60, seed=0), Budget(time_limit=60.0)
    calls = 0

    def then(value: Any, when: int = 1) -> Any:
        nonlocal calls
        calls += 1
        if calls == when:
            budget.interrupt()
        return value

    solver = UDC(conquer="or-opt", size=12, samples=3)
    if stage in ("start", "later start"):
        start, when = tsp.insertion, 1 if stage == "start" else 2
        monkeypatch.setitem(tsp.DIVIDER.starts, "insertion", lambda *a: then(start(*a), when))
    elif stage == "heat":
        sample = divide.sample_tours
        solver = UDC(conquer="or-opt", size=12, samples=3, divide="distance")
        monkeypatch.setattr(divide, "sample_tours", lambda *a: (then(None), sample(*a))[1])
    elif stage == "first part":
        part = OrOptConqueror.part
        monkeypatch.setattr(OrOptConqueror, "part", lambda *a: then(part(*a)))
    else:
        made = TSP.generate(8, seed=0)
        solve = OrOpt.solve
        monkeypatch.setattr(OrOpt, "solve", lambda *a, **o: (then(None), solve(*a, **o))[1])
    result = solver.solve(made, budget)
    assert result.stopped is Stop.INTERRUPTED
    assert result.feasible
    assert calls >= 1
