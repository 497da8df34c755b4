"""``--evaluation strong`` and ``--truncate-budget``."""

import json

import numpy as np
import pytest

from nco.instances import io
from nco.instances.capital_budgeting import CapitalBudgeting
from nco.instances.two_stage_knapsack import TwoStageKnapsack


@pytest.fixture
def interval(here):
    """A knapsack file, and a solution whose value is only bounded from the safe side."""
    instance = TwoStageKnapsack.generate(8, seed=3, budget_factor=0.3)
    problem = instance.two_stage
    found = problem.worst_case(np.ones(8))
    nothing = [0.0] * 16
    solution = problem.solution(found) | {"policies": [nothing, found.y.tolist()]}
    assert instance.objective(solution) < found.value - 1
    io.write(instance, here / "k.rkp")
    (here / "s.json").write_text(json.dumps(solution))
    return instance, found, solution


def test_strong_evaluation_settles_an_interval(nco, interval):
    instance, found, solution = interval
    plain = json.loads(nco("check", "k.rkp", "s.json", "--json").out)
    assert plain["evaluation"] == "interval"
    assert plain["objective"] == pytest.approx(instance.objective(solution))
    strong = json.loads(nco("check", "k.rkp", "s.json", "--evaluation", "strong", "--json").out)
    assert strong["evaluation"] == "exact"
    assert strong["objective"] == pytest.approx(found.value)


@pytest.mark.parametrize(("off", "code"), [(-0.5, 0), (0.0, 0), (0.5, 1)])
def test_a_file_may_state_less_than_the_strong_value(nco, here, interval, off, code):
    _, found, solution = interval
    stated = {"solution": solution, "objective": found.value + off}
    (here / "r.json").write_text(json.dumps(stated))
    done = nco("check", "k.rkp", "r.json", "--evaluation", "strong")
    assert done.code == code
    assert ("the file states" in done.out) == bool(code)


def test_evaluation_is_said(nco, here):
    instance = CapitalBudgeting.generate(5, seed=1)
    io.write(instance, here / "c.cb")
    found = instance.two_stage.worst_case(np.zeros(5))
    (here / "s.json").write_text(json.dumps(instance.two_stage.solution(found)))
    assert ", sampled:strong-v1" in nco("check", "c.cb", "s.json").out


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--evaluation", "weak"), "unknown evaluation 'weak' (known: strong)"),
        (("--truncate-budget",), "has no budget to truncate"),
    ],
)
def test_refused(nco, interval, options, what):
    done = nco("check", "k.rkp", "s.json", *options)
    assert done.code == 2
    assert what in done.err


def test_strong_is_for_two_stage_problems(nco, here):
    (here / "s.json").write_text("[]")
    done = nco("check", "strong200.kp", "s.json", "--evaluation", "strong")
    assert done.code == 2
    assert "has one evaluation only" in done.err


def test_the_budget_is_truncated_where_it_is_read(nco, here):
    """In check, solve and convert alike."""
    instance = CapitalBudgeting.generate(4, seed=2)
    io.write(instance, here / "c.cb")
    assert instance.truncated().budget == np.floor(instance.budget) < instance.budget
    assert nco("convert", "c.cb", "t.cb", "--truncate-budget").code == 0
    assert io.read(here / "t.cb").budget == instance.truncated().budget
    done = nco("solve", "c.cb", "--solver", "nominal", "--truncate-budget", "-o", "r.json",
               "--json")  # fmt: skip
    assert done.code == 0
    row = json.loads(done.out)
    assert row["digest"] == instance.truncated().digest
    truncated = nco("check", "c.cb", "r.json", "--truncate-budget", "--json")
    assert truncated.code == 0
    assert json.loads(truncated.out)["objective"] == pytest.approx(row["objective"])
    assert nco("convert", "r.json", "x.cb", "--truncate-budget").code == 2
