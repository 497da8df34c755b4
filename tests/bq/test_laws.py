"""The laws that every policy obeys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nco.bq.decoding import Model, Stopped, construct, decode, improve, only
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.solver import stack_fields
from nco.instances.atsp import ATSP
from nco.instances.core import Instance
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mis import MIS
from nco.instances.mtsp import MTSP
from nco.instances.op import OP
from nco.instances.ovrp import OVRP
from nco.instances.pctsp import PCTSP
from nco.instances.spctsp import SPCTSP
from nco.instances.tsp import TSP


@dataclass(frozen=True)
class Case:
    policy: Any
    make: Callable[[int, int], Instance[Any]]
    #: What prices are in, per instance.
    unit: Callable[[dict[str, torch.Tensor]], Any]

    def batch(self, n: int, seeds: range) -> tuple[list[Instance[Any]], dict[str, torch.Tensor]]:
        instances = [self.make(n, seed) for seed in seeds]
        return instances, stack_fields(self.policy.fields, instances)


def cvrp(n: int, seed: int, kind: type[CVRP] = CVRP) -> CVRP:
    rng = np.random.default_rng(seed)
    demands: Any = rng.integers(0, 10, n + 1)
    capacity: float = int(rng.integers(9, 40))
    if seed % 2:  # not whole, and some fill a vehicle alone
        demands = rng.random(n + 1) * rng.choice([0.3, 1.0])
        demands[rng.integers(1, n + 1)] = capacity = 1.1
    demands[0] = 0
    return kind(coords=rng.random((n + 1, 2)), demands=demands, capacity=capacity)


def knapsack(n: int, seed: int) -> Knapsack:
    rng = np.random.default_rng(seed)
    if seed % 2:
        return Knapsack(values=rng.random(n), weights=rng.random(n), capacity=0.2 * n)
    return Knapsack(
        values=rng.integers(0, 99, n), weights=rng.integers(0, 99, n), capacity=int(20 * n)
    )


def acvrp(n: int, seed: int) -> CVRP:
    plane = cvrp(n, seed)
    matrix = np.random.default_rng(seed).integers(0, 999, (n + 1, n + 1))
    # The way from a node to itself is never taken, whatever it costs.
    np.fill_diagonal(matrix, seed % 2 * 7)
    return CVRP(matrix=matrix, demands=plane.demands, capacity=plane.capacity)


def atsp(n: int, seed: int) -> ATSP:
    kinds = ("tmat", "uniform", "crane")
    return ATSP.generate(n, seed=seed, distribution=kinds[seed % 3])


def op(n: int, seed: int) -> OP:
    rng = np.random.default_rng(seed)
    prizes = rng.random(n + 1) if seed % 2 else rng.integers(0, 9, n + 1)
    prizes[0] = 0
    scale = 10.0 ** rng.integers(-3, 4)
    return OP(
        coords=1e3 + scale * rng.random((n + 1, 2)),
        prizes=prizes,
        max_length=scale * rng.uniform(0.3, 5.0),
    )


def pctsp(n: int, seed: int, kind: type[PCTSP | SPCTSP] = PCTSP) -> PCTSP | SPCTSP:
    rng = np.random.default_rng(seed)
    prizes = np.r_[0, rng.random(n) if seed % 2 else rng.integers(0, 9, n)]
    real = {"real_prizes": prizes * rng.uniform(0, 2, n + 1)} if kind is SPCTSP else {}
    return kind(
        coords=1e3 + rng.random((n + 1, 2)),
        prizes=prizes,
        penalties=np.r_[0, rng.random(n) * rng.choice([0.1, 1.0])],
        min_prize=float(prizes.sum() * rng.choice([0.0, 0.4, 1.0])),
        **real,
    )


def mtsp(n: int, seed: int) -> MTSP:
    return MTSP.generate(n, seed=seed, salesmen=1 + seed % 4)


def mis(n: int, seed: int) -> MIS:
    rng = np.random.default_rng(seed)
    edges = np.argwhere(np.triu(rng.random((n, n)) < 0.3, 1))
    return MIS(edges=edges, weights=rng.random(n) if seed % 2 else np.ones(n, dtype=np.int64))


def box(fields: dict[str, torch.Tensor]) -> torch.Tensor:
    """Size of the smallest square around the points."""
    return (fields["coords"].amax(1) - fields["coords"].amin(1)).amax(1)


#: A policy is registered here once; all tests below are its laws.
CASES = {
    case.policy.name: case
    for case in (
        Case(load_policy("tsp").POLICY(), lambda n, seed: TSP.generate(n, seed=seed), box),
        Case(load_policy("atsp").POLICY(), atsp, lambda _: 1.0),
        Case(load_policy("cvrp").POLICY(), cvrp, box),
        Case(load_policy("acvrp").POLICY(), acvrp, lambda _: 1.0),
        Case(load_policy("ovrp").POLICY(), partial(cvrp, kind=OVRP), box),
        Case(load_policy("op").POLICY(), op, lambda _: 1.0),
        Case(load_policy("pctsp").POLICY(), pctsp, lambda _: 1.0),
        Case(load_policy("spctsp").POLICY(), partial(pctsp, kind=SPCTSP), lambda _: 1.0),
        Case(load_policy("mtsp").POLICY(), mtsp, box),
        Case(load_policy("knapsack").POLICY(), knapsack, lambda f: f["values"].double().amax(1)),
        Case(load_policy("mis").POLICY(), mis, lambda f: f["weights"].double().amax(1)),
    )
}
each = pytest.mark.parametrize("name", CASES)


def model(policy: Any, k: int = 0, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    network = Network(
        NetworkConfig(
            policy.node_dim, policy.markers, policy.actions_per_node,
            layers=2, width=16, heads=2, ff=32, edge_dim=policy.edge_dim,
        )
    )  # fmt: skip
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return Model(network, policy, k)


def rollout(case: Case, fields: dict[str, torch.Tensor], seed: int, view: int = 0) -> torch.Tensor:
    """Random allowed actions until all are finished, as recorded actions."""
    policy, kinds = case.policy, case.policy.actions_per_node
    rng = np.random.default_rng(seed)
    start = state = policy.start(fields, view)
    out = []
    while bool((mask := policy.mask(state)).any()):
        going = mask.any(1)
        action = torch.as_tensor(
            [rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in mask.numpy()]
        )
        node = state.index.gather(1, (action // kinds)[:, None])[:, 0]
        out.append(torch.where(going, node * kinds + action % kinds, -1))
        after = policy.step(state, action)
        state = after if state.dense else after.where(going, state)
    return policy.record(start, torch.stack(out, 1) if out else start.index[:, :0])


@each
@given(n=st.integers(1, 14), seed=st.integers(0, 999), view=st.integers(0, 9))
def test_rollouts_are_feasible_and_costed_right(name: str, n: int, seed: int, view: int) -> None:
    case = CASES[name]
    instances, fields = case.batch(n, range(seed, seed + 4))
    actions = rollout(case, fields, seed, view)
    costs = case.policy.cost(fields, actions)
    for instance, row, cost in zip(instances, actions.tolist(), costs.tolist(), strict=True):
        solution = case.policy.solution(row)
        assert instance.violations(solution) == []
        assert abs(cost) == pytest.approx(instance.objective(solution), rel=1e-9, abs=1e-12)


@each
@given(n=st.integers(1, 14), seed=st.integers(0, 999))
def test_solutions_round_trip(name: str, n: int, seed: int) -> None:
    case = CASES[name]
    (instance,), fields = case.batch(n, range(seed, seed + 1))
    solution = case.policy.solution(rollout(case, fields, seed)[0].tolist())
    again = case.policy.solution(case.policy.actions(fields, solution).tolist())
    assert instance.canonical(again) == instance.canonical(solution)


@each
@given(n=st.integers(2, 12), seed=st.integers(0, 999))
def test_prices_add_up_to_the_cost(name: str, n: int, seed: int) -> None:
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(n, range(seed, seed + 3))
    kinds = policy.actions_per_node
    wanted = rollout(case, fields, seed)
    state = policy.start(fields)
    total = torch.zeros(3)
    for step in range(wanted.shape[1]):
        chosen = wanted[:, step]
        going = chosen >= 0
        node = torch.where(going, chosen // kinds, -2)
        # The destination may be chosen, the current node not.
        begin = min(1, policy.markers)
        row = (state.index[:, begin:] == node[:, None]).int().argmax(1) + begin
        action = row * kinds + torch.where(going, chosen % kinds, 0)
        total += policy.price(state, action) * going
        after = policy.step(state, action)
        state = after if state.dense else after.where(going, state)
    unit = case.unit(fields)
    expected = policy.cost(fields, wanted)
    assert torch.allclose(total.double() * unit, expected, rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("k", [0, 5])
def test_a_batch_gives_what_its_parts_give(name: str, k: int) -> None:
    case = CASES[name]
    _, fields = case.batch(12, range(5))
    m = model(case.policy, k)
    whole = construct(m, fields)
    for b in range(5):
        alone = construct(m, {key: v[b : b + 1] for key, v in fields.items()})[0]
        assert torch.equal(alone[alone >= 0], whole[b][whole[b] >= 0])


def remains(policy: Any, fields: dict[str, torch.Tensor], state: Any) -> Any:
    """The sub-instance of what a state has left, made anew."""
    index, left = state.index, state.scalar
    if policy.name in ("tsp", "atsp"):
        return policy.substate(fields, torch.cat([index[:, :1], index[:, 2:], index[:, 1:2]], 1))
    if policy.name == "knapsack":
        unit = fields["capacity"].double() / policy.start(fields).scalar[:, 0].clamp_min(1.0)
        return policy.substate(fields, index, left[:, 0] * unit)
    if policy.name == "mis":
        return policy.substate(fields, index)
    return policy.substate(fields, index[:, :1], index[:, 1:2], index[:, 2:], left[:, 0])


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"cvrp", "acvrp", "ovrp", "mtsp"}))
def test_steps_leave_the_subinstance_of_what_remains(name: str) -> None:
    # Sub-instances with routes begin at the depot, so no step within a route leaves one.
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(12, range(8))
    state, going = policy.start(fields), torch.ones(8, dtype=torch.bool)
    for seed in range(4):
        mask = policy.mask(state)
        going = mask.any(1)
        noise = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
        after = policy.step(state, (noise * mask).argmax(1))
        state = after if state.dense else after.where(going, state)
        again = remains(policy, fields, state)
        going = policy.mask(state).any(1)
        assert torch.equal(policy.mask(state)[going], policy.mask(again)[going])
        for show in (policy.features, policy.edges):
            one, two = show(state), show(again)
            assert one is None or torch.allclose(one[going], two[going], atol=1e-4)


@each
def test_permuting_rows_permutes_scores(name: str) -> None:
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(10, range(3))
    state = policy.start(fields)
    candidates = torch.arange(policy.markers, state.width)
    shuffled = candidates[torch.randperm(len(candidates))]
    rows = torch.cat([torch.arange(policy.markers), shuffled]).expand(3, -1)
    m = model(policy)
    _, a = m.rates(state)
    _, b = m.rates(state.rows(rows))
    kinds = policy.actions_per_node
    a = a.view(3, -1, kinds).gather(1, rows[..., None].expand(-1, -1, kinds)).flatten(1)
    assert torch.allclose(a.exp(), b.exp(), atol=1e-5)


@each
def test_keys_tell_states_apart_but_not_orders(name: str) -> None:
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(8, range(4))
    state = policy.start(fields)
    turned = torch.arange(policy.markers, state.width).flip(0)
    rows = torch.cat([torch.arange(policy.markers), turned]).expand(4, -1)
    assert torch.equal(state.key(policy.markers), state.rows(rows).key(policy.markers))
    m = policy.markers
    same = state.take(torch.tensor([0, 0]))
    row = torch.tensor([m, m + 1]) * policy.actions_per_node + (policy.actions_per_node - 1)
    a, b = policy.step(same, row).key(m).tolist()
    assert a != b


@each
def test_beams_views_and_samples_give_feasible_solutions(name: str) -> None:
    case = CASES[name]
    instances, fields = case.batch(9, range(4))
    m = model(case.policy)
    greedy = case.policy.cost(fields, construct(m, fields))
    for options in ({"beam": 6}, {"views": 3}, {"samples": 3, "seed": 1}, {"beam": 3, "views": 3}):
        if case.policy.online:
            with pytest.raises(ValueError, match="decoded once"):
                construct(m, fields, **options)
            continue
        actions = construct(m, fields, **options)
        for instance, row in zip(instances, actions.tolist(), strict=True):
            assert instance.violations(case.policy.solution(row)) == []
        if "beam" not in options:
            assert bool((case.policy.cost(fields, actions) <= greedy + 1e-9).all())


@each
def test_reconstruction_keeps_feasibility_and_never_raises_costs(name: str) -> None:
    case = CASES[name]
    instances, fields = case.batch(24, range(6))
    actions = rollout(case, fields, 0)
    costs = [case.policy.cost(fields, actions)]

    def watch(_: int, now: torch.Tensor) -> None:
        costs.append(case.policy.cost(fields, now))

    best = improve(model(case.policy), fields, actions, sizes=(4, 16), rounds=25, on_round=watch)
    for instance, row in zip(instances, best.tolist(), strict=True):
        assert instance.violations(case.policy.solution(row)) == []
    for before, after in pairwise(costs):
        assert bool((after <= before + 1e-9).all())
    if case.policy.online:
        assert torch.equal(best, actions)
        return
    assert bool((costs[-1] < costs[0]).any())


@each
def test_padding_does_not_change_decisions(name: str) -> None:
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(9, range(3))
    state = policy.start(fields)
    padded = replace(
        state,
        nodes=torch.nn.functional.pad(state.nodes, (0, 0, 0, 4)),
        index=torch.nn.functional.pad(state.index, (0, 4), value=-1),
        dense=False,
    )
    m = model(policy)
    a, b = decode(m, state), decode(m, padded)
    assert torch.equal(a, b[:, : a.shape[1]])
    assert bool((b[:, a.shape[1] :] == -1).all())


def test_prizes_that_were_not_shown_change_no_decision() -> None:
    case = CASES["spctsp"]
    policy, m = case.policy, model(case.policy)
    _, fields = case.batch(12, range(0, 12, 3))
    other = {**fields, "real_prizes": fields["real_prizes"].clone()}
    a, b = policy.start(fields), policy.start(other)
    for _ in range(6):
        # Those of customers that lie ahead are shuffled before every decision.
        ahead = b.index[:, policy.markers :].clamp_min(0)
        shuffled = ahead[:, torch.randperm(ahead.shape[1])]
        real = other["real_prizes"].gather(1, shuffled)
        nodes = b.nodes.clone()
        nodes[:, policy.markers :, policy.values.index("real_prizes") + 2] = real
        b = replace(b, nodes=nodes)
        assert torch.equal(policy.mask(a), policy.mask(b))
        assert torch.equal(m.rates(a)[1], m.rates(b)[1])
        action = m.rates(a)[1].argmax(1)
        chosen = a.nodes.gather(1, action[:, None, None].expand(-1, -1, a.nodes.shape[2]))
        b.nodes.scatter_(1, action[:, None, None].expand(-1, -1, a.nodes.shape[2]), chosen)
        going = policy.mask(a).any(1)
        a, b = (policy.step(s, action).where(going, s) for s in (a, b))


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"spctsp"}))
def test_eight_views_are_eight_attempts(name: str) -> None:
    # Whatever the network sees in a frame of its own would be the same eight times.
    case, policy = CASES[name], CASES[name].policy
    _, fields = case.batch(20, range(6))
    m = model(policy, seed=4)  # not one whose routes all have one customer
    costs = [policy.cost(fields, construct(m, fields, views=v)) for v in (1, 2, 4, 8)]
    for before, after in pairwise(costs):
        assert bool((after <= before + 1e-9).all())
    assert bool((costs[-1] < costs[0] - 1e-9).any())


@pytest.mark.parametrize("name", ["tsp", "atsp"])
def test_as_many_views_as_nodes_start_at_all_of_them(name: str) -> None:
    for n in (3, 10, 20):
        _, fields = CASES[name].batch(n, range(1))
        starts = [int(CASES[name].policy.start(fields, view).index[0, 0]) for view in range(n)]
        assert starts[0] == 0
        assert sorted(starts) == list(range(n))


def test_a_stop_among_views_leaves_the_best_so_far() -> None:
    case = CASES["tsp"]
    _, fields = case.batch(10, range(3))
    m = model(case.policy)
    for views, steps in ((1, 15), (2, 25)):
        asked = iter(range(steps))
        stopped = construct(m, fields, views=4, stop=lambda asked=asked: next(asked, None) is None)
        assert torch.equal(stopped, construct(m, fields, views=views))
    with pytest.raises(Stopped):
        construct(m, fields, views=4, stop=lambda: True)


def test_only_the_action_of_a_rank_is_left() -> None:
    rates = torch.tensor(
        [[-1.0, -3.0, -2.0, -torch.inf], [-torch.inf, 0.0, -torch.inf, -torch.inf]]
    )
    assert only(rates, 1).argmax(1).tolist() == [2, 1]
    assert only(rates, 9).argmax(1).tolist() == [1, 1]
    assert torch.isneginf(only(rates, 1)).sum(1).tolist() == [3, 3]


def test_symmetries_count_as_views_only_where_the_network_sees_them() -> None:
    cvrp = load_policy("cvrp").POLICY
    policies = [cvrp(), cvrp(reflect=False), cvrp(rotate=False, reflect=False)]
    assert [policy.views for policy in policies] == [1, 2, 8]
    _, fields = CASES["cvrp"].batch(9, range(3))
    for policy in policies:
        shown = [policy.features(policy.start(fields, view)) for view in range(8)]
        for a, b in combinations(shown[: policy.views], 2):
            assert not torch.allclose(a, b, atol=1e-3)
        for a in shown[policy.views :]:
            assert any(torch.allclose(a, b, atol=1e-3) for b in shown[: policy.views])
