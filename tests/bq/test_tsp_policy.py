from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.bq.decoding import Model, choose, construct, decode, improve
from nco.bq.network import Network, NetworkConfig
from nco.bq.plane import dihedral
from nco.bq.policies.tsp import TSPPolicy
from nco.bq.regions import with_regions
from nco.bq.state import State
from nco.instances.tsp import TSP

POLICY = TSPPolicy()


def fields_of(n: int, batch: int, seed: int) -> dict[str, torch.Tensor]:
    return {"coords": torch.as_tensor(np.random.default_rng(seed).random((batch, n, 2)))}


def model(policy: TSPPolicy = POLICY, k: int = 0, head: str = "pointer") -> Model:
    torch.manual_seed(1)
    network = Network(
        NetworkConfig(
            policy.node_dim, policy.markers, layers=2, width=16, heads=2, ff=32, head=head
        )
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Model(network, policy, k)


def same_states(a: State, b: State) -> bool:
    """Equality up to the order of the candidates."""
    if a.index.shape != b.index.shape:
        return False
    m = POLICY.markers
    rows = []
    for s in (a, b):
        order = s.index[:, m:].argsort(1) + m
        head = torch.arange(m).expand(s.batch, -1)
        rows.append(s.rows(torch.cat([head, order], 1)))
    return bool((rows[0].index == rows[1].index).all()) and torch.allclose(
        rows[0].nodes - rows[0].nodes[:, :1], rows[1].nodes - rows[1].nodes[:, :1], atol=1e-6
    )


@given(n=st.integers(1, 12), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_solutions_round_trip(n: int, seed: int) -> None:
    instance = TSP.generate(n, seed=seed)
    tour = [int(k) for k in np.random.default_rng(seed).permutation(n)]
    fields = {"coords": torch.as_tensor(instance.coords.copy())[None]}
    actions = POLICY.actions(fields, tour)
    assert instance.canonical(POLICY.solution(actions.tolist())) == instance.canonical(tour)
    cost = float(POLICY.cost(fields, actions[None])[0])
    assert cost == pytest.approx(instance.objective(tour), rel=1e-12)


@given(n=st.integers(1, 12), seed=st.integers(0, 999), view=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_any_rollout_is_feasible_and_its_prices_are_its_cost(n: int, seed: int, view: int) -> None:
    fields = fields_of(n, 3, seed)
    rng = np.random.default_rng(seed)
    start = state = POLICY.start(fields, view)
    out, price = [], torch.zeros(3)
    while bool((mask := POLICY.mask(state)).any()):
        action = torch.as_tensor([rng.choice(np.flatnonzero(row)) for row in mask.numpy()])
        out.append(state.index.gather(1, action[:, None])[:, 0])
        price += POLICY.price(state, action)
        state = POLICY.step(state, action)
    actions = torch.stack(out, 1) if out else start.index[:, :0]
    actions = POLICY.record(start, actions)
    for b in range(3):
        instance = TSP(coords=fields["coords"][b].numpy())
        assert instance.violations(POLICY.solution(actions[b].tolist())) == []
    # Prices are in units of the box that `start` scales to.
    box = (fields["coords"].amax(1) - fields["coords"].amin(1)).amax(1)
    if n > 1:
        assert torch.allclose(
            price.double() * box, POLICY.cost(fields, actions), rtol=1e-4, atol=1e-6
        )


def test_step_leaves_the_substate_of_what_remains() -> None:
    fields = fields_of(9, 4, 0)
    tour = torch.as_tensor(
        np.random.default_rng(1).permuted(np.tile(np.arange(1, 9), (4, 1)), axis=1)
    )
    # Raw coordinates, so that both ways of making the state use the same units.
    closed = torch.cat([torch.zeros(4, 1, dtype=torch.int64), tour, tour[:, :1] * 0], 1)
    state = POLICY.substate(fields, closed)
    for step in range(8):
        row = (state.index[:, 2:] == tour[:, step : step + 1]).int().argmax(1) + 2
        state = POLICY.step(state, row)
        assert same_states(state, POLICY.substate(fields, closed[:, step + 1 :]))


@pytest.mark.parametrize("k", [0, 4])
def test_a_batch_gives_what_its_parts_give(k: int) -> None:
    fields = fields_of(12, 5, 3)
    m = model(k=k)
    whole = construct(m, fields)
    for b in range(5):
        assert torch.equal(construct(m, {"coords": fields["coords"][b : b + 1]})[0], whole[b])


def test_permuting_nodes_permutes_scores() -> None:
    state = POLICY.start(fields_of(10, 2, 4))
    rows = torch.cat([torch.arange(2), 2 + torch.randperm(9)]).expand(2, -1)
    m = model()
    _, a = m.rates(state)
    _, b = m.rates(state.rows(rows))
    assert torch.allclose(a.gather(1, rows), b, atol=1e-5)


@given(seed=st.integers(0, 999), angle=st.floats(0, 6.3), scale=st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_features_ignore_the_similarities_of_the_plane(
    seed: int, angle: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    x = torch.as_tensor(rng.random((1, 8, 2)))
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    y = (dihedral(x, int(rng.integers(8))) @ turn) * scale + torch.as_tensor(rng.random(2)) * scale
    path = torch.as_tensor(rng.permutation(8))[None]
    a, b = (POLICY.features(POLICY.substate({"coords": c}, path)) for c in (x, y))
    assert torch.allclose(a, b, atol=1e-4)


def test_other_ends_of_ways_are_seen_in_the_same_frame() -> None:
    generator = torch.Generator().manual_seed(3)
    policy = TSPPolicy(ways=True)
    points = torch.rand(5, 9, 2, generator=generator)
    order = torch.tensor([0, 1, 3, 2, 4, 6, 5, 7, 8])  # two ways
    nodes = torch.cat([points, points[:, order], torch.zeros(5, 9, 1)], 2)
    index = torch.arange(9).expand(5, 9)
    state = State(nodes, index, points.new_zeros(5, 0), dense=False)
    seen = policy.features(state)
    assert seen.shape == (5, 9, policy.node_dim)
    plain = TSPPolicy().features(State(points, index, points.new_zeros(5, 0)))
    assert torch.equal(seen[..., :4], plain)
    leads = order != torch.arange(9)
    assert torch.equal(seen[..., 8].bool(), leads.expand(5, 9))
    assert torch.allclose(seen[:, leads, 4:8], plain[:, order][:, leads], atol=1e-6)
    assert not bool(seen[:, ~leads, 4:].any())
    # Where there are no ways, nothing is shown of them.
    none = policy.features(State(points, index, points.new_zeros(5, 0)))
    assert torch.equal(none, torch.nn.functional.pad(plain, (0, 5)))
    # Beyond the circle that reaches all nodes, distances are compressed.
    away = nodes.clone()
    away[:, 3, 2:4] += 100.0
    far = policy.features(replace(state, nodes=away))[:, 3, 6]
    assert bool(((far > 4.0) & (far < 10.0)).all())


def test_coincident_nodes_and_tiny_instances_decode() -> None:
    m = model()
    for coords in (torch.zeros(2, 6, 2), torch.rand(2, 1, 2), torch.rand(2, 2, 2)):
        actions = construct(m, {"coords": coords}, beam=3)
        assert actions.shape == (2, coords.shape[1] - 1)
        assert bool((actions.sort(1).values == torch.arange(1, coords.shape[1])).all())


def test_far_coordinates_keep_their_shape() -> None:
    fields = fields_of(9, 2, 8)
    far = {"coords": fields["coords"] * 1e-3 + 1e6}
    m = model()
    assert torch.equal(construct(m, fields), construct(m, far))


def test_views_start_elsewhere_and_record_the_same_tour() -> None:
    fields = fields_of(10, 1, 5)
    starts = {int(POLICY.start(fields, view).index[0, 0]) for view in range(8)}
    assert len(starts) > 4
    start = POLICY.start(fields, 3)
    tour = POLICY.record(start, start.index[:, 2:])
    assert sorted(tour[0].tolist()) == list(range(1, 10))


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_a_compiled_network_decodes_the_same(bf16: bool) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fields = fields_of(12, 3, 8)
    plain = model(k=5)
    tours = construct(plain.on("cpu", bf16=bf16, compiled=True), fields)
    assert torch.equal(tours, construct(plain.on("cpu", bf16=bf16), fields))
    # All steps with five candidates have one shape; those with fewer are not compiled.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_more_views_and_beams_never_hurt() -> None:
    fields = fields_of(14, 6, 6)
    m = model()
    one = POLICY.cost(fields, construct(m, fields))
    assert bool((POLICY.cost(fields, construct(m, fields, views=4)) <= one).all())
    assert bool((POLICY.cost(fields, construct(m, fields, samples=4)) <= one).all())


def test_a_wide_beam_that_merges_equal_states_is_exact() -> None:
    # 2^5 * 6 bounds the states of a step: dynamic programming over them is Held-Karp.
    fields = fields_of(7, 3, 7)
    actions = construct(model(), fields, beam=192)
    from itertools import permutations

    every = torch.as_tensor(list(permutations(range(1, 7))))
    for b in range(3):
        some = {"coords": fields["coords"][b : b + 1].expand(len(every), -1, -1)}
        best = POLICY.cost(some, every).min()
        mine = POLICY.cost({"coords": fields["coords"][b : b + 1]}, actions[b : b + 1])[0]
        assert float(mine) == pytest.approx(float(best), rel=1e-9)


def test_reconstruction_never_raises_costs_and_finds_better_tours() -> None:
    fields = fields_of(40, 4, 9)
    m = model()
    tours = construct(m, fields)
    costs = [POLICY.cost(fields, tours)]
    best = improve(
        m,
        fields,
        tours,
        sizes=(4, 20),
        rounds=30,
        on_round=lambda _, a: costs.append(POLICY.cost(fields, a)),
    )
    assert bool((best.sort(1).values == torch.arange(1, 40)).all())
    for before, after in pairwise(costs):
        assert bool((after <= before + 1e-9).all())
    assert bool((costs[-1] < costs[0]).any())


def test_the_better_solution_is_chosen() -> None:
    coords = torch.tensor([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    crossed, square = torch.tensor([[2, 1, 3]]), torch.tensor([[1, 2, 3]])
    assert torch.equal(choose(POLICY, {"coords": coords}, crossed, square), square)
    assert torch.equal(choose(POLICY, {"coords": coords}, square, crossed), square)


def test_sampling_repeats_from_its_seed() -> None:
    state = POLICY.start(fields_of(12, 3, 10))
    m = model()
    a, b, c = (decode(m, state, sample=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_reconstruction_by_regions_never_raises_costs() -> None:
    fields = fields_of(60, 3, 5)
    actions = fields["coords"][:, 1:, 0].argsort(1) + 1
    costs = [POLICY.cost(fields, actions)]
    m = model(k=5)
    improve(
        with_regions(m), fields, actions, sizes=(4, 12), rounds=20,
        on_round=lambda _, now: costs.append(POLICY.cost(fields, now)),
    )  # fmt: skip
    assert all(bool((after <= before + 1e-9).all()) for before, after in pairwise(costs))
    assert bool((costs[-1] < costs[0]).all())
