"""The meta-solver from the command line: presets, files of parameters, workers, pictures."""

import json

import highspy
import numpy as np
import pyscipopt
import pytest

import nco
from nco.cli import main
from nco.instances import io
from nco.instances.core import InputError, Status


@pytest.fixture
def model(hard_mip, tmp_path):
    path = tmp_path / "hard.mps"
    io.write(hard_mip, path)
    return path


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(["solve", *map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_preset_memory_and_determinism(model, tmp_path, capsys):
    memory = tmp_path / "arms.json"
    arguments = (model, "-s", "balans", "--preset", "balans-ijcai25", "--deterministic",
                 "--memory", memory, "-p", "sub_nodes=5", "--iterations", 4)  # fmt: skip
    code, first, _ = run(capsys, *arguments)
    assert code == 0
    assert first["params"]["policy"] == "thompson"
    assert "rins:0.75" in json.loads(memory.read_text())
    memory.unlink()
    _, second, _ = run(capsys, *arguments)
    assert first["objective"] == second["objective"]
    assert first["extra"]["arms"] == second["extra"]["arms"]


def test_a_file_of_parameters(model, tmp_path, capsys):
    config = tmp_path / "balans.toml"
    config.write_text(
        'solver = "balans"\narms = ["mutation:0.2", "rins"]\npolicy = "ucb1"\n'
        'accept = "record-to-record"\ndeterministic = true\nsub-nodes = 5\n'
    )
    arguments = (model, "--config", config, "--iterations", 3)
    code, result, _ = run(capsys, *arguments)
    assert (code, result["solver"]) == (0, "balans")
    assert set(result["extra"]["arms"]) == {"mutation:0.2", "rins"}
    assert result["params"]["accept"] == "record-to-record"
    # The command line comes last.
    assert run(capsys, *arguments, "-p", "policy=random")[1]["params"]["policy"] == "random"
    code, _, error = run(capsys, model, "--config", tmp_path / "none.toml")
    assert code == 2
    assert "none.toml: cannot be read: No such file" in error
    config.write_text("arms = [")
    code, _, error = run(capsys, *arguments)
    assert code == 2
    assert error.count("\n") == 1
    assert "not TOML" in error


def test_jobs_of_one_instance_are_workers(model, capsys):
    code, result, _ = run(capsys, model, "-s", "balans", "--jobs", 2, "--target", 1, "-t", 30)
    assert code == 0
    assert result["params"]["jobs"] == 2


def test_options_that_a_solver_lacks(model, capsys):
    code, _, error = run(capsys, model, "-s", "highs", "--preset", "default")
    assert code == 2
    assert "highs has no preset" in error


def test_a_picture_of_the_arms(model, tmp_path, capsys):
    rows, picture = tmp_path / "rows.jsonl", tmp_path / "arms.png"
    assert main(["solve", str(model), "-s", "balans", "-p", "sub_nodes=5", "--deterministic",
                 "--iterations", "3", "-o", str(rows), "-q"]) == 0  # fmt: skip
    assert main(["plot", str(rows), "--arms", "-o", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["solve", str(model), "-s", "highs", "-t", "1", "-o", str(rows), "-q"]) == 0
    assert main(["plot", str(rows), "--arms", "-o", str(picture)]) == 2
    assert "no result tells of arms" in capsys.readouterr().err
    row = json.loads(rows.read_text())
    for extra in ({"arms": {"x": 3}}, {"arms": []}, {"workers": 3}):
        rows.write_text(json.dumps(row | {"extra": extra}) + "\n")
        assert main(["plot", str(rows), "--arms", "-o", str(picture)]) == 2
        assert "arms of a result are not understood" in capsys.readouterr().err


def scip_model():
    model = pyscipopt.Model()
    model.hideOutput()
    x = [model.addVar(f"x{k}", "I", ub=9) for k in range(3)]
    model.addCons(2 * x[0] + 3 * x[1] + 4 * x[2] <= 12, "budget")
    model.setObjective(3 * x[0] + 2 * x[1] + 5 * x[2] + 100, "maximize")
    return model


@pytest.mark.parametrize("solver", ["balans", "highs", "scip"])
@pytest.mark.parametrize("solved", [False, True])
def test_a_scip_object_is_an_instance(solver, solved):
    model = scip_model()
    if solved:
        model.optimize()
    result = nco.solve(model, solver, 10)
    assert (result.status, result.objective) == (Status.OPTIMAL, 118)
    assert result.solution == {"x0": 6.0}


def test_a_highs_object_is_an_instance():
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    x = [highs.addIntegral(lb=0, ub=9) for _ in range(2)]
    highs.addConstr(2 * x[0] + 3 * x[1] <= 13)
    highs.maximize(2 * x[0] + 4 * x[1])
    result = nco.solve(highs, "balans", 10)
    assert (result.status, result.objective) == (Status.OPTIMAL, 16)
    assert np.isclose(nco.solve(highs.getLp(), "balans", 10).objective, 16)
    assert np.isclose(nco.solve(highs.getModel(), "balans", 10).objective, 16)


def test_names_that_a_highs_object_leaves_out():
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    x = [highs.addBinary(name=name) for name in ("", "x0", "z", "")]
    highs.addConstr(x[0] + x[3] >= 2)
    highs.minimize(x[0] + x[3])
    assert nco.solve(highs, "balans", 10).solution == {"x0_": 1.0, "x3": 1.0}


def test_what_a_model_object_may_not_hold():
    model = scip_model()
    x = model.getVars()
    model.addConsSOS1(x[:2], [1, 2])
    with pytest.raises(InputError, match="SOS1 constraints are not supported"):
        nco.solve(model, "balans", 1)
    model = scip_model()
    flag = model.addVar("flag", "B")
    model.addConsIndicator(model.getVars()[0] <= 3, flag)
    with pytest.raises(InputError, match="indicator constraints are not supported"):
        nco.solve(model, "balans", 1)
    with pytest.raises(InputError, match="is no instance"):
        nco.solve([1, 2], "balans", 1)


def test_what_a_highs_object_may_not_hold():
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    x = highs.addVariable(0, 5)
    highs.minimize(x)
    square = highspy.HighsHessian()
    square.dim_ = 1
    square.format_ = highspy.HessianFormat.kTriangular
    square.start_, square.index_ = np.array([0, 1]), np.array([0])
    square.value_ = np.array([2.0])
    highs.passHessian(square)
    with pytest.raises(InputError, match="quadratic objectives are not supported"):
        nco.solve(highs, "balans", 1)
    kinds = highspy.HighsVarType
    for kind, what in ((kinds.kSemiContinuous, "semi-"), (kinds.kImplicitInteger, "implied")):
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.minimize(highs.addVariable(1, 5, type=kind))
        with pytest.raises(InputError, match=what):
            nco.solve(highs, "balans", 1)
