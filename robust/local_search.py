"""Local search over binary first stages, judged by the scenarios so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget
from nco.robust.model import Indices
from nco.robust.search import Search, feasible_rows
from nco.robust.two_stage import TwoStageProblem

Vector = NDArray[np.float64]
#: Largest number of pairs of columns that are exchanged in one round.
PAIRS = 2_000
#: Neighbours between two looks at the clock.
CHUNK = 50


def suits(problem: TwoStageProblem) -> bool:
    """Whether first stages are binary and second stages fast."""
    first = problem.first_stage
    binary = first.whole.all() and (first.lower >= 0).all() and (first.upper <= 1).all()
    return bool(binary) and problem.oracle is not None


def neighbors(
    x: Vector, rng: np.random.Generator, seen: Indices | None = None, most: int = PAIRS
) -> Vector:
    """First stages [k, p] with one binary changed, or one taken for another.

    Parameters
    ----------
    x
        The first stage [p].
    rng
        Draws pairs where there are too many.
    seen
        The binaries that may change; by default all columns.
    most
        Largest number of pairs.
    """
    seen = np.arange(len(x)) if seen is None else seen
    one, zero = seen[x[seen] > 0.5], seen[x[seen] < 0.5]
    flips = np.repeat(x[None], len(seen), axis=0)
    every = np.arange(len(seen))
    flips[every, seen] = 1.0 - flips[every, seen]
    pairs = len(one) * len(zero)
    which = np.arange(pairs) if pairs <= most else rng.choice(pairs, most, replace=False)
    swaps = np.repeat(x[None], len(which), axis=0)
    if pairs:
        rows = np.arange(len(which))
        swaps[rows, one[which // len(zero)]] = 0.0
        swaps[rows, zero[which % len(zero)]] = 1.0
    return np.concatenate([flips, swaps])


def _alive(
    problem: TwoStageProblem,
    budget: Budget,
    x: Vector,
    first: Vector,
    limit: float,
    xi: Vector,
    worth: Vector,
) -> tuple[Vector, Vector, Vector]:
    """Those of first stages [k, p] that scenario xi does not show to be at most ``limit``.

    Out of time, only some of them have been looked at.
    """
    worth = worth.copy()
    for begin in range(0, len(x), CHUNK):
        if budget.done() is not None:
            break
        part = slice(begin, begin + CHUNK)
        if problem.screen is not None:
            values = problem.screen(x[part], xi, limit - first[part])
        else:
            values = problem.recourse_at(x[part], xi)[0][:, 0]
        here = first[part] + np.where(np.isnan(values), -np.inf, values)
        worth[part] = np.minimum(worth[part], here)
    keep = worth > limit + 1e-9 * max(1.0, abs(limit))
    return x[keep], first[keep], worth[keep]


def improve(search: Search, budget: Budget, kicks: int = 1_000_000) -> None:
    """Move from the best first stage to better neighbours, with kicks at local optima.

    A neighbour that some scenario so far shows to be no better is left at once; the first
    that none does is evaluated, and its worst scenario joins them.

    Parameters
    ----------
    search
        The solve; its problem must suit, see `suits`.
    budget
        All of it may be used.
    kicks
        Largest number of kicks.
    """
    problem = search.problem
    if search.best is None:
        return
    x, value = search.best.x, search.value
    stale = 0
    while budget.done() is None and search.tracker.done() is None and not search.closed:
        found = _descend(search, budget, x, value)
        if found is not None:
            x, value = found
            continue
        if kicks <= 0:
            return
        kicks -= 1
        # At a local optimum: from the best again, changed a little more each time.
        stale += 1
        x, value = search.best.x, search.value
        kicked = _kicked(problem, x, 2 + stale % 4, search.rng)
        if kicked is None:
            return
        worst = search.evaluate(kicked, "local search", budget)
        if worst is None:
            continue
        x, value = kicked, worst.value


def _kicked(
    problem: TwoStageProblem, x: Vector, changes: int, rng: np.random.Generator
) -> Vector | None:
    for _ in range(50):
        out = x.copy()
        which = rng.choice(len(x), min(changes, len(x)), replace=False)
        out[which] = 1.0 - out[which]
        if feasible_rows(problem, out[None])[0]:
            return out
    return None


def _descend(
    search: Search, budget: Budget, x: Vector, value: float
) -> tuple[Vector, float] | None:
    """A neighbour of x better than ``value``, or None."""
    problem = search.problem
    options = neighbors(x, search.rng)
    options = options[feasible_rows(problem, options)]
    known = [k for k in range(len(options)) if options[k].tobytes() not in search.known]
    options = options[known]
    first = options @ problem.first.c + problem.first.offset
    worth = np.full(len(options), np.inf)
    for xi in search.hints(x)[:30]:
        if not len(options) or budget.done() is not None:
            return None
        options, first, worth = _alive(problem, budget, options, first, value, xi, worth)
    while len(options) and budget.done() is None and search.tracker.done() is None:
        k = int(np.argmax(worth))
        candidate = options[k]
        found = search.evaluate(candidate, "local search", budget)
        if found is not None and found.value > value + 1e-9 * max(1.0, abs(value)):
            return candidate, found.value
        rest = np.arange(len(options)) != k
        options, first, worth = options[rest], first[rest], worth[rest]
        if found is not None and len(options):
            options, first, worth = _alive(problem, budget, options, first, value, found.xi, worth)
    return None
