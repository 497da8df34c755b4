"""Kernels compiled by numba, within time limits: numba cannot be stopped."""

from __future__ import annotations

import fcntl
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.instances.core import Budget, Tracker

logger = logging.getLogger("nco")

F = TypeVar("F", bound=Callable[..., Any])

#: Modules that use kernels, each of which compiles them by its function `COMPILE`.
MODULES = (
    *(f"nco.classical.{name}"
      for name in ("constructive", "mis_tabu", "or_opt", "prize_tour", "random_insertion",
                   "ruin_recreate")),
    *(f"nco.instances.{name}"
      for name in ("two_stage_knapsack", "capital_budgeting", "facility_location")),
)  # fmt: skip
#: Name of that function.
COMPILE = "_compile"
#: Seconds before a constructive solution is made while the compiler works.
PATIENCE = 0.3
#: Name of threads that compile, followed by module and function of what they run.
THREAD = "nco-compile"


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


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """An array of floats as kernels are compiled for: in C order, aligned, writable."""
    return np.require(values, np.float64, ["C", "A", "W"])


def compile_in_time(
    compile_kernels: Callable[[], object],
    tracker: Tracker[Any],
    construct: Callable[[Budget], Any],
    *,
    reserve: float = 0.0,
) -> bool:
    """Compile kernels, or load them from numba's cache, unless time is up first.

    The thread that compiles is no daemon: the interpreter waits for it in the end, so that
    the work is not lost and the next call finds the kernels compiled; the command line
    leaves it to `finish_elsewhere`. One compilation runs at a time.

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
    budget = tracker.budget

    def meanwhile() -> None:
        found = construct(budget)
        if found is not None:
            tracker.offer(found, by="constructive")

    def late() -> bool:
        return bool(tracker.done()) or budget.left() - reserve <= 0.0

    if compiled_before(compile_kernels, late, min(PATIENCE, budget.left()), meanwhile):
        return True
    if any(compiles(thread) for thread in running()):
        logger.warning("%s: its kernels are still being compiled, once per machine", tracker.solver)
    else:
        logger.warning("%s: time is up before its code is loaded", tracker.solver)
    return False


def compiled_before(
    compile_kernels: Callable[[], object],
    late: Callable[[], bool],
    patience: float = 0.0,
    meanwhile: Callable[[], None] = lambda: None,
) -> bool:
    """As `compile_in_time`, for whoever has no tracker.

    Parameters
    ----------
    compile_kernels
        As there.
    late
        Whether it is too late for them.
    patience
        Seconds until ``meanwhile`` is called, if they are not compiled by then.

    Returns
    -------
    Whether the kernels are compiled.
    """
    ours = _Compiler(compile_kernels)
    # An earlier call may have left its compilation running.
    for thread in [*running(), ours]:
        if thread is ours:
            thread.start()
        thread.join(patience)
        if thread.is_alive():
            meanwhile()
        while thread.is_alive():
            if late():
                return False
            thread.join(0.02)
    if ours.errors:
        raise ours.errors[0]
    return True


class _Compiler(threading.Thread):
    """The thread of one compilation."""

    def __init__(self, compile_kernels: Callable[[], object]):
        name = f"{THREAD} {compile_kernels.__module__} {compile_kernels.__name__}"
        super().__init__(name=name)
        self.errors: list[BaseException] = []
        #: Whether there was more to do than to load what is cached.
        self.compiles = False
        self._compile_kernels = compile_kernels
        self._over = threading.Event()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the work's end; unlike the thread's, at no risk when Ctrl-C comes meanwhile."""
        if not self._over.wait(timeout):
            return
        super().join()

    def run(self) -> None:
        """Compile, or load."""
        try:
            with self._listening():
                self._compile_kernels()
        except BaseException as error:
            self.errors.append(error)
        finally:
            self._over.set()

    def _listening(self) -> AbstractContextManager[object]:
        from numba.core import event

        thread = self

        class Passes(event.Listener):  # type: ignore[misc]
            """Hears the compiler's passes; what is loaded has none."""

            def on_start(self, event: Any) -> None:
                if threading.current_thread() is thread:
                    thread.compiles = True

            def on_end(self, event: Any) -> None:
                pass

        listening: AbstractContextManager[object]
        listening = event.install_listener("numba:run_pass", Passes())
        return listening


def running() -> list[threading.Thread]:
    """The threads that compile or load."""
    return [t for t in threading.enumerate() if t.name.startswith(THREAD)]


def compiles(thread: threading.Thread) -> bool:
    """Whether one of `running` compiles, and does not only load what is cached."""
    return bool(getattr(thread, "compiles", True))


def finish_elsewhere() -> None:
    """Leave to processes of their own what still compiles, so that this one may exit."""
    for thread in filter(compiles, running()):
        code = f"from {__name__} import compile_alone; compile_alone(*{thread.name.split()[1:]})"
        subprocess.Popen(
            ["nice", sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def compile_all() -> None:
    """Compile all kernels, once per machine, so that no time limit pays for it."""
    for module in MODULES:
        compile_alone(module, COMPILE, wait=True)


def compile_alone(module: str, function: str, *, wait: bool = False) -> None:
    """Run what compiles kernels; while another process is at it, wait for that or do nothing."""
    import importlib

    found = importlib.import_module(module)
    assert found.__file__ is not None
    with open(found.__file__) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return
        getattr(found, function)()


if __name__ == "__main__":
    compile_all()
