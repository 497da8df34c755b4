"""Branch and bound over first stages, where decisions in a known scenario are cheap.

With only the objective uncertain and a convex set, ``max_x min_xi max_y`` is at most ``min_xi
max_(x, y)``, whose maximum is one deterministic problem in each scenario; what that leaves
open is closed by branching on first stages, as in the branch-and-price of A. Arslan and
B. Detienne, Decomposition-based approaches for a class of two-stage robust binary optimization
problems, INFORMS J. Computing 34 (2022). Any scenario gives a bound, so that a node ends at
the first one that is bad enough.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget
from nco.robust.baselines import even_scenario, nominal_scenario
from nco.robust.search import Search
from nco.robust.two_stage import TwoStageProblem

Vector = NDArray[np.float64]
#: Relative distance to the best value below which a node is closed.
CLOSED = 5e-7
#: Steps over scenarios at the root and in a node.
ROOT, STEPS = 500, 60
#: First-stage columns that are tried for branching.
TRIED = 8
#: Nodes between first stages that are evaluated though nothing says that they are good.
PAUSE = 200
#: After this share of the time it ends if its own bound is still so many times as far from the
#: best value as the one known before.
EARLY, FAR = 0.5, 3.0


def suits(problem: TwoStageProblem) -> bool:
    """Whether the method applies."""
    return problem.bounder is not None


@dataclass
class _Node:
    """First stages within bounds [p]; none of them is worth more than ``bound`` in xi."""

    bound: float
    lower: Vector
    upper: Vector
    xi: Vector


def begin(search: Search, by: str = "branching") -> None:
    """A first stage and a bound at once, from the scenario in the middle of the set."""
    problem = search.problem
    first, bounder = problem.first, problem.bounder
    assert bounder is not None
    xi = even_scenario(problem.uncertainty)
    for steps in (1, STEPS):
        found = bounder(first.lower, first.upper, xi, -math.inf, steps)
        search.offer_bound(found.bound, by)
        search.evaluate(np.rint(found.shares), by)


def branch(search: Search, budget: Budget, by: str = "branching") -> bool:
    """Lower the bound, and find first stages on the way; True once nothing is left open.

    Parameters
    ----------
    search
        The solve; its problem must suit, see `suits`.
    budget
        All of it may be used.
    by
        Name for events.
    """
    problem = search.problem
    first, bounder = problem.first, problem.bounder
    assert bounder is not None

    def limit() -> float:
        value = search.value
        return value + CLOSED * max(1.0, abs(value)) if math.isfinite(value) else -math.inf

    ticket = itertools.count()
    xi = nominal_scenario(problem.uncertainty) if search.best is None else search.best.xi
    root = _Node(math.inf, first.lower.copy(), first.upper.copy(), xi)
    heap: list[tuple[float, int, _Node]] = [(-math.inf, next(ticket), root)]
    nodes, begun, known = 0, budget.left(), search.bound
    while heap and budget.done() is None and search.tracker.done() is None:
        top = -heap[0][0]
        if top <= limit():
            heap.clear()
            break
        if nodes % 50 == 0:
            search.offer_bound(top, by)
        late = budget.left() < (1.0 - EARLY) * begun
        if late and nodes and top - search.value > FAR * (known - search.value):
            break
        node = heapq.heappop(heap)[2]
        steps = STEPS if nodes else ROOT
        nodes += 1
        found = bounder(node.lower, node.upper, node.xi, limit(), steps)
        bound = min(node.bound, found.bound)
        if bound <= limit():
            continue
        node = _Node(bound, found.lower, found.upper, found.xi)
        free = np.flatnonzero(node.upper - node.lower > 0.5)
        if nodes % PAUSE == 1 or not len(free):
            x = np.clip(np.rint(found.shares), node.lower, node.upper)
            worst = search.evaluate(x, by, budget)
            if not len(free):
                if worst is None or not worst.exact:
                    # Out of time: the node stays open.
                    heapq.heappush(heap, (-bound, next(ticket), node))
                    break
                continue
        for child in _children(search, node, found.shares, free, limit()):
            if child.bound > limit():
                heapq.heappush(heap, (-child.bound, next(ticket), child))
    search.offer_bound(-heap[0][0] if heap else limit(), by)
    return not heap


def _children(
    search: Search, node: _Node, shares: Vector, free: NDArray[np.intp], limit: float
) -> list[_Node]:
    """The node split on the column whose better side is worst."""
    bounder = search.problem.bounder
    assert bounder is not None
    apart = np.minimum(shares - node.lower, node.upper - shares)[free]
    best: tuple[float, list[_Node]] = (-math.inf, [])
    for i in free[np.argsort(-apart, kind="stable")[:TRIED]]:
        pair = []
        for side in (node.lower[i], node.upper[i]):
            lower, upper = node.lower.copy(), node.upper.copy()
            lower[i] = upper[i] = side
            found = bounder(lower, upper, node.xi, limit, 3)
            pair.append(_Node(min(node.bound, found.bound), found.lower, found.upper, found.xi))
        gains = [max(1e-9, node.bound - child.bound) for child in pair]
        score = gains[0] * gains[1]
        if score > best[0]:
            best = (score, pair)
    return best[1]
