"""What bad input gets: the faults of the reference implementation, each absent here."""

import math
import sys
from dataclasses import replace
from importlib.metadata import requires

import numpy as np
import pytest
from scipy import sparse

import nco
from nco.cli import main
from nco.instances import io
from nco.instances.core import Budget, InputError, Sense, Status, Stop
from nco.instances.mip import MIP
from nco.instances.registry import operators
from nco.mip.backend import Form, Outcome
from nco.mip.balans import Balans
from nco.mip.highs import HiGHS, HighsEngine
from nco.mip.neighborhoods import Incumbents
from nco.mip.relaxation import LinearProgram
from nco.mip.scip import SCIP

SOLVERS = [Balans, HiGHS, SCIP]


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_objective_constant_counts(solver):
    mip = MIP(c=[3.0, 2.0, 4.0], A=[[1.0, 1.0, 1.0]], row_lower=[2], upper=[1, 1, 1],
              integrality=[1, 1, 1], offset=100.0)  # fmt: skip
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, 105)
    assert all(e.objective is None or e.objective >= 105 for e in result.trajectory)


@pytest.mark.parametrize("arm", ["proximity:0.01", "random-objective:0.5", "lb-relax"])
def test_a_constant_is_no_gain_of_arms_with_objectives_of_their_own(hard_mip, arm):
    # The reference left the constant out of such an arm's solutions, which then looked best.
    shifted = replace(hard_mip, offset=1e6)
    solver = Balans(arms=(arm,), deterministic=True, sub_nodes=5)
    result = solver.solve(shifted, Budget(iterations=2))
    assert result.objective == hard_mip.objective(result.solution) + 1e6
    assert result.bound >= result.objective
    assert all(e.objective is None or e.objective >= 1e6 for e in result.trajectory)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_objective(solver):
    mip = MIP(c=[0.0, 0.0], A=[[1.0, 1.0]], row_lower=[1], upper=[1, 1], integrality=[1, 1],
              offset=7.0)  # fmt: skip
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, 7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_infeasible_model_has_a_status(solver):
    mip = MIP(c=[1.0, 1.0], A=[[2.0, 2.0]], row_lower=[3], row_upper=[3], upper=[5, 5],
              integrality=[1, 1])  # fmt: skip
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.solution, result.objective) == (Status.INFEASIBLE, None, None)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sense", list(Sense))
def test_an_unbounded_model_has_a_status(solver, sense):
    sign = -1.0 if sense is Sense.MINIMIZE else 1.0
    mip = MIP(c=[sign, 0.0], A=[[1.0, -1.0]], row_upper=[5], integrality=[1, 0], sense=sense)
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.solution) == (Status.UNBOUNDED, None)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_infeasible_start_is_a_hint(solver, hard_mip):
    start = {name: 1.0 for name in hard_mip.columns}
    result = solver().solve(hard_mip, Budget(1.0), start=start)
    assert result.solution is None or not hard_mip.violations(result.solution)
    with pytest.raises(InputError, match="start"):
        nco.solve(hard_mip, solver(), 1, start=start)


@pytest.mark.parametrize("deterministic", [True, False])
def test_no_first_solution_is_no_error(deterministic):
    # A market split: rows of large numbers that hardly any choice of columns meets.
    A = np.random.default_rng(0).integers(0, 1000, (6, 50)).astype(float)
    half = np.floor(A.sum(1) / 2)
    mip = MIP(c=np.ones(50), A=A, row_lower=half, row_upper=half, upper=np.ones(50),
              integrality=np.ones(50))  # fmt: skip
    solver = Balans(deterministic=deterministic, sub_nodes=5)
    result = solver.solve(mip, Budget(2, iterations=2))
    assert result.status is Status.UNKNOWN
    assert result.solution is None
    assert result.stopped in (Stop.ITERATIONS, Stop.TIME)


@pytest.mark.parametrize("solver", SOLVERS)
def test_only_continuous_columns(solver):
    mip = MIP(c=[1.0, 2.0], A=[[1.0, 1.0]], row_lower=[1.5], upper=[1, 9])
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, pytest.approx(2.0))


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_rows_no_binaries_free_and_fixed_columns(solver):
    mip = MIP(c=[1.0, -1.0, 1.0, 5.0], A=np.zeros((0, 4)), lower=[-9, 0, -math.inf, 3],
              upper=[9, 7, math.inf, 3], integrality=[1, 1, 1, 0])  # fmt: skip
    assert solver().solve(mip, Budget(10)).status is Status.UNBOUNDED
    held = MIP(c=mip.c, A=[[0.0, 0.0, 1.0, 0.0]], row_lower=[-4.5], lower=mip.lower,
               upper=mip.upper, integrality=mip.integrality)  # fmt: skip
    result = solver().solve(held, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, -9 - 7 - 4 + 15)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("low", "high"), [(3.0, 2.0), (0.2, 0.8)])
def test_an_empty_domain_is_infeasible(solver, low, high):
    mip = MIP(c=[1.0], A=[[1.0]], lower=[low], upper=[high], integrality=[1])
    assert solver().solve(mip, Budget(10)).status is Status.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("limit", [0.0, 0.1, 0.5])
def test_short_limits_are_no_error(solver, hard_mip, limit):
    result = solver().solve(hard_mip, Budget(limit))
    assert result.stopped is Stop.TIME
    assert result.solution is None or not hard_mip.violations(result.solution)


@pytest.fixture(scope="module")
def wide():
    """Sixty thousand columns, and what is known of them."""
    n, m = 60_000, 300
    rng = np.random.default_rng(0)
    A = sparse.csr_array((np.ones(n), (rng.integers(0, m, n), np.arange(n))), shape=(m, n))
    mip = MIP(c=1.0 + rng.random(n), A=A, row_lower=np.ones(m), upper=np.ones(n),
              integrality=np.ones(n))  # fmt: skip
    pool = []
    for _ in range(3):
        x = np.zeros(n)
        x[[rng.choice(A.indices[A.indptr[k] : A.indptr[k + 1]]) for k in range(m)]] = 1.0
        pool.append(x)
    relaxed = np.minimum(1.0, sum(pool) / 2)
    groups = [np.arange(k, k + 600) for k in range(0, n, 600)]
    program = LinearProgram(Form(mip))
    return mip, Incumbents(Form(mip), pool[0], pool, relaxed, relaxed, groups, program)


@pytest.mark.parametrize("name", [*[entry.name for entry in operators], "structure of single"])
def test_sixty_thousand_columns_cost_no_loop(wide, name, monkeypatch):
    # The reference needed 18 s for one step of these; a neighbourhood here is one of arrays.
    _, known = wide
    name, *single = name.split(" of ")
    if single:
        known = replace(known, groups=list(np.arange(known.form.n)[:, None]))
    operator, calls = operators.load(name), 0
    monkeypatch.setattr("nco.mip.neighborhoods.lb_relax.SECONDS", 60.0)

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        neighborhood = operator(known, 0.3, np.random.default_rng(0))
    finally:
        sys.setprofile(None)
    assert neighborhood is not None
    # A loop over the columns is 60,000 calls; waiting for a relaxation is some, too.
    assert calls < 30_000


def test_sixty_thousand_columns_are_solved(wide):
    mip, known = wide
    result = Balans().solve(mip, Budget(10))
    assert result.feasible
    assert result.objective <= min(map(known.form.value, known.pool))


@pytest.mark.parametrize("name", ["x.mps", "x.lp", "x.mps.gz"])
@pytest.mark.parametrize("content", [b"", b"garbage \x00\xff", b"NAME x\nROWS\n N obj\n L"])
def test_broken_files_are_one_line(tmp_path, capsys, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["solve", str(path), "-s", "balans", "-t", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nco: error: ")
    assert error.count("\n") == 1


def test_a_truncated_file_is_refused(tmp_path, hard_mip, capsys):
    path = tmp_path / "x.mps"
    io.write(hard_mip, path)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    assert main(["solve", str(path), "-s", "balans", "-t", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_truncated_archive_is_refused(tmp_path, hard_mip, capsys):
    path = tmp_path / "x.mps.gz"
    io.write(hard_mip, path)
    path.write_bytes(path.read_bytes()[:500])
    assert main(["solve", str(path), "-s", "balans", "-t", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nco: error: ")
    assert error.count("\n") == 1


def test_lp_files_without_an_end_are_read(tmp_path):
    path = tmp_path / "x.lp"
    path.write_text("maximize\n obj: x + 2 y\nsubject to\n c: x + y <= 3\nbinary\n x y\n")
    assert nco.solve(path, "balans", 10).objective == 3


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("minimize\n obj: x\nsubject to\n c: b = 1 -> x >= 2\nbinary\n b\nend\n", "indicator"),
        ("minimize\n obj: x + y\nsubject to\n c: x + y >= 1\nsos\n s1: S1:: x:1 y:2\nend\n",
         "special ordered sets"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path, text, what):
    path = tmp_path / "x.lp"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        nco.solve(path, "balans", 1)


def test_the_seed_reaches_the_engines(hard_mip):
    first = Balans(deterministic=True, sub_nodes=20)
    values = [first.solve(hard_mip, Budget(iterations=6), seed=s).extra["arms"] for s in (1, 1, 2)]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_nothing_begins_after_the_deadline(hard_mip, monkeypatch):
    whole, late = HighsEngine.solve, []
    budget = Budget(1.5)

    def solve(self, limits, *arguments, **options):
        late.append(budget.left() <= 0)
        return whole(self, limits, *arguments, **options)

    monkeypatch.setattr(HighsEngine, "solve", solve)
    result = Balans().solve(hard_mip, budget)
    assert result.extra["iterations"] > 0
    assert late
    assert not any(late)


@pytest.mark.parametrize("share", [0.25, 0.0])
def test_an_engine_that_lies_is_not_believed(hard_mip, monkeypatch, share):
    whole, lie = HighsEngine.solve, np.ones(hard_mip.n)

    def solve(self, limits, neighborhood=None, start=None, watch=None):
        outcome = whole(self, limits, neighborhood, start, watch)
        if watch is not None and watch.on_solution is not None:
            watch.on_solution(lie)
        return Outcome(Status.OPTIMAL, lie, self.form.value(lie), outcome.bound,
                       stopped=Stop.PROVED)  # fmt: skip

    monkeypatch.setattr(HighsEngine, "solve", solve)
    solver = Balans(deterministic=True, sub_nodes=5, sub="highs", main_share=share)
    result = solver.solve(hard_mip, Budget(20, iterations=4))
    assert result.status is not Status.OPTIMAL
    assert result.solution is None or not hard_mip.violations(result.solution)
    values = [e.objective for e in result.trajectory if e.objective is not None]
    assert all(value < hard_mip.c.sum() for value in values)


def test_no_proprietary_package_is_needed():
    needed = " ".join(requires("nco") or ()).lower()
    assert "highspy" in needed
    assert not any(name in needed for name in ("gurobi", "cplex", "xpress", "mosek", "copt"))


def test_a_memory_that_cannot_be_kept_is_refused_at_once(tmp_path, hard_mip, capsys):
    io.write(hard_mip, tmp_path / "x.mps")
    (tmp_path / "bad.json").write_text('{"a": 3}')
    for path, what in (("bad.json", "memory of arms"), ("none/arms.json", "no such folder")):
        memory = str(tmp_path / path)
        assert main(["solve", str(tmp_path / "x.mps"), "-s", "balans", "--memory", memory]) == 2
        error = capsys.readouterr().err
        assert what in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("error", [OSError("disk full"), InputError("x", None, "disk full")])
def test_a_memory_lost_at_the_end_costs_no_result(tmp_path, hard_mip, monkeypatch, caplog, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("nco.mip.balans.save_memory", fail)
    solver = Balans(memory=str(tmp_path / "arms.json"), deterministic=True, sub_nodes=5)
    assert solver.solve(hard_mip, Budget(60, iterations=2)).feasible
    assert "disk full" in caplog.text
