"""Many instances: in one call of a batched solver, one by one, or in processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nco import api
from nco.instances import registry
from nco.instances.core import (
    Budget,
    InputError,
    Instance,
    Listener,
    MissingExtraError,
    Result,
    Solver,
    Stop,
    is_whole,
)

logger = logging.getLogger("nco")


def run_many(
    instances: api.Many,
    solver: Solver,
    limits: api.Limits,
    parent: Budget,
    *,
    seeds: Sequence[int],
    seed: int = 0,
    starts: Sequence[Any] | None = None,
    on_event: Listener | None = None,
    bound: bool = True,
    jobs: int = 1,
    backend: str = "loky",
    on_start: Callable[[int], None] | None = None,
    on_outcome: Callable[[int, Result | Exception], None] | None = None,
) -> list[Result | Exception]:
    """Solve many instances; an error of one is its outcome and does not stop the others.

    A batched solver gets them in one call, unless a gap makes a target of each one's own.

    Parameters
    ----------
    instances, solver, limits
        What is solved, by what, within what (for each instance).
    parent
        Its interruption stops everything.
    seeds
        Seed for each instance.
    seed
        Seed for a solver that takes all instances in one call.
    starts, on_event, bound, jobs, backend
        As in `solve_batch`.
    on_start
        Called with the position of an instance as its turn begins; not with several jobs.
    on_outcome
        Called with the position and the outcome of every instance as it is done.

    Raises
    ------
    InputError
        When ``starts`` is of another length, or jobs or backend are unknown.
    MissingExtraError
        When the backend is not installed.
    """
    count = len(instances)
    if starts is not None and len(starts) != count:
        raise InputError(None, None, f"{len(starts)} starts for {count} instances", "give one each")
    check_jobs(jobs, backend)
    listen = on_outcome or (lambda index, outcome: None)
    outcomes: list[Result | Exception | None] = [None] * count
    if count > 1 and hasattr(solver, "solve_batch") and not _own_targets(instances, limits, bound):
        if jobs != 1:
            logger.warning("%s solves a batch in one call: jobs change nothing", solver.name)
        results = _run_batched(instances, solver, limits, parent, seed, starts, on_event, bound)
        for index, result in enumerate(results):
            listen(index, result)
        return results
    tasks = [
        _Task(k, instances[k], solver, limits, seeds[k], starts[k] if starts else None, bound)
        for k in range(count)
    ]
    if jobs == 1 or count <= 1:
        done = _one_by_one(tasks, parent, on_event, on_start)
    else:
        done = _parallel(tasks, parent, jobs, backend)
    for index, outcome in done:
        if outcome is not None:
            outcomes[index] = outcome
            listen(index, outcome)
    out = []
    for task, outcome in zip(tasks, outcomes, strict=True):
        if outcome is None:
            outcome = _not_started(task, solver)
            listen(task.index, outcome)
        out.append(outcome)
    return out


def _own_targets(instances: api.Many, limits: api.Limits, bound: bool) -> bool:
    """Whether `nco.api.run` makes a target of a gap, by a bound of each instance."""
    return bound and limits.gap is not None and any(i.problem in registry.bounds for i in instances)


def check_jobs(jobs: int, backend: str) -> None:
    """Refuse a number of jobs or a backend that cannot be.

    Raises
    ------
    InputError
        When there are no jobs, or the backend is unknown.
    MissingExtraError
        When the backend is not installed.
    """
    if not is_whole(jobs) or jobs == 0:
        raise InputError(
            None, None, f"jobs = {jobs}", "give a number of processes, or -1 for all cores"
        )
    if backend not in ("loky", "ray"):
        raise InputError(None, None, f"unknown backend {backend!r}", "known: loky, ray")
    if backend == "ray" and find_spec("ray") is None:
        raise MissingExtraError("backend ray needs ray: run pip install 'nco[ray]'")


@dataclass(frozen=True)
class _Task:
    index: int
    instance: Instance[Any]
    solver: Solver
    limits: api.Limits
    seed: int
    start: Any
    bound: bool


def _attempt(
    task: _Task, parent: Budget, on_event: Listener | None = None
) -> Result | Exception | None:
    if parent.interrupted():
        return None
    try:
        return api.run(
            task.instance,
            task.solver,
            task.limits.budget(parent),
            seed=task.seed,
            start=task.start,
            on_event=on_event,
            bound=task.bound,
        )
    except Exception as error:
        logger.debug("this is where", exc_info=True)
        return error


def _one_by_one(
    tasks: Sequence[_Task],
    parent: Budget,
    on_event: Listener | None,
    on_start: Callable[[int], None] | None,
) -> Iterator[tuple[int, Result | Exception | None]]:
    for task in tasks:
        if on_start is not None and not parent.interrupted():
            on_start(task.index)
        yield task.index, _attempt(task, parent, on_event)


def _not_started(task: _Task, solver: Solver) -> Result:
    return Result.of(
        task.instance,
        None,
        solver=solver.name,
        seconds=0.0,
        stopped=Stop.INTERRUPTED,
        seed=task.seed,
    )


def _run_batched(
    instances: api.Many,
    solver: Any,
    limits: api.Limits,
    parent: Budget,
    seed: int,
    starts: Sequence[Any] | None,
    on_event: Listener | None,
    bound: bool,
) -> list[Result | Exception]:
    count = len(instances)
    budget = limits.budget(parent, times=count)
    try:
        for instance in instances:
            api.require_support(instance, solver)
        checked = (
            None
            if starts is None
            else [api.checked_start(i, s, budget) for i, s in zip(instances, starts, strict=True)]
        )
        one = limits.budget(parent)
        seconds = api.reserved(solver, instances[0], one, bound) * count
        results: list[Result] = solver.solve_batch(
            instances, budget.reserve(seconds), seed=seed, start=checked, on_event=on_event
        )
    except Exception as error:
        logger.debug("this is where", exc_info=True)
        return [error] * count
    out: list[Result | Exception] = []
    for left, (instance, result) in zip(
        range(count, 0, -1), zip(instances, results, strict=True), strict=True
    ):
        value = None
        if bound and result.bound is None and result.feasible and not parent.interrupted():
            share = min(seconds / count, budget.left() / left)
            value = api.dual_bound(instance, budget.child(share))
        if value is not None:
            result = api.with_bound(instance, result, value, budget, None)
        out.append(result)
    return out


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Let processes that begin in here ignore Ctrl-C."""
    # Ctrl-C reaches the whole process group, but the parent alone decides what it means.
    # What is ignored here stays ignored in processes begun here, from their first moment;
    # blocking would not do, as multiprocessing unblocks. Other threads cannot set it.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _job(task: _Task, stop: str) -> tuple[int, Result | Exception | None]:
    budget = Budget()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if os.path.exists(stop):
                budget.interrupt()
                return

    if os.path.exists(stop):
        return task.index, None
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        return task.index, _attempt(task, budget)
    finally:
        over.set()
        thread.join()


def _parallel(
    tasks: Sequence[_Task], parent: Budget, jobs: int, backend: str
) -> Iterator[tuple[int, Result | Exception | None]]:
    from joblib import Parallel, delayed, parallel_config

    if backend == "ray":
        from ray.util.joblib import register_ray

        register_ray()
        config = parallel_config(backend="ray")
        # Ray's backend returns all at once.
        returns = "list"
    else:
        config = parallel_config(backend="loky")
        returns = "generator_unordered"
    # Workers learn of an interruption by a file that appears.
    with (
        tempfile.TemporaryDirectory(prefix="nco-") as folder,
        _announce(parent, folder) as stop,
        config,
    ):
        pool = Parallel(n_jobs=jobs, return_as=returns, batch_size=1, max_nbytes=None)
        with deaf_children() if backend == "loky" else contextlib.nullcontext():
            outcomes = pool(delayed(_job)(task, stop) for task in tasks)
        yield from outcomes


@contextlib.contextmanager
def _announce(parent: Budget, folder: str) -> Iterator[str]:
    stop = Path(folder) / "stop"
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if parent.interrupted():
                stop.touch()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield str(stop)
    finally:
        over.set()
        thread.join()
