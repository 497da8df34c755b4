"""Several decisions of one look."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch

import nco
from nco.bq import decoding
from nco.bq.decoding import LEAP, Links, Model, decode, improve, leap
from nco.bq.policies import load_policy
from nco.bq.regions import with_regions
from nco.bq.solver import BQ, stack_fields
from nco.bq.state import Fields, packed
from nco.instances.core import InputError

LINKED = ["tsp", "atsp", "op", "pctsp"]


def model_of(problem: str, most: int = LEAP) -> Model:
    return BQ(device="cpu", precision="fp32", leap=most).model(problem)


def instances_of(problem: str, n: int = 50, count: int = 6) -> tuple[list[Any], Fields]:
    instances = [nco.generate(problem, n, seed=seed) for seed in range(count)]
    return instances, stack_fields(load_policy(problem).POLICY.fields, instances)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many states each look is at."""
    seen: list[int] = []
    look = Model.look

    def counted(self: Model, state: Any, links: bool = False) -> Any:
        seen.append(state.batch)
        return look(self, state, links)

    monkeypatch.setattr(Model, "look", counted)
    return seen


@pytest.mark.parametrize("problem", LINKED)
def test_fewer_looks_make_solutions_about_as_good(problem: str, looks: list[int]) -> None:
    instances, fields = instances_of(problem)
    costs, counts = [], []
    for most in (1, LEAP):
        model = model_of(problem, most)
        start = model.policy.start(fields)
        looks.clear()
        actions = model.policy.record(start, decode(model, start))
        counts.append(sum(looks))
        for instance, row in zip(instances, actions.tolist(), strict=True):
            solution = model.policy.solution([a for a in row if a >= 0])
            assert not instance.violations(solution)
        costs.append(float(model.policy.cost(fields, actions).sum()))
    assert counts[1] < 0.75 * counts[0]
    assert costs[1] < costs[0] + 0.05 * abs(costs[0])


@pytest.mark.parametrize("problem", LINKED)
def test_where_nothing_is_sure_every_decision_has_a_look(
    problem: str, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "SURE", 1.0)
    _, fields = instances_of(problem, 20, 3)
    made = []
    for most in (1, LEAP):
        model = model_of(problem, most)
        start = model.policy.start(fields)
        looks.clear()
        made.append(packed(decode(model, start)))
        made.append(torch.tensor(len(looks)))
    assert torch.equal(made[0], made[2])
    assert made[1] == made[3]


def test_a_leap_goes_where_links_are_sure_and_no_further() -> None:
    policy = load_policy("tsp").POLICY()
    coords = torch.rand(3, 6, 2, generator=torch.Generator().manual_seed(0))
    state = dataclasses.replace(policy.start({"coords": coords}), dense=False)
    # Rows are 0 (current), 1 (destination), 2.. (nodes 1..5).
    state = policy.step(state, torch.full((3,), 2))
    rows = torch.arange(7).expand(3, -1)
    index = torch.tensor([[0, 0, 1, 2, 3, 4, 5]]).expand(3, -1)
    score = torch.zeros(3, 7, 7)
    score[0, 2, 5] = score[0, 5, 3] = 9.0  # from node 1 to node 4, and on to node 2
    score[1, 2, 2] = 99.0  # to where it is already
    score[2, 2, 1] = score[2, 2, 4] = 9.0  # to node 3, or home
    after, records = leap(policy, state, Links(rows, index, score), 3)
    assert torch.stack(records, 1).tolist() == [[4, 2], [-1, -1], [-1, -1]]
    assert after.index[:, 0].tolist() == [2, 1, 1]
    assert sorted(after.index[0, 2:].tolist()) == [-1, -1, -1, 3, 5]
    assert torch.equal(after.index[1:], state.index[1:])
    _, records = leap(policy, state, Links(rows, index, score), 1)
    assert torch.stack(records, 1).tolist() == [[4], [-1], [-1]]
    # Node 1 was not looked at.
    unseen = Links(rows[:, [0, 1, 3, 4, 5, 6]], index[:, [0, 1, 3, 4, 5, 6]], score[:, 1:, 1:])
    assert leap(policy, state, unseen, 3)[1] == []


def test_packed() -> None:
    records = torch.tensor([[1, -1, 2, -1], [-1, 3, -1, -1]])
    assert packed(records).tolist() == [[1, 2], [3, -1]]


@pytest.mark.parametrize("problem", ["tsp", "atsp", "op", "pctsp"])
def test_parts_that_leap_stay_whole(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leapt: list[bool] = []

    def watched(policy: Any, state: Any, links: Links, most: int) -> Any:
        after, records = leap(policy, state, links, most)
        leapt.extend([True] * len(records))
        return after, records

    monkeypatch.setattr(decoding, "leap", watched)
    instances, fields = instances_of(problem, 40, 2)
    model = with_regions(model_of(problem))
    policy = model.policy
    starts = [nco.solve(i, solver="bq", iterations=0, time_limit=None).solution for i in instances]
    rows = [
        policy.actions({k: v[i : i + 1] for k, v in fields.items()}, start)
        for i, start in enumerate(starts)
    ]
    actions = torch.nn.utils.rnn.pad_sequence(rows, True, -1)
    costs = [policy.cost(fields, actions)]

    def on_round(number: int, now: torch.Tensor) -> None:
        costs.append(policy.cost(fields, now))
        for instance, row, cost in zip(instances, now.tolist(), costs[-1].tolist(), strict=True):
            solution = policy.solution([a for a in row if a >= 0])
            assert not instance.violations(solution)
            assert abs(instance.objective(solution)) == pytest.approx(abs(cost), abs=1e-3)

    improve(
        model, fields, actions, sizes=(8, 20), beams=(1, 4), rounds=12, seed=1, on_round=on_round
    )
    assert len(costs) == 13
    assert leapt
    for before, now in itertools.pairwise(costs):
        assert bool((now <= before + 1e-9).all())


def test_beams_and_samples_do_not_leap() -> None:
    _, fields = instances_of("tsp", 20, 2)
    made: list[list[torch.Tensor]] = []
    for most in (1, LEAP):
        model = model_of("tsp", most)
        start = model.policy.start(fields)
        generator = torch.Generator().manual_seed(0)
        made.append([decode(model, start, beam=3), decode(model, start, sample=generator)])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_who_leaps() -> None:
    for problem in LINKED:
        model = model_of(problem, 0)
        assert (model.linked, model.leap) == (True, LEAP)
        assert BQ(device="cpu").model(problem).leap == 1
    for problem in ("cvrp", "spctsp", "mis", "knapsack"):
        model = model_of(problem, 0)
        assert (model.linked, model.leap) == (False, 1)
        with pytest.raises(InputError, match="weights decide once a look"):
            model_of(problem, 2)
    with pytest.raises(InputError, match="when compiled"):
        BQ(device="cpu", leap=2, compiled=True).model("tsp")
    with pytest.raises(ValueError, match="leap = -1"):
        BQ(leap=-1)
    with pytest.raises(ValueError, match="leap = -1"):
        nco.solve(nco.generate("tsp", 20, seed=0), solver="udc", leap=-1)


@pytest.mark.parametrize("solver", ["bq", "udc"])
def test_solvers_take_it(solver: str) -> None:
    instance = nco.generate("tsp", 130, seed=2)
    results = [
        nco.solve(instance, solver=solver, leap=most, iterations=3, time_limit=None, seed=0)
        for most in (1, LEAP, LEAP)
    ]
    assert results[1].objective == results[2].objective
    assert results[1].objective < 1.1 * results[0].objective
