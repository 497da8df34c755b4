"""Regions of routes: what is fixed stays, what it costs and loads is known, labels are followed."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nco
from nco.bq.decoding import Model, apply, improve
from nco.bq.imitation import CVRPTeacher
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.policies.cvrp import PLAIN, CVRPPolicy
from nco.bq.policies.ovrp import OVRPPolicy
from nco.bq.regions import with_regions
from nco.bq.route_regions import RouteRegions, route_region_examples
from nco.bq.solver import stack_fields
from nco.instances.cvrp import CVRP
from nco.instances.ovrp import OVRP

KINDS = {"cvrp": CVRP, "ovrp": OVRP}


def groups(
    problem: str, n: int, seed: int, count: int = 3
) -> tuple[list[Any], RouteRegions, dict[str, torch.Tensor], torch.Tensor]:
    """Instances, a policy that cuts regions only, and solutions of random routes."""
    rng = np.random.default_rng(seed)
    policy = RouteRegions(load_policy(problem).POLICY(ways=True), 1.0)
    instances, rows = [], []
    for _ in range(count):
        # Not whole in half of the cases.
        unit = float(rng.choice([1.0, 0.1]))
        demands = np.r_[0.0, rng.integers(0, 6, n)] * unit
        capacity = float(rng.choice([20.0, 1000.0])) * unit
        coords = rng.integers(0, 12, (n + 1, 2)) / 12.0  # some are the same
        made = KINDS[problem](coords=coords, demands=demands, capacity=capacity)
        routes: list[list[int]] = [[]]
        for node in (rng.permutation(n) + 1).tolist():
            if demands[routes[-1]].sum() + demands[node] > capacity * (1.0 - 1e-6):
                routes.append([])
            routes[-1].append(node)
        instances.append(made)
        rows.append(policy.actions(stack_fields(policy.fields, [made]), routes))
    return instances, policy, stack_fields(policy.fields, instances), torch.stack(rows)


def fixed_ways(cut: Any, row: int) -> list[list[int]]:
    """The nodes of the fixed ways of a part."""
    order = (cut.old[row][cut.old[row] >= 0] // 2).tolist()
    link = cut.state.nodes[row, :, -2].long().tolist()
    pairs = [
        (order.index(node), order.index(other - 1))
        for node, other in zip(cut.state.index[row].tolist(), link, strict=True)
        if other
    ]
    assert sorted(pairs) == sorted((b, a) for a, b in pairs)
    return [order[a : b + 1] for a, b in pairs if a < b]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["cvrp", "ovrp"]), st.integers(8, 60), st.integers(5, 30), st.integers(0, 999)
)
def test_any_decisions_about_a_region_are_routes(
    problem: str, n: int, size: int, seed: int
) -> None:
    instances, policy, fields, actions = groups(problem, n, seed)
    generator = torch.Generator().manual_seed(seed)
    cut = policy.cut(fields, actions, size, generator)
    assert cut is not None
    assert cut.old is not None
    state, price, records = cut.state, torch.zeros(len(cut.owner)), []
    while bool(policy.mask(state).any()):
        mask = policy.mask(state).float()
        mask[:, 0] += mask.sum(1) == 0  # finished
        state, record, cost = apply(
            policy, state, None, torch.multinomial(mask, 1, generator=generator)[:, 0]
        )
        records.append(record)
        price += cost
    new = torch.stack(records, 1)
    whole = policy.whole(cut, new)
    known = torch.where(whole >= 0, whole // 2, -1).sort(1).values
    before = torch.where(cut.old >= 0, cut.old // 2, -1).sort(1).values
    assert torch.equal(known, before)
    assert torch.equal(policy.whole(cut, whole), whole)
    # Neighbours within fixed ways stay neighbours.
    for row in range(len(whole)):
        routes = policy.solution(whole[row].tolist())
        legs = {frozenset(leg) for r in routes for leg in itertools.pairwise(r)}
        for way in fixed_ways(cut, row):
            assert {frozenset(leg) for leg in itertools.pairwise(way)} <= legs
    fixed = [
        sum(float(fields["coords"][owner, way].double().diff(dim=0).norm(dim=1).sum())
            for way in fixed_ways(cut, row))
        for row, owner in enumerate(cut.owner.tolist())
    ]  # fmt: skip
    now = policy.part_cost(fields, cut, new)
    assert now.tolist() == pytest.approx((price.double() + torch.tensor(fixed)).tolist(), abs=1e-4)
    mixed = policy.recombine(fields, cut, new)
    assert bool((policy.part_cost(fields, cut, mixed) <= cut.cost + 1e-9).all())
    every = torch.ones_like(now, dtype=torch.bool)
    for made in (new, mixed):
        after = policy.paste(fields, actions, cut, made, every)
        for instance, row in zip(instances, after.tolist(), strict=True):
            assert not instance.violations(policy.solution(row))


def test_a_region_is_free_near_a_customer() -> None:
    _, policy, fields, actions = groups("cvrp", 80, 3)
    cut = policy.cut(fields, actions, 20, torch.Generator().manual_seed(1))
    assert cut is not None
    assert cut.old is not None
    link = cut.state.nodes[..., -2]
    inner = cut.state.index[:, 2:] >= 0
    assert bool((link > 0).any(1).all())
    # 12 are free; a customer alone between two of them is no way.
    assert bool(((link[:, 2:] == 0) & inner).sum(1).ge(12).all())
    # Both ends of a way have the load of all of it.
    loads = cut.state.nodes[:, 2:, -1] * inner / (1.0 + (link[:, 2:] > 0))
    demands = fields["demands"].double()[cut.owner[:, None], cut.old.clamp_min(0) // 2]
    unit = fields["capacity"].double()[cut.owner] / cut.state.scalar[:, 1].double()
    whole = (demands * (cut.old >= 0)).sum(1)
    assert (loads.sum(1) * unit).tolist() == pytest.approx(whole.tolist(), rel=1e-4)


def test_all_parts_of_long_routes_are_regions() -> None:
    """As a part has no room for two of them; a share that is given is kept."""
    model = RouteRegions(OVRPPolicy(ways=True))
    coords = np.random.default_rng(0).random((41, 2))
    instance = OVRP(coords=coords, demands=np.r_[0.0, np.ones(40)], capacity=20.0)
    fields = stack_fields(model.fields, [instance])
    solution = [list(range(1, 21)), list(range(21, 41))]
    actions = model.actions(fields, solution)[None]
    generator = torch.Generator().manual_seed(0)

    def regions(policy: RouteRegions, size: int) -> int:
        cuts = [policy.cut(fields, actions, size, generator) for _ in range(60)]
        return sum(cut is not None and cut.state.nodes.shape[2] > PLAIN for cut in cuts)

    assert regions(model, 39) == 60
    assert 10 < regions(model, 40) < 40
    assert 5 < regions(replace(model, share=0.2), 39) < 25


def test_regions_are_cut_where_the_policy_is_shown_ways() -> None:
    model = partial(Model, policy=CVRPPolicy(ways=True))
    shown = with_regions(model(Network(_shape(True)).eval()))
    assert isinstance(shown.policy, RouteRegions)
    assert shown.policy.share == RouteRegions.share
    assert with_regions(model(Network(_shape(True)).eval()), 0.3).policy.share == 0.3
    plain = Model(Network(_shape(False)).eval(), CVRPPolicy())
    assert with_regions(plain) is plain
    none = model(Network(_shape(True)).eval())
    assert with_regions(none, 0.0) is none


def _shape(ways: bool) -> NetworkConfig:
    policy = CVRPPolicy(ways=ways)
    return NetworkConfig(
        node_dim=policy.node_dim, markers=policy.markers, actions_per_node=2, layers=1, width=16,
        heads=2, ff=16, norm="rms", head="pointer",
    )  # fmt: skip


@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_improving_regions_never_raises_costs(problem: str) -> None:
    _, policy, fields, actions = groups(problem, 60, 5)
    torch.manual_seed(0)
    model = Model(Network(_shape(True)).eval(), policy, 12)
    costs = [policy.cost(fields, actions)]
    improve(
        model, fields, actions, sizes=(8, 20), beams=(1, 4), rounds=12,
        on_round=lambda _, now: costs.append(policy.cost(fields, now)),
    )  # fmt: skip
    assert all(bool((b <= a + 1e-9).all()) for a, b in itertools.pairwise(costs))
    assert bool((costs[-1] < costs[0]).all())


def test_regions_with_other_ways_are_others() -> None:
    _, policy, fields, actions = groups("ovrp", 60, 4, 1)
    cut = policy.cut(fields, actions, 20, torch.Generator().manual_seed(3))
    assert cut is not None
    assert cut.old is not None
    again = policy.cut(fields, actions, 20, torch.Generator().manual_seed(3))
    assert again is not None
    assert torch.equal(cut.key(), again.key())
    # Two nodes within a way change places: what is to be decided is as before.
    way = max(fixed_ways(cut, 0), key=len)
    assert len(way) > 3
    swap = {2 * way[1]: 2 * way[2], 2 * way[2]: 2 * way[1]}
    other = torch.tensor([[swap.get(a, a) for a in actions[0].tolist()]])
    same = policy.cut(fields, other, 20, torch.Generator().manual_seed(3))
    assert same is not None
    assert torch.equal(same.state.index, cut.state.index)
    assert torch.equal(same.key(), cut.key())
    # One with another load is another part.
    more = fields["demands"].clone()
    more[0, way[1]] += 1
    heavier = policy.cut({**fields, "demands": more}, actions, 20, torch.Generator().manual_seed(3))
    assert heavier is not None
    assert torch.equal(heavier.state.index, cut.state.index)
    assert not torch.equal(heavier.key(), cut.key())


@pytest.mark.parametrize("order", ["sweep", "fullest"])
@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_examples_follow_the_label(problem: str, order: str) -> None:
    module = load_policy(problem)
    made: Any = nco.generate(problem, 60, seed=4)
    routes: Any = nco.solve(made, solver="savings", time_limit=5.0).solution
    fields = stack_fields(module.POLICY.fields, [made])
    fields["tour"] = torch.tensor([[node for r in routes for node in r]])
    fields["start"] = torch.tensor([[not i for r in routes for i, _ in enumerate(r)]])
    teacher = module.TEACHER(order=order, regions=1.0, least=12, most=24)
    fields = teacher.prepare(fields)
    generator, host = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    policy = RouteRegions(module.POLICY(ways=True), 1.0)
    route_of = {node: tuple(r) for r in routes for node in r}
    legs = {leg for r in routes for leg in itertools.pairwise(r)}
    ends = {r[0] for r in routes}
    if problem == "cvrp":
        legs |= {leg[::-1] for leg in legs}
        ends |= {r[-1] for r in routes}
    kinds = set()
    for _ in range(6):
        made_ = teacher.examples(fields, 32, 200, True, generator, host)
        state, target = made_.state, made_.target
        assert not bool(((target > 0) & ~policy.mask(state)).any())
        assert target.sum(1).tolist() == [1.0] * 32
        assert made_.position is not None
        for row in range(32):
            index, link = state.index[row].tolist(), state.nodes[row, :, -2].long().tolist()
            at, via = divmod(int(target[row].argmax()), 2)
            now, chosen, place = index[0], index[at], made_.position[row].tolist()
            kinds.add((bool(via), link[at] > 0))
            # On the same route what is next follows here; another one is begun at its end.
            assert (chosen in ends) if via else ((now, chosen) in legs)
            assert (place[at] == place[0] + 1) is not bool(via)
            # Links are legs of the label, and none leads over a way.
            known = [i for i in range(2, len(index)) if index[i] >= 0]
            for i, j in itertools.permutations([0, *known] if now else known, 2):
                if place[j] == place[i] + 1:
                    assert (index[i], index[j]) in legs
                    assert link[i] != index[j] + 1
            # What the current route has served is used up: all before here, in its direction.
            served = 0.0
            if now:
                own = route_of[now]
                before = own[: own.index(now) + 1]
                left = set(index[2:])
                if problem == "cvrp" and left & set(before) - {now}:
                    before = own[own.index(now) :]
                served = sum(float(made.demands[node]) for node in before)
            capacity = float(made.capacity)
            used = float(1.0 - state.scalar[row, 0] / state.scalar[row, 1]) * capacity
            if not now or len(set(index[2:]) & set(route_of[now])):
                assert used == pytest.approx(served, abs=1e-3)
    assert kinds == set(itertools.product((False, True), repeat=2))
    few = teacher.examples(fields, 32, 6, True, generator, host)
    assert few.state.width == 8
    assert set(few.target.sum(1).tolist()) <= {0.0, 1.0}


def test_region_examples_of_small_labels() -> None:
    teacher = CVRPTeacher(regions=1.0)
    made = nco.generate("cvrp", 5, seed=0)
    fields = stack_fields(CVRPPolicy.fields, [made])
    fields["tour"] = torch.tensor([[1, 2, 3, 4, 5]])
    fields["start"] = torch.tensor([[True, False, False, False, False]])
    policy = RouteRegions(CVRPPolicy(ways=True), 1.0)
    generator = torch.Generator().manual_seed(0)
    some = route_region_examples(policy, teacher, teacher.prepare(fields), 4, 10, 40, generator)
    assert some.target.sum(1).tolist() == [1.0] * 4


def test_regions_are_taught_to_policies_that_are_shown_ways_only(tmp_path: Any) -> None:
    from nco.training.config import TrainConfig
    from nco.training.train import Trainer

    config = TrainConfig(problem="cvrp", data=["none.npz"], teacher={"regions": 0.5})
    with pytest.raises(ValueError, match=r"teacher.regions needs policy.ways"):
        Trainer(config, tmp_path)
