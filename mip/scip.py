"""SCIP as an engine and as the solver ``scip``."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from nco.instances.core import Status, Stop
from nco.mip.backend import (
    INFINITY,
    EngineSolver,
    Form,
    Limits,
    Neighborhood,
    Outcome,
    OutOfTimeError,
    Vector,
    Watch,
    left_behind,
    run_interruptible,
)

logger = logging.getLogger("nco")

#: SCIP's name of the heuristic that hands over solutions found elsewhere.
HEURISTIC = "nco"
#: Columns or rows written between two looks at the clock.
CHUNK = 200
#: SCIP's name of our k-th column; of one with two values, the binary one of their difference
#: that presolve puts in its place.
ACTIVE = re.compile(r"t_x(\d+)(_bin)?")


class ScipEngine:
    """One SCIP object; see `Backend`.

    Parameters
    ----------
    form
        The model.
    seed
        SCIP's random seed shift.
    threads
        SCIP itself works in one thread; more are used by LP solvers that can.
    params
        Further SCIP parameters, name -> value.
    stop
        Asked while the model is written, which takes long for large ones.

    Raises
    ------
    ValueError
        When SCIP refuses a parameter.
    OutOfTimeError
        When ``stop`` said True before the model was there.
    """

    name: ClassVar[str] = "scip"

    def __init__(
        self,
        form: Form,
        *,
        seed: int = 0,
        threads: int = 1,
        params: Mapping[str, Any] | None = None,
        stop: Callable[[], bool] | None = None,
    ):
        from pyscipopt import Model
        from pyscipopt.scip import Term

        self.form = form
        self._model = model = Model()
        model.hideOutput()
        # Ctrl-C is ours: SCIP's own handler would swallow it.
        model.setParam("misc/catchctrlc", False)
        model.setParam("randomization/randomseedshift", seed % 2**31)
        model.setParam("lp/threads", threads)
        if form.tolerance is not None:
            model.setParam("numerics/feastol", form.tolerance)
        for name, value in (params or {}).items():
            try:
                model.setParam(name, value)
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(
                    f"SCIP parameter {name} = {value} not understood: {error}."
                ) from None
        self._stop = stop
        self.lost = False
        self._variables: list[Any] = []
        try:
            for k, (whole, low, high, cost) in enumerate(
                zip(
                    form.whole.tolist(),
                    _limits(form.lower),
                    _limits(form.upper),
                    form.c.tolist(),
                    strict=True,
                )
            ):
                self._ask(k)
                self._variables.append(
                    model.addVar(f"x{k}", "I" if whole else "C", low, high, cost)
                )
            model.addObjoffset(form.offset)
            self._terms = [Term(variable) for variable in self._variables]
            self.add_rows(form.A, form.row_lower, form.row_upper)
        finally:
            self._stop = None
        self._events = self._listen()
        self._heuristic = self._advise()

    def _listen(self) -> Any:
        from pyscipopt import SCIP_EVENTTYPE, Eventhdlr

        kinds = (
            SCIP_EVENTTYPE.BESTSOLFOUND,
            SCIP_EVENTTYPE.NODESOLVED,
            SCIP_EVENTTYPE.LPSOLVED,
            SCIP_EVENTTYPE.PRESOLVEROUND,
        )
        engine = self

        class Ears(Eventhdlr):  # type: ignore[misc]
            watch: Watch | None = None
            bound = -math.inf
            best: Vector | None = None
            failure: BaseException | None = None

            def eventinit(self) -> None:
                for kind in kinds:
                    self.model.catchEvent(kind, self)

            def eventexit(self) -> None:
                for kind in kinds:
                    self.model.dropEvent(kind, self)

            def eventexec(self, event: Any) -> None:
                # An exception must not travel through C.
                try:
                    engine._hear(event.getType() == SCIP_EVENTTYPE.BESTSOLFOUND)
                except BaseException as error:
                    self.failure = error
                    engine._interrupt()

        ears = Ears()
        self._model.includeEventhdlr(ears, "nco", "improvements, bounds and interruption")
        return ears

    def _advise(self) -> Any:
        # Handed over in an event, solutions from outside crash SCIP; a heuristic may.
        from pyscipopt import SCIP_HEURTIMING, SCIP_RESULT, Heur

        engine = self

        class Advice(Heur):  # type: ignore[misc]
            taken = 0

            def heurexec(self, heurtiming: Any, nodeinfeasible: Any) -> dict[str, Any]:
                # An exception must not travel through C.
                try:
                    found = engine._take_advice()
                except BaseException as error:
                    engine._events.failure = error
                    engine._interrupt()
                    found = False
                self.taken += found
                return {"result": SCIP_RESULT.FOUNDSOL if found else SCIP_RESULT.DIDNOTFIND}

        advice = Advice()
        self._model.includeHeur(
            advice,
            HEURISTIC,
            "solutions found elsewhere",
            "n",
            # Before SCIP's own ones, which can build upon it.
            priority=1_000_000,
            freq=-1,
            timingmask=SCIP_HEURTIMING.BEFORENODE | SCIP_HEURTIMING.DURINGLPLOOP,
        )
        return advice

    def _take_advice(self) -> bool:
        watch = self._events.watch
        suggestion = None if watch is None or watch.suggest is None else watch.suggest()
        if suggestion is None:
            return False
        model = self._model
        values = self.form.rounded(suggestion)
        solution = model.createSol(self._heuristic)
        # Only active variables take a value; those that presolve replaced follow from them.
        for variable in model.getVars(transformed=True):
            known = ACTIVE.fullmatch(variable.name)
            if known is None:
                continue
            k = int(known[1])
            value = float(values[k])
            if known[2]:
                value -= model.getTransformedVar(self._variables[k]).getLbGlobal()
            model.setSolVal(solution, variable, value)
        # Presolve may have cut it off, for one that is as good; SCIP checks it.
        return bool(model.trySol(solution, printreason=False))

    def _hear(self, solution: bool) -> None:
        watch = self._events.watch
        if watch is None:
            # Left behind, it is still to end.
            if self.lost:
                self._interrupt()
            return
        # The root is done when there is a second node.
        watch.nodes = max(watch.nodes, int(self._model.getNTotalNodes()) - 1)
        if solution:
            self._events.best = self._values(self._model.getBestSol())
            if watch.on_solution is not None:
                watch.on_solution(self._events.best)
        bound = self._model.getDualbound()
        if bound > self._events.bound and abs(bound) < INFINITY:
            self._events.bound = bound
            if watch.on_bound is not None:
                watch.on_bound(bound)
        if watch.pause is not None:
            watch.pause()
        if watch.stop():
            self._interrupt()

    def _interrupt(self) -> None:
        # Between some of its stages SCIP refuses; whoever asks asks again.
        try:
            self._model.interruptSolve()
        except Exception as error:
            logger.debug("SCIP cannot be interrupted at this moment: %s", error)

    def _values(self, solution: Any) -> Vector:
        value = self._model.getSolVal
        return np.array([value(solution, variable) for variable in self._variables])

    def _ask(self, done: int) -> None:
        if done % CHUNK == 0 and self._stop is not None and self._stop():
            raise OutOfTimeError

    def add_rows(self, A: Any, lower: Vector, upper: Vector) -> None:
        """Add valid rows for good."""
        self._add(A, lower, upper)

    def _add(self, A: Any, lower: Vector, upper: Vector) -> list[Any]:
        from pyscipopt.scip import Expr, ExprCons

        matrix = sparse.csr_array(A)
        starts = matrix.indptr.tolist()
        columns = matrix.indices.tolist()
        values = matrix.data.tolist()
        terms, add = self._terms, self._model.addCons
        rows = []
        for k, (low, high) in enumerate(zip(_limits(lower), _limits(upper), strict=True)):
            self._ask(k)
            entries = range(starts[k], starts[k + 1])
            if not entries or (low is None and high is None):
                # The form has checked that empty rows hold.
                continue
            expression = Expr({terms[columns[e]]: values[e] for e in entries})
            rows.append(add(ExprCons(expression, low, high), f"r{k}"))
        return rows

    def close(self) -> None:
        """Free the engine's memory."""
        if self.lost:
            return
        self._terms.clear()
        self._variables.clear()
        self._model.freeProb()

    def solve(
        self,
        limits: Limits,
        neighborhood: Neighborhood | None = None,
        start: Vector | None = None,
        watch: Watch | None = None,
    ) -> Outcome:
        """Solve the model, or the restriction; afterwards it is as before."""
        if limits.seconds <= 0:
            return Outcome(stopped=Stop.TIME)
        watch = watch or Watch()
        model, form = self._model, self.form
        restriction = neighborhood or Neighborhood()
        changed = restriction.column_bounds(form)
        if changed is not None and (changed[1] > changed[2]).any():
            return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
        extra: list[Any] = []
        try:
            if changed is not None:
                self._bounds(*changed)
            if restriction.objective is not None:
                self._objective(restriction.objective, 0.0)
            if restriction.rows is not None:
                extra += self._add(*restriction.rows)
            if restriction.cutoff is not None:
                if restriction.objective is None:
                    # SCIP wants strictly better; a hair more keeps ties.
                    cutoff = restriction.cutoff
                    slack = 1e-9 * max(1.0, abs(cutoff - form.offset)) + 4 * math.ulp(cutoff)
                    model.setObjlimit(cutoff + slack)
                else:
                    right = np.array([restriction.cutoff - form.offset])
                    extra += self._add(sparse.csr_array(form.c[None]), np.array([-math.inf]), right)
            return self._run(limits, start, watch, restriction)
        finally:
            if not self.lost:
                self._undo(restriction, changed, extra)

    def _undo(self, restriction: Neighborhood, changed: Any, extra: list[Any]) -> None:
        model, form = self._model, self.form
        # Solutions of one call must not leak into the next.
        model.setParam("limits/maxorigsol", 0)
        model.freeTransform()
        for row in extra:
            model.delCons(row)
        if changed is not None:
            columns = changed[0]
            self._bounds(columns, form.lower[columns], form.upper[columns])
        if restriction.objective is not None:
            self._objective(form.c, form.offset)
        if restriction.cutoff is not None:
            model.setObjlimit(model.infinity())

    def _bounds(self, columns: Any, lower: Vector, upper: Vector) -> None:
        model, variables = self._model, self._variables
        for k, low, high in zip(columns.tolist(), _limits(lower), _limits(upper), strict=True):
            model.chgVarLb(variables[k], low)
            model.chgVarUb(variables[k], high)

    def _objective(self, c: Vector, offset: float) -> None:
        from pyscipopt.scip import Expr

        used = np.flatnonzero(c).tolist()
        expression = Expr({self._terms[k]: float(c[k]) for k in used})
        # Clearing takes the old constant away, too.
        self._model.setObjective(expression, "minimize", clear=True)
        if offset:
            self._model.addObjoffset(offset)

    def _run(
        self, limits: Limits, start: Vector | None, watch: Watch, restriction: Neighborhood
    ) -> Outcome:
        model, ears = self._model, self._events
        model.setParam("limits/time", min(limits.seconds, INFINITY))
        for name, value in (
            ("limits/nodes", limits.nodes),
            ("limits/stallnodes", limits.stall_nodes),
            ("limits/bestsol", limits.solutions),
        ):
            model.setParam(name, -1 if value is None else value)
        model.setParam("limits/gap", limits.gap)
        model.setParam(f"heuristics/{HEURISTIC}/freq", -1 if watch.suggest is None else 1)
        model.setParam("limits/maxorigsol", 1)
        if start is not None:
            solution = model.createOrigSol()
            for variable, value in zip(
                self._variables, self.form.rounded(start).tolist(), strict=True
            ):
                model.setSolVal(solution, variable, value)
            model.addSol(solution)
        ears.watch, ears.bound, ears.failure, ears.best = watch, -math.inf, None, None
        self._heuristic.taken = 0
        try:
            self.lost = not run_interruptible(model.optimizeNogil, watch.stop, self._interrupt)
        except Exception as error:
            # Asked to stop between two of its stages, SCIP may end with an error, which the
            # binding knows as a plain Exception; what it had found until then counts.
            if not watch.stop():
                raise
            logger.warning("SCIP ended with an error when it was asked to stop: %s", error)
            self.lost = True
        except BaseException:
            # At a second Ctrl-C the engine may still be at work; what it has is not to be touched.
            self.lost = True
            raise
        finally:
            ears.watch = None
        if ears.failure is not None:
            raise ears.failure
        if self.lost:
            return left_behind(self.form, ears.best, restriction, ears.bound)
        return self._outcome(restriction)

    def _outcome(self, restriction: Neighborhood) -> Outcome:
        model = self._model
        code = model.getStatus()
        outcome = Outcome(nodes=int(model.getNTotalNodes()))
        if model.getNSols() > 0 and code != "unbounded":
            best = model.getBestSol()
            outcome.x = self._values(best)
            outcome.objective = float(model.getSolObjVal(best))
            outcome.status = Status.FEASIBLE
            # A start beyond the cutoff stays in SCIP's storage; it is no answer.
            if restriction.beyond(self.form, outcome.x):
                outcome.x, outcome.objective = None, math.inf
                outcome.status = Status.UNKNOWN
        bound = float(model.getDualbound())
        outcome.bound = bound if abs(bound) < INFINITY else -math.inf
        proved = {
            "optimal": Status.OPTIMAL,
            "infeasible": Status.INFEASIBLE,
            "unbounded": Status.UNBOUNDED,
            "inforunbd": Status.UNBOUNDED,
        }.get(code)
        if proved is Status.INFEASIBLE and outcome.x is not None:
            proved = None
        if proved is not None:
            outcome.status, outcome.stopped = proved, Stop.PROVED
            return outcome
        outcome.stopped = {
            "timelimit": Stop.TIME,
            "nodelimit": Stop.ITERATIONS,
            "totalnodelimit": Stop.ITERATIONS,
            "stallnodelimit": Stop.ITERATIONS,
            "sollimit": Stop.ITERATIONS,
            "bestsollimit": Stop.ITERATIONS,
            "gaplimit": Stop.GAP,
            "userinterrupt": Stop.INTERRUPTED,
        }.get(code, Stop.ERROR)
        if outcome.stopped is Stop.ERROR:
            outcome.error = f"SCIP: {code}"
        return outcome


#: SCIP parameters of ``lns=True``.
LNS: Mapping[str, Any] = {
    "heuristics/alns/freq": 5,
    "heuristics/alns/nodesquot": 0.3,
    "heuristics/rins/freq": 12,
    "heuristics/rens/freq": 0,
    "heuristics/crossover/freq": 15,
}


def _limits(values: Vector) -> list[float | None]:
    values = np.asarray(values, dtype=float)
    out: list[float | None] = values.tolist()
    for k in np.flatnonzero(np.abs(values) >= INFINITY).tolist():
        out[k] = None
    return out


@dataclass(frozen=True)
class SCIP(EngineSolver):
    """SCIP on the MIP form of an instance.

    S. Bolusani et al., The SCIP Optimization Suite 9.0 (2024), and its successors.

    Parameters
    ----------
    threads
        Threads of the LP solver, where it has any.
    params
        Further SCIP parameters, name -> value.
    lns
        Whether SCIP's own adaptive large-neighbourhood search (G. Hendel, 2018) runs four
        times as often and with more nodes, and its other LNS heuristics twice as often.

    Raises
    ------
    ValueError
        When there are fewer than one thread.
    """

    name: ClassVar[str] = "scip"
    threads: int = 1
    params: Mapping[str, Any] = field(default_factory=dict)
    lns: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        if self.threads < 1:
            raise ValueError(f"threads = {self.threads} < 1 not understood.")

    def _engine(self, form: Form, seed: int, stop: Callable[[], bool]) -> ScipEngine:
        return ScipEngine(form, seed=seed, threads=self.threads, params=self._all(), stop=stop)

    def _all(self) -> Mapping[str, Any]:
        return {**(LNS if self.lns else {}), **self.params}

    def _params(self) -> Mapping[str, Any]:
        return {"threads": self.threads, "lns": self.lns, **self.params}

    def _versions(self) -> Mapping[str, str]:
        from importlib.metadata import version

        return {"pyscipopt": version("pyscipopt")}
