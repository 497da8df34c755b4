from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nco.bq.imitation import tour_actions
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
