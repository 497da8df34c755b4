"""Run a library call that cannot be stopped in a child process that can.

The child is a fresh interpreter, so that it works from any ``__main__``, and imports no
more than it needs. Arguments go in as JSON and raw arrays over a pipe, answers come back
as JSON lines; nothing is pickled. The child ignores Ctrl-C, is killed at the deadline, and
does not outlive its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from nco.instances.core import Budget, CheckError

# Interrupts are ignored before anything slow is imported.
_CHILD = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "from nco.classical.worker import main; main()"
)


class Worker:
    """A child process that runs ``target`` and yields what it yields.

    It starts at once, so that the parent can work while the child imports; use it in a
    ``with`` statement, at whose end the child is gone.

    Parameters
    ----------
    target
        ``"module:function"``, called as ``function(arrays, deadline=..., **params)`` in
        the child; it yields JSON values. The deadline is in `time.monotonic` seconds,
        or None.
    arrays
        Arrays for the child.
    params
        JSON values for the child.
    budget
        The child is killed when it is used up or interrupted.
    grace
        Seconds after the deadline before the child is killed, for an answer on its way.
    poll
        Called about every ``interval`` seconds while the child runs, and once after it
        has ended or been killed; True ends the answers.
    interval
        Seconds between two calls of ``poll``.

    Raises
    ------
    RuntimeError
        When there is no Python interpreter to start.
    """

    def __init__(
        self,
        target: str,
        arrays: Mapping[str, Any],
        params: Mapping[str, Any],
        budget: Budget,
        *,
        grace: float = 0.05,
        poll: Callable[[], bool] | None = None,
        interval: float = 0.1,
    ):
        if not sys.executable:
            raise RuntimeError("no Python interpreter found for a child process.")
        left = budget.left()
        self._target = target
        self._budget = budget
        self._deadline = None if math.isinf(left) else time.monotonic() + left
        self._grace = grace
        self._poll = poll
        self._interval = interval
        self._closed = False
        #: Whether the child came to its own end, without an error.
        self.ended = False
        values = {key: np.asarray(a) for key, a in arrays.items()}
        header = {
            "target": target,
            "parent": os.getpid(),
            "deadline": self._deadline,
            "params": dict(params),
            "arrays": [(key, a.dtype.str, a.shape) for key, a in values.items()],
        }
        # The child finds modules where the parent does, but not in the current folder.
        paths = os.pathsep.join(p for p in sys.path if p)
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._errors: deque[bytes] = deque(maxlen=20)
        self._threads = [
            threading.Thread(target=self._feed, args=(header, list(values.values())), daemon=True),
            threading.Thread(target=self._collect, daemon=True),
            threading.Thread(target=self._collect_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        """The answers, until the child ends, time is up, or the budget is interrupted.

        Raises
        ------
        CheckError
            When the child fails; its last error line is quoted.
        """
        try:
            polled = time.monotonic()
            while True:
                now = time.monotonic()
                if self._poll is not None and now - polled >= self._interval:
                    if self._poll():
                        return
                    polled = time.monotonic()
                try:
                    line = self._answers.get(timeout=0.02)
                except queue.Empty:
                    late = self._deadline is not None and now > self._deadline + self._grace
                    if late or self._budget.interrupted():
                        return
                    continue
                if line is None:
                    break
                yield json.loads(line)
            code = self._child.wait()
            if code:
                self._threads[2].join(1.0)
                tail = b"".join(self._errors).decode(errors="replace").strip().splitlines()
                what = tail[-1] if tail else f"exit code {code}"
                raise CheckError(f"{self._target} failed: {what}")
            self.ended = True
        finally:
            self.close()

    def close(self) -> None:
        """Kill the child if it still runs."""
        if self._closed:
            return
        self._closed = True
        self._child.kill()
        self._child.wait()
        for thread in self._threads:
            thread.join(1.0)
        if self._poll is not None:
            self._poll()

    def _feed(self, header: dict[str, Any], values: list[Any]) -> None:
        assert self._child.stdin is not None
        # A child that died says why by its exit code.
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(header).encode() + b"\n")
            for value in values:
                self._child.stdin.write(value.tobytes())
            self._child.stdin.flush()

    def _collect(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _collect_errors(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self._errors.append(line)


def _end_with_parent(stream: BinaryIO, parent: int) -> None:
    """Make sure that this process ends when its parent does."""
    if sys.platform == "linux":
        # Works even while a library holds the interpreter's lock.
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)

    def watch() -> None:
        stream.read()  # the parent keeps its end open while it lives
        os._exit(1)

    if os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Entry point of the child."""
    stream = sys.stdin.buffer
    header = json.loads(stream.readline())
    values = {}
    for key, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        data = stream.read(dtype.itemsize * math.prod(shape))
        values[key] = np.frombuffer(data, dtype=dtype).reshape(shape)
    _end_with_parent(stream, header["parent"])
    # Libraries print to stdout; answers go where they cannot reach.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, attribute = header["target"].partition(":")
    code = 1
    try:
        function = getattr(importlib.import_module(module), attribute)
        for answer in function(values, deadline=header["deadline"], **header["params"]):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
        code = 0
    except Exception:
        traceback.print_exc()
    # Library threads or clean-up must not keep the parent waiting.
    sys.stderr.flush()
    answers.close()
    os._exit(code)
