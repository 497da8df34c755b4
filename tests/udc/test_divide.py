from __future__ import annotations

import numpy as np
import pytest
import torch

from nco.instances.core import Budget
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP
from nco.udc.divide import (
    DividerConfig,
    FixedHeat,
    Graph,
    HeatNetwork,
    NetworkHeat,
    near_graph,
    plain_heat,
    sample_tours,
    tour_rates,
)
from nco.udc.solver import UDC

from .largest import Largest


def graph(n: int, k: int, batch: int = 1, seed: int = 0) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    return near_graph(torch.rand(batch, n, 2, generator=generator), k)


def network(layers: int = 2, width: int = 16) -> HeatNetwork:
    torch.manual_seed(1)
    return HeatNetwork(DividerConfig(node_dim=2, edge_dim=2, layers=layers, width=width)).eval()


def draw(heat: object, g: Graph, samples: int, revisits: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sample_tours(heat, g, samples, revisits, generator)  # type: ignore[arg-type]


def network_heat(net: HeatNetwork, g: Graph) -> NetworkHeat:
    with torch.no_grad():
        nodes, edges = net(g)
    return NetworkHeat(net, nodes[0], edges[0])


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
    tours = draw(FixedHeat(torch.where(ahead == 1, 50.0, 0.0)), line, 5)
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
    rates = tour_rates(net, heat.nodes, heat.edges, g.near[0], found, revisits)
    # The first node is drawn evenly, which is no choice of the network's.
    expected = rates.exp().detach() / 4
    assert torch.allclose(expected.sum(), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(count / 40_000, expected, atol=0.01)


def test_a_revisit_changes_the_heat() -> None:
    net = network()
    g = graph(40, 6)
    heat = network_heat(net, g)
    tours = draw(heat, g, 3)
    one, many = (
        tour_rates(net, heat.nodes, heat.edges, g.near[0], tours, revisits) for revisits in (1, 8)
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


def test_tours_become_routes() -> None:
    from nco.udc.dividers.cvrp import DIVIDER

    cvrp = CVRP.generate(30, seed=1)
    assert DIVIDER.view is not None
    assert DIVIDER.of_tour is not None
    points, extra = DIVIDER.view(cvrp)
    assert points.shape == (30, 2)
    assert extra.shape == (30, DIVIDER.extra)
    routes = DIVIDER.of_tour(cvrp, np.random.default_rng(0).permutation(30).tolist())
    assert cvrp.violations(routes) == []


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
    assert solver.solve(TSP.generate(40, seed=0), Budget()).feasible
    assert "out of memory: going on with 2 samples" in caplog.text
