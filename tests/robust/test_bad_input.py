"""What bad input of two-stage problems gets: one clear line or a clear status."""

import dataclasses
import json
import logging

import numpy as np
import pytest

import nco
from nco import Budget
from nco.cli import main
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import BudgetSet

KNAPSACK = "2 9 1\n 5 2 3 4 6\n 7 3 2 5 8\n"
CAPITAL = "3 2 2 7.5 0\n4 6\n1 2\n0.5 0.5\n0.2 0.8\n1 0\n0.4 0.6\n"
FACILITY = "2 1 1\n4 6\n5 7\n3 1 9 2 5\n"
LOANS = "2 9 3 3 1 2 0.8 0 2\n 3 4 0.5 0.5\n 5 6 -0.5 0.5\n"
BAD = [
    ("k", KNAPSACK, " 7 3 2 5 8\n", "", "2 lines of numbers, expected 3 (is the file truncated?)"),
    ("k", KNAPSACK, " 7 3 2 5 8\n", " 7 3 2 5\n", ":3: 4 numbers, expected 5"),
    ("k", KNAPSACK, "3 2 5 8", "3 2 -5 8", ":3: weight -5 < 0"),
    ("k", KNAPSACK, "2 9 1", "2 9 3", ":1: Gamma = 3 is not within 0 and n = 2"),
    ("k", KNAPSACK, "2 9 1", "2 9 -1", ":1: Gamma = -1"),
    ("k", KNAPSACK, "2 9 1", "2 -9 1", ":1: capacity = -9 < 0"),
    ("k", KNAPSACK, "2 9 1", "0 9 0", ":1: 0 is not a number of items"),
    ("k", KNAPSACK, "5 2 3", "5 2 inf", ":2: 'inf' is not a number"),
    ("c", CAPITAL, "4 6\n", "4 6 7\n", ":2: 3 numbers, expected 2"),
    ("c", CAPITAL, "4 6\n", "4 -6\n", ":2: cost -6 < 0"),
    ("c", CAPITAL, "0.2 0.8", "0.2 -0.8", ":5: loading -0.8 < 0"),
    ("c", CAPITAL, "0.2 0.8", "1.2 0.9", ":5: loadings add up to 2.1 > 2"),
    ("l", LOANS, "2 9 3", "2 9 -3", ":1: C1 = -3 < 0"),
    ("l", LOANS, "2 9 3", "3 9 3", "3 lines of numbers, expected 4"),
    ("l", LOANS, " 5 6", " 5 -6", ":3: cost -6 < 0"),
]
BAD += [
    ("k", KNAPSACK, "2 9 1", "1000000000 9 1", ":1: 1e+09 is not a number of items"),
    ("k", KNAPSACK, "2 9 1", "2 nan 1", ":1: 'nan' is not a number"),
    ("c", CAPITAL, "3 2 2", "3 1000000000 2", ":1: 1e+09 is not a number of projects"),
    ("c", CAPITAL, "3 2 2", "3 2 1000000000", ":1: 1e+09 is not a number of risk factors"),
    ("c", CAPITAL, "3 2 2", "3.5 2 2", ":1: seed = 3.5 is not whole"),
    ("c", CAPITAL, "7.5", "-7.5", ":1: B = -7.5 < 0"),
    ("c", CAPITAL, "7.5 0", "7.5 -1", ":1: max_loan = -1 < 0"),
    ("c", CAPITAL, "1 2\n", "1 NaN\n", ":3: 'NaN' is not a number"),
    ("l", LOANS, "2 9 3", "1000000000 9 3", ":1: 1e+09 is not a number of projects"),
    ("l", LOANS, "0.8 0 2", "0.8 -1 2", ":1: rho = -1 < 0"),
    ("l", LOANS, "3 4 0.5", "3 4.125 0.5", ":2: cost 4.125 has more than two decimals"),
    ("l", LOANS, "-0.5 0.5", "-0.5 -inf", ":3: '-inf' is not a number"),
    ("f", FACILITY, "2 1 1", "1000000000 1 1", ":1: 1e+09 is not a number of sites"),
    ("f", FACILITY, "2 1 1", "2 1000000000 1", ":1: 1e+09 is not a number of customers"),
    ("f", FACILITY, "4 6\n", "4 inf\n", ":2: 'inf' is not a number"),
    ("f", FACILITY, "3 1 9", "3 -1 9", ":4: deviation -1 < 0"),
    ("f", FACILITY, "9 2 5", "9 2 nan", ":4: 'nan' is not a number"),
]
PROBLEMS = {
    "k": "two-stage-knapsack", "c": "capital-budgeting", "l": "capital-budgeting-loans",
    "f": "facility-location",
}  # fmt: skip
TEXTS = {"k": KNAPSACK, "c": CAPITAL, "l": LOANS, "f": FACILITY}
TOKENS = ("nan", "inf", "-1", "0", "1e9", "1e309", "0x1", "1_0", "\u0661", "\0", "x", "\n", "")


def _read(path, problem):
    try:
        return nco.read(path, problem=problem)
    except nco.InputError as error:
        return error


@pytest.mark.parametrize("kind", PROBLEMS)
def test_any_mutation_is_an_instance_or_one_line(tmp_path, kind):
    rng = np.random.default_rng(7)
    path, refused = tmp_path / "file", 0
    for _ in range(300):
        lines = [line.split(" ") for line in TEXTS[kind].split("\n")]
        for _ in range(rng.integers(1, 4)):
            line = lines[rng.integers(len(lines))]
            k = int(rng.integers(len(line)))
            change = rng.integers(3)
            if change == 0:
                del line[k : k + 1]
                line += [""] * (not line)
            elif change == 1:
                line.insert(k, line[k])
            else:
                line[k] = str(rng.choice(TOKENS))
        text = "\n".join(map(" ".join, lines))
        if rng.random() < 0.2:
            text = text[: rng.integers(len(text) + 1)]
        path.write_text(text)
        for problem in (PROBLEMS[kind], None):
            outcome = _read(path, problem)
            if isinstance(outcome, nco.InputError):
                refused += 1
                assert len(str(outcome).splitlines()) == 1
                assert str(outcome).startswith(str(path))
            else:
                assert problem in (None, outcome.problem)
                assert outcome.two_stage.n >= 1
    assert 200 < refused < 600


@pytest.mark.parametrize("problem", PROBLEMS.values())
def test_a_worst_case_of_something_else_is_refused(problem):
    two_stage = nco.generate(problem, 3, seed=0).two_stage
    right = two_stage.n
    for x in (np.zeros(right - 1), np.zeros(right + 1), np.zeros((1, right)), 0.0):
        with pytest.raises(ValueError, match=rf"x has shape .*, expected {right} numbers\."):
            two_stage.worst_case(x)
    with pytest.raises(ValueError, match=r"x\[1\] = nan is not a finite number"):
        two_stage.worst_case(np.where(np.arange(right) == 1, np.nan, 0.0))
    with pytest.raises(ValueError, match="scenarios have 99 numbers each"):
        two_stage.worst_case(np.zeros(right), scenarios=np.zeros((2, 99)))


@pytest.mark.parametrize(("kind", "text", "old", "new", "what"), BAD)
def test_bad_files_are_one_line(tmp_path, capsys, kind, text, old, new, what):
    """With the line; exit code 2 and nothing written. Untouched, they are read."""
    path = tmp_path / "file"
    path.write_text(text)
    assert nco.read(path).problem == PROBLEMS[kind]
    assert old in text
    path.write_text(text.replace(old, new, 1))
    out = tmp_path / "out.json"
    code = main(["solve", str(path), "--problem", PROBLEMS[kind], "--out", str(out)])
    error = capsys.readouterr().err
    assert code == 2
    assert what in error
    assert error.startswith(f"nco: error: {path}")
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_a_gamma_that_is_too_large_is_the_one_line_without_a_suffix_too(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text(KNAPSACK.replace("2 9 1", "2 9 3"))
    assert main(["solve", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nco: error: {path}:1: Gamma = 3 is not within 0 and n = 2")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("problem", PROBLEMS.values())
def test_round_trip_of_the_published_layouts(tmp_path, problem):
    drawn = nco.generate(problem, 4, seed=5)
    suffix = dict(zip(PROBLEMS.values(), ("rkp", "cb", "cbl", "rfl"), strict=True))[problem]
    path = tmp_path / f"x.{suffix}"
    nco.convert(_written(drawn, path), tmp_path / "y.json")
    assert nco.read(tmp_path / "y.json").digest == drawn.digest
    bare = path.rename(tmp_path / "bare")
    assert nco.read(bare).digest == drawn.digest


def _written(instance, path):
    from nco.instances import io

    io.write(instance, path)
    return path


def test_weights_for_another_problem(tmp_path, capsys):
    pytest.importorskip("torch")
    path = _written(nco.generate("two-stage-knapsack", 4, seed=1), tmp_path / "k.rkp")
    args = ["--solver", "neur2ro", "--param", "weights=capital-budgeting-loans-v1"]
    assert main(["solve", str(path), *args]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "capital-budgeting-loans" in error
    assert "two-stage-knapsack" in error


def test_a_network_outside_its_range_warns_with_the_range(caplog):
    pytest.importorskip("torch")
    orders = nco.generate("two-stage-knapsack", 3, seed=1)
    with caplog.at_level(logging.WARNING, logger="nco"):
        result = nco.solve(orders, solver="neur2ro", iterations=1, time_limit=60)
    assert orders.violations(result.solution) == []
    (text,) = [r.getMessage() for r in caplog.records if "outside" in r.getMessage()]
    assert "n = 3, trained on" in text


def test_without_time_the_answer_is_an_interval():
    """A first stage, what recourses so far guarantee, and a bound; strong evaluation settles it."""
    orders = TwoStageKnapsack.generate(60, seed=2, distribution="WC", budget_factor=0.2)
    problem = orders.two_stage
    x = (np.arange(60) % 2).astype(float)
    found = problem.worst_case(x, _Counted(3))
    assert found.guaranteed < found.value
    solution = problem.solution(found)
    assert orders.violations(solution) == []
    assert orders.evaluation(solution) == "interval"
    exact = orders.two_stage.worst_case(x, Budget())
    assert exact.exact
    assert orders.objective(solution) <= exact.value <= found.value + 1e-6
    strong = nco.check(orders, solution, evaluation="strong")
    assert strong.evaluation == "exact"
    assert strong.objective == pytest.approx(exact.value)


class _Counted(Budget):
    """A budget that is over after so many questions for the time left."""

    def __init__(self, questions):
        super().__init__()
        self._questions = questions

    def left(self):
        self._questions -= 1
        return 100.0 if self._questions >= 0 else 0.0


def test_an_interval_survives_json():
    orders = TwoStageKnapsack.generate(60, seed=2, distribution="WC", budget_factor=0.2)
    found = orders.two_stage.worst_case(np.ones(60), _Counted(3))
    result = nco.Result.of(
        orders, orders.two_stage.solution(found), solver="hand", seconds=0.0,
        stopped=nco.Stop.TIME,
    )  # fmt: skip
    assert result.evaluation == "interval"
    assert nco.Result.from_json(result.to_json()).objective == result.objective
    assert json.loads(result.to_json())["solution"]["policies"]


def _stock(**changes):
    """Order x of two goods, at most 8 boxes; buy what is missing when demands are known."""
    parts = {
        "sense": "minimize",
        "first_stage": FirstStage(
            c=[5.0, 4.0], A=[[1.0, 1.0]], row_lower=[1.0], row_upper=[8.0], upper=[8.0, 8.0],
            whole=True,
        ),
        "recourse": Recourse(
            q=[15.0, 12.0], T=np.eye(2), W=np.eye(2), row_lower=[2.0, 1.0],
            h_xi=np.diag([4.0, 3.0]),
        ),
        "uncertainty": BudgetSet(2, 1.0),
    }  # fmt: skip
    return TwoStageProblem(**{**parts, **changes})


EVERY = ["two-stage", "ccg", "k-adaptability", "static", "nominal", "scenario"]


@pytest.mark.parametrize("solver", EVERY)
def test_a_first_stage_that_its_rows_exclude_is_infeasible_for_every_method(solver):
    first = FirstStage(c=[5.0, 4.0], A=[[1.0, 1.0]], row_lower=[20.0], upper=[8.0, 8.0])
    result = nco.solve(_stock(first_stage=first), solver=solver, time_limit=60)
    assert result.status is nco.Status.INFEASIBLE
    assert result.solution is None
    assert "infeasible" not in result.extra


@pytest.mark.parametrize("solver", EVERY)
def test_an_unbounded_recourse_is_refused_by_every_method(solver):
    recourse = Recourse(q=[-15.0, 12.0], T=np.eye(2), W=np.eye(2), row_lower=[2.0, 1.0])
    with pytest.raises(ValueError, match="unbounded"):
        nco.solve(_stock(recourse=recourse), solver=solver, time_limit=60)


@pytest.mark.parametrize("solver", ["two-stage", "ccg"])
def test_no_recourse_is_reported_with_the_scenarios(solver, caplog):
    first = FirstStage(c=[5.0, 4.0], A=[[1.0, 1.0]], row_upper=[3.0], upper=[8.0, 8.0], whole=True)
    recourse = dataclasses.replace(_stock().recourse, upper=np.ones(2))
    problem = _stock(first_stage=first, recourse=recourse)
    with caplog.at_level(logging.WARNING, logger="nco"):
        result = nco.solve(problem, solver=solver, time_limit=60)
    assert result.status is nco.Status.INFEASIBLE
    (text,) = [r.getMessage() for r in caplog.records]
    assert "no first stage has a recourse in all of these scenarios: [" in text
    # No order of three boxes at most serves them all.
    named = np.array(result.extra["infeasible"])
    every = np.array([(a, b) for a in range(4) for b in range(4 - a)], dtype=float)
    assert np.isnan(problem.recourse_at(every, named)[0]).any(1).all()
