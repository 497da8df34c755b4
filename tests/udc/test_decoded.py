"""Starts that the problem's policy decodes from scratch."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import torch

import nco
from nco.bq import decoding
from nco.bq.decoding import Model, seconds_to_decode
from nco.bq.policies import load_policy
from nco.bq.solver import BQ, stack_fields
from nco.instances.core import Budget, InputError, Stop, better
from nco.instances.registry import problems
from nco.instances.tsp import TSP
from nco.udc.dividers import atsp, load_divider
from nco.udc.solver import UDC, VIEWS

ALONE = BQ(reconstruct=False, leap=0, views=VIEWS)


@pytest.fixture
def decoded_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts of matrices that are worse than what the policy decodes, by default."""
    starts = {"greedy": atsp.DIVIDER.starts["greedy"]}
    worse = dataclasses.replace(atsp.DIVIDER, starts=starts, decoded=True)
    monkeypatch.setattr(atsp, "DIVIDER", worse)


@pytest.mark.parametrize("problem", [name for name in problems.names() if load_divider(name)])
def test_the_better_of_the_policy_and_the_first_start(problem: str) -> None:
    made = nco.generate(problem, 30, seed=1)
    side = load_divider(problem)
    assert side is not None
    known = made if side.plan is None else side.plan(made)
    first = next(iter(side.starts.values()))(known, 0, Budget(iterations=0))
    decoded = ALONE.solve(known, Budget()).objective
    best = known.objective(first)
    best = decoded if better(decoded, best, known.sense) else best
    result = UDC(divide="bq", size=12).solve(made, Budget(iterations=0))
    assert result.extra.get("expected", result.objective) == pytest.approx(best)


@pytest.mark.usefixtures("decoded_matrices")
def test_what_measured_better_is_decoded_by_default() -> None:
    made = nco.generate("atsp", 60, seed=1)
    result = UDC(size=20, stages=3).solve(made, Budget(time_limit=600.0))
    assert [event.by for event in result.trajectory][:2] == ["greedy", "decoding"]
    decoded = [event.objective for event in result.trajectory if event.by == "decoding"]
    assert decoded[-1] == ALONE.solve(made, Budget()).objective
    search = UDC(size=20, stages=3, conquer="or-opt").solve(made, Budget())
    assert "decoding" not in [event.by for event in search.trajectory]
    kept = UDC(size=20, stages=1).solve(made, Budget(), start=result.solution)
    assert {event.by for event in kept.trajectory} <= {"start", "reunion"}


@pytest.mark.usefixtures("decoded_matrices")
def test_samples_begin_with_the_best_view(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [nco.generate("atsp", 40, seed=seed) for seed in range(2)]
    begun: list[torch.Tensor] = []
    monkeypatch.setattr(decoding, "improve", lambda model, fields, now, **_: begun.append(now))
    best = BQ(reconstruct=False, views=6).solve_batch(made, Budget())
    plain = list(range(40))
    results = UDC(size=12, samples=6).solve_batch(made, Budget(600.0), start=[None, plain])
    assert [r.objective for r in results] == [r.objective for r in best]
    decoded = [r.solution for r in results]
    tours = [sorted_tour(row) for row in begun[0].tolist()]
    assert tours == [sorted_tour(t) for t in [decoded[0]] * 6 + [plain] + [decoded[1]] * 5]


@pytest.mark.usefixtures("decoded_matrices")
@pytest.mark.parametrize(
    ("seconds", "samples", "views"),
    [(1.0, 1, [1, 4]), (59.0, 1, [1, 2]), (200.0, 1, [1]), (59.0, 3, [3, 4]), (1.0, 5, [5])],
)
def test_more_views_as_time_allows(
    seconds: float, samples: int, views: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now = [], [0.0]

    def solve_size(bq: BQ, *_: Any, skip: int = 0) -> None:
        asked.append(bq.views)
        assert skip == sum(asked[:-1])
        now[0] += seconds * (bq.views - skip)

    monkeypatch.setattr(BQ, "solve_size", solve_size)
    monkeypatch.setattr(decoding, "seconds_to_decode", lambda *_: 1.0)
    monkeypatch.setattr(Budget, "elapsed", lambda _: now[0])
    UDC(size=12, samples=samples, stages=1).solve(nco.generate("atsp", 40, seed=1), Budget(600.0))
    assert asked == views


def sorted_tour(tour: list[int]) -> list[int]:
    """The tour from node 0 on, which records leave out."""
    tour = [node for node in tour if node >= 0]
    tour = tour if 0 in tour else [0, *tour]
    at = tour.index(0)
    return tour[at:] + tour[:at]


def test_matrices_begin_with_patched_cycles() -> None:
    made = nco.generate("atsp", 60, seed=1)
    result = UDC(size=20, stages=1).solve(made, Budget())
    assert result.trajectory[0].by == "patching"
    assert "decoding" not in [event.by for event in result.trajectory]
    # Symmetric ones have cycles of two.
    matrix = made.matrix + made.matrix.T
    same = UDC(divide="greedy", size=20).solve(made.replace(matrix=matrix), Budget(iterations=0))
    result = UDC(size=20).solve(made.replace(matrix=matrix), Budget(iterations=0))
    assert result.objective == same.objective


@pytest.mark.usefixtures("decoded_matrices")
@pytest.mark.parametrize("divide", ["bq", "auto"])
def test_without_time_to_decode_the_first_start_is_improved(
    divide: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoding, "seconds_to_decode", lambda *_: 1e9)
    made = nco.generate("atsp", 60, seed=1)
    with caplog.at_level(logging.INFO, "nco"):
        result = UDC(divide=divide, size=12, stages=6).solve(made, Budget(600.0))
    by = [event.by for event in result.trajectory]
    assert (by[0], by[-1]) == ("greedy", "reunion")
    assert "decoding" not in by
    (told,) = [r for r in caplog.records if "too few to decode the whole" in r.message]
    assert told.levelno == (logging.WARNING if divide == "bq" else logging.INFO)


@pytest.mark.usefixtures("decoded_matrices")
def test_interruption_while_decoding_leaves_the_first_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget, look, calls = Budget(), Model.look, 0

    def then(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            budget.interrupt()
        return look(*args)

    monkeypatch.setattr(Model, "look", then)
    result = UDC(size=12).solve(nco.generate("atsp", 40, seed=1), budget)
    assert result.stopped is Stop.INTERRUPTED
    assert [event.by for event in result.trajectory] == ["greedy"]
    assert calls == 5


def test_without_memory_to_decode_the_start_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: Any, **__: Any) -> int:
        raise MemoryError

    monkeypatch.setattr(decoding, "chunk_size", none)
    solver = UDC(divide="bq", conquer="or-opt", size=12, stages=4)
    result = solver.solve(TSP.generate(60, seed=0), Budget())
    assert [event.by for event in result.trajectory][-1] == "reunion"
    assert "out of memory: the start is not decoded" in caplog.text

    def broken(*_: Any, **__: Any) -> int:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(decoding, "chunk_size", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        solver.solve(TSP.generate(60, seed=0), Budget())


def test_what_has_no_policy_is_not_decoded() -> None:
    given = TSP(coords=np.random.default_rng(0).random((40, 2)), metric="MAN_2D")
    assert UDC(conquer="or-opt").supports(given) is None
    reason = UDC(conquer="or-opt", divide="bq").supports(given)
    assert "not metric MAN_2D" in (reason or "")
    with pytest.raises(InputError, match=r"divide 'bg' not understood for tsp .*\bbq\b"):
        UDC(divide="bg", size=12).solve(TSP.generate(40, seed=0), Budget())


def test_seconds_to_decode_by_the_time_of_single_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now, widths = 0.0, []

    def rates(self: Model, state: Any) -> Any:
        nonlocal now
        # The first of a width takes longer.
        now += state.width**2 + (10.0 if state.width not in widths else 0.0)
        widths.append(state.width)
        return None, torch.zeros(1)

    monkeypatch.setattr(Model, "rates", rates)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    model = BQ().model("tsp")
    fields = stack_fields(load_policy("tsp").POLICY.fields, [TSP.generate(300, seed=0)])
    state = model.policy.start(fields)
    exact = sum(width**2 + 10.0 for width in range(1, state.width + 1))
    assert seconds_to_decode(model, state) == pytest.approx(exact, rel=0.1)
    assert widths[-1] == state.width
    widths.clear()
    assert seconds_to_decode(model, state, most=1e5) > 1e5
    assert widths[-1] ** 2 * state.width < 4e5  # no step that could take long


def test_skipped_views_are_those_decoded_before() -> None:
    made = [nco.generate("op", 40, seed=seed) for seed in range(12)]
    model = ALONE.model("op")
    fields = stack_fields(model.policy.fields, made)

    def cost(**ways: int) -> torch.Tensor:
        return model.policy.cost(fields, decoding.construct(model, fields, **ways))

    assert torch.equal(torch.minimum(cost(views=2), cost(views=5, skip=2)), cost(views=5))
    assert not torch.equal(cost(views=2), cost(views=5))
    assert not torch.equal(cost(views=5, skip=2), cost(views=5))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many likelier first actions each decoding of a tour leaves aside."""
    begun: list[int] = []
    plain = decoding.decode

    def noted(model: Model, state: Any, first: int = 0, **ways: Any) -> torch.Tensor:
        begun.append(first)
        return plain(model, state, first=first, **ways)

    monkeypatch.setattr(decoding, "decode", noted)
    return begun


def test_every_view_is_decoded_once(looks: list[int]) -> None:
    UDC(size=12).solve(nco.generate("op", 40, seed=0), Budget(iterations=0))
    assert looks == list(range(VIEWS))


@pytest.mark.parametrize("why", ["memory", "interrupted"])
def test_what_ends_more_views_leaves_the_first(
    why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, budget = nco.generate("op", 60, seed=1), Budget()
    first = BQ(reconstruct=False).solve(made, Budget())
    plain = BQ.solve_size

    def solve_size(bq: BQ, *rest: Any, skip: int = 0) -> Stop:
        if skip and why == "memory":
            raise MemoryError
        if skip:
            budget.interrupt()
        return plain(bq, *rest, skip=skip)

    monkeypatch.setattr(BQ, "solve_size", solve_size)
    begun = []
    monkeypatch.setattr(decoding, "improve", lambda model, fields, now, **_: begun.append(now))
    result = UDC(size=12, stages=1).solve(made, budget)
    assert result.objective == first.objective
    assert (result.stopped is Stop.INTERRUPTED) == (why == "interrupted")
    if why == "memory":
        start = [node for node in begun[0][0].tolist() if node > 0]
        assert made.objective(start) == first.objective
        assert "out of memory: the start is decoded from 1 views alone" in caplog.text
