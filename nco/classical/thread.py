"""Run a library call that cannot be stopped in a thread that can be given up.

For libraries that release the interpreter lock and keep their own time limit, which a
child process (`nco.classical.worker`) would only start later.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from nco.instances.core import Budget, CheckError


def deadline_of(budget: Budget) -> float | None:
    """When a budget ends, in `time.monotonic` seconds; None without a time limit."""
    left = budget.left()
    return None if left == float("inf") else time.monotonic() + left


def run_thread(search: Iterator[Any], budget: Budget, *, grace: float) -> Iterator[Any]:
    """Yield what a search yields, until it ends, time is up, or Ctrl-C.

    Parameters
    ----------
    search
        Advanced in a thread of its own; given up, it ends by itself, soon after its
        deadline.
    budget
        When to give it up.
    grace
        Seconds after the deadline for an answer on its way.

    Raises
    ------
    CheckError
        When the search fails.
    """
    answers: queue.Queue[Any] = queue.Queue()
    end = object()

    def work() -> None:
        try:
            for answer in search:
                answers.put(answer)
                if budget.interrupted():
                    break
            answers.put(end)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=work, name="nco-search", daemon=True).start()
    deadline = time.monotonic() + budget.left() + grace
    while True:
        try:
            answer = answers.get(timeout=0.02)
        except queue.Empty:
            if time.monotonic() > deadline or budget.interrupted():
                return
            continue
        if answer is end:
            return
        if isinstance(answer, Exception):
            raise CheckError(f"search failed: {answer}") from answer
        yield answer
