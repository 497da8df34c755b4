"""What the MIP engines have in common: the minimised form, limits, neighbourhoods, polishing.

An engine is one class that holds one model object and solves it, whole or restricted to a
neighbourhood, and always undoes what it changed. Everything here and below it minimises;
sign and size of objectives are turned once, in `Form`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import (
    Budget,
    InputError,
    Instance,
    Listener,
    Result,
    Sense,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
    better,
    spawn_seed,
)
from nco.instances.mip import MIP, MipView
from nco.instances.registry import solvers

logger = logging.getLogger("nco")

Vector = NDArray[np.float64]
#: Seconds that an engine gets to answer an interruption.
PATIENCE = 0.2
#: Seconds for the rest of a solution that comes at the very end.
POLISH = 0.2
#: Seconds between two looks at a running engine; its end is noticed at once.
POLL = 0.05
#: Seconds that the MIP form of a problem may take per node or item, beyond the small sizes.
MODEL_SECONDS, SMALL = 1e-4, 500
#: Beyond this, engines take a number for infinity.
INFINITY = 1e20
#: Relative to their size, two values of the same thing may come out of engines so far apart.
AGREE = 1e-6
#: The closest that engines keep rows and whole numbers.
EXACT = 1e-9
#: Engines compare objectives and reduced costs in absolute terms: where all costs are below this,
#: they may take a solution for optimal that is far from it.
TINY_COST = 1e-2
#: Costs stay tiny where their constant would grow beyond this.
LARGE_CONSTANT = 1e15


def _limits(lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    """Limits, infinite where engines take them for it, and equal where only rounding parts them."""
    lower, upper = (
        np.where(np.abs(values) >= INFINITY, np.copysign(math.inf, values), values)
        for values in (lower, upper)
    )
    slack = EXACT * np.clip(np.abs(upper), 1.0, INFINITY)
    return np.where((lower > upper) & (lower <= upper + slack), upper, lower), upper


def _scale(mip: MIP) -> float:
    """The power of two that makes the largest of tiny costs at least one; 1 for other costs."""
    most = float(np.abs(mip.c).max(initial=0.0))
    if not 0.0 < most < TINY_COST:
        return 1.0
    _, exponent = math.frexp(most)
    # The smallest numbers of all have exponents beyond the largest one.
    scale = math.ldexp(1.0, min(1 - exponent, 1000))
    return scale if abs(mip.offset) * scale < LARGE_CONSTANT else 1.0


class Form:
    """A MIP turned into minimisation, with what engines and operators ask of it.

    Parameters
    ----------
    mip
        The model.
    tolerance
        By how much engines may violate rows and whole numbers; by default as they come, 1e-6
        or so.
    left
        Seconds left of all, or None where there is no end.
    counted
        Whether nothing shorter than these may end a linear program, so that what comes of it
        does not depend on the machine; by default each has a limit of its own.
    stop
        Asked in linear programs; True ends them.
    scaled
        Whether the objective is multiplied by a power of two where all of its costs are tiny.
    """

    def __init__(
        self,
        mip: MIP,
        tolerance: float | None = None,
        left: Callable[[], float] | None = None,
        counted: bool = False,
        stop: Callable[[], bool] | None = None,
        scaled: bool = False,
    ):
        self.mip = mip
        self.tolerance = tolerance
        self.left = left or (lambda: math.inf)
        self.counted = counted
        self.stop = stop or (lambda: False)
        sign = 1.0 if mip.sense is Sense.MINIMIZE else -1.0
        self._factor = sign * (_scale(mip) if scaled else 1.0)
        self.c: Vector = self._factor * mip.c
        self.offset = self._factor * mip.offset
        self.A = mip.A
        self.n, self.m = mip.n, mip.m
        self.row_lower, self.row_upper = _limits(mip.row_lower, mip.row_upper)
        self.whole: NDArray[np.bool_] = mip.integrality
        lower, upper = _limits(mip.lower, mip.upper)
        # Whole columns have whole bounds; engines differ in how they round others.
        self.lower = np.where(self.whole, np.ceil(lower - 1e-9), lower)
        self.upper = np.where(self.whole, np.floor(upper + 1e-9), upper)

    @cached_property
    def movable(self) -> NDArray[np.bool_]:
        """Whole columns [n] that bounds do not fix."""
        return self.whole & (self.lower < self.upper)

    @cached_property
    def integers(self) -> NDArray[np.intp]:
        """Indices of the whole columns that bounds do not fix."""
        return np.flatnonzero(self.movable)

    @cached_property
    def binaries(self) -> NDArray[np.intp]:
        """Indices of the whole columns with bounds 0 and 1."""
        return np.flatnonzero(self.whole & (self.lower == 0) & (self.upper == 1))

    @cached_property
    def columns(self) -> sparse.csc_array:
        """The rows by column."""
        return sparse.csc_array(self.A)

    def within(self, seconds: float, least: float = 0.0) -> float:
        """Seconds for a linear program: so many, as far as they are left, or at least some."""
        if self.stop():
            return min(seconds, least)
        return self.left() if self.counted else min(seconds, max(least, self.left()))

    def value(self, x: Vector) -> float:
        """Minimised objective of column values [n], the constant included."""
        return float(self.c @ x) + self.offset

    def feasible(self, x: Vector) -> bool:
        """Whether column values [n] satisfy the model within its tolerances."""
        return bool(np.isfinite(x).all()) and not self.mip.vector_violations(x)

    def rounded(self, x: Vector) -> Vector:
        """Column values [n] with whole columns rounded, and inside the bounds."""
        x = np.where(self.whole, np.rint(x), x)
        return np.clip(x, self.lower, self.upper)

    def slack(self, value: float) -> float:
        """How far from a minimised value engines may see the same one."""
        # A constant is known exactly, but for the rounding of a sum with it.
        varying = min(abs(value), abs(value - self.offset))
        slack = AGREE * max(1.0, varying) + 4 * math.ulp(value)
        # Whole values are one or they are not.
        return min(0.5, slack) if self.mip.integral else slack

    def agree(self, a: float, b: float) -> bool:
        """Whether two minimised values are the same, as far as engines can tell."""
        apart = abs(a - b)
        return math.isfinite(apart) and apart <= max(self.slack(a), self.slack(b))

    def safe_bound(self, bound: float) -> float:
        """A lower bound, rounded up where the objective must be whole."""
        if self.mip.integral and math.isfinite(bound):
            return math.ceil(bound - self.slack(bound))
        return bound

    def original(self, value: float) -> float:
        """A minimised value in the model's own direction and size."""
        return value / self._factor

    def minimised(self, value: float) -> float:
        """A value in the model's own direction and size as one of the minimised form."""
        return self._factor * value

    def contradiction(self) -> str | None:
        """Why bounds alone leave no solution, or None."""
        for what, low, high, names in (
            ("column", self.lower, self.upper, self.mip.columns),
            ("row", self.row_lower, self.row_upper, self.mip.rows),
        ):
            bad = (low > high) | (low == math.inf) | (high == -math.inf)
            if bad.any():
                return f"{what} {names[int(np.argmax(bad))]} has contradictory limits"
        empty = np.diff(self.A.indptr) == 0
        bad = empty & ((self.row_lower > 1e-6) | (self.row_upper < -1e-6))
        if bad.any():
            return f"row {self.mip.rows[int(np.argmax(bad))]} is empty and cannot hold"
        return None


@dataclass(frozen=True)
class Neighborhood:
    """A restriction of a model; everything is optional.

    Parameters
    ----------
    fix
        Columns and their values.
    bounds
        Columns, their lower and their upper bounds; tightened, never loosened.
    rows
        Extra rows ``(A, lower, upper)`` over all columns.
    objective
        Minimised coefficients [n] instead of the model's, without a constant.
    cutoff
        Only solutions whose minimised objective is at most this are wanted.
    start
        A solution [n] within the restriction, where the current one is not, or None.
    """

    fix: tuple[NDArray[np.intp], Vector] | None = None
    bounds: tuple[NDArray[np.intp], Vector, Vector] | None = None
    rows: tuple[Any, Vector, Vector] | None = None
    objective: Vector | None = None
    cutoff: float | None = None
    start: Vector | None = None

    def column_bounds(self, form: Form) -> tuple[NDArray[np.intp], Vector, Vector] | None:
        """The restricted columns with their new bounds; None if there are none."""
        lower, upper = form.lower.copy(), form.upper.copy()
        if self.fix is not None:
            columns, values = self.fix
            lower[columns] = upper[columns] = values
        if self.bounds is not None:
            columns, low, high = self.bounds
            lower[columns] = np.maximum(lower[columns], low)
            upper[columns] = np.minimum(upper[columns], high)
        changed = np.flatnonzero((lower != form.lower) | (upper != form.upper))
        return (changed, lower[changed], upper[changed]) if len(changed) else None

    def value(self, form: Form, x: Vector) -> float:
        """The minimised objective of column values [n]: its own, or the model's."""
        return form.value(x) if self.objective is None else float(self.objective @ x)

    def beyond(self, form: Form, x: Vector) -> bool:
        """Whether column values [n], as a start may, miss the cutoff."""
        if self.cutoff is None:
            return False
        return form.value(x) > self.cutoff + form.slack(self.cutoff)


@dataclass(frozen=True)
class Limits:
    """What one engine call may spend.

    Parameters
    ----------
    seconds
        Wall-clock time.
    nodes, stall_nodes
        Branch-and-bound nodes, in all and without an improvement; None for no limit.
    solutions
        Stop after this many improving solutions; None for no limit.
    gap
        Stop at this certified gap.
    """

    seconds: float = math.inf
    nodes: int | None = None
    stall_nodes: int | None = None
    solutions: int | None = None
    gap: float = 0.0


@dataclass
class Outcome:
    """What one engine call brought; values are minimised, the constant included.

    Parameters
    ----------
    status
        OPTIMAL, FEASIBLE, INFEASIBLE, UNBOUNDED or UNKNOWN, of the restricted model.
    x
        Best column values [n] as the engine has them, neither rounded nor checked, or None.
    objective
        The objective of x under the restricted model's objective.
    bound
        Lower bound of the restricted model.
    stopped
        Why the engine ended.
    nodes
        Branch-and-bound nodes.
    error
        The engine's own words when it failed.
    """

    status: Status = Status.UNKNOWN
    x: Vector | None = None
    objective: float = math.inf
    bound: float = -math.inf
    stopped: Stop = Stop.FINISHED
    nodes: int = 0
    error: str = ""


class OutOfTimeError(Exception):
    """An engine was not yet built when its time was over."""


@dataclass
class Watch:
    """The ears of a running engine.

    Parameters
    ----------
    on_solution
        Called with column values [n] of every improving solution.
    on_bound
        Called with the lower bound when it moves.
    stop
        Asked often; True ends the call as soon as the engine can.
    pause
        Called in the engine's own thread before it goes on; may block.
    suggest
        Column values [n] of a solution found elsewhere, or None; asked now and then.
    nodes
        Branch-and-bound nodes so far, as the engine tells; 0 in presolve and at the root.
    """

    on_solution: Callable[[Vector], object] | None = None
    on_bound: Callable[[float], None] | None = None
    stop: Callable[[], bool] = field(default=lambda: False)
    pause: Callable[[], object] | None = None
    suggest: Callable[[], Vector | None] | None = None
    nodes: int = 0


class Backend(Protocol):
    """An engine with one model object."""

    name: ClassVar[str]
    form: Form
    #: Whether a call did not stop when asked: the engine works on, and is not to be used again.
    lost: bool

    def solve(
        self,
        limits: Limits,
        neighborhood: Neighborhood | None = None,
        start: Vector | None = None,
        watch: Watch | None = None,
    ) -> Outcome:
        """Solve the model, or the restriction; afterwards it is as before."""
        ...

    def add_rows(self, A: Any, lower: Vector, upper: Vector) -> None:
        """Add valid rows for good."""
        ...

    def close(self) -> None:
        """Free the engine's memory."""
        ...


def run_interruptible(
    work: Callable[[], None], stop: Callable[[], bool], interrupt: Callable[[], None]
) -> bool:
    """Run an engine in a thread, so that the caller's thread stays free for Ctrl-C.

    Parameters
    ----------
    work
        The engine's call; it must release the interpreter lock.
    stop
        Asked every `POLL` seconds at least.
    interrupt
        Called, until the engine ends, once ``stop`` said True.

    Returns
    -------
    False if the engine did not answer within `PATIENCE`, as in presolve or inside an LP, and
    was left behind: it ends by itself when it next looks, and its object is lost.
    """
    failure: list[BaseException] = []
    # Ctrl-C while a thread is joined may have the interpreter take it for dead and not wait for
    # it in the end; an event may be waited for at no risk.
    over = threading.Event()

    def target() -> None:
        try:
            work()
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    # Not a daemon: an engine that calls back into a closing interpreter would abort it.
    thread = threading.Thread(target=target, name="nco-engine")
    thread.start()
    wait = 0.001
    asked: float | None = None
    try:
        while True:
            if over.wait(wait):
                break
            wait = min(POLL, 2 * wait)
            if asked is not None or stop():
                interrupt()
                asked = time.monotonic() if asked is None else asked
                if time.monotonic() - asked > PATIENCE:
                    return False
    except BaseException:
        interrupt()
        raise
    if failure:
        raise failure[0]
    return True


def left_behind(form: Form, x: Vector | None, restriction: Neighborhood, bound: float) -> Outcome:
    """The outcome of an engine that did not stop when asked: what it had said until then."""
    if x is None or restriction.beyond(form, x):
        return Outcome(bound=bound, stopped=Stop.TIME)
    return Outcome(Status.FEASIBLE, x, restriction.value(form, x), bound, Stop.TIME)


def polish(form: Form, x: Vector, seconds: float = 5.0) -> Vector | None:
    """Column values [n] made feasible: whole columns rounded, the rest re-solved.

    Returns None where rounding the whole columns leaves no feasible rest.
    """
    x = form.rounded(x)
    if form.feasible(x):
        return x
    if form.whole.all():
        return None
    from nco.mip.relaxation import solve_lp

    lower, upper = form.lower.copy(), form.upper.copy()
    lower[form.whole] = upper[form.whole] = x[form.whole]
    # What is found at the very end still counts.
    outcome = solve_lp(form, form.within(seconds, POLISH), lower=lower, upper=upper)
    if outcome.x is None:
        return None
    y = form.rounded(outcome.x)
    return y if form.feasible(y) else None


def reason_without_mip(instance: Instance[Any]) -> str | None:
    """Why an instance has no MIP form, or None."""
    if callable(getattr(instance, "to_mip", None)):
        return None
    return f"{instance.problem} has no MIP form"


def view_of(instance: Instance[Any], start: Any = None) -> MipView:
    """The MIP form of an instance.

    Raises
    ------
    UnsupportedError
        When it has none.
    """
    reason = reason_without_mip(instance)
    if reason is not None:
        raise UnsupportedError(reason)
    return instance.to_mip(start=start)  # type: ignore[attr-defined]


def checked_start(instance: Instance[Any], start: Any) -> list[str]:
    """What is wrong with a start; an infeasible one is only a hint to engines.

    Raises
    ------
    InputError
        When it names columns that do not exist.
    """
    problems = instance.violations(start)
    if problems and isinstance(instance, MIP) and not set(start) <= instance.index.keys():
        raise InputError(None, None, f"start: {problems[0]}", "use the model's column names")
    if problems:
        logger.warning("the start is not feasible (%s); it is used as a hint.", problems[0])
    return problems


def construct(instance: Instance[Any], budget: Budget) -> Any:
    """A solution of the first constructive heuristic that has one, or None.

    Engines may find no solution of a routing model in any usual time.
    """
    for name in ("savings", "greedy", "nearest-neighbor", "insertion"):
        heuristic = solvers.load(name)()
        if heuristic.supports(instance) is None:
            return heuristic.solve(instance, budget.share(1.0)).solution
    return None


def out_of_time(tracker: Tracker[Any]) -> Stop | None:
    """Why the model is not written any more: the budget is over or too short for it; or None."""
    instance = tracker.instance
    reason = tracker.done()
    if reason is None and not isinstance(instance, MIP):
        # Writing a model cannot be interrupted; small ones take no time worth asking for.
        short = tracker.budget.left() < MODEL_SECONDS * max(0, instance.n - SMALL)
        reason = Stop.TIME if short else None
    return None if instance.n == 0 else reason


def prepare(
    tracker: Tracker[Any], start: Any, counted: bool = False
) -> tuple[Form, MipView, Vector | None] | Stop:
    """The model of the tracker's instance, and column values [n] to start from.

    A start, or what a constructive heuristic finds without one, is offered to the tracker.

    Parameters
    ----------
    tracker
        The instance, the budget, and what keeps solutions.
    start
        A solution, feasible or not, or None.
    counted
        As in `Form`.

    Returns
    -------
    The form, the view, and a start, feasible or not, or None. Where there is no time to write
    the model, the reason alone.

    Raises
    ------
    UnsupportedError
        When the instance has no MIP form.
    InputError
        When the start names columns that do not exist.
    """
    instance, budget = tracker.instance, tracker.budget
    reason = reason_without_mip(instance)
    if reason is not None:
        raise UnsupportedError(reason)
    hint: Vector | None = None
    if start is not None and not checked_start(instance, start):
        tracker.offer(instance.canonical(start))
    elif start is not None and isinstance(instance, MIP):
        hint = instance.vector(start)
    if tracker.solution is None and not isinstance(instance, MIP):
        quick = construct(instance, budget)
        if quick is not None:
            tracker.offer(quick, by="constructive")
    over = out_of_time(tracker)
    if over is not None:
        return over
    view = view_of(instance, tracker.solution)
    if tracker.solution is not None:
        hint = view.encode(tracker.solution)
    form = Form(view.mip, None, budget.left, counted, budget.interrupted, scaled=True)
    return form, view, hint


def root_rounds(engine: Backend, view: MipView, budget: Budget, rounds: int = 30) -> None:
    """Add the view's valid rows while they cut off LP solutions.

    Parameters
    ----------
    engine
        Gets the rows.
    view
        Separates.
    budget
        All of it may be used; pass a share.
    rounds
        Largest number of LPs.
    """
    if view.separate is None:
        return
    from nco.mip.relaxation import LinearProgram

    lp = LinearProgram(engine.form)
    last = -math.inf
    for _ in range(rounds):
        outcome = lp.solve(budget.left(), stop=budget.interrupted)
        if outcome.status is not Status.OPTIMAL or outcome.x is None or budget.left() <= 0:
            return
        cut = view.separate(outcome.x)
        # Rows that no longer move the bound cost more than they bring.
        if cut is None or outcome.objective <= last + 1e-6 * abs(last):
            return
        last = outcome.objective
        engine.add_rows(*cut)
        lp.add_rows(*cut)


class EngineSolver:
    """A plain engine as a solver of instances; the base of `SCIP` and `HiGHS`."""

    name: ClassVar[str]
    #: It finds dual bounds itself; no time is kept for another.
    proves: ClassVar[bool] = True
    threads: int

    def _engine(self, form: Form, seed: int, stop: Callable[[], bool]) -> Backend:
        raise NotImplementedError

    def _versions(self) -> Mapping[str, str]:
        raise NotImplementedError

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        return reason_without_mip(instance)

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
            When the instance has no MIP form.
        """
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        about: Mapping[str, Any] = {"params": self._params(), "versions": self._versions()}
        prepared = prepare(tracker, start)
        if isinstance(prepared, Stop):
            return tracker.result(prepared, **about)
        form, view, hint = prepared
        with budget.catch_interrupt():
            outcome = self._run(form, view, tracker, hint, seed)
        return conclude(tracker, form, view, outcome, **about)

    def _params(self) -> Mapping[str, Any]:
        return {"threads": self.threads}

    def _run(
        self, form: Form, view: MipView, tracker: Tracker[Any], hint: Vector | None, seed: int
    ) -> Outcome:
        settled = settle(form)
        if settled is not None:
            if settled.x is not None:
                offer(tracker, form, view, settled.x)
            return settled
        if (reason := tracker.done()) is not None:
            return Outcome(stopped=reason)
        outcome = self._solve(form, view, tracker, hint, seed)
        if refuted(tracker, form, view, outcome) and tracker.done() is None:
            # Most likely its solution violates rows by what engines may and instances may not.
            form.tolerance = EXACT
            known = hint if tracker.solution is None else view.encode(tracker.solution)
            outcome = self._solve(form, view, tracker, known, seed)
        return outcome

    def _solve(
        self, form: Form, view: MipView, tracker: Tracker[Any], hint: Vector | None, seed: int
    ) -> Outcome:
        budget = tracker.budget
        try:
            engine = self._engine(
                form,
                spawn_seed(seed, tracker.instance.digest),
                lambda: tracker.done() is not None,
            )
        except OutOfTimeError:
            return Outcome(stopped=tracker.done() or Stop.TIME)
        try:
            root_rounds(engine, view, budget.share(0.1))
            reason = tracker.done()
            if reason is not None:
                return Outcome(stopped=reason)
            watch = Watch(
                on_solution=lambda x: offer(tracker, form, view, x),
                on_bound=lambda b: offer_bound(tracker, form, view, b),
                stop=lambda: tracker.done() is not None,
            )
            limits = Limits(budget.left(), nodes=budget.iterations, gap=budget.gap or 0.0)
            outcome = engine.solve(limits, None, hint, watch)
            if outcome.status is Status.UNBOUNDED:
                outcome = confirm_unbounded(engine, budget, watch)
        finally:
            engine.close()
        if outcome.x is not None:
            offer(tracker, form, view, outcome.x)
        offer_bound(tracker, form, view, outcome.bound)
        return outcome


def confirm_unbounded(engine: Backend, budget: Budget, watch: Watch) -> Outcome:
    """The outcome of a model with an unbounded relaxation, by looking for any solution."""
    feasibility = Neighborhood(objective=np.zeros(engine.form.n))
    quiet = Watch(stop=watch.stop)
    outcome = engine.solve(Limits(budget.left(), solutions=1), feasibility, None, quiet)
    if outcome.x is not None:
        return Outcome(Status.UNBOUNDED, stopped=Stop.PROVED)
    if outcome.status is Status.INFEASIBLE:
        return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
    return Outcome(stopped=outcome.stopped)


def settle(form: Form) -> Outcome | None:
    """The outcome of a model that needs no engine, or None."""
    why = form.contradiction()
    if why is not None:
        logger.info("infeasible: %s.", why)
        return Outcome(Status.INFEASIBLE, stopped=Stop.PROVED)
    if form.n == 0:
        return Outcome(Status.OPTIMAL, np.zeros(0), form.offset, form.offset, stopped=Stop.PROVED)
    return None


def offer(
    tracker: Tracker[Any], form: Form, view: MipView, x: Vector, by: str | None = None
) -> bool:
    """Check column values against model and instance, mend them if need be, keep them."""
    polished = polish(form, x)
    if polished is None:
        logger.debug("an engine's solution cannot be made feasible; it is dropped.")
        return False
    solution = view.decode(polished)
    problems = tracker.instance.violations(solution)
    if problems:
        logger.debug("an engine's solution is not feasible: %s.", problems[0])
        return False
    return tracker.offer(solution, by)


def offer_bound(
    tracker: Tracker[Any], form: Form, view: MipView, bound: float, by: str | None = None
) -> None:
    """Keep a lower bound of the minimised model, where it is one of the instance."""
    if not view.exact or not math.isfinite(bound) or abs(bound) >= INFINITY:
        return
    value = form.original(form.safe_bound(bound))
    known = tracker.objective
    # Bounds are valid up to the engines' tolerances; a hair beyond the incumbent is it.
    if known is not None and better(known, value, tracker.instance.sense):
        value = known if form.agree(form.minimised(known), form.minimised(value)) else value
    tracker.offer_bound(value, by)


def refuted(tracker: Tracker[Any], form: Form, view: MipView, outcome: Outcome) -> bool:
    """Whether what was kept contradicts what an engine claims to have proved of the model."""
    known = tracker.objective
    if not view.exact:
        return False
    if outcome.status is Status.OPTIMAL:
        return known is None or not form.agree(form.minimised(known), outcome.objective)
    return outcome.status is Status.INFEASIBLE and known is not None


def conclude(
    tracker: Tracker[Any],
    form: Form,
    view: MipView,
    outcome: Outcome,
    *,
    params: Mapping[str, Any],
    versions: Mapping[str, str],
    extra: Mapping[str, Any] | None = None,
) -> Result:
    """The result: the engine's claim, believed only where what was kept agrees."""
    status, stopped = outcome.status, outcome.stopped
    known, sense = tracker.objective, tracker.instance.sense
    if refuted(tracker, form, view, outcome):
        logger.warning(
            "%s: an engine says %s, but the checked solutions do not bear that out.",
            tracker.solver, status,
        )  # fmt: skip
        status, stopped = Status.UNKNOWN, Stop.ERROR
    elif status in (Status.OPTIMAL, Status.INFEASIBLE) and not view.exact:
        status, stopped = Status.UNKNOWN, Stop.FINISHED
    elif status is Status.OPTIMAL and known is not None:
        tracker.offer_bound(known)
    elif status is Status.UNBOUNDED:
        tracker.solution = tracker.objective = tracker.bound = None
        stopped = Stop.PROVED
    elif status is not Status.INFEASIBLE:
        reason = tracker.done()
        if reason is not None and stopped is not Stop.ERROR:
            stopped = reason
    bound = tracker.bound
    if known is not None and bound is not None and better(known, bound, sense):
        same = form.agree(form.minimised(known), form.minimised(bound))
        tracker.bound = known if same else None
        if not same:
            # A tolerance relative to large numbers may be worth more than the objective.
            logger.warning(
                "%s: the bound %.9g is beyond the objective %.9g; it is left out.",
                tracker.solver, bound, known,
            )  # fmt: skip
    if status is Status.FEASIBLE and known is None:
        status = Status.UNKNOWN
    if outcome.error:
        logger.warning("%s failed: %s", tracker.solver, outcome.error)
    return tracker.result(stopped, status=status, params=params, versions=versions, extra=extra)
