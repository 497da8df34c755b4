"""Branch and cut over the price of uncertainty, and over first stages.

With only the objective uncertain and ``0 <= xi <= 1, sum xi <= gamma``, the worst case of losses
l is ``min gamma price + sum max(0, l_j - price)`` over prices >= 0 (D. Bertsimas and M. Sim, The
price of robustness, Operations Research 52, 2004). If a loss needs a first-stage binary, ``l_j >
0`` only with ``x_i = 1``, its part is at least ``l_j - price x_i``: within a short interval of
prices that is nearly linear and the relaxation nearly exact, as C. Buesing, T. Gersing and
A. Koster have it for binary programs (A branch and bound algorithm for robust binary optimization
with budget uncertainty, Math. Prog. Comp. 15, 2023). The relaxed recourse is closed by cuts: each
first stage that is met gives an inequality for all recourses, tight in its worst scenario.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, Sense
from nco.mip.backend import Form
from nco.mip.highs import pass_model
from nco.robust.linear import limit_run
from nco.robust.model import Model
from nco.robust.search import Search, feasible_rows
from nco.robust.two_stage import Evaluation, TwoStageProblem
from nco.robust.uncertainty import BudgetSet

Vector = NDArray[np.float64]
#: Relative distance to the best value below which a node is closed.
CLOSED = 5e-7
#: Intervals of prices at first.
PIECES = 32
#: An interval is halved while that takes away this share of what is above the best value.
HALVED = 0.1
#: Known first stages that cuts are made of at first; rounds of cuts in a node.
KNOWN, ROUNDS = 40, 8
#: Cuts in one round, and by how much they must be exceeded; their limits are 100.
CUTS, EXCESS = 5, 1e-5
#: Distance from whole numbers below which a column counts as whole.
WHOLE = 1e-6
#: Nodes between two bounds that are told.
PAUSE = 20


def suits(problem: TwoStageProblem) -> bool:
    """Whether the method applies."""
    uncertainty, first = problem.uncertainty, problem.first
    return bool(
        problem.cutter is not None
        and problem.switches is not None
        and problem.affine.certain_rows
        and isinstance(uncertainty, BudgetSet)
        and uncertainty.convex
        and not problem.affine.offset_xi.any()
        and first.whole.all()
        and (first.lower >= 0).all()
        and (first.upper <= 1).all()
        and math.isfinite(largest_price(problem))
    )


@dataclass
class _Node:
    """First stages within bounds [p]; none is worth more than ``bound`` at a model's prices."""

    bound: float
    lower: Vector
    upper: Vector
    #: The relaxation's first stage.
    x: Vector


class _Relaxation:
    """The linear relaxation for an interval of prices, with the cuts that it needed so far."""

    def __init__(self, problem: TwoStageProblem, low: float, high: float):
        affine, uncertainty = problem.affine, problem.uncertainty
        assert isinstance(uncertainty, BudgetSet)
        assert problem.switches is not None
        self.low, self.high = low, high
        model = Model()
        k, m = uncertainty.dimension, len(affine.q)
        self.x = problem.add_first_stage(model)
        self.y = model.add_columns(m, affine.lower, affine.upper, cost=affine.q)
        model.set_cost(self.x, problem.first.c + affine.p)
        model.offset += affine.offset
        price = model.add_columns(1, low, high, cost=-uncertainty.gamma)
        parts = model.add_columns(k, cost=-1.0)
        both = np.concatenate([self.x, self.y])
        model.add_rows(
            sparse.hstack([affine.T, affine.W]), both, affine.row_lower, affine.row_upper
        )
        gain = sparse.hstack([affine.p_xi.T, affine.q_xi.T])
        eye = sparse.identity(k)
        switch = sparse.csr_array(
            (np.ones(k), (np.arange(k), problem.switches)), shape=(k, problem.n)
        )
        # A part is at least l - price x; price x is at most high x, and price - low (1 - x).
        model.add_rows(
            sparse.hstack([eye, gain, high * switch]),
            np.concatenate([parts, both, self.x]), 0.0, np.inf,
        )  # fmt: skip
        model.add_rows(
            sparse.hstack([eye, gain, low * switch, sparse.csr_array(np.ones((k, 1)))]),
            np.concatenate([parts, both, self.x, price]), low, np.inf,
        )  # fmt: skip
        self.form = Form(model.mip(Sense.MAXIMIZE))
        self.highs: Any = pass_model(self.form, relaxed=True)
        self.highs.setOptionValue("threads", 0)
        #: Places of the cuts in use.
        self.cuts: set[int] = set()
        self.columns = self.x.astype(np.int32)

    def add(self, place: int, row: Vector, limit: float) -> None:
        """Add a cut [m] of the recourse."""
        keep = np.flatnonzero(row)
        columns = self.y[keep].astype(np.int32)
        self.highs.addRow(-np.inf, limit, len(keep), columns, row[keep])
        self.cuts.add(place)

    def solve(
        self, lower: Vector, upper: Vector, budget: Budget
    ) -> tuple[float, Vector | None, Vector] | None:
        """The relaxation with first stages within bounds [p]; None if there is none.

        Returns
        -------
        A bound, column values and what one more unit of them costs. If HiGHS fails or
        time is up, the bound is infinite and there are no values.
        """
        from highspy import HighsModelStatus as Code

        highs = self.highs
        highs.changeColsBounds(len(self.columns), self.columns, lower, upper)
        limit_run(highs, budget)
        highs.run()
        code = highs.getModelStatus()
        if code not in (Code.kOptimal, Code.kInfeasible, Code.kTimeLimit):
            highs.clearSolver()
            highs.run()
            code = highs.getModelStatus()
        if code == Code.kInfeasible:
            return None
        if code != Code.kOptimal:
            return math.inf, None, np.zeros(0)
        value = self.form.original(float(highs.getInfo().objective_function_value))
        found = highs.getSolution()
        return (
            value + 1e-9 * max(1.0, abs(value)), np.array(found.col_value), np.array(found.col_dual)
        )  # fmt: skip


def largest_price(problem: TwoStageProblem) -> float:
    """The largest loss of an entry; a higher price is never best."""
    affine = problem.affine
    first = problem.first
    loss = -sparse.hstack([affine.p_xi.T, affine.q_xi.T]).toarray()
    low = np.concatenate([first.lower, affine.lower])
    high = np.concatenate([first.upper, affine.upper])
    with np.errstate(invalid="ignore"):
        most = np.where(loss > 0, loss * high, 0.0) + np.where(loss < 0, loss * low, 0.0)
    return max(0.0, float(most.sum(1).max()))


class _Tree:
    """The nodes of one search, and the cuts that they share."""

    def __init__(self, search: Search, budget: Budget, by: str):
        self.search, self.budget, self.by = search, budget, by
        self.problem = search.problem
        m, n = len(self.problem.affine.q), self.problem.n
        self.rows, self.limits, self.count = np.zeros((64, m)), np.zeros(64), 0
        #: First stages that need no further look.
        self.settled: set[bytes] = set()
        self.ticket = itertools.count()
        self.heap: list[tuple[float, int, _Relaxation, _Node]] = []
        # Pseudo costs of setting a column to 0 and to 1 [2, p]: gains per unit, and of how many.
        self.gain, self.times = np.zeros((2, n)), np.zeros((2, n))

    @property
    def limit(self) -> float:
        """What is worth no more is of no use."""
        value = self.search.value
        return value + CLOSED * max(1.0, abs(value)) if math.isfinite(value) else -math.inf

    def over(self) -> bool:
        """Whether to stop."""
        return self.budget.done() is not None or self.search.tracker.done() is not None

    # --------------------------------------------------------------------------- cuts

    def learn(self, x: Vector, xi: Vector) -> None:
        """Add the cut of a first stage in a scenario."""
        assert self.problem.cutter is not None
        cut = self.problem.cutter(x, xi)
        if cut is None:
            return
        if self.count == len(self.limits):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.limits = np.concatenate([self.limits, np.zeros_like(self.limits)])
        row, limit = cut
        # Numbers of the size of 1, and a hair for rounding.
        self.rows[self.count] = row * (100.0 / limit)
        self.limits[self.count] = 100.0 * (1.0 + 1e-9)
        self.count += 1

    def visit(self, x: Vector) -> None:
        """Evaluate a first stage, unless a known scenario shows it to be no better; add a cut."""
        search, problem = self.search, self.problem
        known = search.hints(x)[:1]
        if len(known) and math.isfinite(self.limit):
            value = problem.first.value(x) + float(problem.recourse_at(x, known)[0][0, 0])
            if value <= self.limit:
                self.learn(x, known[0])
                self.settled.add(x.tobytes())
                return
        found = search.evaluate(x, self.by, self.budget)
        if found is None:
            if x.tobytes() in search.known:
                # No recourse in some scenario.
                self.settled.add(x.tobytes())
            return
        self.learn(x, found.xi)
        if found.exact or found.value <= self.limit:
            self.settled.add(x.tobytes())

    def cut(self, relaxation: _Relaxation, y: Vector) -> bool:
        """Add the cuts that y [m] exceeds by most; whether there are any."""
        excess = self.rows[: self.count] @ y - self.limits[: self.count]
        order = np.argsort(-excess, kind="stable")[:CUTS]
        fresh = [k for k in order.tolist() if excess[k] > EXCESS and k not in relaxation.cuts]
        for k in fresh:
            relaxation.add(k, self.rows[k], self.limits[k])
        return bool(fresh)

    # ------------------------------------------------------------------------- bounds

    def bound(
        self, relaxation: _Relaxation, lower: Vector, upper: Vector, bound: float
    ) -> _Node | None:
        """The node within bounds, after cuts and with what they fix; None if it is closed."""
        lower, upper = lower.copy(), upper.copy()
        x = 0.5 * (lower + upper)
        for _ in range(ROUNDS):
            found = relaxation.solve(lower, upper, self.budget)
            if found is None:
                return None
            value, columns, cost = found
            bound = min(bound, value)
            if bound <= self.limit:
                return None
            if columns is None:
                return _Node(bound, lower, upper, x)
            x = columns[relaxation.x]
            if self.over():
                break
            if self.cut(relaxation, columns[relaxation.y]):
                continue
            whole = np.rint(x) + 0.0
            if np.abs(x - whole).max() > WHOLE or whole.tobytes() in self.settled:
                break
            self.visit(whole)
            if bound <= self.limit:
                return None
            if not self.cut(relaxation, columns[relaxation.y]):
                break
        # What the other side of a column costs at least.
        cost = cost[relaxation.x]
        far = np.abs(cost) > value - self.limit
        upper = np.where(far & (cost > 0), lower, upper)
        lower = np.where(far & (cost < 0), upper, lower)
        return _Node(bound, lower, upper, x)

    def push(self, relaxation: _Relaxation, node: _Node) -> None:
        """Keep a node unless it is closed."""
        if node.bound > self.limit:
            heapq.heappush(self.heap, (-node.bound, next(self.ticket), relaxation, node))

    def open(self, relaxation: _Relaxation, node: _Node) -> None:
        """Keep the root of an interval of prices, or its halves if that pays."""
        if self.over():
            self.push(relaxation, node)
            return
        middle = 0.5 * (relaxation.low + relaxation.high)
        halves = []
        for low, high in ((relaxation.low, middle), (middle, relaxation.high)):
            half = _Relaxation(self.problem, low, high)
            for k in sorted(relaxation.cuts):
                half.add(k, self.rows[k], self.limits[k])
            halves.append((half, self.bound(half, node.lower, node.upper, node.bound)))
        most = max((n.bound for _, n in halves if n is not None), default=self.limit)
        if node.bound - most < HALVED * (node.bound - self.limit):
            self.push(relaxation, node)
            return
        for half, found in halves:
            if found is not None:
                self.open(half, found)

    # ---------------------------------------------------------------------- branching

    def choose(self, node: _Node) -> int:
        """The column to branch on: both of whose sides cost most, by pseudo costs."""
        free = np.flatnonzero(node.upper - node.lower > 0.5)
        sides = np.stack([node.x, 1.0 - node.x])[:, free]
        if sides.min(0).max() <= WHOLE:
            return int(free[0])
        mean = (self.gain.sum(1, keepdims=True) + 1e-6) / (self.times.sum(1, keepdims=True) + 1e-6)
        rate = np.where(self.times > 0, self.gain / np.maximum(self.times, 1.0), mean)[:, free]
        score = np.prod(np.maximum(rate * sides, 1e-6), axis=0)
        score[sides.min(0) <= WHOLE] = -1.0
        return int(free[np.argmax(score)])

    def branch(self, relaxation: _Relaxation, node: _Node) -> None:
        """Split a node in two."""
        i = self.choose(node)
        for side, moved in ((0, node.x[i]), (1, 1.0 - node.x[i])):
            lower, upper = node.lower.copy(), node.upper.copy()
            lower[i] = upper[i] = float(side)
            found = self.bound(relaxation, lower, upper, node.bound)
            if found is not None:
                self.push(relaxation, found)
            if moved > WHOLE and math.isfinite(self.limit):
                left = self.limit if found is None else found.bound
                self.gain[side, i] += max(0.0, node.bound - left) / moved
                self.times[side, i] += 1.0

    def begin(self) -> _Node | None:
        """Bound everything by one relaxation, and round it."""
        first = self.problem.first
        relaxation = _Relaxation(self.problem, 0.0, largest_price(self.problem))
        root = self.bound(relaxation, first.lower, first.upper, math.inf)
        if root is not None:
            self.search.offer_bound(root.bound, self.by)
            self.round(root.x)
        return root

    def round(self, x: Vector) -> None:
        """Visit the first stage next to a relaxation's."""
        whole = np.rint(x) + 0.0
        if whole.tobytes() not in self.settled and feasible_rows(self.problem, whole[None])[0]:
            self.visit(whole)

    def run(self) -> bool:
        """Work on the best node until none is left; True then."""
        search, first = self.search, self.problem.first
        known: list[Evaluation] = [e for e in search.known.values() if e is not None and e.exact]
        known.sort(key=lambda e: -e.value)
        for found in known[:KNOWN]:
            self.learn(found.x, found.xi)
            self.settled.add(found.x.tobytes())
        edges = np.linspace(0.0, largest_price(self.problem), PIECES + 1)
        waiting = []
        for low, high in itertools.pairwise(edges.tolist()):
            if self.over():
                # The bound of everything is the only one.
                return False
            relaxation = _Relaxation(self.problem, low, high)
            root = self.bound(relaxation, first.lower, first.upper, search.bound)
            if root is not None:
                waiting.append((relaxation, root))
        waiting.sort(key=lambda pair: -pair[1].bound)
        for relaxation, root in waiting:
            if not self.over():
                self.round(root.x)
            if root.bound > self.limit:
                self.open(relaxation, root)
        nodes = 0
        while self.heap and not self.over():
            _, _, relaxation, node = heapq.heappop(self.heap)
            if node.bound <= self.limit:
                self.heap.clear()
                break
            if nodes % PAUSE == 0:
                search.offer_bound(node.bound, self.by)
            nodes += 1
            if (node.upper - node.lower).max() > 0.5:
                self.branch(relaxation, node)
                continue
            if node.lower.tobytes() not in self.settled:
                self.visit(node.lower)
            if node.lower.tobytes() not in self.settled:
                # Out of time.
                self.push(relaxation, node)
                break
        search.offer_bound(max(self.limit, -self.heap[0][0]) if self.heap else self.limit, self.by)
        return not self.heap


def begin(search: Search, by: str = "branching") -> None:
    """A first stage and a bound at once, from the relaxation for all prices."""
    _Tree(search, search.budget, by).begin()


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
    return _Tree(search, budget, by).run()
