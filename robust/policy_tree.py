"""K-adaptability where rows depend on the scenario: which recourse serves which scenario.

A. Subramanyam, C. Gounaris and W. Wiesemann, K-adaptability in two-stage mixed-integer robust
optimization, Math. Prog. Comp. 12, 2020, section 3: a node of the tree holds the scenarios
that each recourse must serve; its master is a MIP. A scenario that no recourse serves is
given to each of them in turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Sense, Status
from nco.instances.mip import MIP
from nco.mip.backend import Form, Limits, Outcome, Watch
from nco.robust.baselines import nominal_scenario
from nco.robust.masters import Master, moved_rows, policy_master
from nco.robust.model import Model
from nco.robust.search import Search

Vector = NDArray[np.float64]
#: By how much a row or the value may be missed in a scenario.
MISSED = 1e-6


@dataclass(frozen=True, order=True)
class _Node:
    """Scenarios of every recourse [count], as places in the list of scenarios, by its bound."""

    bound: float
    groups: tuple[tuple[int, ...], ...]


def _solve(search: Search, mip: MIP, gap: float) -> Outcome:
    engine = search.engine(Form(mip), seed=search.seed)
    budget = search.budget
    watch = Watch(stop=budget.spent)
    try:
        found: Outcome = engine.solve(Limits(budget.left(), gap=gap), None, None, watch)
    finally:
        engine.close()
    return found


def _attack(search: Search, x: Vector, theta: float, policies: Vector) -> Vector | None:
    """The scenario that the best of the recourses [count, m] serves worst; None if all do.

    Raises
    ------
    TimeoutError
        When time is over first.
    """
    problem = search.problem
    affine, uncertainty = problem.affine, problem.uncertainty
    rows = moved_rows(affine)
    # For each recourse what it can miss, affine in xi.
    misses: list[list[tuple[Vector, float]]] = []
    for y in policies:
        linear, constant = affine.linear(x, y)
        options = [(-linear, theta - constant)]
        activity, slope = affine.T @ x + affine.W @ y, affine.slopes(x, y)
        for i in rows:
            if np.isfinite(affine.row_upper[i]):
                options.append((slope[i], activity[i] - affine.row_upper[i]))
            if np.isfinite(affine.row_lower[i]):
                options.append((-slope[i], affine.row_lower[i] - activity[i]))
        misses.append(options)
    model = Model()
    xi = uncertainty.add_to(model)
    low, high = uncertainty.bounds()

    def limits(slope: Vector, constant: float) -> tuple[float, float]:
        ends = np.stack([slope * low, slope * high])
        return constant + float(ends.min(0).sum()), constant + float(ends.max(0).sum())

    most = min(max(limits(*miss)[1] for miss in options) for options in misses)
    if most <= MISSED:
        return None
    zeta = model.add_columns(1, -np.inf, most, cost=1.0)
    for options in misses:
        # One of its rows is the one that a recourse misses.
        chosen = model.add_columns(len(options), 0.0, 1.0, whole=True)
        model.add_rows(np.ones((1, len(options))), chosen, 1.0, 1.0)
        for k, (slope, constant) in enumerate(options):
            big = max(0.0, most - limits(slope, constant)[0])
            model.add_rows(
                np.concatenate([[1.0], -slope, [big]])[None],
                np.concatenate([zeta, xi, chosen[[k]]]), -np.inf, constant + big,
            )  # fmt: skip
    while True:
        found = _solve(search, model.mip(Sense.MAXIMIZE), 1e-6)
        if found.status is not Status.OPTIMAL or found.x is None:
            raise TimeoutError("out of time in the search for a scenario that is not served.")
        point = found.x[xi]
        if found.x[zeta][0] <= MISSED:
            return None
        cut = uncertainty.separate(point)
        if cut is None:
            return np.asarray(uncertainty.project(point[None])[0])
        model.add_rows(cut[0][None], xi, -np.inf, cut[1])


def adapt(search: Search, count: int, by: str) -> float:
    """What the best ``count`` recourses guarantee, maximised; -inf if nothing is known.

    All first stages on the way are evaluated with full recourse.

    Parameters
    ----------
    search
        The solve.
    count
        Number of recourses.
    by
        Name for events.
    """
    problem = search.problem
    scenarios = [nominal_scenario(problem.uncertainty)]
    best = -math.inf
    # The best child is looked at first, so that there is something soon.
    stack = [_Node(math.inf, ((0,), *((),) * (count - 1)))]
    nodes = 0
    while stack and search.tracker.done(nodes) is None:
        node = stack.pop()
        nodes += 1
        if node.bound <= best + MISSED * max(1.0, abs(best)):
            continue
        master: Master = policy_master(
            problem, [[scenarios[s] for s in group] for group in node.groups]
        )
        begun = search.budget.elapsed()
        found = _solve(search, master.mip, 1e-6)
        search.spent["master"] += search.budget.elapsed() - begun
        if found.x is None or found.status is not Status.OPTIMAL:
            continue
        x = problem.whole_x(found.x[master.x])
        theta = float(found.x[master.theta][0])
        bound = problem.first.value(x) + theta
        if bound <= best + MISSED * max(1.0, abs(best)):
            continue
        search.evaluate(x, by)
        policies = np.array([found.x[y] for y in master.y])
        policies = np.where(problem.affine.whole, np.rint(policies), policies)
        begun = search.budget.elapsed()
        try:
            xi = _attack(search, x, theta, policies)
        except TimeoutError:
            break
        finally:
            search.spent["adversary"] += search.budget.elapsed() - begun
        search.log(by, begun)
        if xi is None:
            best = bound
            continue
        scenarios.append(xi)
        new = len(scenarios) - 1
        children = []
        for k, group in enumerate(node.groups):
            groups = list(node.groups)
            groups[k] = (*group, new)
            children.append(_Node(bound, tuple(groups)))
            if not group:
                # Recourses without scenarios are alike.
                break
        # Last in, first out: those that serve most alike scenarios on their own come last.
        children.sort(key=lambda child: max(len(g) for g in child.groups), reverse=True)
        stack += children
    return best
