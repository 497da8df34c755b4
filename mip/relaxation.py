"""LP relaxations through HiGHS: values for operators and valid bounds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from nco.instances.core import Budget, Instance, Status, Stop
from nco.mip.backend import Form, Outcome, Vector, run_interruptible
from nco.mip.highs import add_rows, pass_model

logger = logging.getLogger("nco")


class LinearProgram:
    """The relaxation of a model in one HiGHS object that keeps its basis between solves.

    An object that does not end in time is left behind; the next call begins with a new one,
    which has the model's own bounds, objective and rows.

    Parameters
    ----------
    form
        The model; integrality is ignored.

    Attributes
    ----------
    seconds
        Time in all solves so far.
    iterations
        Simplex iterations of the last solve; few from a good basis.
    """

    def __init__(self, form: Form):
        self.form = form
        self.seconds = 0.0
        self.iterations = 0
        self._engine: Any = None
        self._all = np.arange(form.n, dtype=np.int32)

    @property
    def _highs(self) -> Any:
        if self._engine is None:
            self._engine = pass_model(self.form, relaxed=True)
        return self._engine

    def bounds(self, lower: Vector, upper: Vector) -> None:
        """Set the bounds [n] of all columns."""
        self._highs.changeColsBounds(self.form.n, self._all, lower, upper)

    def objective(self, c: Vector) -> None:
        """Set the minimised coefficients [n]."""
        self._highs.changeColsCost(self.form.n, self._all, c)

    def add_rows(self, A: Any, lower: Vector, upper: Vector) -> None:
        """Add rows."""
        add_rows(self._highs, A, lower, upper)

    def solve_with(self, rows: tuple[Any, Vector, Vector], seconds: float) -> Outcome:
        """Solve once with further rows ``(A, lower, upper)``, within the model's own bounds."""
        self.bounds(self.form.lower, self.form.upper)
        highs = self._highs
        before, basis = highs.getNumRow(), highs.getBasis()
        self.add_rows(*rows)
        outcome = self.solve(seconds)
        if self._engine is not None:
            added = np.arange(before, highs.getNumRow(), dtype=np.int32)
            highs.deleteRows(len(added), added)
            # Without the rows the new basis may be none; the one from before is still warm.
            if basis.valid:
                highs.setBasis(basis)
        return outcome

    def solve(self, seconds: float, stop: Callable[[], bool] | None = None) -> Outcome:
        """Solve; x is the LP's own, and bound is set where the LP is solved to the end.

        Ends early where ``stop`` says so, or the form, unless that had done so before.
        """
        begin = time.monotonic()
        outcome = self._solve(seconds, stop)
        self.seconds += time.monotonic() - begin
        return outcome

    def _solve(self, seconds: float, stop: Callable[[], bool] | None) -> Outcome:
        from highspy import HighsModelStatus as Code
        from highspy import cb

        highs = self._highs
        if seconds <= 0:
            return Outcome(stopped=Stop.TIME)
        highs.setOptionValue("time_limit", highs.getRunTime() + min(seconds, 1e9))
        deadline = time.monotonic() + seconds
        flag = [False]
        # What is solved in spite of an interruption is the rest of a solution, and short.
        over = self.form.stop()

        def asked() -> bool:
            # HiGHS looks at its own limit too seldom: not within presolve or a factorization.
            interrupted = (stop is not None and stop()) or (not over and self.form.stop())
            return interrupted or time.monotonic() > deadline

        def hear(kind: Any, message: str, out: Any, into: Any, data: Any) -> None:
            into.user_interrupt = flag[0]

        def interrupt() -> None:
            flag[0] = True

        highs.setCallback(hear, None)
        highs.startCallback(cb.HighsCallbackType.kCallbackSimplexInterrupt)
        if not run_interruptible(highs.run, asked, interrupt):
            self._engine = None
            return Outcome(stopped=Stop.TIME)
        status = highs.getModelStatus()
        self.iterations = int(highs.getInfo().simplex_iteration_count)
        if status == Code.kOptimal:
            value = highs.getObjectiveValue()
            x = np.array(highs.getSolution().col_value)
            return Outcome(Status.OPTIMAL, x, value, value, Stop.PROVED)
        if status == Code.kInfeasible:
            return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
        if status in (Code.kUnbounded, Code.kUnboundedOrInfeasible):
            return Outcome(Status.UNBOUNDED, stopped=Stop.PROVED)
        if status == Code.kInterrupt:
            late = time.monotonic() > deadline
            return Outcome(stopped=Stop.TIME if late else Stop.INTERRUPTED)
        return Outcome(stopped=Stop.TIME)


def solve_lp(
    form: Form, seconds: float, *, lower: Vector | None = None, upper: Vector | None = None
) -> Outcome:
    """Solve the relaxation once, with other bounds [n] where given.

    A model that HiGHS refuses has no relaxation: the outcome says so, as another engine may
    take it.
    """
    lp = LinearProgram(form)
    try:
        if lower is not None and upper is not None:
            lp.bounds(lower, upper)
        return lp.solve(seconds)
    except ValueError as error:
        logger.debug("no relaxation: %s", error)
        return Outcome(stopped=Stop.ERROR, error=str(error))


def bound(instance: Instance[Any], budget: Budget) -> float | None:
    """Bound of the LP relaxation in the instance's own direction; None if it fails.

    Valid for what has an exact MIP form only; rounded safely where objectives are whole.
    """
    from nco.mip.backend import reason_without_mip, settle, view_of

    if reason_without_mip(instance) is not None:
        return None
    view = view_of(instance)
    form = Form(view.mip, left=budget.left, stop=budget.interrupted, scaled=True)
    settled = settle(form)
    if not view.exact or settled is not None:
        return None if settled is None or not view.exact else _of(form, settled)
    outcome = solve_lp(form, form.within(math.inf))
    return _of(form, outcome)


def _of(form: Form, outcome: Outcome) -> float | None:
    if outcome.status is not Status.OPTIMAL or not math.isfinite(outcome.bound):
        return None
    # The LP is solved to its tolerances; a hair of slack keeps the bound valid.
    value = outcome.bound - 1e-7 * max(1.0, abs(outcome.bound))
    return form.original(form.safe_bound(value))
