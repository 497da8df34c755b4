"""Any solver as conqueror, by name."""

from __future__ import annotations

import logging
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco.classical.mis_tabu import MISTabu
from nco.classical.or_opt import OrOpt
from nco.classical.ruin_recreate import RuinRecreate
from nco.instances.core import Budget, Stop
from nco.instances.mis import MIS
from nco.instances.registry import solvers
from nco.instances.tsp import TSP
from nco.udc import conquer, pieces
from nco.udc.dividers import load_divider
from nco.udc.solver import UDC

NAMES = [
    ("tsp", "or-opt"),
    ("tsp", "pyvrp"),
    ("atsp", "or-opt"),
    ("cvrp", "pyvrp"),
    ("cvrp", "ruin-recreate"),
    ("ovrp", "pyvrp"),
    ("op", "prize-tour"),
    ("pctsp", "prize-tour"),
    ("spctsp", "prize-tour"),
    ("mtsp", "ruin-recreate"),
]


@pytest.mark.parametrize(("problem", "name"), NAMES)
def test_solvers_conquer_by_name(problem: str, name: str) -> None:
    if not solvers.entry(name).installed:
        pytest.skip(f"{name} is not installed")
    made = nco.generate(problem, 60, seed=1)
    # Patched cycles of a matrix leave nothing to improve.
    divide = "greedy" if problem == "atsp" else "auto"
    solver = UDC(divide=divide, conquer=name, size=20, stages=4, samples=2, effort=5)
    assert solver.supports(made) is None
    one, two = (solver.solve(made, Budget(), seed=1) for _ in range(2))
    assert one.solution == two.solution
    assert one.stopped is Stop.FINISHED
    if problem == "spctsp":  # the trajectory is that of the one plan carried out
        start = load_divider(problem).starts["insertion"]  # type: ignore[union-attr]
        assert one.extra["expected"] < made.public().objective(start(made.public(), 1, Budget()))
    else:
        assert one.trajectory[-1].by == "reunion"


def test_selections_are_pieces_too() -> None:
    knapsack = nco.generate("knapsack", 80, seed=3)
    greedy = knapsack.objective(load_divider("knapsack").plain(knapsack))  # type: ignore[union-attr]
    exact = nco.solve(knapsack, "knapsack", None)
    got = UDC(conquer="knapsack", size=60, stages=10).solve(knapsack, Budget())
    assert greedy <= got.objective <= exact.objective
    assert got.objective > greedy or greedy == exact.objective
    graph = nco.generate("mis", 80, seed=3)
    assert UDC(conquer="mis-tabu", size=40, stages=10).solve(graph, Budget()).feasible


def test_parts_of_graphs_have_their_own_edges_and_look_at_few_others() -> None:
    side, rng = load_divider("mis"), np.random.default_rng(0)
    assert side is not None
    assert side.piece is not None
    for n, p in ((40, 0.2), (40, 0.0), (20_000, 3e-4)):
        whole = nco.generate("mis", n, seed=0, p=p)
        whole.neighbors()
        index = rng.permutation(n)[: min(n - 5, 300)]
        place = np.full(n, -1)
        place[index] = np.arange(len(index))
        inside = place[whole.edges][(place[whole.edges] >= 0).all(1)]
        tracemalloc.start()
        piece = side.piece(whole, index, np.zeros(3))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        expected = MIS(weights=whole.weights[index], edges=inside)
        assert np.array_equal(piece.instance.edges, expected.edges)
        assert np.array_equal(piece.instance.weights, expected.weights)
    assert most < whole.edges.nbytes / 4


def test_what_cannot_conquer_says_so() -> None:
    cvrp = nco.generate("cvrp", 300, seed=0)
    assert "or-opt conquers tsp and atsp" in (UDC(conquer="or-opt").supports(cvrp) or "")
    assert UDC(conquer="lkh").supports(nco.generate("knapsack", 30, seed=0))
    fleet = cvrp.replace(vehicles=30)
    assert "vehicles" in (UDC(conquer="pyvrp").supports(fleet) or "")
    with pytest.raises(ValueError, match="conquer 'udc' not understood; known: "):
        UDC(conquer="udc")
    with pytest.raises(ValueError, match="effort = -1"):
        UDC(conquer="pyvrp", effort=-1)


def test_a_search_that_fails_leaves_its_part_as_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = nco.generate("cvrp", 60, seed=1)
    calls = 0
    solve = RuinRecreate.solve

    def moody(self: RuinRecreate, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise RuntimeError("no luck\ntoday")
        return solve(self, *args, **options)

    monkeypatch.setattr(RuinRecreate, "solve", moody)
    with caplog.at_level(logging.WARNING, "nco"):
        result = UDC(conquer="ruin-recreate", size=15, stages=4).solve(made, Budget(), seed=1)
    assert result.trajectory[-1].by == "reunion"
    told = [r.message for r in caplog.records if "stays as it was" in r.message]
    assert told == ["a part stays as it was, as its search failed: no luck today"]
    monkeypatch.setattr(RuinRecreate, "solve", lambda *_, **__: 1 / 0)
    start = load_divider("cvrp").plain(made)  # type: ignore[union-attr]
    kept = UDC(conquer="ruin-recreate", size=15, stages=2).solve(made, Budget(), start=start)
    assert kept.objective == pytest.approx(made.objective(start))


def test_every_search_has_a_seed_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is chosen by now; and the same searches for the same seed."""
    full = MIS(edges=np.column_stack(np.triu_indices(40, 1)), weights=np.ones(40))
    solve, seeds = MISTabu.solve, []

    def search(self: MISTabu, *args: Any, seed: int, **options: Any) -> Any:
        seeds.append(seed)
        return solve(self, *args, seed=seed, **options)

    monkeypatch.setattr(MISTabu, "solve", search)
    runs = []
    for seed in (0, 0, 7, 2**40):
        seeds.clear()
        with caplog.at_level(logging.WARNING, "nco"):
            UDC(conquer="mis-tabu", size=20, stages=3).solve(full, Budget(), seed=seed)
        runs.append(tuple(seeds))
    assert "search failed" not in caplog.text
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3
    assert all(len(set(run)) == len(run) > 3 for run in runs)
    assert all(0 <= seed < 2**31 for run in runs for seed in run)


def test_alone_a_conqueror_takes_as_many_iterations_as_its_stages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = nco.generate("cvrp", 20, seed=1)
    solve, limits = RuinRecreate.solve, []

    def search(self: RuinRecreate, instance: Any, budget: Budget, **options: Any) -> Any:
        limits.append(budget.iterations)
        return solve(self, instance, budget, **options)

    monkeypatch.setattr(RuinRecreate, "solve", search)
    short = UDC(conquer="ruin-recreate", stages=3, effort=2)
    one, two = (short.solve(made, Budget(), seed=1) for _ in range(2))
    assert one.solution == two.solution
    short.solve(made, Budget(iterations=5))
    UDC(conquer="ruin-recreate", effort=0.1).solve(made, Budget())
    UDC(conquer="ruin-recreate").solve(made, Budget(iterations=0))
    UDC(conquer="ruin-recreate").solve(made, Budget(time_limit=0.01))
    assert limits == [120, 120, 5, 100, 0, None]


def test_tours_that_leave_the_fixed_ways_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a part's tour only what keeps its ends and fixed ways is a part."""
    tsp = TSP.generate(60, seed=0)
    start = list(range(60))

    def shuffled(self: OrOpt, instance: TSP, budget: Budget, **options: Any) -> Any:
        order = np.random.default_rng(0).permutation(instance.n).tolist()
        return type("Made", (), {"solution": order})()

    monkeypatch.setattr(OrOpt, "solve", shuffled)
    # or-opt as any other solver, not on parts directly
    monkeypatch.setattr(conquer, "OrOptConqueror", None)
    side = conquer.CostPolicy([tsp])
    made = conquer.SolverConqueror(side, [tsp], OrOpt(), None, Budget())
    fields = {"owner": torch.zeros(1, dtype=torch.int64)}
    actions = side.actions(fields, start)[None]
    cut = side.cut(fields, actions, 12, torch.Generator().manual_seed(0))
    assert cut is not None
    assert torch.equal(made.conquer(cut), cut.state.index[:, 2:])


def test_a_path_between_others_is_a_tour_with_a_depot_of_its_own() -> None:
    op = nco.generate("op", 20, seed=1)
    piece = pieces.path_piece(op, np.array([3, 7, 1, 2, 5]), "max_length", 1.5, ("prizes",))
    assert piece.instance.n == 5
    start = piece.solution([2, 5])
    assert start == [1, 4, 5, 2]
    assert piece.actions([2, 5, 4, 1]) == [2, 5]
    assert piece.actions([1, 4]) is None
    length = op.distances.pairs(np.array([3, 2, 5]), np.array([2, 5, 7])).sum()
    assert piece.instance.length(start) == pytest.approx(length)
    # Any other way to the depot is longer than the limit.
    assert piece.instance.violations([4, 1, 2])
