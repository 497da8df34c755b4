"""The ``balans`` package as a peer: a process of its own, killed at the deadline.

J. Cai, S. Kadıoğlu, B. Dilkina, Balans: multi-armed bandits-based adaptive large
neighborhood search for mixed-integer programming, IJCAI 2025.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from nco.instances import io
from nco.instances.core import (
    Budget,
    Instance,
    Listener,
    Result,
    Stop,
    Tracker,
    UnsupportedError,
)
from nco.mip.backend import Form, Outcome, conclude, offer, reason_without_mip, view_of

logger = logging.getLogger("nco")

#: Environment variable that names an interpreter with the package, whose pins differ.
INTERPRETER = "NCO_BALANS_PYTHON"


@dataclass(frozen=True)
class BalansPackage:
    """The default configuration of the ``balans`` package, with the time limit as its stop.

    It runs in the interpreter that the environment variable `INTERPRETER` names, else in
    this one. It refuses limits below its first-solution limit of 10 seconds.
    """

    name: ClassVar[str] = "balans-package"

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        if INTERPRETER not in os.environ and find_spec("balans") is None:
            return f"needs the package balans: install nco[bench], or set {INTERPRETER}"
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
        """Solve one instance; a start is not used, as the package would impose it.

        Raises
        ------
        UnsupportedError
            When the instance has no MIP form, the package is missing, or there is no time
            limit.
        """
        reason = self.supports(instance)
        if reason is None and budget.time_limit is None:
            reason = "needs a time limit"
        if reason is not None:
            raise UnsupportedError(reason)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        view = view_of(instance)
        form = Form(view.mip, left=budget.left, stop=budget.interrupted)
        versions: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder, budget.catch_interrupt():
            path = Path(folder) / "model.mps"
            io.write(view.mip, path)
            # Out of this folder, whose modules would hide packages of the same name.
            worker = shutil.copy(Path(__file__).with_name("balans_worker.py"), folder)
            python = os.environ.get(INTERPRETER, sys.executable)
            with (Path(folder) / "log").open("w+") as log:
                process = subprocess.Popen(
                    [python, str(worker), str(path), str(budget.left()), str(seed)],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    cwd=folder,
                    start_new_session=True,
                )
                try:
                    for line in _lines(process, tracker):
                        message = json.loads(line)
                        if isinstance(message, dict):
                            versions = message
                            continue
                        x = np.zeros(form.n)
                        # Columns that a neighbourhood of the package adds come last.
                        for index, value in message[1].items():
                            if int(index) < form.n:
                                x[int(index)] = value
                        offer(tracker, form, view, x)
                finally:
                    ended = process.poll()
                    process.kill()
                    process.wait()
                outcome = Outcome(stopped=tracker.done() or Stop.FINISHED)
                if ended:
                    log.seek(0)
                    said = log.read().strip().splitlines()
                    outcome.stopped = Stop.ERROR
                    outcome.error = said[-1] if said else f"exit code {ended}"
        return conclude(tracker, form, view, outcome, params={}, versions=versions)


def _lines(process: subprocess.Popen[str], tracker: Tracker[Any]) -> Any:
    """Lines of the process until it ends or the budget does."""
    heard: queue.Queue[str | None] = queue.Queue()

    def listen(pipe: IO[str]) -> None:
        for line in pipe:
            heard.put(line)
        heard.put(None)

    assert process.stdout is not None
    threading.Thread(target=listen, args=(process.stdout,), daemon=True).start()
    while tracker.done() is None:
        try:
            line = heard.get(timeout=0.05)
        except queue.Empty:
            continue
        if line is None:
            process.wait()
            return
        yield line
