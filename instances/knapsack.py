"""The 0-1 knapsack problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    FLOAT_TOLERANCE,
    Budget,
    Instance,
    Sense,
    as_indices,
    as_number,
    frozen_array,
)

if TYPE_CHECKING:
    from nco.instances.mip import MipView


def subset_violations(items: Sequence[int], n: int, what: str) -> list[str]:
    """What keeps ``items`` from being a set of indices below ``n``."""
    array = as_indices(items)
    if array is None:
        return [f"a solution holds indices of {what}s only"]
    outside = array[(array < 0) | (array >= n)]
    problems = [f"{what} {k} does not exist (known: 0..{n - 1})" for k in outside[:3]]
    count = np.bincount(array[(array >= 0) & (array < n)], minlength=1)
    problems += [f"{what} {k} is chosen {count[k]} times" for k in np.flatnonzero(count > 1)[:3]]
    return problems


@dataclass(frozen=True, eq=False, kw_only=True)
class Knapsack(Instance[list[int]]):
    """Choose items of the largest total value that fit.

    A solution is the sorted list of chosen items.

    Parameters
    ----------
    values, weights
        Value and weight of every item [n], not negative.
    capacity
        Largest total weight.

    Raises
    ------
    ValueError
        When lengths disagree, or numbers are negative or not finite.
    """

    problem: ClassVar[str] = "knapsack"
    solution_form: ClassVar[str] = "items"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    values: NDArray[Any]
    weights: NDArray[Any]
    capacity: float

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        for name in ("values", "weights"):
            array = frozen_array(name, getattr(self, name), ndim=1)
            if (array < 0).any():
                k = int(np.argmax(array < 0))
                raise ValueError(f"item {k}: {name[:-1]} {array[k]} < 0.")
            if array.size and float(array.astype(np.float64).sum()) > 2**62:
                raise ValueError(f"{name} add up to more than 2^62; scale them down.")
            object.__setattr__(self, name, array)
        if len(self.values) != len(self.weights):
            raise ValueError(f"{len(self.values)} values for {len(self.weights)} weights.")
        if not len(self.values):
            raise ValueError("has no items.")
        if not (math.isfinite(self.capacity) and self.capacity >= 0):
            raise ValueError(f"capacity = {self.capacity} not understood; give a number >= 0.")
        capacity = as_number(self.capacity, float(self.capacity).is_integer())
        object.__setattr__(self, "capacity", capacity)

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.values)

    @property
    def integral(self) -> bool:
        """Whether values are integers, so that objectives are exact."""
        return bool(np.issubdtype(self.values.dtype, np.integer))

    def weight(self, solution: list[int]) -> float:
        """Total weight of the chosen items."""
        chosen = self.weights[np.asarray(solution, dtype=np.intp)]
        if np.issubdtype(self.weights.dtype, np.integer):
            return int(chosen.sum(dtype=np.int64))
        return math.fsum(chosen)

    def objective(self, solution: list[int]) -> float:
        """Total value of the chosen items."""
        chosen = self.values[np.asarray(solution, dtype=np.intp)]
        if self.integral:
            return int(chosen.sum(dtype=np.int64))
        return as_number(math.fsum(chosen), False)

    def violations(self, solution: list[int]) -> list[str]:
        """Items repeated or unknown; too large a weight."""
        problems = subset_violations(solution, self.n, "item")
        if problems:
            return problems
        weight = self.weight(solution)
        exact = np.issubdtype(self.weights.dtype, np.integer)
        if weight > self.capacity + (0.0 if exact else FLOAT_TOLERANCE * max(1.0, self.capacity)):
            problems.append(f"weight {weight} > capacity {self.capacity}")
        return problems

    def canonical(self, solution: list[int]) -> list[int]:
        """The items in increasing order."""
        return sorted(int(k) for k in solution)

    def to_mip(self, start: list[int] | None = None) -> MipView:
        """One binary column per item, one row."""
        from nco.instances.packing import knapsack_view

        return knapsack_view(self)

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """Random items; distributions as `nco.instances.generate.knapsack`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            **generate.knapsack(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )


def ratio_order(instance: Knapsack) -> NDArray[np.intp]:
    """Items [n] by value per weight, best first; weightless items lead."""
    values = instance.values.astype(np.float64)
    weights = instance.weights.astype(np.float64)
    with np.errstate(over="ignore"):
        ratio = np.divide(values, weights, out=np.full(len(values), np.inf), where=weights > 0)
    return np.lexsort((-values, -ratio))


def dantzig_bound(instance: Knapsack, budget: Budget | None = None) -> float:
    """Upper bound from the LP relaxation, rounded down for integral values.

    G. B. Dantzig, Discrete-variable extremum problems, Operations Research 5 (1957).
    """
    order = ratio_order(instance)
    values = instance.values[order].astype(np.float64)
    weights = instance.weights[order].astype(np.float64)
    filled = np.cumsum(weights)
    # The check's own tolerance counts as capacity.
    whole = np.issubdtype(instance.weights.dtype, np.integer)
    slack = 0.0 if whole else FLOAT_TOLERANCE * max(1.0, instance.capacity)
    capacity = instance.capacity + slack
    fits = int(np.searchsorted(filled, capacity, side="right"))
    total = math.fsum(values[:fits])
    if fits < len(values) and weights[fits] > 0:
        room = capacity - (filled[fits - 1] if fits else 0.0)
        total += values[fits] * max(0.0, room) / weights[fits]
    # A hair of slack keeps rounding from cutting off the optimum.
    total += FLOAT_TOLERANCE * max(1.0, total)
    return as_number(math.floor(total), True) if instance.integral else total
