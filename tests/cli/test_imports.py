"""What a command may import, and shell completion."""

import os
import subprocess
import sys

import pytest

LIBRARIES = {"torch", "pyscipopt", "ortools", "highspy", "pyvrp", "fast_tsp", "elkai", "hygese"}
HEAVY = LIBRARIES | {"matplotlib", "numba", "scipy", "sklearn", "pandas"}


def modules_after(*args):
    code = f"import sys; from nco.cli import main; main({list(args)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.splitlines()[-1].split())
    return names | {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "args", [("list",), ("list", "problems"), ("list", "formats"), ("--help",)]
)
def test_help_and_list_import_nothing_heavy(args):
    assert not modules_after(*args) & HEAVY


def test_help_does_without_numpy():
    assert "numpy" not in modules_after("--help")


def test_list_solvers_asks_them_without_their_libraries():
    """Of scipy, the sparse matrix of a MIP to ask about is all that is needed."""
    parts = {"csgraph", "linalg", "optimize", "spatial", "special", "stats"}
    scipy = {f"scipy.{part}" for part in parts} | {f"scipy.sparse.{part}" for part in parts}
    assert not modules_after("list", "solvers") & (HEAVY - {"scipy"} | scipy)


def test_import_nco_is_bare():
    code = "import sys, nco; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" not in done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nco so", "solve"),
        ("nco solve --solver fast", "fast-tsp"),
        ("nco solve --problem kna", "knapsack"),
        ("nco generate cv", "cvrp"),
        ("nco list we", "weights"),
    ],
)
def test_completion(words, expected):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from nco.cli import main; main([])"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "_NCO_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        },
    )
    assert expected in done.stdout.split()
