from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco import weights as cards
from nco.bq.decoding import Model
from nco.bq.solver import BQ, GRACE
from nco.classical.insertion import Insertion
from nco.instances.atsp import ATSP
from nco.instances.core import Budget, Event, InputError, Instance, Result, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.mtsp import MTSP
from nco.instances.op import OP
from nco.instances.ovrp import OVRP
from nco.instances.pctsp import PCTSP
from nco.instances.spctsp import SPCTSP
from nco.instances.tsp import TSP

from .test_weights import small


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    # Of seed 0, one salesman goes everywhere, and there is nothing to cut.
    seeds = {"mtsp": 4}
    return {name: str(small(name, folder, seed=seeds.get(name, 0))) for name in (*CLASSES, "acvrp")}


CLASSES = {
    "tsp": TSP, "atsp": ATSP, "cvrp": CVRP, "ovrp": OVRP, "op": OP, "pctsp": PCTSP,
    "spctsp": SPCTSP, "mtsp": MTSP, "knapsack": Knapsack, "mis": MIS,
}  # fmt: skip


def instance(problem: str, n: int = 20, seed: int = 0) -> Instance[Any]:
    made: Instance[Any] = CLASSES[problem].generate(n, seed=seed)
    return made


@pytest.mark.parametrize("problem", CLASSES)
def test_rounds_of_reconstruction_improve_and_repeat(problem: str, weights: dict[str, str]) -> None:
    solver = BQ(weights=weights[problem], part=12)
    one, two = (
        solver.solve(instance(problem, seed=1), Budget(iterations=15), seed=3) for _ in range(2)
    )
    assert one.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert one.stopped is (Stop.FINISHED if problem == "spctsp" else Stop.ITERATIONS)
    assert one.solution == two.solution
    values = [event.objective for event in one.trajectory]
    assert values == sorted(values, reverse=problem not in ("op", "knapsack", "mis"))
    assert one.trajectory[0].by == "decoding"
    # Features alone find a good selection at once; prizes that were shown stay known.
    if problem not in ("knapsack", "mis", "spctsp"):
        assert one.trajectory[-1].by == "reconstruction"


def test_without_limits_it_decodes_once(weights: dict[str, str]) -> None:
    result = BQ(weights=weights["tsp"]).solve(instance("tsp"), Budget())
    assert (result.stopped, len(result.trajectory)) == (Stop.FINISHED, 1)


def test_it_is_a_solver_of_the_public_call(weights: dict[str, str]) -> None:
    result = nco.solve(instance("tsp"), "bq", 0.5, weights=weights["tsp"], views=2)
    assert result.stopped is Stop.TIME
    assert result.params == {"weights": weights["tsp"], "views": 2}
    assert result.versions["weights"] == "tsp-v1"


def test_a_batch_of_several_sizes_is_solved_in_order(weights: dict[str, str]) -> None:
    batch = [instance("tsp", n, seed) for seed, n in enumerate([12, 9, 12, 9, 5])]
    results = BQ(weights=weights["tsp"]).solve_batch(batch, Budget(iterations=3))
    assert [r.digest for r in results] == [i.digest for i in batch]
    assert {r.batch for r in results} == {5}
    alone = BQ(weights=weights["tsp"], reconstruct=False).solve(batch[1], Budget())
    assert results[1].objective is not None
    assert alone.objective is not None
    assert results[1].objective <= alone.objective


def test_a_better_start_is_where_it_goes_on(weights: dict[str, str]) -> None:
    circle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = TSP(coords=np.stack([np.cos(circle), np.sin(circle)], 1))
    best = list(range(24))
    result = BQ(weights=weights["tsp"]).solve(ring, Budget(iterations=5), start=best)
    assert result.objective == pytest.approx(ring.objective(best))


def test_no_time_still_gives_a_solution(weights: dict[str, str]) -> None:
    for problem in CLASSES:
        result = BQ(weights=weights[problem]).solve(instance(problem), Budget(time_limit=0.0))
        assert result.feasible
        assert result.stopped is Stop.TIME


def test_what_it_falls_back_to_has_little_time_for_all_together(
    weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[Budget] = []
    solve = Insertion.solve

    def seen(self: Insertion, what: Any, budget: Budget, **options: Any) -> Result:
        budgets.append(budget)
        return solve(self, what, budget, **options)

    monkeypatch.setattr(Insertion, "solve", seen)
    batch = [instance("mtsp", seed=seed) for seed in range(3)]
    results = BQ(weights=weights["mtsp"]).solve_batch(batch, Budget(time_limit=0.0))
    assert all(result.feasible for result in results)
    assert len(budgets) == 3
    assert len(set(map(id, budgets))) == 1
    assert budgets[0].time_limit == GRACE


def test_interruption_returns_the_best_so_far(weights: dict[str, str]) -> None:
    budget = Budget(time_limit=60.0)
    seen: list[Event] = []

    def interrupt(event: Event) -> None:
        seen.append(event)
        threading.Timer(0.05, budget.interrupt).start()

    result = BQ(weights=weights["tsp"]).solve(instance("tsp", 60), budget, on_event=interrupt)
    assert result.stopped is Stop.INTERRUPTED
    assert result.feasible
    assert seen


def test_a_target_stops_it(weights: dict[str, str]) -> None:
    result = BQ(weights=weights["tsp"]).solve(instance("tsp"), Budget(60.0, target=1e9))
    assert result.stopped is Stop.TARGET


def test_what_it_does_not_know_is_refused(
    weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bq = BQ(weights=weights["tsp"])
    rng = np.random.default_rng(0)
    assert "cost matrix" in (bq.supports(TSP(matrix=rng.integers(1, 9, (4, 4)))) or "")
    far = OP(coords=rng.random((4, 2)), prizes=np.r_[0, 1, 1, 1], max_length=9, metric="EUC_2D")
    assert "exact lengths" in (BQ(weights=weights["op"]).supports(far) or "")
    flat = TSP(coords=rng.random((4, 2)), metric="MAN_2D")
    assert "not metric MAN_2D" in (bq.supports(flat) or "")
    once = BQ(weights=weights["spctsp"], samples=4)
    assert "decoded once" in (once.supports(instance("spctsp")) or "")
    routes = instance("cvrp")
    assert "knows no max_distance" in (bq.supports(routes.replace(max_distance=9.0)) or "")
    assert "no policy for mip" in (bq.supports(_mip()) or "")
    monkeypatch.setattr(cards, "shipped_folder", lambda: tmp_path)
    assert "no weights are shipped for mtsp" in (BQ().supports(instance("mtsp")) or "")


def test_a_matrix_is_solved_by_the_policy_that_reads_one(weights: dict[str, str]) -> None:
    costs = np.random.default_rng(0).integers(1, 99, (12, 12))
    bq = BQ(weights=weights["atsp"])
    for made in (TSP(matrix=costs + costs.T), ATSP(matrix=costs)):
        assert bq.supports(made) is None
        assert bq.solve(made, Budget(iterations=3)).feasible
    routes = CVRP(matrix=costs, demands=np.r_[0, np.ones(11, dtype=int)], capacity=4)
    assert BQ().supports(routes) is None
    for planar in (weights["cvrp"], "cvrp-light-v2"):
        assert "not a cost matrix" in (BQ(weights=planar).supports(routes) or "")
    bq = BQ(weights=weights["acvrp"])
    assert bq.supports(routes) is None
    assert bq.solve(routes, Budget(iterations=3)).feasible


def _mip() -> Instance[Any]:
    converted = instance("knapsack", 5).to_mip()  # type: ignore[attr-defined]
    made: Instance[Any] = converted.mip
    return made


def test_bad_arguments_are_one_line(weights: dict[str, str], tmp_path: Path) -> None:
    tsp = instance("tsp")
    with pytest.raises(InputError, match="weights for cvrp, not for tsp"):
        BQ(weights=weights["cvrp"]).solve(tsp, Budget())
    with pytest.raises(InputError, match="no weights: No such file"):
        BQ(weights=str(tmp_path / "x.safetensors")).solve(tsp, Budget())
    with pytest.raises(InputError, match="'gpu' not understood"):
        BQ(weights=weights["tsp"], device="gpu").solve(tsp, Budget())
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device here"):
            BQ(weights=weights["tsp"], device="cuda").solve(tsp, Budget())
    with pytest.raises(ValueError, match="beam = 0"):
        BQ(beam=0)
    with pytest.raises(ValueError, match="precision 'half'"):
        BQ(precision="half")


def test_a_chunk_that_is_out_of_memory_is_halved(
    weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [instance("tsp", 10, seed) for seed in range(8)]
    bq = BQ(weights=weights["tsp"], reconstruct=False)
    whole = [r.solution for r in bq.solve_batch(batch, Budget())]
    look, refused = Model.look, 0

    def small_memory(self: Model, state: Any, *links: bool) -> Any:
        nonlocal refused
        if state.batch > 3:
            refused += 1
            raise torch.OutOfMemoryError
        return look(self, state, *links)

    monkeypatch.setattr(Model, "look", small_memory)
    assert [r.solution for r in bq.solve_batch(batch, Budget())] == whole
    assert refused


def test_asking_what_it_supports_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from nco.instances.registry import solvers\n"
        "from nco.instances.tsp import TSP\n"
        "solvers.load('bq')().supports(TSP.generate(5, seed=0))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
