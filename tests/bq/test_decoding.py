"""Which beam decides the next round, and what a beam is worth on parts."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import nco
from nco.bq.decoding import Beams, Model, Tried, beam_widths, improve, never
from nco.bq.policies import load_policy
from nco.bq.regions import with_regions
from nco.bq.solver import BQ, stack_fields
from nco.bq.state import Cut


def test_widths_grow_fourfold() -> None:
    assert [beam_widths(w) for w in (1, 2, 4, 16, 20)] == [
        (1,), (1, 2), (1, 4), (1, 4, 16), (1, 4, 16, 20)
    ]  # fmt: skip


def test_a_single_width_is_always_taken() -> None:
    beams = Beams((1,))
    for gain in (3.0, 0.0, 0.0):
        assert beams.choose() == 1
        beams.learn(1, gain)


@given(st.lists(st.floats(0.0, 10.0), min_size=60, max_size=60))
@settings(max_examples=30, deadline=None)
def test_every_width_has_its_share_of_the_work(gains: list[float]) -> None:
    beams = Beams((1, 4))
    work = dict.fromkeys((1, 4), 0.0)
    for gain in gains:
        width = beams.choose()
        beams.learn(width, gain)
        work[width] += beams.work(width)
    total = sum(work.values())
    assert all(own >= Beams.SHARE * total - beams.work(4) for own in work.values())


def test_greedy_rounds_that_leap_make_beams_dearer() -> None:
    plain, leaps = Beams((1, 4)), Beams((1, 4), leaps=True)
    assert (plain.work(1), leaps.work(1)) == (1.0, 1.0)
    assert leaps.work(4) == 2.0 * plain.work(4) == pytest.approx(6.0)


def test_what_gains_more_for_its_work_has_most_of_it() -> None:
    for rate_of_four, most in ((1.0, 1), (9.0, 4)):
        beams = Beams((1, 4))
        work = dict.fromkeys((1, 4), 0.0)
        for _ in range(60):
            width = beams.choose()
            beams.learn(width, 1.0 if width == 1 else rate_of_four)
            work[width] += beams.work(width)
        assert work[most] > 0.6 * sum(work.values())


def model_of(problem: str) -> Model:
    return BQ(device="cpu", precision="fp32").model(problem)


def test_a_beam_decides_parts_better_than_the_greedy_way() -> None:
    generator = torch.Generator().manual_seed(0)
    for problem in ("tsp", "cvrp", "op"):
        instances = [nco.generate(problem, 60, seed=seed) for seed in range(8)]
        model = with_regions(model_of(problem))
        fields = stack_fields(load_policy(problem).POLICY.fields, instances)
        starts = [nco.solve(i, solver="insertion").solution for i in instances]
        policy = model.policy
        rows = [
            policy.actions({k: v[i : i + 1] for k, v in fields.items()}, start)
            for i, start in enumerate(starts)
        ]
        actions = torch.nn.utils.rnn.pad_sequence(rows, True, -1)
        gains = []
        for width in (1, 4):
            cut = policy.cut(fields, actions, 25, generator.manual_seed(1))
            new = model.conquer(cut, beam=width)
            gains.append(float((cut.cost - policy.part_cost(fields, cut, new)).sum()))
        assert gains[1] > gains[0]


def test_beams_over_regions_and_groups_of_routes_come_to_an_end() -> None:
    # Few actions are allowed here, fewer than a beam holds.
    for problem in ("tsp", "cvrp", "ovrp", "op", "pctsp", "mtsp", "knapsack", "mis"):
        instance = nco.generate(problem, 40, seed=1)
        model = with_regions(model_of(problem), 1.0)
        policy = model.policy
        fields = stack_fields(load_policy(problem).POLICY.fields, [instance])
        start = nco.solve(instance, solver="bq", iterations=0, time_limit=None).solution
        actions = policy.actions(fields, start)[None]
        generator = torch.Generator().manual_seed(2)
        for size in (6, 10):
            cut = policy.cut(fields, actions, size, generator)
            if cut is None:
                continue
            steps = iter(range(400))
            new = model.conquer(cut, lambda steps=steps: next(steps) > 300, 16)
            assert bool(torch.isfinite(policy.part_cost(fields, cut, new)).all())


def test_rounds_repeat_and_never_raise_costs() -> None:
    instance = nco.generate("tsp", 60, seed=3)
    model = with_regions(model_of("tsp"))
    fields = stack_fields(("coords",), [instance])
    start = nco.solve(instance, solver="space-filling-curve").solution
    actions = model.policy.actions(fields, start)[None]

    def run() -> list[float]:
        costs = [float(model.policy.cost(fields, actions)[0])]
        improve(
            model, fields, actions, sizes=(10, 20), beams=(1, 4), rounds=10, seed=5,
            on_round=lambda _, now: costs.append(float(model.policy.cost(fields, now)[0])),
        )  # fmt: skip
        return costs

    costs = run()
    assert len(costs) == 11
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(costs))
    assert run() == costs


def test_parts_are_decided_once_as_wide() -> None:
    """Wider beams decide them again; what is forgotten is new."""
    tried = Tried()
    assert tried.fresh([5, 6, 7], [1, 4]) == (1, [0, 1, 2])
    assert tried.fresh([7, 8, 5], [1, 4]) == (1, [1])
    assert tried.fresh([8, 5], [1, 4]) == (4, [0, 1])
    assert tried.fresh([5, 6], [1, 4]) == (4, [1])
    assert tried.fresh([5, 8], [1]) == (1, [])
    assert tried.fresh([5], [1, 4, 16]) == (16, [0])
    tried.MOST = 4
    assert tried.fresh([9], [1]) == (1, [0])
    assert tried.fresh([5], [1]) == (1, [0])


@pytest.mark.parametrize("problem", ["cvrp", "ovrp"])
def test_no_part_of_routes_is_decided_twice(problem: str) -> None:
    """What comes again would be decided alike; the best of that is there already."""
    made = nco.generate(problem, 40, seed=5)
    model = model_of(problem)
    fields = stack_fields(model.policy.fields, [made])
    actions = model.policy.actions(fields, nco.solve(made, solver="savings").solution)[None]
    seen: list[int] = []
    rounds: list[int] = []

    class Telling:
        """The model, which tells what it was asked."""

        policy, device, once = model.policy, model.device, True

        def conquer(self, cut: Cut, stop: Callable[[], bool] = never, beam: int = 1) -> Tensor:
            seen.extend((cut.key() + beam).tolist())
            return model.conquer(cut, stop, beam)

    assert model.once
    better = improve(
        Telling(), fields, actions, sizes=(10, 20), beams=(1, 2), rounds=40, seed=1,
        on_round=lambda number, _: rounds.append(number),
    )  # fmt: skip
    assert rounds == [*range(1, 41)]
    assert len(seen) == len(set(seen))
    assert made.violations(model.policy.solution(better[0].tolist())) == []
    assert (model.policy.cost(fields, better) <= model.policy.cost(fields, actions)).all()
