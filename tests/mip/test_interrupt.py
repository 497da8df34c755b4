"""Ctrl-C in a process of its own: the best solution so far comes back."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from nco.instances.mip import MIP
from nco.instances.registry import backends
from nco.mip.backend import Form, Limits, run_interruptible

PROGRAM = """
import os, signal, sys
import numpy as np
from nco.instances.core import Budget, Sense
from nco.instances.mip import MIP
from nco.instances.registry import solvers

rng = np.random.default_rng(5)
A = rng.integers(1, 1000, (12, 150)).astype(float)
mip = MIP(c=np.round(A.mean(0) + rng.integers(0, 300, 150)), A=A, row_upper=A.sum(1) // 2,
          upper=np.ones(150), integrality=np.ones(150), sense=Sense.MAXIMIZE)
sent = []

def listener(event):
    if event.objective is not None and not sent:
        sent.append(1)
        os.kill(os.getpid(), signal.SIGINT)

solver = solvers.load(sys.argv[1])()
result = solver.solve(mip, Budget(300), on_event=listener)
print(result.stopped, result.status, result.objective > 0 or result.feasible)
"""


@pytest.mark.parametrize("solver", ["scip", "highs", "balans", "cp-sat"])
def test_ctrl_c(solver):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, solver],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout.split() == ["interrupted", "feasible", "True"], done.stderr
    assert done.returncode == 0
    assert done.returncode != -signal.SIGINT


def test_after_ctrl_c_the_interpreter_waits_for_the_engine():
    """A thread that is taken for dead would be ended amid C++, which aborts the process."""
    release = threading.Event()
    # Who runs the tests in the background has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_interruptible(release.wait, lambda: False, lambda: None)
        (engine,) = (t for t in threading.enumerate() if t.name == "nco-engine")
        assert engine.is_alive()
    finally:
        timer.join()
        release.set()
        signal.signal(signal.SIGINT, before)
    engine.join()


@pytest.mark.parametrize("name", ["highs", "scip"])
def test_what_may_still_work_is_left_alone(name, monkeypatch):
    engine = backends.load(name)(Form(MIP(c=[1.0], A=[[1.0]], row_lower=[1.0])))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"nco.mip.{name}.run_interruptible", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.solve(Limits())
    assert engine.lost
    # Closing it would have to ask the object, which is not there.
    monkeypatch.setattr(engine, {"highs": "_highs", "scip": "_model"}[name], None)
    engine.close()
