"""Run a library call that cannot be stopped where it can be given up.

A library that holds the interpreter lock, leaks memory or may crash runs in a child
process (`run`), others in a thread (`run_thread`).

The child is a fresh interpreter, so that it works from any ``__main__``, and gets its
arguments as an ``.npz`` on stdin; solutions come back as JSON lines. It ignores Ctrl-C,
is killed at the deadline, and ends by itself when its parent has died.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nco.instances.core import Budget, CheckError


def deadline_of(budget: Budget) -> float | None:
    """When a budget ends, in `time.monotonic` seconds; None without a time limit."""
    left = budget.left()
    return None if left == float("inf") else time.monotonic() + left


def run_thread(search: Iterator[Any], budget: Budget, *, grace: float = 0.25) -> Iterator[Any]:
    """Yield what a search yields, until it ends, time is up, or Ctrl-C.

    For libraries that release the interpreter lock and keep their own time limit: a
    search that is given up ends by itself, soon after its deadline.

    Parameters
    ----------
    search
        Advanced in a thread of its own.
    budget, grace
        As in `run`.
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


def run(
    target: str,
    arrays: Mapping[str, Any],
    params: Mapping[str, Any],
    budget: Budget,
    *,
    grace: float = 0.05,
) -> Iterator[Any]:
    """Yield what ``target`` yields, until it ends, time is up, or Ctrl-C.

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
        The child is killed when it is used up.
    grace
        Seconds after the deadline before the child is killed.

    Raises
    ------
    CheckError
        When the child fails; its last error line is quoted.
    """
    deadline = deadline_of(budget)
    payload = io.BytesIO()
    header = {"target": target, "deadline": deadline, "params": dict(params)}
    np.savez(payload, __header__=np.array(json.dumps(header)), **arrays)
    child = subprocess.Popen(
        [sys.executable, "-c", "from nco.classical.worker import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    answers: queue.Queue[bytes | None] = queue.Queue()
    errors: list[bytes] = []
    threads = [
        threading.Thread(target=_feed, args=(child, payload.getvalue()), daemon=True),
        threading.Thread(target=_collect, args=(child, answers), daemon=True),
        threading.Thread(target=lambda: errors.append(child.stderr.read()), daemon=True),  # type: ignore[union-attr]
    ]
    for thread in threads:
        thread.start()
    try:
        while True:
            try:
                line = answers.get(timeout=0.02)
            except queue.Empty:
                late = deadline is not None and time.monotonic() > deadline + grace
                if late or budget.interrupted():
                    return
                continue
            if line is None:
                break
            yield json.loads(line)
        child.wait()
        threads[2].join(1.0)
        if child.returncode:
            tail = b"".join(errors).decode(errors="replace").strip().splitlines()
            raise CheckError(f"{target} failed: {tail[-1] if tail else child.returncode}")
    finally:
        child.kill()
        child.wait()


def _feed(child: subprocess.Popen[bytes], payload: bytes) -> None:
    assert child.stdin is not None
    try:
        child.stdin.write(len(payload).to_bytes(8, "little") + payload)
        child.stdin.flush()
    except BrokenPipeError:
        return  # the child died; its exit code tells why


def _collect(child: subprocess.Popen[bytes], answers: queue.Queue[bytes | None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        answers.put(line)
    answers.put(None)


def _end_with_parent() -> None:
    # The parent never closes our stdin while it lives.
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Entry point of the child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    with np.load(io.BytesIO(sys.stdin.buffer.read(size)), allow_pickle=False) as archive:
        values = {key: archive[key] for key in archive.files}
    header = json.loads(str(values.pop("__header__")))
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
