"""Child processes that can be stopped."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from nco.classical.worker import Worker
from nco.instances.core import Budget, CheckError

HERE = Path(__file__).parent


def echo(arrays, deadline, factor):
    """Worker side: what came in, and two answers."""
    yield (factor * arrays["x"]).tolist()
    yield [deadline is None, str(arrays["word"]), list(arrays["empty"].shape)]


def fail(arrays, deadline):
    """Worker side: one answer, then an error."""
    yield 1
    raise ValueError("cannot go on")


def die(arrays, deadline):
    """Worker side: gone without a word."""
    os._exit(7)
    yield 0


def sleep(arrays, deadline):
    """Worker side: far too slow."""
    print("noise that must not reach the answers")
    yield os.getpid()
    time.sleep(600)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child must find this file."""
    monkeypatch.syspath_prepend(str(HERE))


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_answers_come_back():
    """Arrays of any type and parameters go in, JSON comes out."""
    arrays = {"x": np.arange(3), "word": np.array("EUC_2D"), "empty": np.zeros((0, 2))}
    with Worker("test_worker:echo", arrays, {"factor": 2}, Budget()) as worker:
        assert list(worker) == [[0, 2, 4], [True, "EUC_2D", [0, 2]]]
        assert worker.ended


def test_failure_is_quoted():
    """The child's last error line is the message; earlier answers count."""
    with Worker("test_worker:fail", {}, {}, Budget()) as worker:
        answers = iter(worker)
        assert next(answers) == 1
        with pytest.raises(CheckError, match="cannot go on"):
            next(answers)


def test_death_is_told():
    """A child that ends without an error text gives its exit code."""
    with Worker("test_worker:die", {}, {}, Budget()) as worker:  # noqa: SIM117
        with pytest.raises(CheckError, match="exit code 7"):
            list(worker)


def test_deadline_kills():
    """What came before the deadline is kept, and the child is gone."""
    with Worker("test_worker:sleep", {}, {}, Budget(3.0)) as worker:
        (pid,) = list(worker)
    assert not alive(pid)


def test_interruption_kills():
    """Ctrl-C is the same path."""
    budget = Budget()
    with Worker("test_worker:sleep", {}, {}, budget) as worker:
        answers = iter(worker)
        pid = next(answers)
        budget.interrupt()
        assert list(answers) == []
    assert not alive(pid)


def test_leaving_early_kills():
    """Nothing is left behind when fewer answers are taken than there are."""
    with Worker("test_worker:sleep", {}, {}, Budget()) as worker:
        pid = next(iter(worker))
    assert not alive(pid)


def test_poll_is_called_at_the_end():
    """Also after the child was killed."""
    calls = []
    poll = lambda: bool(calls.append(1))  # noqa: E731
    with Worker("test_worker:sleep", {}, {}, Budget(), poll=poll, interval=1e9) as worker:
        answers = iter(worker)
        next(answers)
        assert calls == []
    assert calls == [1]


def test_poll_may_end_it():
    """Without an answer from the child."""
    poll = lambda: True  # noqa: E731
    with Worker("test_worker:sleep", {}, {}, Budget(), poll=poll, interval=0.0) as worker:
        assert len(list(worker)) <= 1
        assert not worker.ended


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_ends_with_its_parent(number):
    """A parent that is killed leaves no child, and the child ignores Ctrl-C."""
    code = textwrap.dedent("""
        from nco.classical.worker import Worker
        from nco.instances.core import Budget
        with Worker("test_worker:sleep", {}, {}, Budget()) as worker:
            for pid in worker:
                print(pid, flush=True)
    """)
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True
    )
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGINT)
    assert alive(pid)
    parent.send_signal(number)
    parent.wait()
    for _ in range(200):
        if not alive(pid):
            break
        time.sleep(0.05)
    assert not alive(pid)
    parent.stdout.close()


def test_works_from_any_main(tmp_path):
    """A script without a guard around its main code, in a folder with a file named as a library."""
    (tmp_path / "numpy.py").write_text("raise ImportError('the wrong numpy')")
    script = tmp_path / "scripts" / "run.py"
    script.parent.mkdir()
    script.write_text(
        textwrap.dedent("""
            import json
            from nco.classical.worker import Worker
            from nco.instances.core import Budget
            with Worker("test_worker:echo", {"x": 1, "word": "a", "empty": []}, {"factor": 5},
                        Budget()) as worker:
                print(json.dumps(list(worker)))
        """)
    )
    out = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        check=True,
    )
    assert json.loads(out.stdout)[0] == 5
