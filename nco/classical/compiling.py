"""Kernels compiled by numba, within time limits: numba cannot be stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from nco.instances.core import Budget, Tracker

logger = logging.getLogger("nco")

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds before a constructive solution is made while the compiler works.
PATIENCE = 0.3


def kernel(**options: Any) -> Callable[[F], F]:
    """Decorator: compile with numba, without the interpreter lock, cached where that works."""
    from numba import njit

    def decorate(function: F) -> F:
        try:
            compiled: F = njit(cache=True, nogil=True, **options)(function)
        except RuntimeError as error:
            # numba finds neither beside this file nor in the user's cache folder a place
            # that it may write to.
            logger.debug("compiled code is not cached: %s", error)
            compiled = njit(nogil=True, **options)(function)
        return compiled

    return decorate


def compile_in_time(
    compile_kernels: Callable[[], object],
    tracker: Tracker[Any],
    construct: Callable[[Budget], Any],
    *,
    reserve: float = 0.0,
) -> bool:
    """Compile kernels, or load them from numba's cache, unless time is up first.

    The thread that compiles is no daemon: the interpreter waits for it in the end, so that
    the work is not lost and the next call finds the kernels compiled. One compilation runs
    at a time.

    Parameters
    ----------
    compile_kernels
        Imports and calls every kernel once.
    tracker
        Its budget is kept, and it is offered a constructive solution meanwhile.
    construct
        Makes a solution, or None, within a budget.
    reserve
        Seconds of the budget that must be left.

    Returns
    -------
    Whether the kernels are compiled.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            compile_kernels()
        except BaseException as error:
            errors.append(error)

    budget = tracker.budget
    ours = threading.Thread(target=work, name="nco-compile")
    # An earlier call may have left its compilation running.
    for thread in [*(t for t in threading.enumerate() if t.name == ours.name), ours]:
        if thread is ours:
            thread.start()
        thread.join(min(PATIENCE, budget.left()))
        if thread.is_alive():
            found = construct(budget)
            if found is not None:
                tracker.offer(found, by="constructive")
        while thread.is_alive():
            if tracker.done() or budget.left() - reserve <= 0.0:
                logger.warning(
                    "%s: its kernels are still being compiled, once per machine", tracker.solver
                )
                return False
            thread.join(0.02)
    if errors:
        raise errors[0]
    return True
