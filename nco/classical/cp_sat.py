"""OR-tools' CP-SAT on problems with a natural constraint model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.classical.insertion import first_solution
from nco.instances.core import (
    Budget,
    Instance,
    Listener,
    Result,
    Sense,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
    spawn_seed,
)
from nco.instances.cvrp import CVRP
from nco.instances.knapsack import Knapsack
from nco.instances.mip import MIP
from nco.instances.mis import MIS
from nco.instances.mtsp import MTSP
from nco.instances.op import OP
from nco.instances.packing import cliques
from nco.instances.pctsp import PCTSP
from nco.instances.tsp import TSP

#: Circuits have a literal per arc.
MOST_NODES = 300
#: Coefficients are made whole by at most this factor.
MOST_SCALE = 10**6
#: Products of coefficients and bounds stay far inside 64 bits.
LARGEST = 2.0**52


def whole_factor(values: Any) -> int | None:
    """Smallest power of ten that makes all numbers whole, or None."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    factor = 1
    while factor <= MOST_SCALE:
        scaled = array * factor
        # Relative to each number: tiny ones are not 0, and large ones may have halves.
        allowed = np.minimum(1e-9 * np.abs(scaled), 1e-4)
        if (np.abs(scaled - np.rint(scaled)) <= allowed).all():
            return factor
        factor *= 10
    return None


@dataclass
class _Model:
    """A CP model; objective = scaled objective / scale + offset, right up to ``slack``."""

    model: Any
    variables: list[Any]
    values: Callable[[Any], NDArray[np.float64] | None]
    decode: Callable[[NDArray[np.float64]], Any]
    scale: float = 1.0
    offset: float = 0.0
    slack: float = 0.0


def _objective(
    model: Any, variables: Sequence[Any], c: NDArray[np.float64], maximize: bool, reach: float
) -> tuple[float, float]:
    """Set the objective; the scale and the largest error of rounding coefficients."""
    from ortools.sat.python import cp_model

    factor = whole_factor(c)
    largest = max(1.0, float(np.abs(c).sum()) * reach)
    exact = factor is not None and factor * float(np.abs(c).sum()) <= LARGEST
    scale = float(factor or 1) if exact else min(1e9, 2.0**50 / largest)
    coefficients = np.rint(c * scale).astype(np.int64)
    error = 0.0 if exact else len(variables) * reach * 0.5 / scale
    expression = cp_model.LinearExpr.weighted_sum(list(variables), coefficients.tolist())
    (model.maximize if maximize else model.minimize)(expression)
    return scale, error


def _room(capacity: float, total: int) -> int:
    """A capacity as an integer, no more than all weigh: it may be beyond 64 bits."""
    return math.floor(min(capacity * (1 + 1e-12) + 1e-9, float(total)))


def _knapsack(instance: Knapsack) -> _Model:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    take = [model.new_bool_var("") for _ in range(instance.n)]
    factor = whole_factor(instance.weights) or 1
    weights = np.rint(instance.weights * float(factor)).astype(np.int64)
    room = _room(instance.capacity * factor, int(weights.sum()))
    model.add(cp_model.LinearExpr.weighted_sum(take, weights.tolist()) <= room)
    scale, slack = _objective(model, take, instance.values.astype(float), True, 1.0)
    return _subset(model, take, instance.n, scale, slack)


def _subset(model: Any, take: list[Any], n: int, scale: float, slack: float) -> _Model:
    def values(chosen: list[int]) -> NDArray[np.float64]:
        x = np.zeros(n)
        x[np.asarray(chosen, dtype=np.intp)] = 1.0
        return x

    return _Model(
        model, take, values, lambda x: np.flatnonzero(x > 0.5).tolist(), scale, 0.0, slack
    )


def _mis(instance: MIS) -> _Model:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    take = [model.new_bool_var("") for _ in range(instance.n)]
    for clique in cliques(instance):
        model.add_at_most_one([take[k] for k in clique])
    scale, slack = _objective(model, take, instance.weights.astype(float), True, 1.0)
    return _subset(model, take, instance.n, scale, slack)


def _tsp(instance: TSP) -> _Model:
    from ortools.sat.python import cp_model

    n = instance.n
    model = cp_model.CpModel()
    there = ~np.eye(n, dtype=bool)
    if instance.edges is not None:
        i, j = instance.edges.T
        there[:] = False
        there[i, j] = True
        there |= there.T if not instance.directed else False
    tail, head = np.nonzero(there)
    arc = [model.new_bool_var("") for _ in range(len(tail))]
    model.add_circuit(list(zip(tail.tolist(), head.tolist(), arc, strict=True)))
    for i, j in () if instance.fixed is None else instance.fixed.tolist():
        (forth,) = np.flatnonzero((tail == i) & (head == j))
        (back,) = (forth,) if instance.directed else np.flatnonzero((tail == j) & (head == i))
        model.add_bool_or(arc[forth], arc[back])
    cost = instance.distances.pairs(tail, head)
    scale, slack = _objective(model, arc, cost, False, 1.0)

    def values(tour: list[int]) -> NDArray[np.float64]:
        after = np.empty(n, dtype=np.intp)
        after[np.asarray(tour)] = np.roll(np.asarray(tour), -1)
        return (after[tail] == head).astype(float)

    def decode(x: NDArray[np.float64]) -> list[int]:
        after = dict(zip(tail[x > 0.5].tolist(), head[x > 0.5].tolist(), strict=True))
        tour = [0]
        while (node := after[tour[-1]]) != 0:
            tour.append(node)
        return tour

    # A circuit of n nodes has n arcs: their rounding is all the error there is.
    return _Model(model, arc, values, decode, scale, 0.0, slack * n / max(1, len(arc)))


def _route_arcs(tail: NDArray[Any], head: NDArray[Any]) -> tuple[Any, Any]:
    """From routes to the values of arcs, and back."""
    lookup = {(i, j): k for k, (i, j) in enumerate(zip(tail.tolist(), head.tolist(), strict=True))}

    def values(routes: list[list[int]]) -> NDArray[np.float64]:
        x = np.zeros(len(tail))
        for route in routes:
            path = [0, *route, 0] if route else []
            for pair in pairwise(path):
                x[lookup[pair]] = 1.0
        return x

    def decode(x: NDArray[np.float64]) -> list[list[int]]:
        after: dict[int, int] = {}
        firsts = []
        for i, j in zip(tail[x > 0.5].tolist(), head[x > 0.5].tolist(), strict=True):
            if i:
                after[i] = j
            else:
                firsts.append(j)
        routes = []
        for node in firsts:
            route = []
            while node:
                route.append(node)
                node = after[node]
            routes.append(route)
        return routes

    return values, decode


def _cvrp(instance: CVRP) -> _Model:
    from ortools.sat.python import cp_model

    nodes = instance.nodes
    model = cp_model.CpModel()
    tail, head = np.nonzero(~np.eye(nodes, dtype=bool))
    arc = [model.new_bool_var("") for _ in range(len(tail))]
    triples = list(zip(tail.tolist(), head.tolist(), arc, strict=True))
    model.add_multiple_circuit(triples)
    factor = whole_factor(instance.demands) or 1
    demand = np.rint(instance.demands * float(factor)).astype(np.int64).tolist()
    room = _room(instance.capacity * factor, sum(demand))
    load = [model.new_int_var(demand[k], room, "") for k in range(nodes)]
    cost = instance.distances.pairs(tail, head)
    clock: list[Any] = []
    service, limit = 0, 0
    if instance.max_distance is not None:
        service, limit = int(instance.service_time), math.floor(instance.max_distance + 1e-9)
        clock = [model.new_int_var(0, max(0, limit), "") for _ in range(nodes)]
    for (i, j, used), length in zip(triples, cost.tolist(), strict=True):
        step = round(length)
        if i and j:
            if demand[i] + demand[j] > room:
                model.add(used == 0)
                continue
            model.add(load[j] >= load[i] + demand[j]).only_enforce_if(used)
        if clock and j:
            before = clock[i] + service if i else 0
            model.add(clock[j] >= before + step).only_enforce_if(used)
        elif clock:
            model.add(clock[i] + service + step <= limit).only_enforce_if(used)
    leaving = [used for i, _, used in triples if i == 0]
    total = sum(demand)
    model.add(cp_model.LinearExpr.sum(leaving) >= max(1, -(-total // room) if room else 1))
    if instance.vehicles is not None:
        model.add(cp_model.LinearExpr.sum(leaving) <= instance.vehicles)
    scale, slack = _objective(model, arc, cost, False, 1.0)
    values, decode = _route_arcs(tail, head)
    slack *= 2 * nodes / max(1, len(arc))
    return _Model(model, arc, values, decode, scale, 0.0, slack)


def _circuit(nodes: int, model: Any, loops: bool) -> tuple[Any, Any, list[Any]]:
    """Tails, heads and literals of all arcs; with loops, which leave a node out, at the end."""
    tail, head = np.nonzero(~np.eye(nodes, dtype=bool))
    if loops:
        tail, head = np.r_[tail, np.arange(nodes)], np.r_[head, np.arange(nodes)]
    return tail, head, [model.new_bool_var("") for _ in range(len(tail))]


def _subset_tour(instance: OP | PCTSP) -> _Model:
    from ortools.sat.python import cp_model

    nodes = instance.nodes
    model = cp_model.CpModel()
    tail, head, arc = _circuit(nodes, model, loops=True)
    model.add_circuit(list(zip(tail.tolist(), head.tolist(), arc, strict=True)))
    loop = arc[len(arc) - nodes :]
    for k in range(1, nodes):
        # Without the depot there is no tour.
        model.add_implication(loop[0], loop[k])
    length = np.where(tail == head, 0.0, instance.distances.pairs(tail, head))
    c = np.zeros(len(arc))
    if isinstance(instance, OP):
        c[-nodes:] = -instance.prizes
        c[-nodes] = 0.0
        # Rounded down: what is too long by less shows when the solution is checked.
        scale = 1.0 if instance.distances.integral else MOST_SCALE / max(instance.max_length, 1e-9)
        steps = np.floor(length * scale).astype(np.int64)
        room = math.floor(min(instance.max_length * scale * (1 + 1e-9), LARGEST))
        model.add(cp_model.LinearExpr.weighted_sum(arc, steps.tolist()) <= room)
    else:
        c += length
        c[-nodes:] += instance.penalties
        c[-nodes] = 0.0
        factor = whole_factor(np.r_[instance.prizes, instance.min_prize])
        scale = float(factor) if factor else MOST_SCALE / max(instance.min_prize, 1e-9)
        prizes = np.ceil(np.minimum(instance.prizes, instance.min_prize) * scale - 1e-6)
        least = math.floor(instance.min_prize * scale * (1 - 1e-9) + 1e-6)
        # Left out counts against all there is.
        spare = int(prizes.sum()) - least
        weights = prizes.astype(np.int64).tolist()
        model.add(cp_model.LinearExpr.weighted_sum(loop, weights) <= spare)
    maximize = instance.sense is Sense.MAXIMIZE
    scale, slack = _objective(model, arc, c, maximize, 1.0)
    lookup = {(i, j): k for k, (i, j) in enumerate(zip(tail.tolist(), head.tolist(), strict=True))}

    def values(visits: list[int]) -> NDArray[np.float64]:
        x = np.zeros(len(arc))
        for pair in pairwise([0, *visits, 0]):
            x[lookup[pair]] = 1.0
        for k in set(range(1, nodes)) - set(visits):
            x[lookup[k, k]] = 1.0
        return x

    def decode(x: NDArray[np.float64]) -> list[int]:
        after = dict(zip(tail[x > 0.5].tolist(), head[x > 0.5].tolist(), strict=True))
        visits: list[int] = []
        while (node := after[visits[-1] if visits else 0]) != 0:
            visits.append(node)
        return visits

    total = float(np.sum(instance.prizes)) if isinstance(instance, OP) else 0.0
    return _Model(model, arc, values, decode, scale, total, slack * nodes / max(1, len(arc)))


def _mtsp(instance: MTSP) -> _Model:
    from ortools.sat.python import cp_model

    nodes = instance.nodes
    model = cp_model.CpModel()
    tail, head, arc = _circuit(nodes, model, loops=False)
    triples = list(zip(tail.tolist(), head.tolist(), arc, strict=True))
    model.add_multiple_circuit(triples)
    length = instance.distances.pairs(tail, head)
    integral = instance.distances.integral and length.sum() <= LARGEST
    scale = 1.0 if integral else MOST_SCALE / max(float(length.max()), 1e-12)
    # Rounded down, so that the bound holds.
    steps = np.floor(length * scale).astype(np.int64).tolist()
    horizon = max(steps) * (nodes + 1)
    clock = [model.new_int_var(0, horizon, "") for _ in range(nodes)]
    longest = model.new_int_var(0, horizon, "")
    for (i, j, used), step in zip(triples, steps, strict=True):
        end = longest if j == 0 else clock[j]
        model.add(end >= (clock[i] if i else 0) + step).only_enforce_if(used)
    leaving = [used for i, _, used in triples if i == 0]
    model.add(cp_model.LinearExpr.sum(leaving) <= instance.salesmen)
    # The routes together are no longer than as many times the longest.
    total = cp_model.LinearExpr.weighted_sum(arc, steps)
    model.add(total <= instance.salesmen * longest)
    model.minimize(longest)
    values, decode = _route_arcs(tail, head)
    return _Model(model, arc, values, decode, scale, 0.0, 0.0 if integral else nodes / scale)


def _mip(instance: MIP) -> _Model:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    lower = np.ceil(instance.lower - 1e-9).astype(np.int64).tolist()
    upper = np.floor(instance.upper + 1e-9).astype(np.int64).tolist()
    column = [model.new_int_var(low, high, "") for low, high in zip(lower, upper, strict=True)]
    A = instance.A
    for k in range(instance.m):
        entries = slice(A.indptr[k], A.indptr[k + 1])
        low, high = instance.row_lower[k], instance.row_upper[k]
        factor = whole_factor(A.data[entries]) or 1
        names = [column[j] for j in A.indices[entries].tolist()]
        values = np.rint(A.data[entries] * factor).astype(np.int64).tolist()
        # Whole activities: fractional limits round inwards.
        left = math.ceil(low * factor - 1e-9) if math.isfinite(low) else cp_model.INT32_MIN * 2**29
        right = math.floor(high * factor + 1e-9) if math.isfinite(high) else 2**60
        model.add_linear_constraint(cp_model.LinearExpr.weighted_sum(names, values), left, right)
    reach = float(np.maximum(np.abs(lower), np.abs(upper)).max()) if column else 0.0
    scale, slack = _objective(
        model, column, instance.c, instance.sense is Sense.MAXIMIZE, max(1.0, reach)
    )
    return _Model(model, column, instance.vector, instance.solution, scale, instance.offset, slack)


def _mip_reason(instance: MIP) -> str | None:
    if not instance.integrality.all():
        return "needs whole columns only"
    bounds = np.concatenate([instance.lower, instance.upper])
    if not np.isfinite(bounds).all() or (np.abs(bounds) > 1e9).any():
        return "needs columns bounded within 1e9"
    if (np.ceil(instance.lower - 1e-9) > np.floor(instance.upper + 1e-9)).any():
        return "has a column without a whole value"
    A = instance.A
    reach = np.maximum(np.abs(instance.lower), np.abs(instance.upper))
    for k in range(instance.m):
        entries = slice(A.indptr[k], A.indptr[k + 1])
        factor = whole_factor(A.data[entries])
        if factor is None:
            return f"row {instance.rows[k]} does not scale to whole numbers"
        if factor * float(np.abs(A.data[entries]) @ reach[A.indices[entries]]) > LARGEST:
            return f"row {instance.rows[k]} has too large numbers"
    if float(np.abs(instance.c) @ reach) > LARGEST:
        return "the objective has too large numbers"
    return None


@dataclass(frozen=True)
class CPSAT:
    """CP-SAT on knapsack, independent set, small routing, and pure integer programs.

    Parameters
    ----------
    workers
        Threads; results repeat from a seed with one only.

    Raises
    ------
    ValueError
        When there are fewer than one.
    """

    name: ClassVar[str] = "cp-sat"
    workers: int = 1

    def __post_init__(self) -> None:
        """Validate."""
        if self.workers < 1:
            raise ValueError(f"workers = {self.workers} < 1 not understood.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        if isinstance(instance, Knapsack):
            factor = whole_factor(instance.weights)
            if factor is None:
                return "weights do not scale to whole numbers"
            total = factor * float(instance.weights.sum())
            return "too large numbers" if total > LARGEST else None
        if isinstance(instance, MIS):
            return None
        if isinstance(instance, TSP):
            return None if instance.n <= MOST_NODES else f"more than {MOST_NODES} nodes"
        # Exactly CVRP: what derives from it may mean something else.
        if type(instance) is CVRP:
            if instance.nodes > MOST_NODES:
                return f"more than {MOST_NODES} nodes"
            if whole_factor(instance.demands) is None:
                return "demands do not scale to whole numbers"
            whole = instance.distances.integral and float(instance.service_time).is_integer()
            if instance.max_distance is not None and not whole:
                return "a distance limit needs whole distances"
            return None
        if type(instance) in (OP, PCTSP, MTSP):
            nodes = int(instance.nodes)  # type: ignore[attr-defined]
            return None if nodes <= MOST_NODES else f"more than {MOST_NODES} nodes"
        if isinstance(instance, MIP):
            return _mip_reason(instance)
        return f"has no model for {instance.problem}"

    def _build(self, instance: Instance[Any]) -> _Model:
        if isinstance(instance, Knapsack):
            return _knapsack(instance)
        if isinstance(instance, MIS):
            return _mis(instance)
        if isinstance(instance, TSP):
            return _tsp(instance)
        if isinstance(instance, CVRP):
            return _cvrp(instance)
        if isinstance(instance, (OP, PCTSP)):
            return _subset_tour(instance)
        if isinstance(instance, MTSP):
            return _mtsp(instance)
        assert isinstance(instance, MIP)
        return _mip(instance)

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
            When `supports` refuses it.
        """
        from importlib.metadata import version

        from nco.mip.backend import checked_start, run_interruptible

        reason = self.supports(instance)
        if reason is not None:
            raise UnsupportedError(reason)
        tracker: Tracker[Any] = Tracker(
            instance, budget, solver=self.name, seed=seed, on_event=on_event
        )
        about: Mapping[str, Any] = {
            "params": {"workers": self.workers},
            "versions": {"ortools": version("ortools")},
        }
        if start is not None and not checked_start(instance, start):
            tracker.offer(start)
        elif not isinstance(instance, MIP):
            # Its own first solutions come late.
            first = first_solution(instance, budget)
            if first is not None:
                tracker.offer(first, by="constructive")
        if isinstance(instance, TSP) and instance.n == 1:
            tracker.offer([0])
            return tracker.result(Stop.PROVED, status=Status.OPTIMAL, **about)
        if (stopped := tracker.done()) is not None:
            return tracker.result(stopped, **about)
        with budget.catch_interrupt():
            built = self._build(instance)
            if tracker.solution is not None:
                hint = built.values(tracker.solution)
                assert hint is not None
                for variable, value in zip(built.variables, hint.tolist(), strict=True):
                    built.model.add_hint(variable, round(value))
            solver = self._solver(budget, spawn_seed(seed, instance.digest))
            code = self._search(solver, built, tracker, run_interruptible)
        return self._conclude(solver, code, built, tracker, about)

    def _solver(self, budget: Budget, seed: int) -> Any:
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        parameters = solver.parameters
        parameters.num_workers = self.workers
        parameters.random_seed = seed
        parameters.catch_sigint_signal = False
        if math.isfinite(budget.left()):
            parameters.max_time_in_seconds = max(0.0, budget.left())
        if budget.iterations is not None:
            parameters.max_number_of_conflicts = budget.iterations
        if budget.gap is not None:
            parameters.relative_gap_limit = budget.gap / (1.0 + budget.gap)
        return solver

    def _search(self, solver: Any, built: _Model, tracker: Tracker[Any], run: Any) -> Any:
        from ortools.sat.python import cp_model

        over = False

        class Listen(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]
            def on_solution_callback(self) -> None:
                if over:
                    return
                values = [self.value(variable) for variable in built.variables]
                solution = built.decode(np.array(values, dtype=np.float64))
                if not tracker.instance.violations(solution):
                    tracker.offer(solution)

        def hear_bound(bound: float) -> None:
            if not over:
                self._offer_bound(tracker, built, bound)

        solver.best_bound_callback = hear_bound
        codes: list[Any] = []

        def search() -> None:
            codes.append(solver.solve(built.model, Listen()))

        answered = run(search, lambda: tracker.done() is not None, solver.stop_search)
        # One that does not answer is left behind; what it still finds comes too late.
        over = True
        return codes[0] if answered else cp_model.UNKNOWN

    @staticmethod
    def _offer_bound(tracker: Tracker[Any], built: _Model, bound: float) -> None:
        maximize = tracker.instance.sense is Sense.MAXIMIZE
        slack = built.slack if maximize else -built.slack
        value = bound / built.scale + built.offset + slack
        objective = tracker.objective
        if objective is not None and math.isclose(value, objective, rel_tol=1e-9, abs_tol=1e-9):
            value = objective
        tracker.offer_bound(value)

    def _conclude(
        self,
        solver: Any,
        code: Any,
        built: _Model,
        tracker: Tracker[Any],
        about: Mapping[str, Any],
    ) -> Result:
        from ortools.sat.python import cp_model

        if code == cp_model.MODEL_INVALID:
            raise UnsupportedError("CP-SAT refuses the model: numbers too large; scale them")
        if code == cp_model.INFEASIBLE and tracker.solution is None:
            return tracker.result(Stop.PROVED, status=Status.INFEASIBLE, **about)
        if code in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            self._offer_bound(tracker, built, solver.best_objective_bound)
        stopped = tracker.done()
        if code == cp_model.OPTIMAL:
            # Where limits were rounded its own solution may have been refused.
            value = solver.objective_value / built.scale + built.offset
            proved = (
                built.slack == 0
                and tracker.objective is not None
                and math.isclose(tracker.objective, value, rel_tol=1e-9, abs_tol=1e-9)
            )
            reason = Stop.PROVED if proved else Stop.FINISHED
            if proved and tracker.budget.gap:
                # Within the gap asked for CP-SAT also says optimal.
                proved = tracker.bound == tracker.objective
                reason = Stop.PROVED if proved else Stop.GAP
            return tracker.result(reason, status=Status.OPTIMAL if proved else None, **about)
        limited = tracker.budget.iterations is not None
        return tracker.result(stopped or (Stop.ITERATIONS if limited else Stop.TIME), **about)
