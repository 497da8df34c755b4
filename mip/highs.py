"""HiGHS as an engine and as the solver ``highs``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from nco.instances.core import Status, Stop
from nco.instances.io import silenced
from nco.mip.backend import (
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

#: No restriction.
WHOLE = Neighborhood()


def pass_model(form: Form, *, relaxed: bool = False, threads: int = 1, seed: int = 0) -> Any:
    """A silent HiGHS object that holds the minimised model.

    Raises
    ------
    ValueError
        When HiGHS refuses the model.
    """
    import highspy

    # The first object of a process prints a banner, before it can be told not to.
    with silenced():
        highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", threads)
    highs.setOptionValue("parallel", "on" if threads > 1 else "off")
    highs.setOptionValue("random_seed", seed)
    if form.tolerance is not None:
        for kind in ("primal", "mip"):
            highs.setOptionValue(f"{kind}_feasibility_tolerance", form.tolerance)
    matrix = form.A
    whole = np.zeros(form.n, dtype=np.int32) if relaxed else form.whole.astype(np.int32)
    status = highs.passModel(
        form.n,
        form.m,
        matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        form.offset,
        form.c,
        form.lower,
        form.upper,
        form.row_lower,
        form.row_upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        whole,
    )
    if status == highspy.HighsStatus.kError:
        raise ValueError("HiGHS refuses the model: numbers too large; scale them.")
    return highs


def add_rows(highs: Any, A: Any, lower: Vector, upper: Vector) -> None:
    """Add rows over all columns to a HiGHS object."""
    rows = sparse.csr_array(A)
    highs.addRows(
        rows.shape[0],
        np.asarray(lower, dtype=np.float64),
        np.asarray(upper, dtype=np.float64),
        rows.nnz,
        rows.indptr[:-1].astype(np.int32),
        rows.indices.astype(np.int32),
        np.asarray(rows.data, dtype=np.float64),
    )


class HighsEngine:
    """One HiGHS object; see `Backend`.

    Parameters
    ----------
    form
        The model.
    seed
        HiGHS' random seed.
    threads
        Threads of one solve.
    stop
        Asked once before the model is passed, which is one quick call.

    Raises
    ------
    OutOfTimeError
        When ``stop`` said True.
    """

    name: ClassVar[str] = "highs"

    def __init__(
        self,
        form: Form,
        *,
        seed: int = 0,
        threads: int = 1,
        stop: Callable[[], bool] | None = None,
    ):
        if stop is not None and stop():
            raise OutOfTimeError
        self.form = form
        self.lost = False
        self._highs = pass_model(form, threads=threads, seed=seed)
        self._all = np.arange(form.n, dtype=np.int32)

    def add_rows(self, A: Any, lower: Vector, upper: Vector) -> None:
        """Add valid rows for good."""
        add_rows(self._highs, A, lower, upper)

    def close(self) -> None:
        """Free the engine's memory."""
        if not self.lost:
            self._highs.clearModel()

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
        restriction = neighborhood or WHOLE
        changed = restriction.column_bounds(self.form)
        if changed is not None and (changed[1] > changed[2]).any():
            return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
        rows_before = self._highs.getNumRow()
        try:
            self._restrict(restriction, changed)
            return self._run(limits, restriction, start, watch)
        finally:
            if not self.lost:
                self._undo(restriction, changed, rows_before)

    def _restrict(self, restriction: Neighborhood, changed: Any) -> None:
        highs = self._highs
        if changed is not None:
            columns, lower, upper = changed
            highs.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)
        if restriction.objective is not None:
            highs.changeColsCost(self.form.n, self._all, restriction.objective)
            highs.changeObjectiveOffset(0.0)
        if restriction.rows is not None:
            self.add_rows(*restriction.rows)
        if restriction.cutoff is not None and restriction.objective is not None:
            self.add_rows(
                sparse.csr_array(self.form.c[None]),
                np.array([-math.inf]),
                np.array([restriction.cutoff - self.form.offset]),
            )

    def _undo(self, restriction: Neighborhood, changed: Any, rows_before: int) -> None:
        highs, form = self._highs, self.form
        if changed is not None:
            columns = changed[0]
            highs.changeColsBounds(
                len(columns), columns.astype(np.int32), form.lower[columns], form.upper[columns]
            )
        if restriction.objective is not None:
            highs.changeColsCost(form.n, self._all, form.c)
            highs.changeObjectiveOffset(form.offset)
        added = highs.getNumRow() - rows_before
        if added:
            highs.deleteRows(added, np.arange(rows_before, rows_before + added, dtype=np.int32))

    def _run(
        self, limits: Limits, restriction: Neighborhood, start: Vector | None, watch: Watch
    ) -> Outcome:
        import highspy
        from highspy import cb

        highs, form = self._highs, self.form
        highs.clearSolver()
        # Small restrictions are soon done with: restarts and symmetries cost more than they bring.
        restricted = restriction is not WHOLE
        highs.setOptionValue("mip_allow_restart", not restricted)
        highs.setOptionValue("mip_detect_symmetry", not restricted)
        # HiGHS counts the time of all its LPs, but that of each MIP by itself.
        before = 0.0 if form.whole.any() else highs.getRunTime()
        highs.setOptionValue("time_limit", before + min(limits.seconds, 1e9))
        unlimited = highspy.kHighsIInf
        for name, value in (
            ("mip_max_nodes", limits.nodes),
            ("mip_max_improving_sols", limits.solutions),
        ):
            highs.setOptionValue(name, unlimited if value is None else min(value, unlimited))
        # SCIP's gap divides by the smaller of the two values, HiGHS' by the primal one.
        highs.setOptionValue("mip_rel_gap", limits.gap / (1.0 + limits.gap))
        highs.setOptionValue("mip_abs_gap", 1e-9)
        cutoff = restriction.cutoff if restriction.objective is None else None
        highs.setOptionValue("objective_bound", math.inf if cutoff is None else cutoff)
        if start is not None:
            solution = highspy.HighsSolution()
            solution.col_value = form.rounded(start)
            solution.value_valid = True
            highs.setSolution(solution)
        state = {"interrupt": False, "bound": -math.inf, "improved": 0, "stalled": False}
        best: list[Vector] = []
        stall = limits.stall_nodes
        kinds = cb.HighsCallbackType

        def hear(kind: Any, message: str, out: Any, into: Any, data: Any) -> None:
            if self.lost:
                into.user_interrupt = True
                return
            watch.nodes = max(watch.nodes, int(out.mip_node_count))
            if kind == kinds.kCallbackMipImprovingSolution:
                best[:] = [np.array(out.mip_solution)]
                state["improved"] = watch.nodes
                if watch.on_solution is not None:
                    watch.on_solution(best[0])
            if out.mip_dual_bound > state["bound"]:
                state["bound"] = out.mip_dual_bound
                if watch.on_bound is not None:
                    watch.on_bound(state["bound"])
            if kind == kinds.kCallbackMipUserSolution:
                suggestion = watch.suggest() if watch.suggest is not None else None
                if suggestion is not None:
                    into.setSolution(form.rounded(suggestion))
                return
            if watch.pause is not None:
                watch.pause()
            # HiGHS' own limit counts only nodes whose estimates promise no improvement.
            state["stalled"] = stall is not None and watch.nodes - state["improved"] >= stall
            into.user_interrupt = bool(state["interrupt"] or state["stalled"]) or watch.stop()

        def interrupt() -> None:
            state["interrupt"] = True

        failures: list[BaseException] = []

        def guarded(*arguments: Any) -> None:
            # An exception must not travel through C++.
            try:
                hear(*arguments)
            except BaseException as error:
                failures.append(error)
                state["interrupt"] = True
                arguments[3].user_interrupt = True

        heard = [
            kinds.kCallbackMipImprovingSolution,
            kinds.kCallbackMipInterrupt,
            kinds.kCallbackSimplexInterrupt,
        ]
        if watch.suggest is not None:
            heard.append(kinds.kCallbackMipUserSolution)
        highs.setCallback(guarded, None)
        for kind in heard:
            highs.startCallback(kind)
        try:
            self.lost = not run_interruptible(highs.run, watch.stop, interrupt)
        except BaseException:
            # At a second Ctrl-C the engine may still be at work; what it has is not to be touched.
            self.lost = True
            raise
        finally:
            if not self.lost:
                for kind in heard:
                    highs.stopCallback(kind)
        if self.lost:
            return left_behind(form, best[0] if best else None, restriction, state["bound"])
        if failures:
            raise failures[0]
        outcome = self._outcome(best[0] if best else None, restriction, limits)
        if state["stalled"] and outcome.stopped is Stop.INTERRUPTED:
            outcome.stopped = Stop.ITERATIONS
        return outcome

    def _outcome(self, last: Vector | None, restriction: Neighborhood, limits: Limits) -> Outcome:
        from highspy import HighsModelStatus as Code
        from highspy import SolutionStatus

        highs = self._highs
        code = highs.getModelStatus()
        info = highs.getInfo()
        outcome = Outcome(nodes=max(0, int(info.mip_node_count)))
        if info.primal_solution_status == SolutionStatus.kSolutionStatusFeasible:
            outcome.x = np.array(highs.getSolution().col_value)
            outcome.objective = float(info.objective_function_value)
            outcome.status = Status.FEASIBLE
        elif last is not None:
            outcome.x = last
            outcome.objective = restriction.value(self.form, last)
            outcome.status = Status.FEASIBLE
        if outcome.x is not None and restriction.beyond(self.form, outcome.x):
            # A start beyond the cutoff is no answer.
            outcome.x, outcome.objective = None, math.inf
            outcome.status = Status.UNKNOWN
        whole = bool(self.form.whole.any())
        bound = float(info.mip_dual_bound) if whole else -math.inf
        if code == Code.kOptimal and not whole:
            bound = outcome.objective
        outcome.bound = bound if math.isfinite(bound) else -math.inf
        proved = {
            Code.kOptimal: Status.OPTIMAL,
            Code.kInfeasible: Status.INFEASIBLE,
            Code.kUnbounded: Status.UNBOUNDED,
            Code.kUnboundedOrInfeasible: Status.UNBOUNDED,
            Code.kModelEmpty: Status.OPTIMAL,
        }.get(code)
        if proved is Status.INFEASIBLE and outcome.x is not None:
            proved = None
        apart = whole and not self.form.agree(outcome.objective, outcome.bound)
        if proved is Status.OPTIMAL and limits.gap > 0 and apart:
            # HiGHS calls optimal what is within the gap.
            outcome.stopped = Stop.GAP
            return outcome
        if proved is not None:
            outcome.status, outcome.stopped = proved, Stop.PROVED
            return outcome
        stops = {
            Code.kTimeLimit: Stop.TIME,
            Code.kIterationLimit: Stop.ITERATIONS,
            Code.kSolutionLimit: Stop.ITERATIONS,
            Code.kInterrupt: Stop.INTERRUPTED,
            Code.kObjectiveBound: Stop.FINISHED,
            Code.kObjectiveTarget: Stop.TARGET,
        }
        stops[getattr(Code, "kHighsInterrupt", Code.kInterrupt)] = Stop.INTERRUPTED
        outcome.stopped = stops.get(code, Stop.ERROR)
        if outcome.stopped is Stop.ERROR:
            outcome.error = f"HiGHS: {highs.modelStatusToString(code)}"
        return outcome


@dataclass(frozen=True)
class HiGHS(EngineSolver):
    """HiGHS on the MIP form of an instance.

    Q. Huangfu and J. A. J. Hall, Parallelizing the dual revised simplex method,
    Mathematical Programming Computation 10 (2018).

    Parameters
    ----------
    threads
        Threads of one solve.

    Raises
    ------
    ValueError
        When there are fewer than one.
    """

    name: ClassVar[str] = "highs"
    threads: int = 1

    def __post_init__(self) -> None:
        """Validate."""
        if self.threads < 1:
            raise ValueError(f"threads = {self.threads} < 1 not understood.")

    def _engine(self, form: Form, seed: int, stop: Callable[[], bool]) -> HighsEngine:
        return HighsEngine(form, seed=seed, threads=self.threads, stop=stop)

    def _versions(self) -> Mapping[str, str]:
        from importlib.metadata import version

        return {"highspy": version("highspy")}
