"""Several `balans` workers, in processes or on a cluster, that share incumbents and bounds.

The idea is ParBalans' (J. Cai, S. Kadıoğlu, 2025): different configurations side by side.
Unlike there, a solution found by one worker is the others' incumbent a moment later.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import pickle
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any, ClassVar

import numpy as np

from nco.instances.core import Budget, InputError, Instance, Result, Stop
from nco.mip.backend import Vector
from nco.parallel import deaf_children

logger = logging.getLogger("nco")

#: Seconds that workers get to come back after the deadline before they are killed.
GRACE = 0.3
#: The same after Ctrl-C.
ANSWER = 3.0
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

    def tell(self, x: Vector, value: float, by: str) -> None:
        with self._lock:
            if value < self.best:
                self.best = value
                self.up.put(("solution", self.number, np.asarray(x).tobytes(), value, by))

    def tell_bound(self, bound: float) -> None:
        with self._lock:
            # Every small step would be a message.
            if bound > self.bound + 1e-6 * max(1.0, abs(bound)):
                self.bound = bound
                self.up.put(("bound", self.number, b"", bound, ""))

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
    limits: Mapping[str, Any],
    end: float,
    clock: Callable[[], float],
    seed: int,
    stop: Any,
    up: Any,
    down: Any,
) -> None:
    """Search as one of the workers, and send the result up.

    The first that comes down is an instance and a start, pickled.
    """
    from nco.mip.balans import Balans

    try:
        instance, start = pickle.loads(down.get())

        # The clock is the parent's, too: loading this process counts.
        left = None if math.isinf(end) else max(0.0, end - clock())
        budget = Budget(left, **limits)

        def watch() -> None:
            while not stop.value:
                time.sleep(0.1)
                if budget.left() <= 0:
                    return
            budget.interrupt()

        threading.Thread(target=watch, daemon=True).start()
        line = _Line(number, up, down)
        result = Balans(**params).search(instance, budget, seed=seed, start=start, share=line)
        message = ("result", number, result.to_json(), 0.0, "")
    except KeyboardInterrupt:
        message = ("failure", number, "interrupted", 0.0, "")
    except Exception as error:
        message = ("failure", number, f"{type(error).__name__}: {error}", 0.0, "")
    up.put(message)


class _Sender:
    """A process' own line up: should it die in the middle of a message, no other is silenced."""

    def __init__(self, connection: Any):
        self.connection = connection
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Sender, (self.connection,)

    def put(self, message: tuple[Any, ...]) -> None:
        with self._lock:
            self.connection.send(message)


class _Caller:
    """The line up of the worker in this process; a byte wakes whoever waits for the others'."""

    def __init__(self, bell: Any):
        self.messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._bell = bell

    def put(self, message: tuple[Any, ...]) -> None:
        self.messages.put(message)
        # Left behind, its worker speaks to nobody.
        with suppress(OSError):
            self._bell.send_bytes(b"!")


class _Processes:
    """Workers on this machine, and their lines: the first in a thread, others in processes.

    A thread need not load what this process has, so that two workers begin no later than one.
    """

    #: The machine's, alike in all processes.
    clock = staticmethod(time.monotonic)
    #: Workers that cannot be ended, only asked to.
    here = frozenset({0})

    def __init__(self, count: int):
        context = multiprocessing.get_context("spawn")
        self._heard, bell = context.Pipe(duplex=False)
        self._own = _Caller(bell)
        pipes = [context.Pipe(duplex=False) for _ in range(count - 1)]
        #: Lines up of the processes that have not ended, by the worker's number.
        self._lines = {1 + k: ends[0] for k, ends in enumerate(pipes)}
        self.ups: list[Any] = [self._own, *(_Sender(ends[1]) for ends in pipes)]
        # A thread left behind may still listen; a queue of processes would leak its locks then.
        self.downs: list[Any] = [queue.SimpleQueue(), *(context.Queue() for _ in pipes)]
        # A plain byte: an Event waits for its sleepers, and a killed worker never answers.
        self.stop = context.RawValue("b", 0)
        self._context = context
        self._workers: list[Any] = []

    def start(self, tasks: Sequence[tuple[Any, ...]]) -> None:
        own, *others = tasks
        self._workers.append(threading.Thread(target=_work, args=own, daemon=True))
        self._workers += [
            self._context.Process(target=_work, args=task, daemon=True) for task in others
        ]
        with deaf_children():
            for worker in self._workers:
                worker.start()
        # Only theirs are left, so that their ends are heard.
        for sender in self.ups[1:]:
            sender.connection.close()

    def get(self, timeout: float) -> tuple[Any, ...]:
        """The next message of any worker."""
        lines: list[Any] = wait([self._heard, *self._lines.values()], timeout)
        for line in lines:
            if line is self._heard:
                line.recv_bytes()
                return self._own.messages.get()
            try:
                message: tuple[Any, ...] = line.recv()
            except (EOFError, OSError):
                number = next(k for k, own in self._lines.items() if own is line)
                self._lines.pop(number).close()
                continue
            return message
        raise queue.Empty

    def alive(self, number: int) -> bool:
        """Whether a worker may still say something."""
        return number in self.here or number in self._lines

    def halt(self) -> None:
        self.stop.value = 1

    def close(self) -> None:
        own, *others = self._workers
        for worker in (own, *others):
            worker.join(0.05)
        for worker in others:
            if worker.is_alive():
                worker.kill()
                worker.join()
        for connection in self._lines.values():
            connection.close()
        for line in self.downs[1:]:
            line.cancel_join_thread()
            line.close()


@dataclass
class _Flag:
    """A byte that all of a cluster can read: raised by a first message."""

    line: Any

    @property
    def value(self) -> bool:
        return not self.line.empty()


class _Ray:
    """Workers on a cluster through joblib's Ray backend, and their lines.

    Joins the cluster that ``RAY_ADDRESS`` names or that runs on this machine; where there is
    none, one of this machine's is begun, which ends with this process.
    """

    #: Of several machines; their clocks must agree.
    clock = staticmethod(time.time)
    here: frozenset[int] = frozenset()
    #: Whether the cluster is ours: it may be ended to begin a larger one.
    own: ClassVar[bool] = False

    def __init__(self, count: int):
        import ray
        from ray.util.queue import Queue

        places = self._places()
        if places < count and (self.own or not places):
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.shutdown()
            try:
                ray.init(address="auto", **quiet)
                _Ray.own = False
            except ConnectionError:
                ray.init(address="local", num_cpus=count, include_dashboard=False, **quiet)
                _Ray.own = True
            places = self._places()
        if places < count:
            raise InputError(
                None, None, f"{count} workers on a Ray cluster with {places} CPUs",
                "ask for fewer jobs, or start a larger cluster",
            )  # fmt: skip
        # Lines hardly work; they must not take the workers' places.
        self._up, self._halt, *self.downs = (
            Queue(actor_options={"num_cpus": 0}) for _ in range(count + 2)
        )
        self.ups = [self._up] * count
        self.stop = _Flag(self._halt)
        self._over = threading.Event()

    def start(self, tasks: Sequence[tuple[Any, ...]]) -> None:
        from joblib import Parallel, delayed, parallel_config
        from ray.util.joblib import register_ray

        register_ray()

        def work() -> None:
            try:
                with parallel_config(backend="ray"):
                    # joblib takes a single job for itself: two places at least.
                    pool = Parallel(n_jobs=max(2, len(tasks)), batch_size=1, max_nbytes=None)
                    pool(delayed(_work)(*task) for task in tasks)
            except Exception as error:
                logger.warning("the cluster failed: %s", error)
            finally:
                self._over.set()

        threading.Thread(target=work, name="nco-ray", daemon=True).start()

    def get(self, timeout: float) -> tuple[Any, ...]:
        message: tuple[Any, ...] = self._up.get(timeout=timeout)
        return message

    def alive(self, number: int) -> bool:
        return not self._over.is_set() or not self._up.empty()

    def halt(self) -> None:
        self._halt.put(1)

    def close(self) -> None:
        self._over.wait(GRACE)
        for line in (self._up, self._halt, *self.downs):
            line.shutdown(force=True)

    @staticmethod
    def _places() -> int:
        import ray

        return int(ray.cluster_resources().get("CPU", 0)) if ray.is_initialized() else 0


#: Where workers run -> their processes and lines.
PLACES: Mapping[str, Callable[[int], _Processes | _Ray]] = {"loky": _Processes, "ray": _Ray}


def run_portfolio(
    configurations: Sequence[Mapping[str, Any]],
    instance: Instance[Any],
    budget: Budget,
    *,
    seed: int,
    start: Any,
    share: bool,
    on_event: Any,
    backend: str = "loky",
    all_of_them: bool = False,
) -> dict[int, Result]:
    """Run one worker per configuration; the results, by number, of those back in time.

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
        bytes) or "bound"; value is minimised; by is the worker and what found it.
    backend
        A key of `PLACES`: ``loky`` (this machine) or ``ray`` (a cluster).
    all_of_them
        Whether workers go on when one has proved the optimum or met the target.

    Raises
    ------
    InputError
        When a cluster has fewer CPUs than there are workers.
    TypeError, AttributeError, pickle.PicklingError
        When the instance or the start cannot be pickled.
    """
    # A queue would only say that it cannot be pickled, and workers wait for ever.
    pickled = pickle.dumps((instance, start))
    left = budget.left()
    begin = time.monotonic()
    end = begin + left
    place = PLACES[backend](len(configurations))
    limits = {"iterations": budget.iterations, "target": budget.target, "gap": budget.gap}
    theirs = place.clock() + left - (time.monotonic() - begin)
    tasks = [
        (number, dict(params), limits, theirs, place.clock, seed + number, place.stop,
         place.ups[number], place.downs[number])
        for number, params in enumerate(configurations)
    ]  # fmt: skip
    for down in place.downs:
        # Not with the task: beginning a process waits until it has read that.
        down.put(pickled)
    results: dict[int, Result] = {}
    waiting = set(range(len(tasks)))
    best, bound = math.inf, -math.inf
    halted = False
    patience = math.inf
    try:
        place.start(tasks)
        while waiting and time.monotonic() < end + GRACE:
            over = (Stop.PROVED, Stop.TARGET, Stop.GAP)
            proved = not all_of_them and any(r.stopped in over for r in results.values())
            if not halted and (proved or budget.interrupted()):
                place.halt()
                halted = True
                end = min(end, time.monotonic() + ANSWER)
                patience = time.monotonic() + GRACE
            # What others would say after a proof is not waited for, though they can be ended.
            if halted and proved and time.monotonic() > patience and not waiting & place.here:
                break
            try:
                kind, number, data, value, by = place.get(CHECK)
            except queue.Empty:
                for lost in [k for k in waiting if not place.alive(k)]:
                    waiting.discard(lost)
                    logger.warning("worker %d ended without a result", lost)
                continue
            if kind == "result":
                results[number] = Result.from_json(data)
                waiting.discard(number)
            elif kind == "failure":
                logger.warning("a worker failed: %s", data)
                waiting.discard(number)
            elif (kind == "solution" and value < best) or (kind == "bound" and value > bound):
                if kind == "solution":
                    best = value
                else:
                    bound = value
                on_event(kind, data, value, f"worker {number} {by}".rstrip())
                if share:
                    for other, down in enumerate(place.downs):
                        if other != number:
                            down.put((kind, data, value))
    finally:
        place.halt()
        place.close()
    return dict(sorted(results.items()))
