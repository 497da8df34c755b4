from __future__ import annotations

import dataclasses
import json
import logging
import runpy
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco import bench
from nco.bq.decoding import Model
from nco.bq.state import packed
from nco.cli import main
from nco.instances.core import Budget, Event, InputError, Stop, Tracker
from nco.instances.registry import solvers
from nco.instances.spctsp import SPCTSP
from nco.instances.tsp import TSP
from nco.udc.dividers import load_divider, pctsp
from nco.udc.solver import CONQUERORS, UDC

from ..bq.test_weights import small


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small("tsp", tmp_path_factory.mktemp("weights")))


def instance(n: int = 60, seed: int = 0) -> TSP:
    made: TSP = TSP.generate(n, seed=seed)
    return made


def both(weights: str) -> list[UDC]:
    return [UDC(weights=weights, size=12), UDC(conquer="or-opt", size=12)]


@pytest.mark.parametrize("conquer", ["bq", "or-opt"])
def test_stages_improve_and_repeat(conquer: str) -> None:
    solver = UDC(conquer=conquer, size=12, samples=2)
    one, two = (solver.solve(instance(), Budget(iterations=6), seed=3) for _ in range(2))
    assert one.stopped is Stop.ITERATIONS
    assert one.solution == two.solution
    values = [event.objective for event in one.trajectory]
    assert values == sorted(values, reverse=True)
    assert one.trajectory[0].by == "insertion"
    assert one.trajectory[-1].by == "reunion"


@pytest.mark.parametrize("divide", ["insertion", "space-filling-curve", "greedy"])
def test_every_start_is_improved(divide: str) -> None:
    result = UDC(divide=divide, conquer="or-opt", size=12, stages=4).solve(instance(), Budget())
    assert result.stopped is Stop.FINISHED
    first, last = result.trajectory[0], result.trajectory[-1]
    assert first.by == divide
    assert first.objective is not None
    assert last.objective is not None
    assert last.objective < first.objective


def test_search_on_parts_comes_near_search_on_the_whole() -> None:
    tsp = instance(150, 1)
    whole = nco.solve(tsp, "or-opt", None, iterations=3000)
    parts = UDC(conquer="or-opt", size=40, stages=40).solve(tsp, Budget())
    assert parts.objective is not None
    assert whole.objective is not None
    assert parts.objective < 1.03 * whole.objective


def test_parts_that_became_worse_stay_as_they_were(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tsp = instance()
    start = UDC(conquer="or-opt", size=20, stages=20).solve(tsp, Budget()).solution

    def backwards(self: Model, cut: Any, *_: Any) -> torch.Tensor:
        return packed((cut.state.index[:, 2:] if cut.old is None else cut.old).flip(1))

    monkeypatch.setattr(Model, "conquer", backwards)
    result = UDC(weights=weights, size=12, stages=5).solve(tsp, Budget(), start=start)
    assert result.objective == pytest.approx(tsp.objective(start))


def test_a_start_is_where_it_goes_on(weights: str) -> None:
    circle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = TSP(coords=np.stack([np.cos(circle), np.sin(circle)], 1))
    for solver in both(weights):
        result = solver.solve(ring, Budget(iterations=3), start=list(range(48)))
        assert result.trajectory[0].by == "start"
        assert result.objective == pytest.approx(ring.objective(list(range(48))))


def test_below_one_part_the_conqueror_solves_alone_and_says_so(
    weights: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "nco"):
        result = UDC(weights=weights).solve(instance(30), Budget(iterations=3))
    assert "n = 30 is within one part: solved by bq alone" in caplog.text
    assert (result.solver, result.extra["by"]) == ("udc", "bq")
    tiny = UDC(conquer="or-opt").solve(instance(3), Budget(iterations=1))
    assert sorted(tiny.solution) == [0, 1, 2]


def test_stages_limit_the_conqueror_of_small_instances_too(weights: str) -> None:
    result = UDC(weights=weights, stages=1).solve(instance(30), Budget(60))
    assert result.stopped is Stop.ITERATIONS


def test_iterations_limit_every_size_of_a_batch() -> None:
    batch = [instance(n, 3) for n in (40, 60)]
    solver = UDC(conquer="or-opt", size=12)
    for one, result in zip(batch, solver.solve_batch(batch, Budget(iterations=1)), strict=True):
        assert result.objective == solver.solve(one, Budget(iterations=1)).objective


def test_a_batch_of_several_sizes_is_solved_in_order(weights: str) -> None:
    batch = [instance(n, seed) for seed, n in enumerate([40, 9, 30, 40, 9])]
    for solver in both(weights):
        results = solver.solve_batch(batch, Budget(iterations=2))
        assert [r.digest for r in results] == [i.digest for i in batch]
        assert {r.batch for r in results} == {5}


def test_equal_coordinates_and_other_metrics(weights: str) -> None:
    rng = np.random.default_rng(0)
    flat = TSP(coords=np.ones((40, 2)))
    rounded = TSP(coords=rng.integers(0, 9, (40, 2)), metric="EUC_2D")
    for solver in both(weights):
        assert solver.solve(flat, Budget(iterations=2)).objective == 0.0
        assert solver.solve(rounded, Budget(iterations=2)).feasible
    costs = rng.integers(1, 99, (40, 40))
    given = TSP(matrix=costs + costs.T)
    assert UDC(conquer="or-opt", size=12).solve(given, Budget(iterations=2)).feasible


OTHERS = ["cvrp", "ovrp", "op", "pctsp", "mtsp", "knapsack", "mis"]


@pytest.mark.parametrize("problem", OTHERS)
def test_other_problems_by_their_policies(problem: str, tmp_path: Path) -> None:
    """Even an untrained policy improves some part, or all stays as it was."""
    made = nco.generate(problem, 40, seed=2)
    solver = UDC(weights=str(small(problem, tmp_path)), size=12, samples=2)
    results = [solver.solve(made, Budget(iterations=8), seed=1) for _ in range(2)]
    assert results[0].solution == results[1].solution
    assert results[0].stopped is Stop.ITERATIONS
    assert results[0].trajectory[0].by == next(iter(load_divider(problem).starts))  # type: ignore[union-attr]


@pytest.mark.parametrize("problem", ["cvrp", "ovrp", "mtsp"])
def test_stages_within_routes_shorten_them(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crooked routes, which only the policy of tours may mend."""
    divider = load_divider(problem)
    assert divider is not None
    made = nco.generate(problem, 60, seed=2)
    crooked = [sorted(route) for route in divider.plain(made)]
    monkeypatch.setitem(divider.starts, next(iter(divider.starts)), lambda *_: crooked)  # type: ignore[arg-type]
    result = UDC(size=30, within=1.0).solve(made, Budget(iterations=3), seed=1)
    assert result.objective < 0.9 * made.objective(crooked)
    assert sorted(map(sorted, result.solution)) == sorted(crooked)
    assert result.versions["weights"].startswith(problem)


def test_stages_improve_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: SPCTSP = nco.generate("spctsp", 40, seed=2)
    curve = pctsp.everyone(made.public())
    monkeypatch.setitem(pctsp.DIVIDER.starts, "insertion", lambda *_: curve)
    solver = UDC(weights=str(small("pctsp", tmp_path)), size=12, stages=60)
    result = solver.solve(made, Budget(target=0.0))
    assert result.stopped is Stop.FINISHED
    assert result.extra["expected"] < made.public().objective(curve)
    first = solver.solve_batch([made, made], Budget(iterations=0), start=[result.solution, None])
    assert first[0].trajectory[0].by == "start"
    assert first[1].extra["expected"] == made.public().objective(curve)


def test_plans_see_real_prizes_of_visited_customers_only(tmp_path: Path) -> None:
    made: SPCTSP = nco.generate("spctsp", 40, seed=2)
    solver = UDC(weights=str(small("pctsp", tmp_path)), size=12, samples=2)
    assert solver.supports(made) is None
    result = solver.solve(made, Budget(iterations=8), seed=1)
    assert [event.by for event in result.trajectory] == ["plan"]
    assert result.stopped is Stop.ITERATIONS
    # With other prizes of those never visited, nothing changes.
    hidden = made.real_prizes.copy()
    left_out = np.setdiff1d(np.arange(1, 41), result.solution)
    assert len(left_out)
    hidden[left_out] = 99.0
    other = solver.solve(made.replace(real_prizes=hidden), Budget(iterations=8), seed=1)
    assert other.solution == result.solution
    # The plan does not know what the visits will show.
    poor = made.replace(real_prizes=np.zeros(41))
    less = solver.solve(poor, Budget(iterations=8), seed=1)
    assert less.extra["expected"] == result.extra["expected"]
    assert sorted(less.solution) == list(range(1, 41))


def test_directed_tours_by_local_search() -> None:
    atsp = nco.generate("atsp", 60, seed=1)
    result = UDC(conquer="or-opt", size=20, stages=10, divide="nearest-neighbor").solve(
        atsp, Budget()
    )
    assert result.trajectory[-1].by == "reunion"


def test_without_any_limit_small_instances_have_stages_too(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nco.udc.solver.STAGES", 3)
    alone = UDC(weights=weights).solve(instance(20), Budget())
    limited = UDC(weights=weights).solve(instance(20), Budget(iterations=3))
    assert alone.stopped is limited.stopped is Stop.ITERATIONS
    assert alone.solution == limited.solution


def test_no_iterations_are_no_stages_but_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    tsp = instance()
    divider = load_divider("tsp")
    assert divider is not None
    start, seeds = divider.starts["insertion"], []
    counted = lambda *a: seeds.append(a[1]) or start(*a)  # noqa: E731
    monkeypatch.setitem(divider.starts, "insertion", counted)  # type: ignore[arg-type]
    solver = UDC(conquer="or-opt", size=12, samples=3)
    result = solver.solve(tsp, Budget(iterations=0), seed=5)
    assert seeds == [5, 6, 7]
    assert result.objective == min(tsp.objective(start(tsp, s, Budget())) for s in seeds)
    heat = UDC(divide="distance", conquer="or-opt", size=12)
    assert heat.solve(tsp, Budget(iterations=0)).trajectory[0].by == "distance"


def test_of_drawn_tours_one_is_a_start_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    divider, budget, made = load_divider("tsp"), Budget(), []
    assert divider is not None

    def of_tour(tsp: TSP, tour: list[int]) -> list[int]:
        budget.interrupt()
        made.append(tour)
        return tour

    slow = dataclasses.replace(divider, of_tour=of_tour)
    solver = UDC(divide="uniform", size=12)
    assert solver._draw(slow, instance(), budget, 0, 5) == made
    assert len(made) == 1


def test_given_starts_are_arrays_too_and_stand_beside_those_of_all_seeds() -> None:
    solver, tsp, divider = (
        UDC(conquer="or-opt", size=12, samples=3),
        instance(),
        load_divider("tsp"),
    )
    assert divider is not None
    given = np.asarray(divider.starts["insertion"](tsp, 1, Budget()))
    result = solver.solve(tsp, Budget(iterations=1), start=given)
    assert result.objective <= tsp.objective(given.tolist())
    tracker = Tracker(tsp, Budget(), solver="udc")
    made = solver._divide(divider, tracker, given.tolist(), 0, Budget())
    assert made[:2] == [given.tolist()] * 2
    assert made[2] != made[1]


def test_starts_leave_half_of_the_time_to_stages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, seeds = time.monotonic(), []

    def slow(tsp: TSP, seed: int, budget: Budget) -> list[int]:
        nonlocal now
        now += 20.0
        seeds.append(seed)
        return list(range(tsp.n))[:: 1 - 2 * (seed % 2)]

    divider = load_divider("tsp")
    assert divider is not None
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setitem(divider.starts, "insertion", slow)  # type: ignore[arg-type]
    solver = UDC(conquer="or-opt", size=12, samples=9, stages=2)
    result = solver.solve(instance(), Budget(100.0))
    assert seeds == [0, 1, 2]
    assert result.stopped is Stop.FINISHED
    assert result.trajectory[-1].by == "reunion"
    assert caplog.messages == ["starts take long: going on with fewer samples"]
    seeds.clear()
    batch = solver.solve_batch([instance(seed=i) for i in range(3)], Budget(100.0))
    assert seeds == [0, 1, 2, 0, 0]
    assert all(r.feasible for r in batch)


def test_no_time_still_gives_a_tour(weights: str) -> None:
    for solver in both(weights):
        result = solver.solve(instance(), Budget(time_limit=0.0))
        assert result.feasible
        assert result.stopped is Stop.TIME


def test_interruption_returns_the_best_so_far(weights: str) -> None:
    for solver in both(weights):
        budget = Budget(time_limit=60.0)

        def interrupt(event: Event, budget: Budget = budget) -> None:
            threading.Timer(0.05, budget.interrupt).start()

        result = solver.solve(instance(), budget, on_event=interrupt)
        assert result.stopped is Stop.INTERRUPTED
        assert result.feasible


def test_bad_arguments_are_one_line(weights: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stages = -1"):
        UDC(stages=-1)
    with pytest.raises(ValueError, match=r"conquer 'magic' not understood; known: .*lkh"):
        UDC(conquer="magic")
    with pytest.raises(ValueError, match=r"regions = 1.5 not understood"):
        UDC(regions=1.5)
    with pytest.raises(ValueError, match="within = -1"):
        UDC(within=-1)
    with pytest.raises(ValueError, match=r"divider = FOLDER needs divide = .network."):
        UDC(divide="uniform", divider="run")
    with pytest.raises(ValueError, match="precision 'half'"):
        UDC(precision="half")
    with pytest.raises(InputError, match="divide 'savings' not understood for tsp"):
        UDC(weights=weights, divide="savings").solve(instance(), Budget())
    with pytest.raises(InputError, match="no weights"):
        UDC(weights=str(tmp_path / "x.safetensors"), size=12).solve(instance(), Budget())
    with pytest.raises(InputError, match="not understood for spctsp"):
        UDC(divide="greedy").solve(nco.generate("spctsp", 5, seed=0), Budget())
    assert "no divider for mip" in (UDC().supports(nco.generate("mip", 5, seed=0)) or "")


def test_asking_what_it_supports_does_not_import_torch() -> None:
    code = (
        "import sys\n"
        "from nco.instances.registry import solvers\n"
        "from nco.instances.tsp import TSP\n"
        "solvers.load('udc')().supports(TSP.generate(5, seed=0))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("conquer", ["bq", "or-opt"])
def test_parts_that_are_whole_when_it_stops_count(
    conquer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nco.bq.decoding as decoding

    monkeypatch.setattr(decoding, "CPU_TOKENS", 14)  # one part at a time
    tsp, budget = instance(120), Budget()
    paths = 0
    length = decoding.decode

    def count(*args: Any, **options: Any) -> torch.Tensor:
        nonlocal paths
        paths += 1
        if paths == 5:
            budget.interrupt()
        return length(*args, **options)

    monkeypatch.setattr(decoding, "decode", count)
    from nco.udc.conquer import OrOptConqueror

    order = OrOptConqueror._order

    def search(*args: Any) -> Any:
        nonlocal paths
        paths += 1
        if paths == 5:
            budget.interrupt()
        return order(*args)

    monkeypatch.setattr(OrOptConqueror, "_order", search)
    result = UDC(conquer=conquer, size=12).solve(tsp, budget)
    assert result.stopped is Stop.INTERRUPTED
    assert result.trajectory[-1].by == "reunion"


def test_stages_and_samples_are_options_of_solve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nco.write(instance(), tmp_path / "x.json")
    words = ["solve", str(tmp_path / "x.json"), "-s", "udc", "-p", "conquer=or-opt", "-p"]
    assert main([*words, "size=12", "--stages", "3", "--samples", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    changed = {"conquer": "or-opt", "size": 12, "stages": 3, "samples": 2}
    assert (result["params"], result["stopped"]) == (changed, "finished")


PLANS = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "udc.toml"


@pytest.mark.parametrize("problem", [*OTHERS, "tsp", "atsp", "spctsp"])
def test_plans_hold_every_start_and_conqueror(problem: str) -> None:
    plan = bench.Plan.from_toml(PLANS, problem)
    specs = [bench.parse_solver(spec) for spec in plan.solvers]
    columns = [(p["divide"], p.get("conquer", "bq")) for name, p in specs if name == "udc"]
    if problem in ("cvrp", "ovrp"):
        columns.remove(("savings", "pyvrp"))
    divider = load_divider(problem)
    assert divider is not None
    starts = [*divider.starts, *(("distance", "uniform") if divider.graph else ())]
    conquerors = CONQUERORS if problem in ("tsp", "atsp") else ("bq",)
    columns.remove(("network", "bq"))
    assert sorted(columns) == sorted((s, c) for s in starts for c in conquerors)
    made = nco.generate(problem, 20, seed=0)
    peers = [name for name, _ in specs if name != "udc" and solvers.entry(name).installed]
    assert peers
    assert all(solvers.load(name)().supports(made) is None for name in peers)


def test_sets_of_the_plans_have_recipes() -> None:
    recipes = runpy.run_path(str(PLANS.with_name("references.py")))["RECIPES"]
    tables = tomllib.loads(PLANS.read_text())
    every = [file for name in [*OTHERS, "tsp", "atsp", "spctsp"] for file in tables[name]["files"]]
    assert sorted(tables["stages"]["files"]) == sorted(every)
    sets = [Path(file) for table in tables.values() for file in table["files"] if "sets/" in file]
    assert len(sets) > len(OTHERS)
    for file in sets:
        # A set of instances that differ in shape is a folder.
        folder = file.name == "*.npz"
        recipe = recipes[file.parent.name if folder else file.stem]
        assert folder is isinstance(recipe.n, tuple) is (recipe.problem == "mis")
