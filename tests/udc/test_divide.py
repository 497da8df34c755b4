from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nco
from nco import weights as cards
from nco.bq.decoding import Stopped
from nco.classical.constructive import savings_routes
from nco.classical.insertion import insertion
from nco.instances.atsp import ATSP
from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.instances.mis import MIS
from nco.instances.mtsp import MTSP
from nco.instances.op import OP
from nco.instances.pctsp import PCTSP
from nco.instances.tsp import TSP
from nco.udc.divide import (
    DividerConfig,
    FixedHeat,
    Graph,
    Heat,
    HeatNetwork,
    NetworkHeat,
    near_graph,
    order_rates,
    plain_heat,
    read_divider,
    sample,
    sample_tours,
    tour_rates,
)
from nco.udc.dividers import LARGE, Divider, atsp, cvrp, load_divider
from nco.udc.pieces import some_nodes
from nco.udc.solver import LOADING, UDC

from .largest import Largest

PROBLEMS = ("tsp", "atsp", "cvrp", "ovrp", "op", "pctsp", "spctsp", "mtsp", "knapsack", "mis")


@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_starts_are_the_best_of_many_savings(problem: str) -> None:
    """Other seeds try other shapes; without time for others, savings stay as they are."""
    divider = load_divider(problem)
    assert divider is not None
    made = nco.generate(problem, 120, seed=4)
    plain = savings_routes(made, k=40)

    class Late(Budget):
        """Next to no time is left."""

        def left(self) -> float:
            return 1e-12

    starts = [divider.starts["savings"](made, seed, Budget()) for seed in range(4)]
    assert starts[2] == divider.starts["savings"](made, 2, Budget())
    assert all(made.violations(routes) == [] for routes in starts)
    costs = [made.objective(routes) for routes in starts]
    assert max(costs) < made.objective(plain)
    assert len(set(costs)) > 1
    assert divider.starts["savings"](made, 0, Late()) == plain
    # A fleet matters more than costs.
    fleet = made.replace(vehicles=min(map(len, starts)))
    for seed in range(4):
        assert len(divider.starts["savings"](fleet, seed, Budget())) <= len(starts[seed])


@given(
    problem=st.sampled_from(["cvrp", "ovrp"]),
    n=st.integers(1, 40),
    seed=st.integers(0, 99),
    begin=st.floats(-7.0, 7.0),
    shares=st.lists(st.floats(0.0, 1.0), max_size=2).map(sorted),
)
def test_sectors_are_all_customers_by_ring_and_angle(
    problem: str, n: int, seed: int, begin: float, shares: list[float]
) -> None:
    made: CVRP = nco.generate(problem, n, seed=seed)
    assert made.coords is not None
    parts = cvrp.sectors(made, begin, shares)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1, n + 1))
    away = made.coords - made.coords[0]
    far = np.hypot(*away.T)
    angles = (np.arctan2(away[:, 1], away[:, 0]) - begin) % (2 * np.pi)
    bounds = np.quantile(far[1:], shares)
    rings = [np.searchsorted(bounds, far[part]) for part in parts]
    loads = [float(made.demands[part].sum()) for part in parts]
    assert max(loads) <= made.capacity
    assert all((ring == ring[0]).all() for ring in rings)
    for i in range(len(parts) - 1):
        if rings[i][0] == rings[i + 1][0]:
            # None takes in the first customer of the next one.
            assert loads[i] + made.demands[parts[i + 1][0]] > made.capacity
        else:
            assert rings[i][0] < rings[i + 1][0]
    ordered, ring = np.concatenate(parts), np.concatenate(rings)
    assert (np.diff(angles[ordered])[np.diff(ring) == 0] >= 0).all()


@settings(max_examples=25)
@given(problem=st.sampled_from(["cvrp", "ovrp"]), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_sweeps_are_feasible_and_repeat(problem: str, n: int, seed: int) -> None:
    made: CVRP = nco.generate(problem, n, seed=seed)
    farthest = float(made.distances.row(0).max())
    for instance in (made, made.replace(max_distance=2.5 * farthest)):
        routes = cvrp.sweep(instance, seed, Budget())
        assert routes is not None
        assert instance.violations(routes) == []
        assert routes == cvrp.sweep(instance, seed, Budget())


def test_sweeps_take_the_place_of_savings_where_they_are_hardly_dearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    divider = load_divider("cvrp")
    assert divider is not None
    assert divider.first(500) == "sweep-or-savings"
    for number, value in (("TRIES", 0), ("SWEEPS", 2), ("RINGS", 2)):
        monkeypatch.setattr(cvrp, number, value)
    # Many long routes, and short ones.
    long: CVRP = nco.generate("cvrp", 1000, seed=1).replace(capacity=200)
    short: CVRP = nco.generate("cvrp", 200, seed=1).replace(capacity=20)
    for instance, name in ((long, "sweep"), (short, "savings")):
        routes = divider.starts["sweep-or-savings"](instance, 0, Budget())
        assert routes == divider.starts[name](instance, 0, Budget())
    swept, joined = (divider.starts[name](long, 0, Budget()) for name in ("sweep", "savings"))
    dearer = long.objective(swept) / long.objective(joined)
    # A sweep that breaks the fleet's limit is no better, whatever it costs.
    fleet = long.replace(vehicles=len(joined))
    with monkeypatch.context() as patch:
        patch.setattr(cvrp, "DEARER", 1e6)
        patch.setattr(cvrp, "sweep", lambda *_: [[i] for i in range(1, 1001)])
        assert divider.starts["sweep-or-savings"](fleet, 0, Budget()) == joined
        assert divider.starts["sweep-or-savings"](long, 0, Budget()) != joined
    monkeypatch.setattr(cvrp, "sweep", lambda *_: swept)
    for factor, routes in ((1.001 * dearer, swept), (0.999 * dearer, joined)):
        monkeypatch.setattr(cvrp, "DEARER", factor)
        assert divider.starts["sweep-or-savings"](long, 0, Budget()) == routes


def test_sweeps_are_of_as_many_rings_as_was_best_and_end_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: CVRP = nco.generate("cvrp", 60, seed=3)
    seen: list[int] = []
    cuts = cvrp.sectors

    def sectors(instance: CVRP, begin: float, shares: list[float]) -> list[np.ndarray]:
        seen.append(len(shares) + 1)
        return cuts(instance, begin, shares)

    monkeypatch.setattr(cvrp, "sectors", sectors)
    assert cvrp.sweep(made, 0, Budget())
    assert seen[: cvrp.RINGS] == [1, 2, 3]
    assert len(seen) == cvrp.SWEEPS
    costs: dict[int, float] = {}
    rng = np.random.default_rng(0)
    for rings in (1, 2, 3):
        shares = np.sort(rng.uniform(*cvrp.INNER, rings - 1)).tolist()
        parts = cuts(made, rng.uniform(0.0, 2.0 * np.pi), shares)
        routes = []
        for part in parts:
            nodes = np.r_[0, part]
            routes += [nodes[route].tolist() for route in insertion(some_nodes(made, nodes))]
        costs[rings] = made.objective(routes)
    assert seen[cvrp.RINGS] == min(costs, key=costs.__getitem__)
    # Where the first ones are hopeless, they are all; where time is up, there is none.
    seen.clear()
    assert cvrp.sweep(made, 0, Budget(), most=0.0)
    assert seen == [1, 2, 3]
    seen.clear()
    over = Budget()
    over.interrupt()
    assert cvrp.sweep(made, 0, over) is None
    assert seen == []
    # Beyond their share of the time no other begins.
    monkeypatch.setattr(cvrp, "SHARE", -1.0)
    assert cvrp.sweep(made, 0, Budget(60.0))
    assert seen == [1]


def test_nothing_is_swept_without_coordinates_or_in_huge_sectors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: CVRP = nco.generate("cvrp", 30, seed=0)
    nodes = np.arange(31)
    matrix = made.distances.pairs(nodes[:, None], nodes[None])
    flat = made.replace(coords=None, matrix=matrix)
    assert cvrp.sweep(flat, 0, Budget()) is None
    assert cvrp.sweep_or_savings(flat, 0, Budget()) == cvrp.savings(flat, 0, Budget())
    # Where time does not suffice for the first sweep, savings stay.
    with monkeypatch.context() as patch:
        patch.setattr(cvrp, "FIRST", 0.0)
        assert cvrp.sweep(made, 0, Budget(60.0)) is None
    monkeypatch.setattr(cvrp, "INSERTED", 3)
    assert cvrp.sweep(made, 0, Budget()) is None
    assert cvrp.sweep_or_savings(made, 0, Budget()) == cvrp.savings(made, 0, Budget())


def graph(n: int, k: int, batch: int = 1, seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    return near_graph(torch.rand(batch, n, 2, generator=generator), k)


def network(layers: int = 2, width: int = 16) -> HeatNetwork:
    torch.manual_seed(1)
    return HeatNetwork(DividerConfig(node_dim=2, edge_dim=2, layers=layers, width=width)).eval()


def draw(heat: object, g: Graph, samples: int, revisits: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sample_tours(heat, g, samples, revisits, generator)[0]  # type: ignore[arg-type]


def network_heat(net: HeatNetwork, g: Graph) -> NetworkHeat:
    with torch.no_grad():
        nodes, edges = net(g)
    return NetworkHeat(net, nodes, edges)


@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_routes_that_were_not_joined_in_time_give_way_to_a_curve(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    divider, made, budget = load_divider(problem), nco.generate(problem, 40, seed=0), Budget()
    assert divider is not None

    def late(instance: CVRP, **_: object) -> list[list[int]]:
        budget.interrupt()
        return [[i] for i in range(1, instance.nodes)]

    monkeypatch.setattr("nco.udc.dividers.cvrp.savings_routes", late)
    assert divider.starts["savings"](made, 0, budget) == divider.plain(made)


def test_tours_of_every_heat_visit_every_node_once_and_repeat() -> None:
    g = graph(40, 6)
    for heat in (plain_heat(g, "uniform"), plain_heat(g, "distance"), network_heat(network(), g)):
        tours = draw(heat, g, 7)
        assert torch.equal(tours.sort(1).values, torch.arange(40).expand(7, -1))
        assert torch.equal(tours, draw(heat, g, 7))
        assert len(torch.unique(tours, dim=0)) == 7


def test_heat_decides_where_tours_go() -> None:
    g = graph(30, 5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(4))
    points = torch.empty(30, 2)
    points[order] = torch.stack([torch.arange(30.0), torch.zeros(30)], 1)
    line = near_graph(points[None], 4)
    along = torch.empty(30)
    along[order] = torch.arange(30.0)
    # Always to the right: from any node the tour goes to the right end first.
    ahead = along[line.near[0]] - along[:, None]
    tours = draw(FixedHeat(torch.where(ahead == 1, 50.0, 0.0)[None]), line, 5)
    steps = along[tours].diff(dim=1)
    assert ((steps == 1).float().mean() > 0.6).all()
    assert (draw(plain_heat(g, "uniform"), g, 1) >= 0).all()


def test_shorter_edges_have_more_weight() -> None:
    g = graph(200, 12)

    def length(kind: str) -> float:
        tours = draw(plain_heat(g, kind), g, 4)
        points = g.points[0][tours]
        return float(torch.linalg.vector_norm(points - points.roll(1, 1), dim=2).sum(1).mean())

    assert length("distance") < 0.8 * length("uniform")


@pytest.mark.parametrize("revisits", [1, 4])
def test_rates_are_those_of_the_draws(revisits: int) -> None:
    """The share of tours that are drawn equals their stated probability."""
    net = network()
    g = graph(4, 2, seed=3)
    heat = network_heat(net, g)
    tours = draw(heat, g, 40_000, revisits)
    found, count = torch.unique(tours, dim=0, return_counts=True)
    rates = tour_rates(net, heat.nodes, heat.edges, g.near, found[None], revisits)[0]
    # The first node is drawn evenly, which is no choice of the network's.
    expected = rates.exp().detach() / 4
    assert torch.allclose(expected.sum(), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(count / 40_000, expected, atol=0.01)


@pytest.mark.parametrize("problem", ["tsp", "atsp", "knapsack"])
def test_instances_of_a_batch_are_drawn_each_by_its_own_heat(problem: str) -> None:
    """What is drawn by very sure heat, and the rates of what is, do not depend on the rest."""
    graphs = [made_graph(problem, 24, 5, seed=seed)[2] for seed in range(3)]
    together = Graph.stack(graphs)
    torch.manual_seed(1)
    dims = together.nodes.shape[2], together.edges.shape[3]
    net = HeatNetwork(DividerConfig(*dims, layers=2, width=8)).eval()
    drawn = sample(network_heat(net, together), together, 4, 3, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 4, 24)
    assert torch.equal(drawn.sort(2).values, torch.arange(24).expand(3, 4, -1))

    def rates(g: Graph, tours: torch.Tensor) -> torch.Tensor:
        heat = network_heat(net, g)
        if g.priority is not None:
            return order_rates(net, heat.nodes, tours, 3)
        return tour_rates(net, heat.nodes, heat.edges, g.near, tours, 3)

    alone = [rates(g, drawn[i : i + 1]) for i, g in enumerate(graphs)]
    assert torch.allclose(rates(together, drawn), torch.cat(alone), rtol=1e-4, atol=1e-4)
    for kind in ("distance", "uniform"):
        logits = [plain_heat(g, kind).logits for g in graphs]
        assert torch.allclose(plain_heat(together, kind).logits, torch.cat(logits))
    sure = FixedHeat(1e4 * plain_heat(together, "distance").logits)
    ends = sample(sure, together, 1, 1, torch.Generator().manual_seed(0))
    for i, g in enumerate(graphs):
        own = FixedHeat(1e4 * plain_heat(g, "distance").logits)
        # What sure heat draws depends on the first node alone.
        each = sample(own, g, 400, 1, torch.Generator().manual_seed(0))[0].tolist()
        assert ends[i, 0].tolist() in each


def test_a_revisit_changes_the_heat() -> None:
    net = network()
    g = graph(40, 6)
    heat = network_heat(net, g)
    tours = draw(heat, g, 3)
    one, many = (
        tour_rates(net, heat.nodes, heat.edges, g.near, tours[None], revisits)
        for revisits in (1, 8)
    )
    assert not torch.allclose(one, many)


def test_batch_equals_loop_and_order_of_nodes_does_not_matter() -> None:
    net = network()
    points = torch.rand(2, 25, 2, generator=torch.Generator().manual_seed(5))
    nodes, edges = net(near_graph(points, 5))
    alone = net(near_graph(points[1:], 5))
    assert torch.allclose(nodes[1:], alone[0], atol=1e-5)
    assert torch.allclose(edges[1:], alone[1], atol=1e-5)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(6))
    moved = net(near_graph(points[1:, order], 5))
    assert torch.allclose(moved[0][0], nodes[1, order], atol=1e-5)


def test_equal_points_still_have_k_candidates() -> None:
    g = near_graph(torch.zeros(1, 20, 2), 4)
    assert (g.near[0] != torch.arange(20)[:, None]).all()
    assert torch.isfinite(g.edges).all()
    for kind in ("uniform", "distance"):
        assert torch.equal(draw(plain_heat(g, kind), g, 2).sort(1).values[0], torch.arange(20))


def test_equal_points_do_not_all_have_the_same_candidates() -> None:
    g = near_graph(torch.ones(1, 300, 2), 5)
    assert int(torch.bincount(g.near.flatten(), minlength=300).max()) <= 3 * 5


def test_nothing_grows_with_the_square_of_the_nodes() -> None:
    """No tensor that the network or a tour makes has more than some n k width entries."""
    n, k, width = 2000, 4, 8
    net = network(1, width)
    g = graph(n, k)
    with Largest() as largest:
        draw(network_heat(net, g), g, 2)
    assert largest.entries <= 4 * n * k * width


@pytest.mark.parametrize("divide", ["distance", "uniform"])
def test_starts_from_heat_are_improved(divide: str) -> None:
    tsp = TSP.generate(60, seed=1)
    solver = UDC(divide=divide, conquer="or-opt", size=12, samples=3, stages=3, neighbors=8)
    one, two = (solver.solve(tsp, Budget(), seed=1) for _ in range(2))
    assert one.solution == two.solution
    assert {event.by for event in one.trajectory} == {divide, "reunion"}


def made_graph(problem: str, n: int, k: int, seed: int = 1) -> tuple[object, Divider, Graph]:
    """An instance as its divider sees it, the divider, and the graph."""
    side = load_divider(problem)
    assert side is not None
    assert side.graph is not None
    instance = nco.generate(problem, n, seed=seed)
    instance = side.plan(instance) if side.plan else instance
    return instance, side, side.graph(instance, k)


def heats_of(g: Graph) -> list[object]:
    torch.manual_seed(1)
    dims = g.nodes.shape[2], g.edges.shape[3]
    net = HeatNetwork(DividerConfig(*dims, layers=2, width=8)).eval()
    return [plain_heat(g, "uniform"), plain_heat(g, "distance"), network_heat(net, g)]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_drawn_is_feasible_and_repeats(problem: str) -> None:
    for n, k in ((30, 6), (5, 50)):
        instance, side, g = made_graph(problem, n, k)
        assert g.near.shape == (1, n, min(k, n - 1))
        assert torch.isfinite(g.nodes).all()
        assert torch.isfinite(g.edges).all()
        for heat in heats_of(g):
            drawn = sample(heat, g, 4, 3, torch.Generator().manual_seed(0))[0]
            assert torch.equal(drawn.sort(1).values, torch.arange(n).expand(4, -1))
            again = sample(heat, g, 4, 3, torch.Generator().manual_seed(0))[0]
            assert torch.equal(drawn, again)
            for tour in drawn.tolist():
                assert instance.violations(side.of_tour(instance, tour)) == []


@pytest.mark.parametrize("problem", PROBLEMS)
def test_graphs_and_draws_of_every_problem_grow_with_n_k(problem: str) -> None:
    """But for the costs of a matrix, which the instance holds as well."""
    n, k = 600, 4
    side = load_divider(problem)
    assert side is not None
    assert side.graph is not None
    edges = np.random.default_rng(0).integers(0, n, (3 * n, 2))
    sparse = MIS(edges=edges[edges[:, 0] != edges[:, 1]], weights=np.ones(n, dtype=np.int64))
    instance = sparse if problem == "mis" else nco.generate(problem, n, seed=0)
    instance = side.plan(instance) if side.plan else instance
    costs = n * n if problem == "atsp" else 0
    with Largest() as largest:
        g = side.graph(instance, k)
    assert largest.entries <= max(16 * n * k, costs)
    for heat in heats_of(g):
        with Largest() as largest:
            sample(heat, g, 2, 3, torch.Generator().manual_seed(0))
        assert largest.entries <= max(32 * n * k, costs)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_heat_by_distance_draws_better_starts_than_uniform_heat(problem: str) -> None:
    instance, side, g = made_graph(problem, 80, 8)

    def mean(kind: str) -> float:
        drawn = sample(plain_heat(g, kind), g, 16, 1, torch.Generator().manual_seed(0))[0]
        costs = [instance.objective(side.of_tour(instance, tour)) for tour in drawn.tolist()]
        return float(np.mean(costs))

    sign = -1.0 if instance.sense == "maximize" else 1.0
    assert sign * mean("distance") < sign * mean("uniform")


@given(st.integers(0, 10_000), st.integers(2, 7))
@settings(max_examples=25, deadline=None)
def test_stretches_of_tours_are_the_best_there_are(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    tour = rng.permutation(n).tolist()
    stretches = [[t + 1 for t in tour[i:j]] for i in range(n) for j in range(i + 1, n + 1)]
    coords = rng.random((n + 1, 2))
    op = OP(coords=coords, prizes=np.r_[0.0, rng.random(n)], max_length=float(rng.uniform(0.3, 3)))
    values = [op.objective(s) for s in [[], *stretches] if not op.violations(s)]
    best = load_divider("op").of_tour(op, tour)
    assert op.objective(best) == pytest.approx(max(values))
    prizes = np.r_[0.0, rng.random(n)]
    penalties = np.r_[0.0, rng.random(n)]
    due = float(prizes.sum() * rng.uniform(0.1, 1.0))
    pctsp = PCTSP(coords=coords, prizes=prizes, penalties=penalties, min_prize=due)
    costs = [pctsp.objective(s) for s in stretches if not pctsp.violations(s)]
    best = load_divider("pctsp").of_tour(pctsp, tour)
    assert pctsp.objective(best) == pytest.approx(min(costs))
    mtsp = MTSP(coords=coords, salesmen=2)
    visits = [t + 1 for t in tour]
    pairs = [[visits], *([visits[:i], visits[i:]] for i in range(1, n))]
    shared = load_divider("mtsp").of_tour(mtsp, tour)
    assert mtsp.violations(shared) == []
    assert mtsp.objective(shared) == pytest.approx(min(map(mtsp.objective, pairs)))


@pytest.mark.parametrize("problem", ["tsp", "atsp", "cvrp"])
def test_graphs_keep_to_the_clock(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nco.udc.divide.ROWS", 7)
    instance, side, whole = made_graph(problem, 40, 5)
    looks = iter([False] * 3 + [True])
    with pytest.raises(Stopped):
        side.graph(instance, 5, stop=lambda: next(looks))
    assert next(looks, None) is None
    assert torch.equal(side.graph(instance, 5, stop=lambda: False).near, whole.near)
    net = HeatNetwork(DividerConfig(whole.nodes.shape[2], whole.edges.shape[3], 3, 8)).eval()
    looks = iter([False, True])
    with pytest.raises(Stopped):
        net(whole, lambda: next(looks))
    assert next(looks, None) is None
    monkeypatch.setattr("nco.udc.divide.ROWS", 500)
    again = side.graph(instance, 5)
    assert torch.equal(again.near, whole.near)
    assert torch.equal(again.nodes, whole.nodes)


def test_heat_of_distances_needs_no_graph_library() -> None:
    code = (
        "import sys, nco; from nco.udc.solver import UDC; from nco.instances.core import Budget\n"
        "made = nco.generate('tsp', 60, seed=1)\n"
        "solver = UDC(divide='distance', conquer='or-opt', size=12, neighbors=5)\n"
        "assert solver.solve(made, Budget(iterations=1)).feasible\n"
        "assert 'torch_geometric' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_divider_that_is_not_loaded_in_time_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(LOADING, "torch_geometric", 1e6)
    monkeypatch.delitem(sys.modules, "torch_geometric", raising=False)
    made = [TSP.generate(60, seed=seed) for seed in range(2)]
    solver = UDC(divide="network", conquer="or-opt", size=12)
    with caplog.at_level(logging.WARNING, "nco"):
        results = solver.solve_batch(made, Budget(1000.0, iterations=1))
    assert [r.trajectory[0].by for r in results] == ["insertion"] * 2
    assert [r.message for r in caplog.records] == [
        "heat is not loaded within 1000.0 s: the start is insertion"
    ]


def test_neighbors_are_sorted_once() -> None:
    made = MIS.generate(20, seed=0)
    assert made.neighbors()[1] is made.neighbors()[1]


def test_more_salesmen_than_customers_share_them_alike() -> None:
    made = MTSP.generate(3, seed=0, salesmen=2).replace(salesmen=10**9)
    side = load_divider("mtsp")
    assert sorted(side.plain(made)) == [[1], [2], [3]]
    budget = Budget(time_limit=0.0)
    assert sorted(v for route in side.starts["insertion"](made, 0, budget) for v in route) == [
        1, 2, 3,
    ]  # fmt: skip


def test_assignments_are_patched_where_that_is_better_and_time_suffices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 20 nodes whose costs are nearly symmetric, the third draw has the better greedy tour."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = rng.random((20, 2))
        d = np.sqrt(((x[:, None] - x) ** 2).sum(2)) * (1 + 0.01 * rng.random((20, 20)))
        made = ATSP(matrix=d)
        both = [atsp.patched_tour(made.distances), atsp.greedy(made, 0, Budget())]
        costs = [made.objective(tour) for tour in both]
        assert made.objective(atsp.patching(made, 0, Budget(1000.0))) == min(costs)
        found.append(costs[0] < costs[1])
    assert set(found) == {True, False}
    monkeypatch.setattr(atsp, "patched_tour", None)
    monkeypatch.setattr(atsp, "ASSIGNED", 3.0)
    assert atsp.patching(made, 0, Budget(1000.0)) == both[1]


@pytest.mark.parametrize("n", [1, 5, 150])
def test_a_shared_tour_of_insertion_is_a_start(n: int) -> None:
    starts = load_divider("mtsp").starts
    assert next(iter(starts)) == "tour"
    for seed in range(3):
        made = MTSP.generate(n, seed=seed, salesmen=max(2, n // 12))
        budget = Budget()
        shared = starts["tour"](made, seed, budget)
        assert made.violations(shared) == []
        assert shared == starts["tour"](made, seed, budget)
        along = starts["space-filling-curve"](made, seed, budget)
        assert made.violations(along) == []
        assert n < 150 or made.objective(shared) < made.objective(along)
        assert n < 150 or made.objective(shared) < made.objective(
            starts["insertion"](made, 0, budget)
        )
    matrix = MTSP(
        matrix=made.distances.pairs(np.arange(n + 1)[:, None], np.arange(n + 1)), salesmen=2
    )
    assert matrix.violations(starts["tour"](matrix, 0, Budget())) == []


@pytest.mark.parametrize("revisits", [1, 3])
def test_rates_are_those_of_the_drawn_orders(revisits: int) -> None:
    g = made_graph("knapsack", 4, 2, seed=3)[2]
    torch.manual_seed(1)
    dims = g.nodes.shape[2], g.edges.shape[3]
    net = HeatNetwork(DividerConfig(*dims, layers=2, width=16)).eval()
    heat = network_heat(net, g)
    orders = sample(heat, g, 20_000, revisits, torch.Generator().manual_seed(0))[0]
    found, count = torch.unique(orders, dim=0, return_counts=True)
    expected = order_rates(net, heat.nodes, found[None], revisits)[0].exp().detach()
    assert len(found) == 24
    assert torch.allclose(expected.sum(), torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(count / 20_000, expected, atol=0.012)


def test_routes_with_a_cost_matrix_are_drawn_too() -> None:
    plane = CVRP.generate(30, seed=1)
    matrix = plane.replace(coords=None, matrix=np.array(plane.distances.matrix), name="")
    side = load_divider("cvrp")
    g = side.graph(matrix, 6)
    assert g.costs.shape == (1, 30, 30)
    drawn = sample(plain_heat(g, "distance"), g, 2, 1, torch.Generator().manual_seed(0))[0]
    assert all(matrix.violations(side.of_tour(matrix, t)) == [] for t in drawn.tolist())


def test_without_memory_fewer_tours_are_drawn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import nco.udc.divide as module

    def small_memory(heat, graph, samples, *rest):  # type: ignore[no-untyped-def]
        if samples > 2:
            raise torch.OutOfMemoryError
        return sample_tours(heat, graph, samples, *rest)

    monkeypatch.setattr(module, "sample_tours", small_memory)
    solver = UDC(divide="uniform", conquer="or-opt", size=12, samples=8, stages=1)
    made = TSP.generate(40, seed=0)
    assert solver.solve(made, Budget()).trajectory[0].by == "uniform"
    assert "out of memory: going on with 2 samples" in caplog.text

    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "sample_tours", no_memory)
    other = UDC(divide="uniform", conquer="or-opt", size=12, stages=1)
    assert other.solve(made, Budget()).trajectory[0].by == "insertion"
    assert "no start is drawn from heat" in caplog.text


def test_without_memory_for_the_network_there_is_another_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    side, graphs = load_divider("tsp"), []

    def graph(*args, **options):  # type: ignore[no-untyped-def]
        graphs.append(args)
        return side.graph(*args, **options)

    counted = dataclasses.replace(side, graph=graph)
    monkeypatch.setattr("nco.udc.divide.free_memory", lambda: 1000.0)
    solver = UDC(divide="network", conquer="or-opt", size=12, samples=8)
    assert solver._draw(counted, TSP.generate(40, seed=0), Budget(), 0, 8) == []
    assert len(graphs) == 1
    assert "no start is drawn from heat" in caplog.text


def test_what_is_not_drawn_in_time_leaves_some_to_the_first_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.monotonic()

    def endless(*args):  # type: ignore[no-untyped-def]
        nonlocal now
        while not args[-1]():
            now += 1.0
        raise Stopped

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr("nco.udc.divide.sample_tours", endless)
    solver = UDC(divide="uniform", conquer="or-opt", size=12, stages=1)
    result = solver.solve(TSP.generate(40, seed=0), Budget(100.0))
    assert result.trajectory[0].by == "insertion"
    assert "time was up before a start was drawn" in caplog.text


def test_items_of_one_priority_are_drawn_in_any_order() -> None:
    n = 256
    edges = [[i, (i + step) % n] for i in range(n) for step in (1, 2)]
    instance = MIS(edges=np.array(edges), weights=np.ones(n, dtype=int))
    g = load_divider("mis").graph(instance, 8)
    drawn = sample(plain_heat(g, "distance"), g, 8, 1, torch.Generator().manual_seed(0))[0]
    assert len({tuple(order) for order in drawn.tolist()}) == 8


@pytest.mark.parametrize("problem", ["op", "pctsp"])
@given(n=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_stretches_of_tours_are_starts(problem: str, n: int, seed: int) -> None:
    divider = load_divider(problem)
    assert divider is not None
    made = nco.generate(problem, n, seed=seed)
    for name in ("tour", "space-filling-curve"):
        start = divider.starts[name](made, seed, Budget())
        assert made.violations(start) == []
        assert start == divider.starts[name](made, seed, Budget())
    assert (divider.first(LARGE), divider.first(LARGE + 1)) == ("insertion", "tour")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_shipped_divider_draws_better_starts_than_uniform_heat(problem: str) -> None:
    instance, side, _ = made_graph(problem, 80, 2, seed=7)
    net, k = read_divider("", instance.problem)
    g = side.graph(instance, k)
    heat = network_heat(net, g)
    n = g.near.shape[1]
    left = torch.ones(1, n, n, dtype=torch.bool)
    if g.priority is None:
        everywhere = torch.arange(n)[None]
        heat.revisit(torch.zeros_like(everywhere), everywhere, left)
        logits = heat.row(everywhere)
    else:
        logits = heat.items(left[:, :1])
    assert logits.std(2).mean() > 0.1

    def mean(one: Heat) -> float:
        drawn = sample(one, g, 32, 2, torch.Generator().manual_seed(0))[0].tolist()
        solutions = [side.of_tour(instance, tour) for tour in drawn]
        assert all(instance.violations(solution) == [] for solution in solutions)
        return float(np.mean([instance.objective(solution) for solution in solutions]))

    sign = -1.0 if instance.sense == "maximize" else 1.0
    assert sign * mean(heat) < sign * mean(plain_heat(g, "uniform"))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_shipped_divider_needs_no_run(
    problem: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[str] = []

    def default(name: str) -> Path:
        found.append(name)
        return cards.default_divider(name)

    monkeypatch.setattr("nco.udc.divide.default_divider", default)
    made = nco.generate(problem, 40, seed=2)
    with caplog.at_level(logging.WARNING, "nco"):
        result = UDC(divide="network", size=16, stages=1).solve(made, Budget(), seed=0)
    assert result.feasible
    assert not caplog.records
    # Plans are those of another problem, and so is the divider.
    assert found == ["pctsp" if problem == "spctsp" else problem]
    assert result.trajectory[0].by == ("plan" if problem == "spctsp" else "network")
