"""What becomes of compilations that outlast a command."""

import fcntl
import importlib
import os
import subprocess
import sys
import threading
import time

import pytest

from nco.classical import compiling, local_search
from nco.classical.constructive import greedy_tour, nearest_neighbor_tour
from nco.instances.core import Budget, Tracker
from nco.instances.registry import problems, solvers
from nco.instances.tsp import TSP

KERNELS = """
from pathlib import Path

def compile_kernels():
    Path(__file__).with_name("compiled").touch()
"""


KERNEL = """
from nco.classical.compiling import kernel

@kernel()
def double(x):
    return 2 * x

def compile_kernels():
    double(1)
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """The file of a module that can be imported, and what its compilation leaves."""
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "some_kernels.py", tmp_path / "compiled"
    sys.modules.pop("some_kernels", None)


def test_what_is_cached_is_loaded_not_compiled(tmp_path, monkeypatch):
    (tmp_path / "one_kernel.py").write_text(KERNEL)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("one_kernel")
    for compiles in (True, False):
        thread = compiling._Compiler(module.compile_kernels)
        thread.start()
        thread.join()
        assert not thread.errors
        assert compiling.compiles(thread) == compiles
        importlib.reload(module)
    sys.modules.pop("one_kernel")


@pytest.mark.parametrize(
    ("compiles", "text"), [(True, "compiled, once per machine"), (False, "before its code is load")]
)
def test_who_is_left_behind_says_what_it_did(compiles, text, monkeypatch, caplog):
    over, budget, left = threading.Event(), Budget(), []

    def compile_kernels():
        threading.current_thread().compiles = compiles
        budget.interrupt()
        assert over.wait(100)

    monkeypatch.setattr(compiling.subprocess, "Popen", lambda *args, **_: left.append(args))
    tracker = Tracker(TSP.generate(5, seed=1), budget, solver="x")
    try:
        assert not compiling.compile_in_time(compile_kernels, tracker, lambda _: None)
        compiling.finish_elsewhere()
    finally:
        over.set()
        for thread in compiling.running():
            thread.join()
    assert text in caplog.text
    # What is only loaded is not worth a process.
    assert len(left) == compiles


def test_one_process_compiles(kernels):
    file, compiled = kernels
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        compiling.compile_alone("some_kernels", "compile_kernels")
        assert not compiled.exists()
    compiling.compile_alone("some_kernels", "compile_kernels")
    assert compiled.exists()


def test_a_command_does_not_wait_and_nothing_is_lost(kernels):
    """The thread would last for minutes; another process does its work."""
    file, compiled = kernels
    code = """if True:
        import sys, threading, time
        from nco.classical.compiling import THREAD
        from nco.cli import main
        name = f"{THREAD} some_kernels compile_kernels"
        threading.Thread(target=time.sleep, args=(300,), name=name).start()
        sys.argv = ["nco", "--version"]
        main()
    """
    environment = os.environ | {"PYTHONPATH": str(file.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("nco ")
    for _ in range(600):
        if compiled.exists():
            break
        time.sleep(0.1)
    assert compiled.exists()


def test_constructive_tours_do_not_wait_for_the_compiler(monkeypatch):
    """What compiles goes on in its thread; meanwhile the order along a curve is returned."""
    over = threading.Event()
    budget = Budget()

    def compile_slowly():
        budget.interrupt()
        assert over.wait(100)

    monkeypatch.setattr(local_search, "compile_starts", compile_slowly)
    instance = TSP.generate(20_001, seed=1)
    try:
        for make in (nearest_neighbor_tour, greedy_tour):
            with pytest.raises(TimeoutError):
                make(instance.distances, budget=budget)
        assert compiling.running()
        result = solvers.load("nearest-neighbor")().solve(instance, budget)
        assert result.trajectory[0].by == "space-filling-curve"
    finally:
        over.set()
        for thread in compiling.running():
            thread.join()


@pytest.mark.parametrize("name", ["or-opt", "ruin-recreate", "prize-tour", "mis-tabu"])
def test_solvers_compile_all_that_they_use(name):
    """What a search needs beyond that would be compiled past any time limit."""
    solver = solvers.load(name)()
    module = importlib.import_module(type(solver).__module__)
    getattr(module, compiling.COMPILE)()
    known = signatures()
    for problem, sizes in (
        ("tsp", (60, 1500)), ("atsp", (30,)), ("cvrp", (40,)), ("ovrp", (40,)), ("op", (40,)),
        ("pctsp", (40,)), ("spctsp", (30,)), ("mtsp", (30,)), ("mis", (200,)),
    ):  # fmt: skip
        for n in sizes:
            instance = problems.load(problem).generate(n, seed=1)
            if solver.supports(instance) is None:
                assert solver.solve(instance, Budget(10, iterations=3)).feasible
                assert signatures() == known, problem


def signatures():
    """What is compiled by now, of every kernel of the package that is imported."""
    return {
        (name, attribute): tuple(map(str, value.signatures))
        for name, module in list(sys.modules.items())
        if name.startswith("nco.classical")
        for attribute, value in vars(module).items()
        if hasattr(value, "py_func") and value.signatures
    }
