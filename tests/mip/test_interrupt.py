"""Ctrl-C in a process of its own: the best solution so far comes back."""

import signal
import subprocess
import sys

import pytest

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
