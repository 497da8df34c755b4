"""The public calls that solve, and what they are made of."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from nco.instances import io, registry
from nco.instances.core import (
    Batch,
    Budget,
    Event,
    InputError,
    Instance,
    Listener,
    Result,
    Sense,
    Solver,
    Status,
    Stop,
    UnsupportedError,
    better,
    check_kinds,
    check_seed,
    spawn_seed,
)

PathLike = str | os.PathLike[str]
Many = Sequence[Instance[Any]]

#: The bound's part of a time limit: this share, at most so many seconds, and nothing of
#: limits too short to spare any.
BOUND_SHARE, BOUND_SECONDS, BOUND_LIMIT = 0.1, 1.0, 5.0


# ------------------------------------------------------------------------------ solvers


def make_solver(solver: str | Solver, params: Mapping[str, Any] | None = None) -> Solver:
    """A solver from its registered name and parameters.

    Parameters
    ----------
    solver
        Registered name, or a solver object, which is returned as it is.
    params
        Parameters of the solver's constructor.

    Raises
    ------
    InputError
        When the name or a parameter is unknown, a value is refused, or an object is no solver.
    MissingExtraError
        When the package that the solver needs is not installed.
    """
    if not isinstance(solver, str):
        if params:
            name = min(params)
            raise InputError(
                None, None, f"unknown argument {name!r}", "give it to the solver's constructor"
            )
        if isinstance(solver, type) or not isinstance(solver, Solver):
            what = getattr(solver, "__name__", type(solver).__name__)
            raise InputError(
                None, None, f"{what} is no solver", "give a registered name or a solver object"
            )
        kind: Any = type(solver)
        if dataclasses.is_dataclass(kind):
            values = {f.name: getattr(solver, f.name) for f in dataclasses.fields(kind)}
            check_kinds(type(solver), values, f"solver {solver.name}")
        return solver
    cls = registry.solvers.load(solver)
    known = list(inspect.signature(cls).parameters)
    for name in params or {}:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            listed = f"known: {', '.join(known)}" if known else "it has none"
            raise InputError(
                None, None, f"{solver} has no parameter {name!r}",
                f"did you mean {near[0]}?" if near else listed,
            )  # fmt: skip
    check_kinds(cls, params or {}, f"solver {solver}")
    try:
        made: Solver = cls(**(params or {}))
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(None, None, f"solver {solver}: {error}") from None
    return made


def parse_params(items: Iterable[str]) -> dict[str, Any]:
    """``["key=value", ...]`` as a dictionary; values are JSON or else text.

    Raises
    ------
    InputError
        When an item has no ``=`` or a key comes twice.
    """
    params: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise InputError(None, None, f"parameter {item!r} has no value", "write key=value")
        if key in params:
            raise InputError(None, None, f"parameter {key!r} is given twice", "give it once")
        try:
            params[key] = json.loads(value)
        except json.JSONDecodeError:
            params[key] = value
    return params


def parse_solver(spec: str) -> tuple[str, dict[str, Any]]:
    """Split ``name`` or ``name:key=value,key=value``.

    Raises
    ------
    InputError
        When the solver is unknown or a parameter has no value.
    """
    name, _, rest = spec.partition(":")
    registry.solvers.entry(name)
    return name, parse_params(filter(None, rest.split(",")))


def supporting(instance: Instance[Any]) -> list[str]:
    """Names of the installed solvers that can solve an instance."""
    loaded = registry.solvers.loaded()
    return [name for name, solver in loaded if solver().supports(instance) is None]


def require_support(instance: Instance[Any], solver: Solver) -> None:
    """Refuse an instance that the solver does not support.

    Raises
    ------
    UnsupportedError
        With the reason, and the names of the solvers that do.
    """
    reason = solver.supports(instance)
    if reason is not None:
        able = ", ".join(supporting(instance)) or "none"
        raise UnsupportedError(
            f"{solver.name} cannot solve {instance.name or instance.problem}: {reason} "
            f"(solvers that can: {able})"
        )


def checked_start(instance: Instance[Any], start: Any, budget: Budget | None = None) -> Any:
    """A start as a feasible solution, or None.

    Parameters
    ----------
    instance
        What is to be solved.
    start
        A solution, a result, a solution file, or None.
    budget
        What the check may take, where it takes long: `violations_in_time` of the instance.

    Raises
    ------
    InputError
        When it is infeasible or cannot be read.
    """
    path = start if isinstance(start, (str, os.PathLike)) else None
    if path is not None:
        start = io.read_solution(path, instance)
    if isinstance(start, Result):
        start = start.solution
    if start is None:
        return None
    in_time = getattr(instance, "violations_in_time", None)
    if budget is None or in_time is None:
        problems = instance.violations(start)
    else:
        problems = in_time(start, budget)
    if problems:
        raise InputError(path, None, f"start is infeasible: {problems[0]}", "mend it or leave it")
    return start


# ------------------------------------------------------------------------------- bounds


def dual_bound(instance: Instance[Any], budget: Budget) -> float | None:
    """A cheap valid dual bound, or None where no method is registered for the problem.

    Parameters
    ----------
    instance
        What to bound.
    budget
        What it may take; with nothing left, only what takes no time worth counting.
    """
    if instance.problem not in registry.bounds:
        return None
    entry = registry.bounds.entry(instance.problem)
    # Importing a library alone takes longer than a short limit can spare.
    if not entry.installed or (entry.requires and budget.left() <= 0.0):
        return None
    bound = registry.bounds.find(instance.problem)
    value: float | None = None if bound is None else bound(instance, budget)
    return value if value is not None and math.isfinite(value) else None


def reserved(solver: Solver, instance: Instance[Any], budget: Budget, bound: bool) -> float:
    """Seconds of the budget to keep for a dual bound.

    None are kept for a solver with ``proves = True``, which finds its own bounds.
    """
    limit = budget.time_limit
    proves = getattr(solver, "proves", False)
    if not bound or proves or instance.problem not in registry.bounds:
        return 0.0
    if limit is None:
        return BOUND_SECONDS
    return min(BOUND_SHARE * limit, BOUND_SECONDS) if limit >= BOUND_LIMIT else 0.0


def _gap_target(bound: float, gap: float, sense: Sense) -> float | None:
    """The objective from which on the gap to ``bound`` is at most ``gap``."""
    if bound == 0.0:
        return None
    grows = (sense is Sense.MINIMIZE) == (bound > 0)
    # A hair tighter than the gap itself, for rounding.
    return bound * (1 + gap * (1 - 1e-9)) if grows else bound / (1 + gap * (1 - 1e-9))


def with_bound(
    instance: Instance[Any],
    result: Result,
    bound: float,
    budget: Budget,
    on_event: Listener | None,
) -> Result:
    """The result with a dual bound, its seconds those of the budget's clock."""
    event = Event(budget.elapsed(), result.objective, bound, "bound")
    if on_event is not None:
        on_event(event)
    values = {
        f.name: getattr(result, f.name)
        for f in dataclasses.fields(result)
        if f.name not in ("problem", "instance", "digest", "sense", "objective", "ref_cost")
    }
    stopped = result.stopped
    if (
        stopped is Stop.TARGET
        and result.objective is not None
        and budget.gap is not None
        and (budget.target is None or better(budget.target, result.objective, instance.sense))
    ):
        stopped = Stop.GAP
    values |= {
        "bound": bound,
        "status": None if result.status is Status.FEASIBLE else result.status,
        "stopped": stopped,
        "trajectory": (*result.trajectory, event),
        "seconds": result.seconds if result.batch > 1 else budget.elapsed(),
    }
    return Result.of(instance, values.pop("solution"), **values)


# -------------------------------------------------------------------------------- solve


def run(
    instance: Instance[Any],
    solver: Solver,
    budget: Budget,
    *,
    seed: int = 0,
    start: Any = None,
    on_event: Listener | None = None,
    bound: bool = True,
) -> Result:
    """Solve one instance under a budget whose clock already runs.

    Parameters
    ----------
    instance, solver, budget
        What is solved, by what, within what.
    seed
        Seed of the solver.
    start
        A solution, a result or a solution file to start from.
    on_event
        Called at every improvement.
    bound
        Compute a dual bound where the solver gives none, within the budget.

    Raises
    ------
    UnsupportedError
        When the solver cannot take the instance.
    InputError
        When the start is infeasible or cannot be read.
    """
    require_support(instance, solver)
    start = checked_start(instance, start, budget)
    seconds = reserved(solver, instance, budget, bound)
    own = budget.reserve(seconds) if seconds else budget
    value = None
    if bound and budget.gap is not None and instance.problem in registry.bounds:
        # Heuristics know no bound: with one at hand a gap is a target.
        value = dual_bound(instance, budget.child(seconds))
        target = None if value is None else _gap_target(value, budget.gap, instance.sense)
        if target is not None:
            own = budget.reserve(0.0)
            if own.target is None or better(own.target, target, instance.sense):
                own.target = target
    result = solver.solve(instance, own, seed=seed, start=start, on_event=on_event)
    if not bound or result.status not in (Status.FEASIBLE, Status.UNKNOWN):
        return result
    if value is None and result.bound is None and not budget.interrupted():
        value = dual_bound(instance, budget.child(min(seconds, budget.left())))
    if value is None or not _tighter(value, result):
        return result
    return with_bound(instance, result, value, budget, on_event)


def _tighter(bound: float, result: Result) -> bool:
    return result.bound is None or better(result.bound, bound, result.sense)


@dataclass(frozen=True)
class Limits:
    """What one solve may take; see `Budget`.

    Parameters
    ----------
    time_limit, iterations, target, gap
        As in `Budget`.

    Raises
    ------
    InputError
        When a limit is negative or not a number.
    """

    time_limit: float | None = 60.0
    iterations: int | None = None
    target: float | None = None
    gap: float | None = None

    def __post_init__(self) -> None:
        self.budget()

    def budget(self, parent: Budget | None = None, times: int = 1) -> Budget:
        """A budget whose clock starts now, for so many instances at once."""
        try:
            budget = (parent or Budget()).child(
                self.time_limit, self.iterations, self.target, self.gap
            )
        except ValueError as error:
            raise InputError(None, None, str(error)) from None
        if budget.time_limit is not None:
            budget.time_limit *= times
        return budget


@overload
def solve(
    instance: Instance[Any],
    solver: str | Solver = ...,
    time_limit: float | None = ...,
    seed: int = ...,
    start: Any = ...,
    on_event: Listener | None = ...,
    **params: Any,
) -> Result: ...
@overload
def solve(
    instance: Batch[Any],
    solver: str | Solver = ...,
    time_limit: float | None = ...,
    seed: int = ...,
    start: Any = ...,
    on_event: Listener | None = ...,
    **params: Any,
) -> list[Result]: ...
@overload
def solve(
    instance: PathLike,
    solver: str | Solver = ...,
    time_limit: float | None = ...,
    seed: int = ...,
    start: Any = ...,
    on_event: Listener | None = ...,
    **params: Any,
) -> Any: ...
def solve(
    instance: Any,
    solver: str | Solver = "auto",
    time_limit: float | None = 60.0,
    seed: int = 0,
    start: Any = None,
    on_event: Listener | None = None,
    *,
    iterations: int | None = None,
    target: float | None = None,
    gap: float | None = None,
    bound: bool = True,
    problem: str = "",
    metric: str | None = None,
    **params: Any,
) -> Result | list[Result]:
    """Solve an instance, a batch, or what a file holds.

    Parameters
    ----------
    instance
        An instance, a batch, a model object of SCIP or HiGHS, or a path; reading counts
        towards the time limit.
    solver
        Registered name, or a solver object.
    time_limit
        Wall-clock seconds for each instance, or None.
    seed
        The same seed gives the same result under a limit on iterations.
    start
        A solution, a result or a solution file to start from.
    on_event
        Called with an `Event` at every improvement.
    iterations, target, gap
        Further limits, as in `Budget`.
    bound
        Compute a dual bound where the solver gives none, within the time limit.
    problem, metric
        How to read a path, as in `read`; of an instance `problem` must be its own.
    params
        Parameters of the solver; for a batch also those of `solve_batch`.

    Returns
    -------
    A checked result; for a batch, or a file that holds one, a list of results. Ctrl-C
    returns the best solution so far.

    Raises
    ------
    InputError
        When a file, the start, a name or a parameter cannot be understood.
    UnsupportedError
        When the solver cannot take the instance; the text names those that can.
    MissingExtraError
        When the solver's package is not installed.
    CheckError
        When what the solver returned does not stand the instance's own check.
    """
    check_seed(seed)
    _check_listeners(on_event=on_event)
    limits = Limits(time_limit, iterations, target, gap)
    budget = limits.budget()
    instance = opened(instance, problem, metric)
    if isinstance(instance, Batch):
        return solve_batch(
            instance, solver, time_limit, seed, start, on_event,
            iterations=iterations, target=target, gap=gap, bound=bound, **params,
        )  # fmt: skip
    if not isinstance(instance, Instance):
        instance = _from_model(instance)
    if not isinstance(instance, Instance):
        kind = type(instance).__name__
        raise InputError(None, None, f"a {kind} is no instance", "give an instance or a path")
    chosen = make_solver(solver, params)
    with budget.catch_interrupt():
        return run(instance, chosen, budget, seed=seed, start=start, on_event=on_event, bound=bound)


def _check_batch(instances: Any, solver: Solver) -> None:
    if isinstance(instances, (str, os.PathLike, Instance)):
        kind = type(instances).__name__
        raise InputError(None, None, f"a {kind} is no batch", "give a list, or call solve")
    for instance in instances:
        if not isinstance(instance, Instance):
            kind = type(instance).__name__
            raise InputError(None, None, f"a {kind} is no instance", "give instances")
        require_support(instance, solver)


def _check_listeners(**listeners: object) -> None:
    for name, listener in listeners.items():
        if listener is not None and not callable(listener):
            kind = type(listener).__name__
            raise InputError(None, None, f"{name}: a {kind} cannot be called", "give a function")


def opened(instance: Any, problem: str = "", metric: str | None = None) -> Any:
    """What a path holds, or an instance or a batch, measured in another metric.

    Parameters
    ----------
    instance
        A path, an instance or a batch; anything else comes back as it is.
    problem
        How to read a path; of an instance it must be its own.
    metric
        As in `read`, also for instances; None leaves them as they are.

    Raises
    ------
    InputError
        When a file or the metric cannot be understood, or the problem is another one.
    """
    if isinstance(instance, (str, os.PathLike)):
        return io.read(instance, problem, metric)
    if problem and isinstance(instance, (Batch, Instance)):
        found = instance.cls.problem if isinstance(instance, Batch) else instance.problem
        if found != problem:
            raise InputError(None, None, f"is a {found}, not a {problem}", "leave problem out")
    return instance if metric is None else _in_metric(instance, metric)


def _in_metric(instance: Any, metric: str) -> Any:
    try:
        return io.with_metric(instance, metric)
    except (AttributeError, ValueError) as error:
        what = str(error) if isinstance(error, ValueError) else "no instance to apply a metric to"
        raise InputError(None, None, what) from None


def _from_model(value: Any) -> Any:
    """A SCIP or HiGHS model object as an instance; anything else as it is."""
    if type(value).__module__.partition(".")[0] not in ("pyscipopt", "highspy"):
        return value
    from nco.instances.mps import from_model

    return from_model(value)


def solve_batch(
    instances: Many,
    solver: str | Solver = "auto",
    time_limit: float | None = 60.0,
    seed: int = 0,
    start: Sequence[Any] | None = None,
    on_event: Listener | None = None,
    *,
    iterations: int | None = None,
    target: float | None = None,
    gap: float | None = None,
    bound: bool = True,
    jobs: int = 1,
    backend: str = "loky",
    on_result: Callable[[int, Result], None] | None = None,
    **params: Any,
) -> list[Result]:
    """Solve many instances.

    A solver that is batched by nature gets them in one call, with ``seed`` and the time limit
    of all together. Others, and it under a gap where there are bounds, solve one by one, or
    ``jobs`` at a time in processes; then every instance gets its own seed, spawned from
    ``seed`` and its digest, so that ``jobs`` changes no result.

    Parameters
    ----------
    instances
        A batch, or any sequence of instances.
    solver, time_limit, seed, on_event
        As in `solve`; with more than one job there are no events.
    start
        One start (or None) for each instance.
    iterations, target, gap, bound
        As in `solve`.
    jobs
        Processes; -1 for one per core.
    backend
        A backend of joblib: ``loky`` (this machine) or ``ray`` (a cluster, nco[ray]).
    on_result
        Called with the position and the result of every instance as it is done.
    params
        Parameters of the solver.

    Returns
    -------
    One result per instance, in order. After Ctrl-C those not started have no solution
    and stopped ``interrupted``.

    Raises
    ------
    InputError, UnsupportedError, MissingExtraError
        As in `solve`; an instance that cannot be solved is refused before any is.
    CheckError
        As in `solve`, of the first such instance, after all are done; ``on_result`` has the
        results of the others.
    """
    from nco import parallel

    check_seed(seed)
    _check_listeners(on_event=on_event, on_result=on_result)
    chosen = make_solver(solver, params)
    limits = Limits(time_limit, iterations, target, gap)
    parent = Budget()
    _check_batch(instances, chosen)

    def listen(index: int, outcome: Result | Exception) -> None:
        if isinstance(outcome, Result) and on_result is not None:
            on_result(index, outcome)

    with parent.catch_interrupt():
        outcomes = parallel.run_many(
            instances, chosen, limits, parent,
            seeds=[spawn_seed(seed, i.digest) for i in instances], seed=seed,
            starts=start, on_event=on_event, bound=bound,
            jobs=jobs, backend=backend, on_outcome=listen,
        )  # fmt: skip
    results = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        results.append(outcome)
    return results
