"""Exact 0-1 knapsack: dynamic programming over an expanding core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    FLOAT_TOLERANCE,
    Budget,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
    better,
)
from nco.instances.knapsack import Knapsack, dantzig_bound, ratio_order

#: Decisions kept before those of dropped states are cleared away.
MOST_DECISIONS = 20_000_000
#: More states than this end the search; the bound stays valid.
MOST_STATES = 1_000_000


class _History:
    """How states came about: each decision names the one before it and an item."""

    def __init__(self) -> None:
        self.before = np.full(1, -1, dtype=np.int64)
        self.item = np.full(1, -1, dtype=np.int64)

    def extend(self, before: NDArray[np.int64], item: int) -> NDArray[np.int64]:
        first = len(self.before)
        self.before = np.concatenate([self.before, before])
        self.item = np.concatenate([self.item, np.full(len(before), item)])
        return np.arange(first, first + len(before))

    def items(self, decision: int) -> list[int]:
        found = []
        while decision > 0:
            found.append(int(self.item[decision]))
            decision = int(self.before[decision])
        return found

    def compact(self, living: NDArray[np.int64]) -> NDArray[np.int64]:
        used = np.zeros(len(self.before), dtype=bool)
        used[0] = True
        front = np.unique(living)
        while len(front):
            front = front[~used[front]]
            used[front] = True
            front = np.unique(self.before[front])
            front = front[front >= 0]
        place = np.cumsum(used) - 1
        before = self.before[used]
        self.before = np.where(before >= 0, place[before], -1)
        self.item = self.item[used]
        return place[living]


class _Core:
    """The states of all ways to change the break solution near the break item.

    Items are in order of ratio; all before the break item are in, none from it on. Each
    step decides about one more item on either side.
    """

    def __init__(self, values: NDArray[Any], weights: NDArray[Any], capacity: float):
        self.values, self.weights, self.capacity = values, weights, capacity
        self.n = len(values)
        filled = np.cumsum(weights)
        self.first = int(np.searchsorted(filled, capacity, side="right"))
        self.left, self.right = self.first - 1, self.first
        whole = np.issubdtype(values.dtype, np.integer)
        # The least that an improvement must bring.
        self.step = 1.0 if whole else 0.0
        with np.errstate(divide="ignore", over="ignore"):
            self.ratio = values.astype(np.float64) / weights.astype(np.float64)
        self.weight = weights[: self.first].sum(keepdims=True)
        self.value = values[: self.first].sum(keepdims=True)
        self.decision = np.zeros(1, dtype=np.int64)
        self.history = _History()
        self.best = self.value[0]
        self.best_items: list[int] = []

    def bounds(self, weight: NDArray[Any], value: NDArray[Any]) -> NDArray[np.float64]:
        """What each state may become, by the best ratios still undecided."""
        room = self.capacity - weight.astype(np.float64)
        gain = self.ratio[self.right] if self.right < self.n else 0.0
        loss = self.ratio[self.left] if self.left >= 0 else math.inf
        with np.errstate(invalid="ignore"):
            rate = np.where(room >= 0, gain, loss)
            bound = value.astype(np.float64) + np.where(room == 0, 0.0, room * rate)
            # Rounding must not lose the optimum.
            slack = 1e-12 * np.maximum(1.0, np.abs(bound))
            return np.where(np.isfinite(bound), bound + slack, bound)

    def promising(self, weight: NDArray[Any], value: NDArray[Any]) -> NDArray[np.bool_]:
        bound = self.bounds(weight, value)
        best = float(self.best)
        return bound >= best + self.step if self.step else bound > best

    def bound(self) -> float:
        """Upper bound of the whole problem."""
        if not len(self.weight):
            return float(self.best)
        return max(float(self.best), float(self.bounds(self.weight, self.value).max()))

    def done(self) -> bool:
        return not len(self.weight) or (self.left < 0 and self.right >= self.n)

    def step_right(self) -> None:
        k, self.right = self.right, self.right + 1
        self.decide(k, self.weights[k], self.values[k])

    def step_left(self) -> None:
        k, self.left = self.left, self.left - 1
        self.decide(k, -self.weights[k], -self.values[k])

    def decide(self, item: int, weight: Any, value: Any) -> None:
        new_weight, new_value = self.weight + weight, self.value + value
        fits = new_weight <= self.capacity
        if fits.any():
            k = int(np.argmax(np.where(fits, new_value, -1)))
            if new_value[k] > self.best:
                self.best = new_value[k]
                self.best_items = [*self.history.items(int(self.decision[k])), item]
        keep = self.promising(new_weight, new_value)
        decision = self.history.extend(self.decision[keep], item)
        old = self.promising(self.weight, self.value)
        weights = np.concatenate([self.weight[old], new_weight[keep]])
        values = np.concatenate([self.value[old], new_value[keep]])
        decisions = np.concatenate([self.decision[old], decision])
        # A state is of use only if no lighter one is worth as much.
        order = np.lexsort((-values, weights))
        values = values[order]
        useful = np.ones(len(values), dtype=bool)
        useful[1:] = values[1:] > np.maximum.accumulate(values)[:-1]
        order = order[useful]
        self.weight, self.value = weights[order], values[useful]
        self.decision = decisions[order]
        if len(self.history.before) > MOST_DECISIONS:
            self.decision = self.history.compact(self.decision)

    def chosen(self) -> NDArray[np.intp]:
        """Positions of the best solution's items."""
        taken = np.arange(self.n) < self.first
        flipped = np.asarray(self.best_items, dtype=np.intp)
        taken[flipped] = ~taken[flipped]
        return np.flatnonzero(taken)


@dataclass(frozen=True)
class KnapsackDP:
    """Exact knapsack, for whole and fractional data alike.

    The core of items near the break item grows until no state can improve: D. Pisinger,
    A minimal algorithm for the 0-1 knapsack problem, Operations Research 45 (1997),
    sections 2-4. Out of time, the best solution and a valid bound are returned.
    """

    name: ClassVar[str] = "knapsack"

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        return None if isinstance(instance, Knapsack) else "solves knapsack only"

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Solve one instance.

        Raises
        ------
        UnsupportedError
            When it is not a knapsack.
        """
        reason = self.supports(instance)
        if reason is not None or not isinstance(instance, Knapsack):
            raise UnsupportedError(str(reason))
        tracker: Tracker[list[int]] = Tracker(
            instance, budget, solver=self.name, seed=seed, on_event=on_event
        )
        if start is not None and not instance.violations(start):
            tracker.offer(start)
        fractional = not np.issubdtype(instance.weights.dtype, np.integer)
        # Sums of fractions in another order differ by less than the check's tolerance.
        slack = 0.9 * FLOAT_TOLERANCE * max(1.0, instance.capacity) if fractional else 0.0
        capacity = instance.capacity + slack
        order = ratio_order(instance)
        order = order[instance.weights[order] <= capacity]
        free = order[instance.weights[order] == 0]
        order = order[instance.weights[order] > 0]
        core = _Core(instance.values[order], instance.weights[order], capacity)

        def offer() -> None:
            tracker.offer([*free.tolist(), *order[core.chosen()].tolist()])

        free_value = math.fsum(instance.values[free].tolist())
        offer()
        self._fill(tracker, instance, core, free, order, capacity)
        tracker.offer_bound(dantzig_bound(instance))
        steps, stopped = 0, None
        with budget.catch_interrupt():
            while not core.done():
                stopped = tracker.done(steps)
                if stopped is None and len(core.weight) > MOST_STATES:
                    stopped = Stop.FINISHED
                if stopped is not None:
                    break
                before = core.best
                if core.right < core.n:
                    core.step_right()
                if core.left >= 0:
                    core.step_left()
                if core.best > before:
                    offer()
                steps += 1
        if stopped is None:
            assert tracker.objective is not None
            tracker.offer_bound(tracker.objective)
            return tracker.result(Stop.PROVED, status=Status.OPTIMAL)
        bound = core.bound() + free_value
        bound = math.floor(bound) if instance.integral else bound * (1 + FLOAT_TOLERANCE)
        assert tracker.objective is not None
        if not better(tracker.objective, bound, instance.sense):
            tracker.offer_bound(bound)
        return tracker.result(stopped)

    @staticmethod
    def _fill(
        tracker: Tracker[list[int]],
        instance: Knapsack,
        core: _Core,
        free: NDArray[np.intp],
        order: NDArray[np.intp],
        capacity: float,
    ) -> None:
        """Offer the greedy solution that goes on after the break item."""
        taken = order[: core.first].tolist()
        room = capacity - math.fsum(instance.weights[taken].tolist())
        for k in order[core.first :].tolist():
            if instance.weights[k] <= room:
                room -= instance.weights[k]
                taken.append(k)
        greedy = [*free.tolist(), *taken]
        if not instance.violations(greedy):
            tracker.offer(greedy)
