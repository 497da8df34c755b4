from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nco.bq.imitation import CVRPTeacher, Examples, KnapsackTeacher, TSPTeacher, beside_part
from nco.bq.policies import load_policy
from nco.bq.policies.acvrp import ACVRPPolicy, ACVRPTeacher
from nco.bq.policies.cvrp import CVRPPolicy
from nco.bq.policies.knapsack import KnapsackPolicy
from nco.bq.policies.tsp import TSPPolicy


def draws(teacher: Any, fields: dict, k: int, times: int, augment: bool = False):  # type: ignore[no-untyped-def, type-arg]
    prepared = teacher.prepare(fields)
    for seed in range(times):
        generator, host = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
        yield teacher.examples(prepared, 16, k, augment, generator, host)


def tsp_fields(n: int = 11) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    tours = rng.permuted(np.tile(np.arange(n), (6, 1)), axis=1)
    return {"coords": torch.as_tensor(rng.random((6, n, 2)).astype(np.float32)),
            "tour": torch.as_tensor(tours.astype(np.uint8))}  # fmt: skip


def on_label(examples: Examples, fields: dict[str, torch.Tensor], row: int) -> int:
    """Which instance an example comes from, by its points."""
    index = examples.state.index[row]
    nodes, index = examples.state.nodes[row, index >= 0, :2], index[index >= 0]
    # States of regions begin at a corner of their own.
    shift = fields["coords"][:, index[0]] - nodes[0]
    same = [
        torch.allclose(fields["coords"][i][index] - shift[i], nodes, atol=1e-6)
        for i in range(len(fields["coords"]))
    ]
    return int(np.argmax(same)) if any(same) else -1


@pytest.mark.parametrize("k", [6, 99])
def test_region_examples_say_how_a_tour_goes_through_a_region(k: int) -> None:
    n = 60
    fields = tsp_fields(n)
    teacher = TSPTeacher(regions=1.0, least=12, most=24)
    ways = 0
    for examples in draws(teacher, fields, k, 30):
        state, place = examples.state, examples.position
        assert place is not None
        assert state.width <= k + 2
        for row in range(16):
            which = on_label(examples, fields, row)
            assert which >= 0
            tour = fields["tour"][which].long()
            at = torch.empty(n, dtype=torch.int64)
            at[tour] = torch.arange(n)
            number = state.index[row]
            some = (number >= 0).nonzero()[:, 0].tolist()
            assert bool((place[row][number < 0] == -9).all())
            spot = {int(place[row, i]): i for i in some}
            assert len(spot) == len(some)
            for where, i in spot.items():
                if where + 1 in spot:  # neighbours on the tour
                    gap = int(at[number[i]] - at[number[spot[where + 1]]])
                    assert abs(gap) in (1, n - 1)
                link = int(state.nodes[row, i, 4]) if i > 1 else 0
                if link:
                    ways += 1
                    other = fields["coords"][which, link - 1]
                    own = fields["coords"][which, number[i]]
                    shift = state.nodes[row, i, 2:4] - state.nodes[row, i, :2]
                    assert torch.allclose(shift, other - own, atol=1e-6)
                    ends = [j for j in (where - 2, where + 2) if j in spot]
                    partner = [j for j in ends if int(number[spot[j]]) == link - 1]
                    assert bool(partner) == (link - 1 in number[2:].tolist())
            chosen = examples.target[row].nonzero()[:, 0].tolist()
            assert len(chosen) <= 1
            if k == 99:
                assert len(chosen) == 1
            for i in chosen:
                assert int(place[row, i]) == int(place[row, 0]) + 1
    assert ways > 100


def test_options_of_regions_are_checked() -> None:
    with pytest.raises(ValueError, match=r"regions = -1.0 not understood"):
        TSPTeacher(regions=-1.0)
    with pytest.raises(ValueError, match=r"least = 30 not understood"):
        TSPTeacher(least=30, most=20)
    # Parts are smaller where tours are short.
    short = next(draws(TSPTeacher(regions=1.0, least=40, most=40), tsp_fields(), 99, 1))
    assert short.state.width <= 11
    with pytest.raises(ValueError, match="tours of 4 nodes have no regions of parts of 1"):
        next(draws(TSPTeacher(regions=1.0), tsp_fields(4), 5, 1))


@pytest.mark.parametrize("k", [4, 99])
def test_tsp_examples_are_parts_of_tours(k: int) -> None:
    fields = tsp_fields()
    policy, widths, first = TSPPolicy(), set(), 0
    for examples in draws(TSPTeacher(), fields, k, 60):
        state = examples.state
        widths.add(state.width)
        assert state.width <= min(k, 10) + 2
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        for row in range(16):
            which = on_label(examples, fields, row)
            assert which >= 0
            tour = fields["tour"][which].long().tolist()
            place = [tour.index(int(node)) for node in state.index[row]]
            first += place[0] == place[1]
            chosen = examples.target[row].nonzero()[:, 0].tolist()
            if k > 11:  # nothing is left out: a contiguous path, and its second node next
                assert len(chosen) == 1
                way = (place[chosen[0]] - place[0]) % 11
                assert way in (1, 10)
                inner = sorted((way * (p - place[0])) % 11 for p in place[2:])
                assert inner == list(range(1, len(inner) + 1))
                assert (way * (place[1] - place[0])) % 11 == (len(inner) + 1) % 11
            links = (examples.position[row, :, None] - examples.position[row, None]).abs() == 1
            for i, j in links.nonzero().tolist():
                assert (place[i] - place[j]) % 11 in (1, 10)
    assert widths == ({4, 5, 6} if k == 4 else set(range(4, 13)))
    assert first > 0  # the first decision, of which the reference code trains none


def test_the_nearest_candidates_are_kept() -> None:
    fields = tsp_fields()
    seen = 0
    for examples in draws(TSPTeacher(), fields, 4, 20):
        if examples.state.width < 6:
            continue
        for row in range(16):
            which = on_label(examples, fields, row)
            tour, index = fields["tour"][which].long().tolist(), examples.state.index[row].tolist()
            place, coords = examples.position[row].tolist(), fields["coords"][which]
            here = tour.index(index[0])
            (way,) = [
                w
                for w in (1, -1)
                if all(
                    tour[(here + w * p) % 11] == node for p, node in zip(place, index, strict=True)
                )
            ]
            inner = [tour[(here + way * p) % 11] for p in range(1, place[1])]
            near = sorted(inner, key=lambda i: float((coords[i] - coords[index[0]]).norm()))
            assert sorted(index[2:]) == sorted(near[:4])
            seen += 1
    assert seen > 50


def test_augmentation_keeps_distances() -> None:
    fields = tsp_fields()
    a = TSPTeacher().examples(
        fields, 8, 99, False, torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    )
    b = TSPTeacher().examples(
        fields, 8, 99, True, torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    )
    assert torch.equal(a.state.index, b.state.index)
    assert not torch.allclose(a.state.nodes, b.state.nodes)
    assert torch.allclose(
        torch.cdist(a.state.nodes, a.state.nodes),
        torch.cdist(b.state.nodes, b.state.nodes),
        atol=1e-5,
    )


def cvrp_fields(n: int = 9) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    count = 6
    tour = rng.permuted(np.tile(np.arange(1, n + 1), (count, 1)), axis=1)
    start = rng.random((count, n)) < 0.35
    start[:, 0] = True
    demands = rng.integers(1, 10, (count, n + 1))
    demands[:, 0] = 0
    return {
        "coords": torch.as_tensor(rng.random((count, n + 1, 2)).astype(np.float32)),
        "demands": torch.as_tensor(demands), "capacity": torch.full((count,), 90),
        "tour": torch.as_tensor(tour.astype(np.uint8)), "start": torch.as_tensor(start),
    }  # fmt: skip


def routes_of(tour: torch.Tensor, start: torch.Tensor) -> list[list[int]]:
    out: list[list[int]] = []
    for node, begins in zip(tour.tolist(), start.tolist(), strict=True):
        if begins:
            out.append([])
        out[-1].append(node)
    return out


@pytest.mark.parametrize("order", ["fullest", "sweep"])
def test_routes_are_put_in_order_whole(order: str) -> None:
    fields = cvrp_fields()
    prepared = CVRPTeacher(order).prepare(fields)
    for i in range(6):
        before = routes_of(fields["tour"][i], fields["start"][i])
        after = routes_of(prepared["tour"][i], prepared["start"][i])
        assert sorted(before) == sorted(after)
        loads = [int(fields["demands"][i][route].sum()) for route in after]
        assert loads[0] == max(loads)
        if order == "fullest":
            assert loads == sorted(loads, reverse=True)
    assert torch.allclose(CVRPTeacher(order).cost(prepared), CVRPTeacher().cost(fields))


@pytest.mark.parametrize("k", [4, 99])
def test_cvrp_examples_are_what_remains_of_a_label(k: int) -> None:
    fields = cvrp_fields()
    prepared = CVRPTeacher().prepare(fields)
    policy, starts, kinds = CVRPPolicy(), 0, set()
    for examples in draws(CVRPTeacher(), fields, k, 60):
        state = examples.state
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        for row in range(16):
            which = on_label(examples, fields, row)
            routes = routes_of(prepared["tour"][which], prepared["start"][which])
            current, left = int(state.index[row, 0]), float(state.scalar[row, 0])
            chosen = examples.target[row].nonzero()[:, 0].tolist()
            starts += current == 0
            if not chosen:
                assert k == 4
                continue
            node, via = int(state.index[row, chosen[0] // 2]), chosen[0] % 2
            kinds.add(via)
            (at,) = [r for r in routes if node in r]
            if via:
                assert node in (at[0], at[-1])
            else:  # in a route of its own direction, with what it has loaded so far
                way = at if at.index(current) < at.index(node) else at[::-1]
                assert way.index(node) == way.index(current) + 1
                load = int(fields["demands"][which][way[: way.index(node)]].sum())
                assert left == 90 - load
            if current == 0:
                assert left == 90
                assert node in (routes[0][0], routes[0][-1])
    assert starts > 0
    assert kinds == {0, 1}


@pytest.mark.parametrize("k", [4, 99])
def test_examples_with_a_matrix_are_what_remains_of_a_label(k: int) -> None:
    fields = cvrp_fields()
    del fields["coords"]
    costs = np.random.default_rng(1).permuted(np.arange(600).reshape(6, 100), axis=1) + 1
    fields["matrix"] = matrix = torch.as_tensor(costs.reshape(6, 10, 10))
    teacher, policy, seen = ACVRPTeacher(), ACVRPPolicy(), set()
    prepared = teacher.prepare(fields)
    for examples in draws(teacher, fields, k, 60, augment=True):
        state = examples.state
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        for row in range(16):
            dist, number = state.dist[row].long(), state.index[row]
            which = int((dist[0, 2] - 1) // 100)
            flip = bool((matrix[which, 0] != dist[0, 2]).all())
            own = matrix[which].T if flip else matrix[which]
            # Nodes are known by the ways to them from the depot.
            node = (dist[0][:, None] == own[0]).int().argmax(1)
            assert torch.equal(dist, own[node[:, None], node])
            routes = routes_of(prepared["tour"][which], prepared["start"][which])
            routes = [route[::-1] for route in routes] if flip else routes
            chosen = examples.target[row].nonzero()[:, 0].tolist()
            if not chosen:
                assert k == 4
                continue
            current, after = (int(node[number[i]]) for i in (0, chosen[0] // 2))
            (at,) = [r for r in range(len(routes)) if after in routes[r]]
            place = routes[at].index(after)
            assert (place == 0) == chosen[0] % 2
            before = routes[at][place - 1] if place else routes[at - 1][-1] if at else 0
            assert current == before
            served = routes[at][:place] if place else routes[at - 1] if at else []
            load = int(fields["demands"][which][served].sum())
            assert float(state.scalar[row, 0]) == 90 - load
            seen.add((flip, chosen[0] % 2, current == 0))
    assert len(seen) == 6


def test_knapsack_targets_are_optimal_for_what_remains() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.integers(1, 50, (2, 5, 8))
    capacity = weights.sum(1) // 2
    every = (np.arange(256)[:, None] >> np.arange(8)) & 1
    chosen = []
    for v, w, c in zip(values, weights, capacity, strict=True):
        worth = np.where(every @ w <= c, every @ v, -1)
        chosen.append(every[worth.argmax()].astype(bool))
    fields = {
        "values": torch.as_tensor(values), "weights": torch.as_tensor(weights),
        "capacity": torch.as_tensor(capacity), "chosen": torch.as_tensor(np.stack(chosen)),
    }  # fmt: skip
    policy = KnapsackPolicy()
    for examples in draws(KnapsackTeacher(), fields, 99, 20):
        state = examples.state
        assert bool((state.nodes[..., 1] <= state.scalar)[state.index >= 0].all())
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        for row in range(16):
            known = state.index[row] >= 0
            v, w = state.nodes[row, known, 0].double(), state.nodes[row, known, 1].double()
            subsets = torch.as_tensor((np.arange(2 ** len(v))[:, None] >> np.arange(len(v))) & 1)
            fits = subsets.double() @ w <= float(state.scalar[row, 0])
            best = (subsets.double() @ v)[fits].max()
            target = examples.target[row, known]
            assert float(v[target > 0].sum()) == pytest.approx(float(best), rel=1e-5)
            assert float(target.sum()) == pytest.approx(1.0)
            assert target[target > 0].unique().numel() == 1


def prize_fields(n: int = 9) -> dict[str, torch.Tensor]:
    """Random tours that collect just what is due."""
    rng = np.random.default_rng(0)
    tour = rng.permuted(np.tile(np.arange(1, n + 1), (6, 1)), axis=1)
    tour[:, 6:] = 0
    prizes, real, penalties = rng.random((3, 6, n + 1))
    for values in (prizes, real, penalties):
        values[:, 0] = 0
    found = np.take_along_axis(prizes, tour, 1).sum(1)
    return {
        "coords": torch.as_tensor(rng.random((6, n + 1, 2))), "tour": torch.as_tensor(tour),
        "prizes": torch.as_tensor(prizes), "real_prizes": torch.as_tensor(real),
        "penalties": torch.as_tensor(penalties), "min_prize": torch.as_tensor(found),
    }  # fmt: skip


@pytest.mark.parametrize("problem", ["pctsp", "spctsp"])
def test_prize_examples_know_what_is_due(problem: str) -> None:
    module = load_policy(problem)
    policy, teacher, fields = module.POLICY(), module.TEACHER(), prize_fields()
    real = fields[policy.collected]
    if problem == "spctsp":
        fields["min_prize"] = (real.gather(1, fields["tour"])).sum(1)
    stops = 0
    for examples in draws(teacher, fields, 99, 40):
        state = examples.state
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        assert bool((examples.target.sum(1) == 1).all())
        stops += int(examples.target[:, 1].sum())
        for row in range(16):
            prizes = state.nodes[row, :, 2]
            which = int((fields["prizes"][:, None] == prizes[None, :, None]).any(2).sum(1).argmax())
            ahead = {int(i) for i in state.index[row, 2:] if i >= 0}
            behind = [k for k in fields["tour"][which].tolist() if k and k not in ahead]
            due = float(fields["min_prize"][which] - real[which, behind].sum())
            assert float(state.scalar[row, 0]) == pytest.approx(due, abs=1e-8)
            if problem == "spctsp":
                assert int(state.index[row, 1]) == 0
    assert stops > 0


def test_customers_beside_a_part_are_nearest_to_its_own() -> None:
    rng = np.random.default_rng(3)
    points = torch.as_tensor(rng.random((20, 12, 2)))
    count = rng.integers(0, 8, 20)
    path = torch.as_tensor(
        np.stack([np.r_[0, 1 + rng.permutation(11)[:c], np.zeros(9 - c, int)] for c in count])
    )
    t = torch.as_tensor(rng.integers(0, count + 1))[:, None]
    e = torch.as_tensor(rng.integers(t[:, 0].numpy() + 1, count + 2))[:, None]
    beside = beside_part(points, path, t, e)
    for row in range(20):
        tour, a, b = path[row].tolist(), int(t[row]), int(e[row])
        inside = [v for i, v in enumerate(tour) if v > 0 and a < i < b]
        outside = [v for i, v in enumerate(tour) if v > 0 and not a <= i <= b]

        def near(node: int, others: list[int], row: int = row) -> float:
            gaps = [float((points[row, node] - points[row, v]).norm()) for v in others]
            return min(gaps, default=float("inf"))

        expected = [not inside or near(v, inside) <= near(v, outside) for v in range(12)]
        assert beside[row].tolist() == expected
    assert not beside.all()


def test_some_examples_of_tours_have_only_what_is_beside_the_part() -> None:
    module = load_policy("op")
    rng = np.random.default_rng(4)
    tour = np.stack([1 + rng.permutation(40)[:9] for _ in range(6)])
    fields = {
        "coords": torch.as_tensor(rng.random((6, 41, 2)).astype(np.float32)),
        "prizes": torch.ones(6, 41),
        "max_length": torch.full((6,), 40.0),
        "tour": torch.as_tensor(tour),
    }
    few = 0
    for examples in draws(module.TEACHER(), fields, 99, 20):
        assert examples.position is not None
        for row, index in enumerate(examples.state.index.tolist()):
            which, place = on_label(examples, fields, row), examples.position[row, 2:].tolist()
            own = [v for v, at in zip(index[2:], place, strict=True) if at >= 0]
            assert own
            others = set(fields["tour"][which].tolist()) - {*own, *index[:2]}
            points = fields["coords"][which].double()
            free = [v for v in index[2:] if v >= 0 and v not in own]
            if free and others:
                near, far = (
                    torch.cdist(points[free], points[list(some)]).amin(1) for some in (own, others)
                )
                few += bool((near <= far).all())
    assert 100 < few < 320


def test_mtsp_examples_know_the_routes_so_far() -> None:
    module = load_policy("mtsp")
    policy, fields = module.POLICY(), cvrp_fields()
    fields["salesmen"] = fields["start"].sum(1) + torch.arange(6) % 2
    prepared = module.TEACHER().prepare(fields)
    for examples in draws(module.TEACHER(), fields, 99, 40):
        state = examples.state
        assert not bool((examples.target.bool() & ~policy.mask(state)).any())
        for row in range(16):
            which = on_label(examples, fields, row)
            points = fields["coords"][which].double()

            def length(walk: list[int], points: torch.Tensor = points) -> float:
                return float(points[walk].diff(dim=0).norm(dim=1).sum())

            ahead = {int(i) for i in state.index[row, 2:]}
            routes = routes_of(prepared["tour"][which], prepared["start"][which])
            current = int(state.index[row, 0])
            begun = [r for r in routes if not ahead.issuperset(r)]
            (mine,) = [r for r in begun if current in r] or [[]]
            way = mine if not mine or mine[0] not in ahead or mine[-1] in ahead else mine[::-1]
            walk = [0, *(k for k in way if k not in ahead)]
            walk = walk if walk[-1] == current else [0, *walk[:0:-1]]
            done = [length([0, *r, 0]) for r in begun if r is not mine]
            left = int(fields["salesmen"][which]) - len(begun)
            away = points[sorted(ahead)] - points[0]
            far = away.norm(dim=1)
            spread = torch.linalg.det(torch.cov(away.T, correction=0)).clamp_min(0.0)
            expected = [length(walk), max(done, default=0.0), left, len(ahead)]
            expected += [float(far.max()), float(far.mean()), float(144 * spread) ** 0.25]
            assert state.scalar[row].tolist() == pytest.approx(expected, abs=1e-4)


def test_mis_examples_are_what_the_policy_comes_to() -> None:
    module = load_policy("mis")
    policy = module.POLICY()
    rng = np.random.default_rng(0)
    edges = torch.as_tensor(np.stack([rng.permutation(132)[:30] for _ in range(6)]))
    edges = torch.stack([edges // 11, (edges // 11 + 1 + edges % 11) % 12], 2)
    edges[:, 25:] = -1  # as where other graphs have more
    fields = {"edges": edges, "weights": torch.as_tensor(rng.random((6, 12)))}
    start = state = policy.start(fields)
    taken = torch.zeros(6, 12, dtype=torch.bool)
    while bool(policy.mask(state).any()):
        action = policy.mask(state).int().argmax(1)
        taken |= torch.nn.functional.one_hot(action, 12).bool() & policy.mask(state).any(1)[:, None]
        state = policy.step(state, action).where(policy.mask(state).any(1), state)
    fields["chosen"] = taken
    for examples in draws(module.TEACHER(), fields, 99, 40):
        got = examples.state
        assert bool((examples.target.sum(1) - 1).abs().max() < 1e-6)
        assert not bool((examples.target.bool() & ~policy.mask(got)).any())
        for row in range(16):
            which, kept = int(got.owner[row]), got.index[row][got.index[row] >= 0]
            # What is left of the label is what its missing nodes, chosen, would leave.
            state = start.take(torch.tensor([which]))
            for node in (taken[which].nonzero()[:, 0]).tolist():
                if node not in kept.tolist():
                    state = policy.step(state, torch.tensor([node]))
            left = state.index[0][state.index[0] >= 0].tolist()
            assert set(kept.tolist()) <= set(left)
            if len(kept) == len(left):  # nothing was left out at random
                own = state.nodes[0, kept]
                assert torch.allclose(own, got.nodes[row][: len(kept)], atol=1e-6)
