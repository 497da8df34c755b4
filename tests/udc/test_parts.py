"""Parts of solutions: cut out, measured and put back, whatever the problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco.bq.decoding import apply, finished
from nco.bq.policies import load_policy, mis
from nco.bq.policies.mtsp import route_lengths
from nco.bq.policies.op import turned
from nco.bq.regions import RegionPolicy, rejoined
from nco.bq.solver import stack_fields
from nco.bq.state import gather_parts
from nco.classical.insertion import insertion
from nco.udc.dividers import load_divider
from nco.udc.within import KindsPolicy, RoutePaths

from .largest import Largest


def starts(problem: str, n: int, count: int = 2, **options: Any) -> tuple[Any, Any, torch.Tensor]:
    """Policy, fields and recorded actions of the plain starts of some instances."""
    policy, divider = load_policy(problem).POLICY(), load_divider(problem)
    assert divider is not None
    made = [nco.generate(problem, n, seed=seed, **options) for seed in range(count)]
    fields = stack_fields(policy.fields, made)
    rows = [
        policy.actions({k: v[i : i + 1] for k, v in fields.items()}, divider.plain(instance))
        for i, instance in enumerate(made)
    ]
    return policy, fields, torch.nn.utils.rnn.pad_sequence(rows, True, -1)


def test_places_are_gathered_by_part() -> None:
    part = torch.tensor([[1, -1, 0, 1, 1], [-1, 3, -1, 3, -1]])
    number, place = gather_parts(part, 4)
    assert number.tolist() == [0, 1, 7]
    assert place.tolist() == [[2, -1, -1], [0, 3, 4], [1, 3, -1]]
    assert gather_parts(torch.full((2, 3), -1), 4)[1].shape == (0, 0)


@pytest.mark.parametrize("problem", ["cvrp", "ovrp", "mtsp"])
@pytest.mark.parametrize("n", [30, 400])
def test_groups_are_whole_routes_that_can_be_put_back(problem: str, n: int) -> None:
    policy, fields, actions = starts(problem, n)
    generator = torch.Generator().manual_seed(0)
    before, parts = policy.cost(fields, actions), set()
    for _ in range(8):
        cut = policy.cut(fields, actions, 20, generator)
        old = actions[cut.owner[:, None], cut.place.clamp_min(0)].masked_fill(cut.place < 0, -1)
        assert (old[:, 0] % 2 == 1).all()  # a route begins
        for i in range(2):
            taken = old[cut.owner == i]
            taken = taken[taken >= 0]
            assert len(taken.unique()) == len(taken)
        assert torch.allclose(policy.part_cost(fields, cut, old), cut.cost)
        everything = torch.ones(len(cut.owner), dtype=torch.bool)
        again = policy.paste(fields, actions, cut, old, everything)
        assert torch.allclose(policy.cost(fields, again), before)
        for row, was in zip(again, actions, strict=True):
            assert sorted(row.tolist()) == sorted(was.tolist())
        parts.add(len(cut.owner))
    # Where there are many groups, each stage has all of them.
    assert (min(parts) > 10) is (n == 400)


def test_the_longest_of_the_other_routes() -> None:
    policy, fields, actions = starts("mtsp", 60, 3, salesmen=9)
    lengths, route = route_lengths(fields, actions)
    for seed in range(8):
        cut = policy.cut(fields, actions, 15, torch.Generator().manual_seed(seed))
        for part, owner in enumerate(cut.owner.tolist()):
            place = cut.place[part]
            mine = set(route[owner, place[place >= 0]].tolist())
            others = [float(x) for i, x in enumerate(lengths[owner]) if i not in mine]
            assert float(cut.state.scalar[part, 1]) == pytest.approx(max(others))


@pytest.mark.parametrize(
    ("problem", "matrix"), [("cvrp", 0), ("cvrp", 1), ("ovrp", 0), ("mtsp", 0)]
)
def test_paths_within_routes_are_measured_and_put_back(problem: str, matrix: int) -> None:
    routes, fields, actions = starts(problem, 60)
    tours = load_policy("tsp").POLICY()
    if matrix:
        routes, tours = load_policy("acvrp").POLICY(), load_policy("atsp").POLICY()
        fields["matrix"] = torch.cdist(fields["coords"], fields["coords"])
        fields["matrix"] *= 1.0 + torch.rand(61, 61, generator=torch.Generator().manual_seed(1))
    policy = RoutePaths(routes, tours)
    generator = torch.Generator().manual_seed(0)
    ends, whole = set(), set()
    for _ in range(20):
        cut = policy.cut(fields, actions, 8, generator)
        begin, end, inner = cut.state.index[:, :1], cut.state.index[:, 1:2], cut.state.index[:, 2:]
        count = (inner >= 0).sum(1)
        assert count.min() > 1
        assert count.max() <= 8
        many = (cut.place >= 0).sum(1)
        free = many > count
        assert (problem == "ovrp") is bool(free.any())
        now = actions[cut.owner[:, None], cut.place.clamp_min(0)] // 2
        now = now.masked_fill(cut.place < 0, -1)
        both = torch.cat([inner, torch.where(free[:, None], end, -1)], 1)
        assert torch.equal(
            *(x.sort(1, descending=True).values[:, : now.shape[1]] for x in (both, now))
        )
        last = now.gather(1, (many - 1)[:, None])
        ends |= set((last == end)[free].flatten().tolist())
        whole |= set((begin == 0).flatten().tolist())
        # What is known now is as long as it was said to be.
        assert torch.allclose(policy.part_cost(fields, cut, now)[~free], cut.cost[~free])
        noise = torch.rand(inner.shape, generator=generator).masked_fill(inner < 0, 2.0)
        new = inner.gather(1, noise.argsort(1))
        change = policy.part_cost(fields, cut, new) - cut.cost
        mixed = policy.recombine(fields, cut, new)
        assert torch.equal(*(x.sort(1).values for x in (mixed, new)))
        least = torch.where(free | (not tours.mixes), change, change.clamp_max(0))
        assert bool((policy.part_cost(fields, cut, mixed) - cut.cost <= least + 1e-9).all())
        better = torch.rand(len(change), generator=generator) < 0.5
        after = policy.paste(fields, actions, cut, new, better)
        assert torch.equal(*((x[x >= 0] // 2).sort().values for x in (after, actions)))
        assert torch.equal(after % 2, actions % 2)
        if problem != "mtsp":
            total = torch.zeros(2, dtype=torch.float64).index_add_(0, cut.owner, change * better)
            before = routes.cost(fields, actions)
            assert torch.allclose(routes.cost(fields, after), before + total)
        better = change <= 0
        shorter = policy.paste(fields, actions, cut, new, better)
        assert (routes.cost(fields, shorter) <= routes.cost(fields, actions) + 1e-9).all()
        actions = after
    assert whole == {True, False}
    assert ends == ({True, False} if problem == "ovrp" else set())


def test_parts_of_two_kinds_take_turns() -> None:
    routes, fields, actions = starts("cvrp", 40)
    policy = KindsPolicy((routes, RoutePaths(routes, load_policy("tsp").POLICY())), 0.5)
    generator = torch.Generator().manual_seed(0)
    cuts = [policy.cut(fields, actions, 12, generator) for _ in range(12)]
    assert {cut.kind for cut in cuts} == {0, 1}
    for cut in cuts:
        assert cut.take(slice(1)).kind == cut.kind
        assert cut.old is not None
        old = cut.state.index[:, 2:] if cut.kind else cut.old
        assert torch.allclose(policy.part_cost(fields, cut, old), cut.cost)
        kept = policy.paste(
            fields, actions, cut, old, torch.zeros(len(cut.owner), dtype=torch.bool)
        )
        assert torch.allclose(policy.cost(fields, kept), policy.cost(fields, actions))
    # Routes of a customer each have no paths.
    alone = 2 * torch.arange(1, 41).repeat(2, 1) + 1
    assert policy.kinds[1].cut(fields, alone, 12, generator) is None
    assert {policy.cut(fields, alone, 12, generator).kind for _ in range(8)} == {0}


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "ovrp", "mtsp", "op", "pctsp"])
def test_memory_grows_with_the_nodes(problem: str) -> None:
    # A window's nodes times its regions are no more than this.
    n = 60_000 if problem == "tsp" else 10_000
    policy, fields, actions = starts(problem, n, 1)
    if problem == "op":
        actions = torch.arange(1, n // 2)[None]
        fields["max_length"] = 2.0 * fields["max_length"] * n
    if problem == "tsp":
        policy = RegionPolicy(policy)
    for seed in range(4):
        with Largest() as largest:
            cut = policy.cut(fields, actions, 100, torch.Generator().manual_seed(seed))
            if problem in ("tsp", "op", "pctsp"):
                new = cut.state.index[:, 2:] if cut.state.dense else cut.old
            else:
                new = actions[cut.owner[:, None], cut.place.clamp_min(0)]
            better = policy.part_cost(fields, cut, new) <= cut.cost
            policy.paste(fields, actions, cut, new, better)
        assert largest.entries <= 40 * n


def test_paths_within_routes_of_any_lengths_take_memory_that_grows_with_the_nodes() -> None:
    n = 4000
    cvrp = nco.generate("cvrp", n, seed=0)
    routes = [list(range(1, n // 2)), *([k] for k in range(n // 2, n + 1))]
    policy = load_policy("cvrp").POLICY()
    fields = stack_fields(policy.fields, [cvrp])
    actions = policy.actions(fields, routes)[None]
    with Largest() as largest:
        RoutePaths(policy, load_policy("tsp").POLICY()).cut(
            fields, actions, 50, torch.Generator().manual_seed(0)
        )
    assert largest.entries <= 4 * 54 * n


def drawn(policy: Any, state: Any, generator: torch.Generator, stops: float = 1.0) -> torch.Tensor:
    """Recorded actions [parts, steps] of random decisions; row 1 is drawn less often."""
    records = [state.index[:, :0].new_full((state.batch,), -1)]
    while not finished(policy, state):
        allowed = policy.mask(state)
        noise = torch.rand(allowed.shape, generator=generator)
        noise[:, 1] *= stops
        state, record, _ = apply(policy, state, None, noise.masked_fill(~allowed, -1.0).argmax(1))
        records.append(record)
    return torch.stack(records[1:] or records, 1)


@pytest.mark.parametrize("problem", ["op", "pctsp"])
@pytest.mark.parametrize("n", [12, 150])
def test_paths_of_a_subset_keep_to_the_limit_together(problem: str, n: int) -> None:
    options = {"max_length": 10.0} if problem == "op" else {}
    made = [nco.generate(problem, n, seed=seed, **options) for seed in range(3)]
    policy = load_policy(problem).POLICY()
    fields = stack_fields(policy.fields, made)
    rows = [policy.actions(fields, insertion(instance)) for instance in made]
    actions = torch.nn.utils.rnn.pad_sequence(rows, True, -1)
    generator = torch.Generator().manual_seed(0)
    parts, handed, turns = set(), set(), set()
    for turn in range(24):
        cut = policy.cut(fields, actions, 15, generator)
        new = drawn(policy, cut.state, generator, 0.05 if turn % 2 else 1.0)
        change = policy.part_cost(fields, cut, new) - cut.cost
        better = torch.rand(len(change), generator=generator) < 0.5
        after = policy.paste(fields, actions, cut, new, better)
        for instance, row in zip(made, after.tolist(), strict=True):
            assert instance.violations(policy.solution(row)) == []
        total = torch.zeros(3, dtype=torch.float64).index_add_(0, cut.owner, change * better)
        before = policy.cost(fields, actions)
        assert torch.allclose(policy.cost(fields, after), before + total, atol=1e-4)
        # All but one path of a tour may use what they use now.
        first, last, back = cut.place.unbind(1)
        tours = turned(actions, torch.tensor([bool(back[cut.owner == i][0]) for i in range(3)]))
        path = torch.nn.functional.pad(tours.clamp_min(0), (1, 1))
        assert torch.equal(cut.state.index[:, 0], path[cut.owner, first])
        turns |= set(back.tolist())
        own = policy.used(fields, path, cut.owner, first, last)
        more = (cut.state.scalar[:, 0] - own).abs() > 1e-12
        assert (torch.bincount(cut.owner[more], minlength=3) <= 1).all()
        handed |= {int(cut.owner[i]) for i in more.nonzero()[:, 0]}
        parts.add(len(cut.owner))
        actions = after if turn % 4 == 0 else actions
    assert handed == {0, 1, 2}
    assert turns == {0, 1}
    assert (max(parts) > 3) is (n == 150)


@pytest.mark.parametrize("problem", ["tsp", "atsp"])
@pytest.mark.parametrize("reach", [3.0, 200.0])
def test_regions_are_free_nodes_between_fixed_ways(problem: str, reach: float) -> None:
    policy, fields, actions = starts(problem, 120, 3)
    policy = RegionPolicy(policy, share=1.0, reach=reach)
    generator = torch.Generator().manual_seed(0)
    together = apart = 0
    for turn in range(12):
        cut = policy.cut(fields, actions, 20, generator)
        free = (cut.state.index[:, 2:] >= 0) & (cut.state.nodes[:, 2:, -1] == 0)
        assert (free.sum(1) <= 20).all()  # at most 10, and lone nodes between them
        assert ((cut.state.nodes[..., -1] != 0).sum(1) % 2 == 0).all()
        before = policy.cost(fields, actions)
        everything = torch.ones(len(cut.owner), dtype=torch.bool)
        assert torch.equal(policy.paste(fields, actions, cut, cut.old, everything), actions)
        new = drawn(policy, cut.state, generator)
        change = policy.part_cost(fields, cut, new) - cut.cost
        # Alone, a region leaves one tour, and changes its length by what its own legs say.
        alone = turn % len(change)
        after = policy.paste(fields, actions, cut, new, torch.arange(len(change)) == alone)
        assert torch.equal(after.sort(1).values, torch.arange(1, 120).expand(3, -1))
        gain = torch.zeros(3, dtype=torch.float64)
        gain[cut.owner[alone]] = change[alone]
        assert torch.allclose(policy.cost(fields, after), before + gain)
        # Together, those that leave one tour.
        after = policy.paste(fields, actions, cut, new, everything)
        assert torch.equal(after.sort(1).values, torch.arange(1, 120).expand(3, -1))
        total = torch.zeros(3, dtype=torch.float64).index_add_(0, cut.owner, change)
        same = torch.isclose(policy.cost(fields, after), before + total)
        together, apart = together + int(same.sum()), apart + int((~same).sum())
        actions = after if turn % 4 == 0 else actions
    assert apart > 0
    assert together + apart == 36


@pytest.mark.parametrize("problem", ["tsp", "atsp"])
def test_prices_of_regions_differ_as_their_costs_do(problem: str) -> None:
    policy, fields, actions = starts(problem, 120, 2)
    policy = RegionPolicy(policy, share=1.0, reach=3.0)
    generator = torch.Generator().manual_seed(1)
    cut = policy.cut(fields, actions, 16, generator)
    assert bool((cut.state.nodes[..., -1] != 0).any())
    prices, costs = [], []
    for _ in range(3):
        state, steps = cut.state, []
        price = torch.zeros(state.batch, dtype=torch.float64)
        while not finished(policy, state):
            noise = torch.rand(policy.mask(state).shape, generator=generator)
            noise = noise.masked_fill(~policy.mask(state), -1.0)
            state, record, cost = apply(policy, state, None, noise.argmax(1))
            price += cost
            steps.append(record)
        prices.append(price)
        costs.append(policy.part_cost(fields, cut, torch.stack(steps, 1)))
    assert not torch.allclose(costs[0], costs[1])
    scale = float(torch.stack(costs).max())
    for i in (1, 2):
        change = (prices[i] - prices[0]) - (costs[i] - costs[0])
        assert float(change.abs().max()) < 1e-5 * scale


def test_pieces_are_joined_to_one_path_or_not_at_all() -> None:
    # 0 1 (2) 3 4 5 (6) 7: node 2 moves between 6 and 7, which leaves one path.
    free, begin, end = np.array([2, 6]), np.array([1, 5, 6, 2]), np.array([3, 6, 2, 7])
    assert rejoined(8, free, begin, end).tolist() == [0, 1, 3, 4, 5, 6, 2, 7]  # type: ignore[union-attr]
    # The piece between is turned round.
    begin, end = np.array([1, 2, 3, 6]), np.array([2, 5, 6, 7])
    assert rejoined(8, free, begin, end).tolist() == [0, 1, 2, 5, 4, 3, 6, 7]  # type: ignore[union-attr]
    # The piece between is a cycle of its own.
    assert rejoined(8, free, np.array([1, 2, 6, 5]), np.array([2, 6, 7, 3])) is None
    assert rejoined(8, free, np.array([1, 2]), np.array([2, 7])) is None


@pytest.mark.parametrize("reach", [10.0, 200.0])
def test_a_region_is_what_is_near_a_place(reach: float) -> None:
    policy, fields, _ = starts("tsp", 2000, 1)
    actions = fields["coords"][:, 1:, 0].argsort(1) + 1
    policy = RegionPolicy(policy, share=1.0, reach=reach)
    cut = policy.cut(fields, actions, 40, torch.Generator().manual_seed(2))
    points = fields["coords"][0].double()

    def spread(nodes: torch.Tensor) -> float:
        return float((points[nodes] - points[nodes].mean(0)).norm(dim=1).mean())

    inside, along = [], []
    tour = policy.tour(actions)[0]
    for part in range(len(cut.owner)):
        place = cut.place[part, 2:]
        place = place[place >= 0]
        inside.append(spread(tour[place]))
        along.append(spread(tour[(place[0] + torch.arange(len(place))) % 2000]))
    assert np.mean(inside) < 0.4 * np.mean(along)


def beside(fields: Any, row: int, nodes: Any) -> set[int]:
    """Neighbours of some nodes."""
    edges = fields["edges"][row].tolist()
    own = set(nodes)
    pairs = [(u, v) for u, v in edges if u >= 0] + [(v, u) for u, v in edges if u >= 0]
    return {v for u, v in pairs if u in own}


@pytest.mark.parametrize(("n", "p", "size"), [(60, 0.3, 20), (300, 0.004, 12), (300, 0.02, 25)])
def test_parts_of_sets_are_what_may_be_chosen_anew(n: int, p: float, size: int) -> None:
    policy, fields, _ = starts("mis", n, p=p)
    generator = torch.Generator().manual_seed(0)
    if p == 0.02:
        fields["weights"] = torch.randint(1, 9, (2, n), generator=generator)
    actions = drawn(policy, policy.start(fields), generator)
    before, most, seen = policy.cost(fields, actions), 0, []
    for _ in range(6):
        cut = policy.cut(fields, actions, size, generator)
        index, everything = cut.state.index, torch.ones(len(cut.owner), dtype=torch.bool)
        for part, owner in enumerate(cut.owner.tolist()):
            free, leave = (set(x[part].tolist()) - {-1} for x in (index, cut.old))
            chosen = set(actions[owner].tolist()) - {-1}
            assert leave <= free & chosen
            assert len(free) <= size
            assert not beside(fields, owner, chosen - leave) & free
            seen.append((owner, *sorted(leave)))
        # Degrees within parts are those that the whole graph shows.
        same = policy.substate(fields, index, cut.owner)
        filled = (index >= 0)[..., None]
        assert torch.allclose(*(x.nodes[..., :5] * filled for x in (cut.state, same)))
        assert torch.equal(policy.edges(cut.state), policy.edges(same))
        assert torch.equal(policy.part_cost(fields, cut, cut.old), cut.cost)
        pasted = policy.paste(fields, actions, cut, cut.old, everything)
        assert torch.equal(policy.cost(fields, pasted), before)

        new = drawn(policy, cut.state, generator)
        change = policy.part_cost(fields, cut, new) - cut.cost
        after = policy.paste(fields, actions, cut, new, everything)
        for row in range(2):
            chosen = set(after[row].tolist()) - {-1}
            assert not beside(fields, row, chosen) & chosen
        # Alone, a part changes the set by what it says.
        alone = torch.arange(len(change)) == change.argmin()
        gain = torch.zeros(2, dtype=torch.float64)
        gain[cut.owner[alone]] = change[alone]
        one = policy.cost(fields, policy.paste(fields, actions, cut, new, alone))
        assert torch.allclose(one, before + gain)
        # Together, the best part of every set is among those that stay.
        least = torch.full((2,), torch.inf, dtype=torch.float64)
        least = least.scatter_reduce(0, cut.owner, change, "amin").clamp_max(0.0)
        whole = policy.cost(fields, policy.paste(fields, actions, cut, new, change <= 0.0))
        assert bool((whole <= before + least).all())
        most = max(most, len(set(cut.owner.tolist())))
    # Parts are others in every stage.
    assert most == 2
    assert len(set(seen)) > 0.7 * len(seen) or p == 0.004


def test_sparse_graphs_have_many_parts_in_little_memory() -> None:
    policy, fields, _ = starts("mis", 4000, 1, p=0.0008)
    actions = drawn(policy, policy.start(fields), torch.Generator().manual_seed(0))
    with Largest() as largest:
        cut = policy.cut(fields, actions, 40, torch.Generator().manual_seed(0))
    assert len(cut.owner) > 40
    leave = cut.old[cut.old >= 0]
    assert len(leave.unique()) == len(leave) > 0.5 * int((actions >= 0).sum())
    assert largest.entries < 10 * 4000


def test_a_set_of_nothing_has_parts() -> None:
    policy, fields, actions = starts("mis", 100, p=0.1)
    assert bool((actions < 0).all())
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        cut = policy.cut(fields, actions, 30, generator)
        new = drawn(policy, cut.state, generator)
        actions = policy.paste(fields, actions, cut, new, torch.ones(len(new), dtype=torch.bool))
        for row in range(2):
            chosen = set(actions[row].tolist()) - {-1}
            assert not beside(fields, row, chosen) & chosen
    assert bool((policy.cost(fields, actions) < -5).all())


@pytest.mark.parametrize("scale", [1, 1_000_000, 1.0 / 7.0])
def test_parts_of_packings_fit_as_exactly_as_the_packing(scale: float) -> None:
    made = [nco.generate("knapsack", 3000, seed=seed) for seed in range(2)]
    made = [m.replace(weights=(m.weights * scale)) for m in made]
    # Those that were packed fill the capacity to the last bit; one of little value is among them.
    packed = [np.argsort(-m.values / m.weights)[:900].tolist() for m in made]
    packed = [[*p, int(np.argmin(m.values / m.weights))] for p, m in zip(packed, made, strict=True)]
    made = [m.replace(capacity=m.weight(p)) for p, m in zip(packed, made, strict=True)]
    policy = load_policy("knapsack").POLICY()
    fields = stack_fields(policy.fields, made)
    actions = torch.stack([policy.actions(fields, p) for p in packed])
    generator = torch.Generator().manual_seed(0)
    cut = policy.cut(fields, actions, 30, generator)
    assert cut.owner.bincount().tolist() == [8, 8]
    assert all((cut.place[cut.owner == i] == packed[i][-1]).any(1).all() for i in range(2))
    assert len({tuple(row) for row in cut.place.sort(1).values.tolist()}) == 16
    # What is packed now still fits, but for the rounding of an item, and is worth as much.
    weight = cut.state.nodes[..., 1] * (cut.state.index[..., None] == cut.old[:, None]).any(2)
    left = cut.state.scalar[:, 0]
    assert ((weight.sum(1) - left).abs() < (31.0 if scale != 1 else 0.5)).all()
    assert scale == 1 or left.min() == 2**23
    assert torch.equal(policy.part_cost(fields, cut, cut.old), cut.cost)
    everything = torch.ones(16, dtype=torch.bool)
    again = policy.paste(fields, actions, cut, cut.old, everything)
    assert torch.equal(policy.cost(fields, again), policy.cost(fields, actions))

    # Of the alternatives, the best is taken, and none where none is better.
    new = drawn(policy, cut.state, generator)
    change = policy.part_cost(fields, cut, new) - cut.cost
    least = change.new_full((2,), torch.inf).scatter_reduce(0, cut.owner, change, "amin")
    after = policy.paste(fields, actions, cut, new, everything)
    assert torch.allclose(policy.cost(fields, after), policy.cost(fields, actions) + least)
    for row, instance in enumerate(made):
        assert not instance.violations(policy.solution(after[row].tolist()))
    assert torch.equal(
        policy.paste(fields, actions, cut, new, ~everything).sort(1).values,
        actions.sort(1).values,
    )
    # A piece has what the others leave.
    index, scalar = cut.state.index[0].numpy(), cut.state.scalar[0].double().numpy()
    piece = load_divider("knapsack").piece(made[0], index[index >= 0], scalar)  # type: ignore[union-attr,misc]
    outside = set(packed[0]) - set(cut.old[0].tolist())
    room = made[0].capacity - made[0].weight(sorted(outside))
    assert room * (1 - 2e-7) <= piece.instance.capacity <= room


def test_stages_fill_what_greedy_leaves_of_a_large_packing() -> None:
    made = nco.generate("knapsack", 5000, seed=0)
    exact, greedy = (nco.solve(made, name, None).objective for name in ("knapsack", "greedy"))
    got = nco.solve(made, "udc", None, stages=10).objective
    assert exact - got < 0.5 * (exact - greedy)


@pytest.mark.parametrize("columns", [1, 60])
def test_sets_grow_their_parts_no_further_than_they_need(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hop looks at all edges: on a path there were as many as a part has nodes."""
    at = np.arange(3600).reshape(-1, columns)
    edges = np.r_[np.c_[at[:-1].flat, at[1:].flat], np.c_[at[:, :-1].flat, at[:, 1:].flat]]
    fields = {"edges": torch.as_tensor(edges)[None], "weights": torch.ones(1, at.size)}
    hops, extreme = [], mis.extreme
    monkeypatch.setattr(mis, "extreme", lambda *a: hops.append(1) or extreme(*a))
    chosen = (torch.arange(at.size) // columns + torch.arange(at.size) % columns) % 2 == 0
    size = 300 if columns == 1 else 100
    part = mis.MISPolicy()._parts(
        chosen[None], *torch.as_tensor(edges.T)[:, None], torch.ones(1, dtype=torch.int64),
        size, torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert len(hops) - 3 <= (mis.HOPS if columns == 1 else 30)
    assert int((part == 0).sum()) == size
    assert mis.MISPolicy().cut(fields, chosen.nonzero().T, size, torch.Generator()) is not None
