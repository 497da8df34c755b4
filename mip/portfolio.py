"""Several `balans` workers in processes of their own that share incumbents and bounds.

The idea is ParBalans' (J. Cai, S. Kadıoğlu, 2025): different configurations side by side.
Unlike there, a solution found by one worker is the others' incumbent a moment later.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nco.instances.core import Budget, Instance, Result, Stop
from nco.mip.backend import Vector

logger = logging.getLogger("nco")

#: Seconds that workers get to come back after the deadline before they are killed.
GRACE = 0.4
#: Seconds between two looks at the workers.
CHECK = 0.05


@dataclass
class _Line:
    """One worker's end of the line to the parent; see `nco.mip.alns.Share`."""

    number: int
    up: Any
    down: Any
    best: float = math.inf
    bound: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, x: Vector, value: float) -> None:
        with self._lock:
            if value < self.best:
                self.best = value
                self.up.put(("solution", self.number, np.asarray(x).tobytes(), value))

    def tell_bound(self, bound: float) -> None:
        with self._lock:
            # Every small step would be a message.
            if bound > self.bound + 1e-6 * max(1.0, abs(bound)):
                self.bound = bound
                self.up.put(("bound", self.number, b"", bound))

    def hear(self) -> tuple[list[Vector], float]:
        found: list[Vector] = []
        bound = -math.inf
        while True:
            try:
                kind, data, value = self.down.get_nowait()
            except queue.Empty:
                return found, bound
            if kind == "solution" and value < self.best:
                self.best = value
                found.append(np.frombuffer(data))
            elif kind == "bound":
                bound = max(bound, value)


def _work(
    number: int,
    params: Mapping[str, Any],
    instance: Instance[Any],
    limits: Mapping[str, Any],
    end: float,
    seed: int,
    start: Any,
    stop: Any,
    up: Any,
    down: Any,
) -> None:
    """A worker's process: search, and send the result up."""
    from nco.mip.balans import Balans

    # The monotonic clock is the machine's: loading this process counts.
    left = None if math.isinf(end) else max(0.0, end - time.monotonic())
    budget = Budget(left, **limits)

    def watch() -> None:
        while not stop.value:
            time.sleep(0.1)
            if budget.left() <= 0:
                return
        budget.interrupt()

    threading.Thread(target=watch, daemon=True).start()
    try:
        line = _Line(number, up, down)
        result = Balans(**params).search(instance, budget, seed=seed, start=start, share=line)
        up.put(("result", number, result.to_json(), 0.0))
    except KeyboardInterrupt:
        up.put(("failure", number, "interrupted", 0.0))
    except Exception as error:
        up.put(("failure", number, f"{type(error).__name__}: {error}", 0.0))


def run_portfolio(
    configurations: Sequence[Mapping[str, Any]],
    instance: Instance[Any],
    budget: Budget,
    *,
    seed: int,
    start: Any,
    share: bool,
    on_event: Any,
) -> list[Result]:
    """Run one worker per configuration; the results of those that came back in time.

    Parameters
    ----------
    configurations
        Parameters of `Balans`, one set per worker.
    instance
        What to solve.
    budget
        Of all workers at once.
    seed
        Worker k gets ``seed + k``.
    start
        A start for all, or None.
    share
        Whether workers hear of each other's solutions and bounds.
    on_event
        ``on_event(kind, data, value, by)`` with kind "solution" (data: the column values'
        bytes) or "bound"; value is minimised.
    """
    context = multiprocessing.get_context("spawn")
    # A plain byte: an Event waits for its sleepers, and a killed worker never answers.
    up, stop = context.Queue(), context.RawValue("b", 0)
    downs = [context.Queue() for _ in configurations]
    end = time.monotonic() + budget.left()
    workers = []
    for number, params in enumerate(configurations):
        limits = {
            "iterations": budget.iterations,
            "target": budget.target,
            "gap": budget.gap,
        }
        arguments = (number, dict(params), instance, limits, end, seed + number, start, stop, up,
                     downs[number])  # fmt: skip
        worker = context.Process(target=_work, args=arguments, daemon=True)
        worker.start()
        workers.append(worker)
    results: list[Result] = []
    waiting = set(range(len(workers)))
    best, bound = math.inf, -math.inf
    try:
        while waiting and time.monotonic() < end + GRACE:
            if budget.interrupted():
                stop.value = 1
            try:
                kind, number, data, value = up.get(timeout=CHECK)
            except queue.Empty:
                waiting -= {k for k in waiting if not workers[k].is_alive() and up.empty()}
                continue
            if kind == "result":
                results.append(Result.from_json(data))
                waiting.discard(number)
                if results[-1].stopped in (Stop.PROVED, Stop.TARGET, Stop.GAP):
                    stop.value = 1
            elif kind == "failure":
                logger.warning("a worker failed: %s", data)
                waiting.discard(number)
            elif (kind == "solution" and value < best) or (kind == "bound" and value > bound):
                if kind == "solution":
                    best = value
                else:
                    bound = value
                on_event(kind, data, value, f"worker {number}")
                if share:
                    for other, down in enumerate(downs):
                        if other != number:
                            down.put((kind, data, value))
    finally:
        stop.value = 1
        for worker in workers:
            worker.join(0.05)
            if worker.is_alive():
                worker.kill()
                worker.join()
        for line in (up, *downs):
            line.cancel_join_thread()
            line.close()
    return results
