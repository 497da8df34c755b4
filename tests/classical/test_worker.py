"""Child processes that can be stopped."""

import time

import numpy as np
import pytest

from nco.classical import worker
from nco.instances.core import Budget, CheckError


def echo(arrays, deadline, factor):
    """Worker side: two answers."""
    yield (factor * arrays["x"]).tolist()
    yield deadline is None


def fail(arrays, deadline):
    """Worker side: one answer, then an error."""
    yield 1
    raise ValueError("cannot go on")


def sleep(arrays, deadline):
    """Worker side: far too slow."""
    print("noise that must not reach the answers")
    yield "early"
    time.sleep(600)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child must find this file."""
    monkeypatch.setenv("PYTHONPATH", str(__import__("pathlib").Path(__file__).parent))


def test_answers_come_back():
    """Arrays and parameters go in, JSON comes out."""
    answers = list(worker.run("test_worker:echo", {"x": np.arange(3)}, {"factor": 2}, Budget()))
    assert answers == [[0, 2, 4], True]


def test_failure_is_quoted():
    """The child's last error line is the message; earlier answers count."""
    answers = worker.run("test_worker:fail", {}, {}, Budget())
    assert next(answers) == 1
    with pytest.raises(CheckError, match="cannot go on"):
        next(answers)


def test_deadline_kills():
    """What came before the deadline is kept."""
    assert list(worker.run("test_worker:sleep", {}, {}, Budget(3.0))) == ["early"]


def test_interruption_kills():
    """Ctrl-C is the same path."""
    budget = Budget()
    answers = worker.run("test_worker:sleep", {}, {}, budget)
    assert next(answers) == "early"
    budget.interrupt()
    assert list(answers) == []
