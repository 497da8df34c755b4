"""Parts of solutions: cut out, measured and put back, whatever the problem."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import nco
from nco.bq.policies import load_policy
from nco.bq.policies.mtsp import route_lengths
from nco.bq.solver import stack_fields
from nco.bq.state import gather_parts
from nco.udc.dividers import load_divider

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
    owner, place = gather_parts(part, 4)
    assert owner.tolist() == [0, 0, 1]
    assert place.tolist() == [[2, -1, -1], [0, 3, 4], [1, 3, -1]]


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


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "ovrp", "mtsp"])
def test_memory_grows_with_the_nodes(problem: str) -> None:
    n = 20_000
    policy, fields, actions = starts(problem, n, 1)
    for seed in range(4):
        with Largest() as largest:
            cut = policy.cut(fields, actions, 100, torch.Generator().manual_seed(seed))
            if problem == "tsp":
                new = cut.state.index[:, 2:]
            else:
                new = actions[cut.owner[:, None], cut.place.clamp_min(0)]
            better = policy.part_cost(fields, cut, new) <= cut.cost
            policy.paste(fields, actions, cut, new, better)
        assert largest.entries <= 50 * n
