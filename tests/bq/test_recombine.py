from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nco.bq.imitation import tour_actions
from nco.bq.policies import load_policy
from nco.bq.policies.tsp import TSPPolicy
from nco.bq.recombine import recombined
from nco.bq.regions import FREE, SHOWN, RegionPolicy, with_regions


def path_legs(order: list[int]) -> set[tuple[int, int]]:
    return {(min(leg), max(leg)) for leg in itertools.pairwise(order)}


def best_mix(new: list[int], points: NDArray[np.float64]) -> float:
    """Length of the shortest path of legs of both, by trying every component of what differs."""
    m = len(new)

    def length(legs: set[tuple[int, int]]) -> float:
        return sum(float(np.linalg.norm(points[a] - points[b])) for a, b in legs)

    old_legs, new_legs = path_legs(list(range(m))), path_legs(new)
    label = list(range(m))
    for a, b in sorted(old_legs ^ new_legs) * m:
        label[a] = label[b] = min(label[a], label[b])
    parts = [
        {leg for leg in old_legs ^ new_legs if label[leg[0]] == root} for root in sorted(set(label))
    ]
    parts = [part for part in parts if part]
    best = np.inf
    for chosen in itertools.product([False, True], repeat=len(parts)):
        legs = set(old_legs)
        for part, taken in zip(parts, chosen, strict=True):
            legs = legs ^ part if taken else legs
        seen, now = [0], 0
        while True:
            follow = [b if a == now else a for a, b in legs if now in (a, b)]
            follow = [node for node in follow if node not in seen]
            if not follow:
                break
            now = follow[0]
            seen.append(now)
        if len(seen) == m and now == m - 1:
            best = min(best, length(legs))
    return best


def legs_of(points: NDArray[np.float64], order: torch.Tensor) -> torch.Tensor:
    path = torch.as_tensor(points)[order]
    return torch.linalg.vector_norm(path.diff(dim=1), dim=2)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 16), st.integers(0, 10_000), st.integers(0, 5))
def test_changes_that_pay_are_made(m: int, seed: int, swaps: int) -> None:
    rng = np.random.default_rng(seed)
    parts, width = 6, m + 2
    points = rng.random((width, 2))
    place = torch.arange(width).expand(parts, width)
    rows = []
    for _ in range(parts):
        inner = np.arange(1, m - 1)
        for _ in range(swaps if m > 3 else 0):  # reversals and swaps: local changes
            i, j = sorted(rng.integers(0, len(inner), 2))
            if rng.random() < 0.5:
                inner[i : j + 1] = inner[i : j + 1][::-1]
            else:
                inner[[i, j]] = inner[[j, i]]
        rows.append([0, *inner.tolist(), *([m - 1] if m > 1 else []), m, m + 1])
    order = torch.tensor(rows)
    size = torch.full((parts,), m)
    before, after = legs_of(points, place), legs_of(points, order)
    made = recombined(order, size, before, after)
    # Places beyond the last one stay, and ends do.
    assert torch.equal(made.sort(1).values, place)
    assert torch.equal(made[:, [0, m - 1, m, m + 1]], place[:, [0, m - 1, m, m + 1]])
    now = legs_of(points, made)[:, : m - 1].sum(1)
    assert bool((now <= before[:, : m - 1].sum(1) + 1e-9).all())
    assert bool((now <= after[:, : m - 1].sum(1) + 1e-9).all())
    for row in range(parts):
        least = best_mix(rows[row][:m], points)
        assert float(now[row]) >= least - 1e-9
        legs = path_legs(made[row, :m].tolist())
        assert legs <= path_legs(list(range(m))) | path_legs(rows[row][:m])


def test_a_change_is_made_though_another_does_not_pay() -> None:
    points = np.array([[i, 0.0] for i in range(12)])
    points[[3, 4]] = points[[4, 3]]  # the old path goes back and forth here
    place = torch.arange(12)[None]
    new = torch.tensor([[0, 1, 2, 4, 3, 5, 6, 8, 7, 9, 10, 11]])  # and the new one there
    size = torch.tensor([12])
    made = recombined(new, size, legs_of(points, place), legs_of(points, new))
    assert made[0].tolist() == [0, 1, 2, 4, 3, 5, 6, 7, 8, 9, 10, 11]
    assert float(legs_of(points, made).sum()) == 11.0


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("ways", [False, True])
def test_parts_of_tours_are_recombined(share: float, ways: bool) -> None:
    rng = np.random.default_rng(5)
    fields = {"coords": torch.as_tensor(rng.random((3, 80, 2)))}
    policy = RegionPolicy(TSPPolicy(ways=ways), share)
    generator = torch.Generator().manual_seed(1)
    actions = torch.stack([torch.as_tensor(rng.permutation(80)) for _ in range(3)])
    actions, better, regions = tour_actions(actions), 0, 0
    for _ in range(12):
        cut = policy.cut(fields, actions, 24, generator)
        assert cut is not None
        regions += not cut.state.dense
        old = cut.state.index[:, 2:] if cut.old is None else cut.old
        # Some of the old actions change their places.
        count, new = (old >= 0).sum(1, keepdim=True), old
        for _ in range(2):
            at = (torch.rand(len(old), 2, generator=generator) * count).long()
            new = new.scatter(1, at, new.gather(1, at.flip(1)))
        cost = policy.part_cost(fields, cut, new)
        made = policy.recombine(fields, cut, new)
        now = policy.part_cost(fields, cut, made)
        assert bool((now <= torch.minimum(cost, cut.cost) + 1e-9).all())
        better += int((now < torch.minimum(cost, cut.cost) - 1e-9).sum())
        length = policy.cost(fields, actions)
        actions = policy.paste(fields, actions, cut, made, now <= cut.cost)
        assert torch.equal(policy.tour(actions).sort(1).values, torch.arange(80).expand(3, 80))
        after = policy.cost(fields, actions)
        assert bool((after <= length + 1e-9).all())
    assert regions == (12 if share else 0)
    assert better > 0


def test_a_path_around_the_whole_tour_is_recombined() -> None:
    rng = np.random.default_rng(2)
    fields = {"coords": torch.as_tensor(rng.random((4, 12, 2)))}
    policy = TSPPolicy()
    actions = tour_actions(torch.as_tensor(rng.permuted(np.tile(np.arange(12), (4, 1)), axis=1)))
    cut = policy.cut(fields, actions, 50, torch.Generator().manual_seed(0))
    assert cut is not None
    assert torch.equal(cut.state.index[:, 0], cut.state.index[:, 1])
    new = cut.state.index[:, 2:].flip(1)[:, torch.tensor([1, 0, *range(2, 11)])]
    made = policy.recombine(fields, cut, new)
    assert torch.equal(made.sort(1).values, new.sort(1).values)
    now = policy.part_cost(fields, cut, made)
    assert bool((now <= torch.minimum(policy.part_cost(fields, cut, new), cut.cost) + 1e-9).all())


def test_policies_that_are_shown_ways_take_more_and_larger_regions() -> None:
    @dataclass(frozen=True)
    class Conqueror:
        policy: Any

    shown = with_regions(Conqueror(TSPPolicy(ways=True))).policy
    assert (shown.share, shown.free) == (SHOWN, FREE)
    plain = with_regions(Conqueror(TSPPolicy())).policy
    assert (plain.share, plain.free) == (0.5, 0.5)
    assert with_regions(Conqueror(TSPPolicy(ways=True)), 0.3).policy.share == 0.3
    assert isinstance(with_regions(Conqueror(TSPPolicy()), 0.0).policy, TSPPolicy)


def edges_of(routes: list[list[int]], problem: str) -> Counter[tuple[int, int]]:
    """Ways by their ends, the depot 0, or -1 behind where nothing leads back."""
    made: Counter[tuple[int, int]] = Counter()
    for route in routes:
        for leg in itertools.pairwise([0, *route, -1 if problem == "ovrp" else 0]):
            turned = (problem != "acvrp" and min(leg) > 0) or problem == "cvrp"
            made[(min(leg), max(leg)) if turned else leg] += 1
    return made


def random_routes(
    rng: np.random.Generator, demands: NDArray[Any], capacity: int
) -> list[list[int]]:
    routes: list[list[int]] = [[]]
    for node in (rng.permutation(len(demands) - 1) + 1).tolist():
        if sum(demands[routes[-1]]) + demands[node] > capacity + 1e-12 or rng.random() < 0.15:
            routes.append([])
        routes[-1].append(node)
    return [route for route in routes if route]


def moved(rng: np.random.Generator, routes: list[list[int]]) -> list[list[int]]:
    """Routes with some customers exchanged, some turned back and some cut in two."""
    new = [list(route) for route in routes]
    for _ in range(int(rng.integers(1, 5))):
        (a, i), (b, j) = (
            (r, int(rng.integers(len(new[r])))) for r in rng.integers(len(new), size=2)
        )
        kind = rng.random()
        if kind < 0.6:
            new[a][i], new[b][j] = new[b][j], new[a][i]
        elif kind < 0.8:
            new[a][i:] = new[a][i:][::-1]
        elif i:
            new += [new[a][i:]]
            del new[a][i:]
    return new


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["cvrp", "ovrp", "acvrp"]), st.integers(2, 24), st.integers(0, 10_000))
def test_routes_are_recombined(problem: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy: Any = load_policy(problem).POLICY()
    parts, capacity = 5, 12.0
    demands = np.r_[0, rng.integers(1, 6, n)].astype(float)
    if rng.random() < 0.5:  # sums of these round up and down
        demands, capacity = demands * 0.1, 1.2
    points = rng.random((n + 1, 2))
    costs = np.linalg.norm(points[:, None] - points[None], axis=2)
    if problem == "acvrp":
        costs *= rng.uniform(0.8, 1.2, costs.shape)
        np.fill_diagonal(costs, 0.0)
    fields = {
        "coords": torch.as_tensor(points).expand(parts, -1, -1),
        "matrix": torch.as_tensor(costs).expand(parts, -1, -1),
        "demands": torch.as_tensor(demands).double().expand(parts, -1),
        "capacity": torch.full((parts,), capacity, dtype=torch.float64),
    }
    olds = [random_routes(rng, demands, capacity) for _ in range(parts)]
    news = []
    for old in olds:
        new = moved(rng, old)
        fits = all(sum(demands[route]) <= capacity + 1e-12 for route in new)
        news.append(new if fits else random_routes(rng, demands, capacity))
    actions, new_actions = (
        torch.stack([policy.actions({k: v[:1] for k, v in fields.items()}, r) for r in rows])
        for rows in (olds, news)
    )
    cut = policy.cut(fields, actions, 2 * n, torch.Generator().manual_seed(seed))
    assert cut is not None
    # Groups have the customers in some order; each is a solution here.
    made = policy.recombine(fields, cut, new_actions)
    before, after = (policy.part_cost(fields, cut, x) for x in (cut.old, new_actions))
    now = policy.part_cost(fields, cut, made)
    assert bool((now <= before + 1e-9).all())
    heaviest = [max(demands[r].sum() for r in new) for new in news]
    fits = torch.tensor(heaviest) < capacity
    assert bool((now[fits] <= after[fits] + 1e-9).all())
    for row in range(parts):
        routes = policy.solution(made[row].tolist())
        assert sorted(itertools.chain(*routes)) == list(range(1, n + 1))
        assert all(sum(demands[route]) <= capacity + 1e-9 for route in routes)
        # All that is there was there in one or the other.
        known = edges_of(olds[row], problem) | edges_of(news[row], problem)
        assert not edges_of(routes, problem) - known
        assert float(now[row]) == pytest.approx(
            sum(
                costs[a, max(b, 0)] * k * (b >= 0)
                for (a, b), k in edges_of(routes, problem).items()
            )
        )


@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_changes_of_routes_are_made_one_by_one(problem: str) -> None:
    # Two routes to the east and west; the new ones mend the first and spoil the second.
    points = [[0, 0], [1, 0], [2, 0], [3, 0], [-1, 0], [-2, 0], [-3, 0]]
    policy: Any = load_policy(problem).POLICY()
    fields = {
        "coords": torch.tensor([points], dtype=torch.float64),
        "demands": torch.tensor([[0.0, 1, 1, 1, 1, 1, 1]]),
        "capacity": torch.tensor([3.0]),
    }
    old, new = [[2, 1, 3], [4, 5, 6]], [[1, 2, 3], [5, 4, 6]]
    cut = policy.cut(fields, policy.actions(fields, old)[None], 99, torch.Generator())
    made = policy.recombine(fields, cut, policy.actions(fields, new)[None])
    assert sorted(policy.solution(made[0].tolist())) == [[1, 2, 3], [4, 5, 6]]
    # What is shorter but too heavy is not made.
    points = [[0, 0], [1, 0], [2, 0], [2, 1], [1, 1]]
    fields["coords"] = torch.tensor([points], dtype=torch.float64)
    fields["demands"], fields["capacity"] = torch.tensor([[0.0, 1, 1, 2, 1]]), torch.tensor([3.0])
    old, new = [[1, 2], [4, 3]], [[1, 2, 3], [4]]
    cut = policy.cut(fields, policy.actions(fields, old)[None], 99, torch.Generator())
    made = policy.recombine(fields, cut, policy.actions(fields, new)[None])
    assert sorted(policy.solution(made[0].tolist())) == [[1, 2], [4, 3]]


def test_paths_in_another_order_need_no_room() -> None:
    rng = np.random.default_rng(0)
    policy: Any = load_policy("pctsp").POLICY()
    points, prizes = rng.random((41, 2)), rng.random(41)
    fields = {
        "coords": torch.as_tensor(points)[None],
        "prizes": torch.as_tensor(prizes)[None],
        "penalties": torch.zeros(1, 41, dtype=torch.float64),
        "min_prize": torch.as_tensor(prizes[1:31].sum())[None],
    }
    actions, generator, shorter = torch.arange(1, 31)[None], torch.Generator().manual_seed(1), 0
    for _ in range(20):
        cut = policy.cut(fields, actions, 8, generator)
        new = cut.old.clone()
        new[:, [0, 1]] = new[:, [1, 0]]
        after = policy.part_cost(fields, cut, new)
        now = policy.part_cost(fields, cut, policy.recombine(fields, cut, new))
        assert bool((now <= torch.minimum(after, cut.cost) + 1e-12).all())
        shorter += int((now < cut.cost).sum())
    assert shorter > 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["op", "pctsp"]), st.integers(5, 24), st.integers(0, 10_000))
def test_visits_are_recombined(problem: str, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    policy: Any = load_policy(problem).POLICY()
    points, prizes, penalties = rng.random((n + 1, 2)), rng.random(n + 1), rng.random(n + 1)
    tours = [rng.permutation(n)[: rng.integers(3, n)] + 1 for _ in range(4)]

    def length(tour: list[int]) -> float:
        path = points[[0, *tour, 0]]
        return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())

    limit = max(length(list(tour)) for tour in tours)
    due = min(float(prizes[tour].sum()) for tour in tours)
    fields = {
        "coords": torch.as_tensor(points).expand(4, -1, -1),
        "prizes": torch.as_tensor(prizes).expand(4, -1),
        "penalties": torch.as_tensor(penalties).expand(4, -1),
        "max_length": torch.full((4,), limit, dtype=torch.float64),
        "min_prize": torch.full((4,), due, dtype=torch.float64),
    }
    actions = torch.nn.utils.rnn.pad_sequence(
        [torch.as_tensor(tour) for tour in tours], batch_first=True, padding_value=-1
    )
    generator = torch.Generator().manual_seed(seed)
    for size in (n, 4):
        cut = policy.cut(fields, actions, size, generator)
        rows = []
        for part, old in enumerate(cut.old.tolist()):
            # Some of the old path leave, others come or change places.
            free = [x for x in cut.state.index[part, 2:].tolist() if x >= 0]
            new = [x for x in old if x >= 0 and rng.random() < 0.9]
            new += [x for x in free if x not in new and rng.random() < 0.3]
            for _ in range(2 * (len(new) > 1)):
                i, j = rng.integers(len(new), size=2)
                new[i], new[j] = new[j], new[i]
            rows.append(torch.tensor(new, dtype=torch.int64))
        new = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        made = policy.recombine(fields, cut, new)
        now, after = policy.part_cost(fields, cut, made), policy.part_cost(fields, cut, new)
        assert bool((now <= cut.cost + 1e-9).all())
        begin, end = cut.state.index[:, :1], cut.state.index[:, 1:2]
        if problem == "op":
            far = policy.length(fields, begin, made, end, cut.owner)
            fits = (
                policy.length(fields, begin, new, end, cut.owner) <= cut.state.scalar[:, 0] - 1e-9
            )
            assert bool((far <= cut.state.scalar[:, 0] + 1e-12).all())
        else:
            have = policy.total(fields, "prizes", made, cut.owner)
            fits = policy.total(fields, "prizes", new, cut.owner) >= cut.state.scalar[:, 0]
            assert bool((have >= cut.state.scalar[:, 0] * (1.0 - 1e-9)).all())
        # What may be taken as it is, is no better.
        assert bool((now[fits] <= after[fits] + 1e-9).all())
        for part, row in enumerate(made.tolist()):
            row = [x for x in row if x >= 0]
            assert len(set(row)) == len(row)
            paths = [
                path_legs([-1, *(x for x in other if x >= 0), -2])
                for other in (cut.old[part].tolist(), new[part].tolist())
            ]
            assert path_legs([-1, *row, -2]) <= paths[0] | paths[1]
        actions = policy.paste(fields, actions, cut, made, now <= cut.cost)
        for tour in actions.tolist():
            visited = policy.solution(tour)
            assert len(set(visited)) == len(visited)
            assert problem == "pctsp" or length(visited) <= limit + 1e-9
            assert problem == "op" or prizes[visited].sum() >= due - 1e-9


def test_room_is_made_for_what_is_worth_more() -> None:
    # Three customers beside the way: the first is given up for the second, not for the third.
    points = [[0, 0], [1, 1], [4, 1], [7, 1], [2, 0], [3, 0], [5, 0], [6, 0], [8, 0]]
    prizes = [0.0, 0.3, 9.0, 0.3, 1.0, 1.0, 1.0, 1.0, 1.0]
    policy: Any = load_policy("op").POLICY()
    fields = {
        "coords": torch.tensor([points], dtype=torch.float64),
        "prizes": torch.tensor([prizes], dtype=torch.float64),
    }
    old, new = [1, 4, 5, 6, 7, 8], [4, 5, 2, 6, 7, 3, 8]
    out = np.array(points)[[0, *old, 0]]
    length = np.linalg.norm(np.diff(out, axis=0), axis=1).sum()
    fields["max_length"] = torch.tensor([length + 1e-6])
    actions = torch.tensor([old])
    cut = next(
        cut
        for cut in (
            policy.cut(fields, actions, 9, torch.Generator().manual_seed(seed))
            for seed in range(200)
        )
        if int((cut.old >= 0).sum()) == 6 and not bool(cut.place[0, 2])
    )
    made = policy.recombine(fields, cut, torch.tensor([new]))
    assert made.tolist() == [[4, 5, 2, 6, 7, 8]]
