"""What bad input gets: the faults of the reference implementation, each absent here."""

import math
import sys

import numpy as np
import pytest

import nco
from nco.cli import main
from nco.instances import io
from nco.instances.core import Budget, InputError, Sense, Status, Stop
from nco.instances.mip import MIP
from nco.mip.backend import Form
from nco.mip.balans import Balans
from nco.mip.highs import HiGHS
from nco.mip.neighborhoods import Incumbents
from nco.mip.neighborhoods.mutation import mutation
from nco.mip.scip import SCIP

SOLVERS = [Balans, HiGHS, SCIP]


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_objective_constant_counts(solver):
    mip = MIP(c=[3.0, 2.0, 4.0], A=[[1.0, 1.0, 1.0]], row_lower=[2], upper=[1, 1, 1],
              integrality=[1, 1, 1], offset=100.0)  # fmt: skip
    result = solver().solve(mip, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, 105)
    assert all(e.objective is None or e.objective >= 105 for e in result.trajectory)


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


def test_sixty_thousand_columns_cost_no_loop():
    # The reference needed 18 s for one step of these; a neighbourhood here is one of arrays.
    n = 60_000
    mip = MIP(c=np.ones(n), A=np.ones((1, n)), row_lower=[1], upper=np.ones(n),
              integrality=np.ones(n))  # fmt: skip
    x = np.zeros(n)
    x[0] = 1.0
    known = Incumbents(Form(mip), x, [x])
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        neighborhood = mutation(known, 0.3, np.random.default_rng(0))
    finally:
        sys.setprofile(None)
    assert neighborhood is not None
    assert len(neighborhood.fix[0]) == n - round(0.3 * n)
    assert calls < 1000
    result = Balans().solve(mip, Budget(10))
    assert result.objective == 1


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
    from nco.mip.highs import HighsEngine

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
