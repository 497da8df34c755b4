"""Two-stage problems of one's own from MPS files and a TOML."""

import json

import numpy as np
import pytest
from scipy import sparse

import nco
from nco.cli import main
from nco.instances import io
from nco.instances.capital_budgeting import CapitalBudgeting
from nco.instances.core import InputError
from nco.instances.facility_location import FacilityLocation
from nco.instances.mip import MIP
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.robust.two_stage import _flat
from nco.robust.uncertainty import Box, BudgetSet, Polyhedron

MODEL = """NAME own
OBJSENSE
    MAX
ROWS
 N profit
 L money
 L stock
COLUMNS
    MARKER MARKER 'MARKER' 'INTORG'
    x profit -2 money 1
    x stock -3
    MARKER MARKER 'MARKER' 'INTEND'
    y profit 4 stock 1
RHS
    RHS money 5 stock 0
BOUNDS
 UP BND x 9
 UP BND y 8
ENDATA
"""
SET = """NAME set
ROWS
 N free
 L most
COLUMNS
    a most 1
    b most 1
RHS
    RHS most 1
BOUNDS
 UP BND a 1
 UP BND b 1
ENDATA
"""
TOML = """model = "model.mps"
uncertainty = "uncertainty.mps"
second_stage = ["y"]

[uncertain.objective]
y = { a = -3 }

[uncertain.stock]
rhs = { b = -2 }
"""


def put(folder, toml=TOML, model=MODEL, uncertainty=SET):
    (folder / "model.mps").write_text(model)
    (folder / "uncertainty.mps").write_text(uncertainty)
    path = folder / "own.toml"
    path.write_text(toml)
    return path


def as_files(problem, folder):
    """The three files of a problem whose set is a box or a budget."""
    first, late, k = problem.first_stage, problem.recourse, problem.uncertainty.dimension
    columns = [f"x{i}" for i in range(len(first.c))] + [f"y{i}" for i in range(len(late.q))]
    rows = [f"now{i}" for i in range(len(first.row_lower))]
    rows += [f"late{i}" for i in range(len(late.row_lower))]
    mip = MIP(
        c=np.concatenate([first.c + late.p, late.q]),
        A=sparse.block_array([
            [first.A, sparse.csr_array((len(first.row_lower), len(late.q)))], [late.T, late.W],
        ]),
        row_lower=np.concatenate([first.row_lower, late.row_lower]),
        row_upper=np.concatenate([first.row_upper, late.row_upper]),
        lower=np.concatenate([first.lower, late.lower]),
        upper=np.concatenate([first.upper, late.upper]),
        integrality=np.concatenate([first.whole, late.whole]),
        sense=problem.sense, columns=columns, rows=rows,
    )  # fmt: skip
    io.write(mip, folder / "model.mps")
    low, high = problem.uncertainty.bounds()
    gamma = getattr(problem.uncertainty, "gamma", None)
    high = high if gamma is None else np.ones(k)
    rest = {} if gamma is None else {"row_upper": [gamma]}
    A = np.ones((0 if gamma is None else 1, k))
    io.write(MIP(c=np.zeros(k), A=A, lower=low, upper=high, **rest), folder / "set.mps")
    tables = {}

    def put(row, column, entry, value):
        tables.setdefault(row, {}).setdefault(column, {})[f"x{entry}"] = float(value)

    for prefix, matrix in (("x", late.p_xi), ("y", late.q_xi)):
        for i, j in zip(*matrix.nonzero(), strict=True):
            put("objective", f"{prefix}{i}", j, matrix[i, j])
    for i, j in zip(*late.h_xi.nonzero(), strict=True):
        put(f"late{i}", "rhs", j, late.h_xi[i, j])
    for prefix, parts in (("x", late.T_xi), ("y", late.W_xi)):
        for entry, matrix in parts.items():
            for i, j in zip(*matrix.nonzero(), strict=True):
                put(f"late{i}", f"{prefix}{j}", entry, matrix[i, j])
    text = 'model = "model.mps"\nuncertainty = "set.mps"\nsecond_stage = ["y*"]\n'
    for row, inner in tables.items():
        text += f"[uncertain.{row}]\n"
        for column, amounts in inner.items():
            listed = ", ".join(f"{e} = {v!r}" for e, v in amounts.items())
            text += f"{column} = {{ {listed} }}\n"
    path = folder / "problem.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("cls", [FacilityLocation, TwoStageKnapsack, CapitalBudgeting])
def test_the_built_in_problems_can_be_said_that_way(tmp_path, cls):
    """Every array comes back, whatever depends on the scenario."""
    problem = cls.generate(4, seed=1).two_stage
    again = io.read(as_files(problem, tmp_path))
    assert type(again.uncertainty) is type(problem.uncertainty)
    for part in ("recourse", "uncertainty"):
        one, two = _flat("", getattr(problem, part)), _flat("", getattr(again, part))
        for key in one.keys() - {".p", ".p.row"}:
            assert np.array_equal(one[key], two[key]), (part, key)
    assert np.array_equal(again.first_stage.c, problem.first_stage.c + problem.recourse.p)
    for x in ([0] * 4, [1, 0, 0, 0]):
        xi = problem.uncertainty.sample(3, np.random.default_rng(0))
        mine, other = (p.recourse_at(x, xi)[0] + p.first.value(np.array(x))
                       for p in (problem, again))  # fmt: skip
        assert other == pytest.approx(mine, rel=1e-5)


@pytest.mark.parametrize("solver", ["auto", "ccg", "static", "nominal", "scenario"])
def test_every_general_method_applies(tmp_path, solver):
    """By hand, at both vertices; x = 0 leaves no second stage where b = 1."""
    result = nco.solve(put(tmp_path), solver, time_limit=60)
    exact = {x: -2 * x + min(4 * min(8, 3 * x - 2), min(8, 3 * x)) for x in range(1, 6)}
    assert result.objective <= max(exact.values()) + 1e-6
    assert result.bound is None or result.bound >= max(exact.values()) - 1e-6
    if solver in ("auto", "ccg"):
        assert result.objective == pytest.approx(max(exact.values()))


def test_on_the_command_line(tmp_path, capsys):
    path = put(tmp_path)
    out = tmp_path / "s.json"
    assert main(["solve", str(path), "--solver", "ccg", "--out", str(out), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["solver"] == "ccg"
    assert main(["check", str(path), str(out)]) == 0


def test_sets_are_recognised(tmp_path):
    problem = io.read(put(tmp_path))
    assert isinstance(problem.uncertainty, BudgetSet)
    assert (problem.uncertainty.gamma, problem.uncertainty.cardinality) == (1, False)
    other = SET.replace("b most 1", "b most 2")
    assert isinstance(io.read(put(tmp_path, uncertainty=other)).uncertainty, Polyhedron)
    box = SET.replace(" L most\n", "").replace(" most 1", " free 0")
    assert isinstance(io.read(put(tmp_path, uncertainty=box)).uncertainty, Box)
    whole = SET.replace(" UP BND", " BV BND")
    assert io.read(put(tmp_path, uncertainty=whole)).uncertainty.cardinality


def test_a_set_can_be_written_into_the_toml(tmp_path):
    table = '{ type = "scenarios", points = [[0, 0], [1, 0]], names = ["a", "b"] }'
    problem = io.read(put(tmp_path, TOML.replace('"uncertainty.mps"', table)))
    assert problem.uncertainty.points.tolist() == [[0, 0], [1, 0]]
    assert problem.stage(np.array([1.0, 0.0])).q.tolist() == [1]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('["y"]', '["z*"]', "own.toml:3: second_stage: the model has no column 'z*' (known: x, y)"),
        ('["y"]', '"y"', "own.toml:3: second_stage is not a list of names"),
        ('["y"]', '["*"]', "own.toml:3: no column is left for the first stage"),
        ("model.mps", "none.mps", "none.mps: no such file"),
        ('"model.mps"', "7", "own.toml:1: model is not a file name"),
        ("second_stage =", "secondstage = 1\nsecond_stage =",
         "own.toml:3: unknown key 'secondstage'"),
        ("uncertainty =", "#", "own.toml: needs the key uncertainty"),
        ("uncertain.stock", "uncertain.store",
         "own.toml:8: uncertain: the model has no row 'store'"),
        ("y = {", "z = {", "own.toml:6: uncertain.objective: the model has no column 'z'"),
        ("a = -3", "c = -3", "own.toml:6: uncertain.objective.y: scenarios have no entry 'c'"),
        ("b = -2", 'b = "two"', "own.toml:9: uncertain.stock.rhs: 'two' is not a finite number"),
        ("b = -2", "b = nan", "own.toml:9: uncertain.stock.rhs: 'nan' is not a finite number"),
        ("rhs = { b = -2 }", "rhs = 2", "own.toml:9: uncertain.stock.rhs is not a table"),
        ("rhs = { b = -2 }", "rhs = {", "own.toml:9: not valid TOML"),
        ('"uncertainty.mps"', '{ type = "ball" }',
         "own.toml:2: uncertainty set 'ball' not understood"),
        ('"uncertainty.mps"', '{ type = "budget", dimension = 2, gamma = 3 }',
         "own.toml:2: gamma = 3 is not within 0 and 2"),
        ('"uncertainty.mps"', '{ type = "scenarios", points = [] }',
         "own.toml:2: the uncertainty set is empty"),
        ('"uncertainty.mps"', '{ type = "budget", dimension = 2, gamma = 1, names = ["a"] }',
         "own.toml:2: uncertainty: names are not 2 different words"),
    ],
)  # fmt: skip
def test_bad_toml(tmp_path, capsys, old, new, what):
    """One line with the place, exit code 2, nothing written."""
    path = put(tmp_path, TOML.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        io.read(path)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)
    assert main(["solve", str(path), "--out", str(tmp_path / "s.json")]) == 2
    assert what.partition(": ")[2] in capsys.readouterr().err
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (" UP BND a 1", " MI BND a", "uncertainty set is unbounded"),
        ("RHS most 1", "RHS most -1", "uncertainty set is empty"),
        (" UP BND a 1", " UI BND a 3",
         "whole scenario columns are understood if all are 0 or 1"),
    ],
)  # fmt: skip
def test_bad_sets(tmp_path, old, new, what):
    with pytest.raises(InputError) as caught:
        io.read(put(tmp_path, uncertainty=SET.replace(old, new)))
    assert "uncertainty.mps" in str(caught.value)
    assert what in str(caught.value)


def solved(folder, capsys, *args, **files):
    """Exit code, result and messages of solving with generation."""
    code = main(["solve", str(put(folder, **files)), "--solver", "ccg", "--json", *args])
    done = capsys.readouterr()
    return code, json.loads(done.out) if done.out.strip() else None, done.err


def test_an_unbounded_second_stage_is_named(tmp_path, capsys):
    model = MODEL.replace(" UP BND y 8\n", "").replace("y profit 4 stock 1", "y profit 4 stock -1")
    code, result, text = solved(tmp_path, capsys, model=model)
    assert (code, result) == (2, None)
    assert "the second stage is unbounded" in text
    assert len(text.strip().splitlines()) == 1


def test_an_infeasible_first_stage_is_a_status(tmp_path, capsys):
    model = MODEL.replace("RHS money 5", "RHS money -5")
    code, result, _ = solved(tmp_path, capsys, model=model)
    assert (code, result["status"], result["solution"]) == (1, "infeasible", None)


def test_a_second_stage_without_solution_names_the_scenario(tmp_path, capsys):
    """Stock that is negative in a scenario leaves nothing to do, whatever x is."""
    toml = TOML.replace("b = -2", "b = -99")
    code, result, _ = solved(tmp_path, capsys, toml=toml)
    assert (code, result["status"], result["solution"]) == (1, "infeasible", None)
    solution = tmp_path / "s.json"
    solution.write_text('{"x": [1], "xi": [0, 0], "y": [3]}')
    assert main(["check", str(tmp_path / "own.toml"), str(solution)]) == 1
    assert "the second stage is infeasible in scenario (" in capsys.readouterr().out
