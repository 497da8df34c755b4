"""The learned solver on tiny instances, with a network trained on the spot."""

import dataclasses
import itertools
import logging
import re

import numpy as np
import pytest
import torch

from nco.instances.capital_budgeting import CapitalBudgeting, CapitalBudgetingLoans
from nco.instances.core import Budget, Status, Stop, UnsupportedError
from nco.instances.facility_location import FacilityLocation
from nco.instances.knapsack import Knapsack
from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.mip.highs import HighsEngine
from nco.mip.scip import ScipEngine
from nco.robust import labels
from nco.robust.adversary import certify, descend
from nco.robust.ccg import CCG
from nco.robust.embedding import network_values
from nco.robust.encoding import ENCODERS, encode
from nco.robust.local_search import neighbors
from nco.robust.master import Memory, build_master, solve_master
from nco.robust.network import ValueConfig, ValueNetwork
from nco.robust.neur2ro import Neur2RO, load_model, outside_range
from nco.robust.train import SHAPES, ValueTrainer, ValueTraining
from nco.robust.weights import write_value_weights
from nco.weights import WeightsError

N = 6
ALL = np.array(list(itertools.product([0.0, 1.0], repeat=N)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    maker = labels.MAKERS["two-stage-knapsack"]
    kept, labels.MAKERS["two-stage-knapsack"] = (
        maker,
        labels.LabelMaker(maker.instance, maker.pairs, (N,)),
    )
    try:
        made = labels.make_chunk("two-stage-knapsack", 1, 0, 120, 8, 8)
    finally:
        labels.MAKERS["two-stage-knapsack"] = kept
    meta = {"problem": "two-stage-knapsack", "instances": 120, "seed": 1, "a": 8, "b": 8}
    labels.write_labels(folder / "labels.npz", made, meta)
    config = ValueTraining(
        problem="two-stage-knapsack", labels=str(folder / "labels.npz"), steps=300, warmup=20,
        eval_every=300,
    )  # fmt: skip
    trainer = ValueTrainer(config, folder / "run")
    trainer.run()
    return str(trainer.export(folder, "two-stage-knapsack-v1"))


@pytest.fixture
def instance():
    return TwoStageKnapsack.generate(N, seed=3, distribution="WC", h=50, budget_factor=0.3)


def optimum(instance):
    return max(instance.two_stage.worst_case(x).value for x in ALL)


@pytest.mark.parametrize("backend", ["highs", "scip"])
@pytest.mark.parametrize("master", ["value", "second-stage"])
def test_tiny_instances_are_solved(weights, instance, backend, master):
    solver = Neur2RO(weights=weights, backend=backend, master=master)
    result = solver.solve(instance, Budget(300.0, iterations=6))
    assert result.evaluation == "exact"
    assert result.bound is None
    best = optimum(instance)
    assert result.objective == pytest.approx(best, rel=0.02)
    assert result.objective <= best + 1e-6
    assert set(result.extra["seconds"]) == {"master", "adversary", "evaluation"}
    again = solver.solve(instance, Budget(300.0, iterations=6))
    assert again.solution == result.solution


def test_generation_starts_from_learned_scenarios(weights, instance):
    solver = CCG(relaxed=False, learned=0.5, weights=weights)
    result = solver.solve(instance, Budget(60))
    rows = result.extra["iterations"]
    assert rows[0]["by"] == "neur2ro"
    assert rows[0]["scenarios"] > 1
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(optimum(instance), rel=1e-6)
    # A problem of the user's own needs a network of its own.
    with pytest.raises(WeightsError, match="nco label two-stage --from"):
        CCG(learned=0.5).solve(instance.two_stage, Budget(60))
    with pytest.raises(ValueError, match="learned = 1"):
        CCG(learned=1)


def test_first_stages_come_from_masters_only_without_neighbors(weights, instance):
    solver = Neur2RO(weights=weights, neighbors=0, worst=False, certify=5.0)
    result = solver.solve(instance, Budget(30, iterations=3))
    assert result.objective <= optimum(instance) + 1e-6
    network = result.extra["network"]
    assert network["bound"] <= network["value"] + 1e-6 * abs(network["value"])
    assert len(result.extra["iterations"]) <= 3


def untrained(shape, seed=0):
    torch.manual_seed(seed)
    return ValueNetwork(SHAPES["two-stage-knapsack"][shape]).requires_grad_(False)


@pytest.mark.parametrize("shape", ["concave", "relu", "paper"])
@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
def test_the_second_stage_master_is_what_enumeration_gives(instance, shape, engine):
    network, problem = untrained(shape), instance.two_stage
    encoding = encode(ENCODERS[instance.problem], network.config.streams, instance, N)
    scenarios = list(problem.uncertainty.sample(3, np.random.default_rng(0)))
    mip, x = build_master(
        problem, np.arange(N), scenarios, network, encoding, slack=np.inf, choose=True
    )
    proposal = solve_master(mip, x, Budget(20), backend=engine, gap=0.0, seed=0)
    believed, _ = network_values(network, encoding, ALL, np.array(scenarios))
    exact, _ = problem.recourse_at(ALL, np.array(scenarios))
    chosen = exact[np.arange(len(ALL)), believed.argmin(1)] + ALL @ problem.first.c
    assert proposal.value == pytest.approx(chosen.max(), rel=1e-4)


@pytest.mark.parametrize("shape", ["concave", "relu"])
def test_the_value_master_leaves_out_what_is_known(instance, shape):
    network, problem = untrained(shape), instance.two_stage
    encoding = encode(ENCODERS[instance.problem], network.config.streams, instance, N)
    scenarios = list(problem.uncertainty.sample(3, np.random.default_rng(0)))
    believed, _ = network_values(network, encoding, ALL, np.array(scenarios))
    total = believed.min(1) + ALL @ problem.first.c
    known = ALL[np.argsort(-total)[:2]]
    for memory, expected in ((None, total.max()), (Memory(list(known)), np.sort(total)[-3])):
        mip, x = build_master(
            problem, np.arange(N), scenarios, network, encoding, choose=False, memory=memory
        )
        proposal = solve_master(mip, x, Budget(20), backend=HighsEngine, gap=0.0, seed=0)
        assert proposal.value == pytest.approx(expected, rel=1e-4)


def test_the_master_of_uncertain_rows_is_what_enumeration_gives():
    instance = CapitalBudgeting.generate(5, seed=2)
    problem = instance.two_stage
    torch.manual_seed(0)
    network = ValueNetwork(SHAPES["capital-budgeting"]["concave"]).requires_grad_(False)
    encoding = encode(ENCODERS["capital-budgeting"], network.config.streams, instance, 4)
    scenarios = np.random.default_rng(1).uniform(-1, 1, (3, 4))
    mip, x = build_master(
        problem, np.arange(5), list(scenarios), network, encoding, slack=np.inf, choose=True
    )
    proposal = solve_master(mip, x, Budget(20), backend=HighsEngine, gap=0.0, seed=0)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    every = every[(every @ problem.first.A.T <= problem.first.row_upper).all(1)]
    believed, _ = network_values(network, encoding, every, scenarios)
    exact, _ = problem.recourse_at(every, scenarios)
    chosen = exact[np.arange(len(every)), believed.argmin(1)]
    assert proposal.value == pytest.approx(np.nanmax(chosen), rel=1e-4)


@pytest.mark.parametrize("engine", [HighsEngine, ScipEngine])
def test_facility_location_is_embedded_in_masters_and_adversary(engine):
    """Demands move rows, and every site sees all of them."""
    instance = FacilityLocation.generate(5, seed=2)
    problem = instance.two_stage
    torch.manual_seed(1)
    network = ValueNetwork(SHAPES["facility-location"]["concave"]).requires_grad_(False)
    encoding = encode(ENCODERS["facility-location"], network.config.streams, instance, 10)
    scenarios = problem.uncertainty.sample(3, np.random.default_rng(0))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    believed, _ = network_values(network, encoding, every, scenarios)
    exact, _ = problem.recourse_at(every, scenarios)
    first = every @ problem.first.c
    chosen = exact[np.arange(len(every)), believed.argmin(1)]
    for choose, expected in ((False, believed.min(1)), (True, chosen)):
        mip, x = build_master(
            problem, np.arange(5), list(scenarios), network, encoding, slack=np.inf, choose=choose
        )
        proposal = solve_master(mip, x, Budget(200), backend=engine, gap=0.0, seed=0)
        assert proposal.value == pytest.approx((first + expected).max(), rel=1e-4)
    x = every[-3]
    found = descend(network, encoding, x, scenarios, problem.uncertainty.project)
    _, bound = certify(
        network, encoding, x, problem.uncertainty, Budget(20), backend=engine, gap=1e-6
    )
    assert bound <= found.values[0] + 1e-4 * abs(found.values[0])


def test_the_adversary_is_proved_by_the_mip(instance):
    network, problem = untrained("relu"), instance.two_stage
    encoding = encode(ENCODERS[instance.problem], network.config.streams, instance, N)
    starts = problem.uncertainty.sample(8, np.random.default_rng(0))
    x = ALL[-3]
    found = descend(network, encoding, x, starts, problem.uncertainty.project)
    sampled, _ = network_values(network, encoding, x[None], starts)
    assert found.values[0] <= sampled.min() + 1e-9
    assert problem.uncertainty.contains(found.xi[0])
    attack, bound = certify(
        network, encoding, x, problem.uncertainty, Budget(20), backend=HighsEngine, gap=1e-6
    )
    assert bound <= attack.values[0] + 1e-3 * abs(attack.values[0])
    assert bound <= found.values[0] + 1e-4 * abs(found.values[0])


def test_neighbors_differ_by_a_flip_or_a_swap():
    x = np.array([1.0, 1, 0, 0, 0, 1])
    around = neighbors(x, np.random.default_rng(0), most=100)
    apart = np.abs(around - x).sum(1)
    assert sorted(apart.tolist()) == [1.0] * N + [2.0] * 9
    assert len(neighbors(x, np.random.default_rng(0), most=4)) == N + 4


def test_weights_for_another_problem_are_refused(weights):
    with pytest.raises(WeightsError, match="weights for two-stage-knapsack, not for capital"):
        Neur2RO(weights=weights).solve(CapitalBudgeting.generate(5, seed=0), Budget(5))


def test_inputs_outside_the_range_warn_with_the_range(weights, caplog):
    larger = TwoStageKnapsack.generate(9, seed=0)
    with caplog.at_level(logging.WARNING, logger="nco"):
        Neur2RO(weights=weights, patience=1).solve(larger, Budget(20, iterations=1))
    assert "n = 9, trained on 6 to 6" in caplog.text


@pytest.mark.parametrize(("instance", "what"), [
    (CapitalBudgetingLoans.generate(20, seed=0, factors=1), "1 entries of a scenario, .* 4 to 8"),
    (CapitalBudgetingLoans.generate(20, seed=0, factors=12), "12 entries of a scenario"),
    (CapitalBudgetingLoans.generate(9, seed=0, factors=4), "^n = 9, trained on 10 to 100"),
    (CapitalBudgetingLoans.generate(10, seed=0, factors=4), None),
    (CapitalBudgeting.generate(20, seed=0, factors=9), "9 entries of a scenario, .* 4 to 4"),
    (CapitalBudgeting.generate(20, seed=0), None),
    # The budget was half of all costs in the training, and is a little less when rounded down.
    (CapitalBudgeting.generate(10, seed=0).truncated(), None),
    (CapitalBudgeting.generate(20, seed=1).truncated(), None),
    (dataclasses.replace(CapitalBudgeting.generate(20, seed=0), budget=30.0),
     "is 0.2.*, trained on 0.5 to 0.5"),
])  # fmt: skip
def test_scenarios_have_a_range_too_and_an_early_loan_is_no_project(instance, what):
    model, problem = load_model(instance.problem), instance.two_stage
    q = problem.uncertainty.dimension
    encoding = encode(ENCODERS[instance.problem], model.network.config.streams, instance, q)
    found = outside_range(model.card, instance.n, encoding, problem.uncertainty.bounds())
    assert (found is None) if what is None else re.search(what, found)


def test_what_scenarios_do_has_a_range(weights, instance):
    model, problem = load_model("two-stage-knapsack", weights), instance.two_stage
    assert model.card["ranges"]["entries"] == [N, N]
    encoding = encode(ENCODERS[instance.problem], model.network.config.streams, instance, N)
    bounds = problem.uncertainty.bounds()
    ranges = {k: v for k, v in model.card["ranges"].items() if k.endswith(" in scenarios")}
    worse = dataclasses.replace(encoding, slope=(50 * encoding.slope[0],))
    found = outside_range({"ranges": ranges}, N, worse, bounds)
    assert re.match("input 0 in scenarios of item .* trained on", found)


def test_other_problems_are_not_supported():
    solver = Neur2RO()
    knapsack = Knapsack.generate(5, seed=0)
    assert "not a two-stage problem" in solver.supports(knapsack)
    with pytest.raises(UnsupportedError):
        solver.solve(knapsack, Budget(1))


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="master 'best' not understood"):
        Neur2RO(master="best")
    with pytest.raises(ValueError, match="must be positive"):
        Neur2RO(patience=0)


def test_without_time_there_is_a_first_stage(weights, instance):
    result = Neur2RO(weights=weights).solve(instance, Budget(0.0))
    assert result.stopped is Stop.TIME
    assert result.objective <= instance.two_stage.worst_case(result.solution["x"]).value + 1e-6


def test_scenarios_without_recourse_become_score_rows(tmp_path):
    # A first stage that ignores the worst costs proposes what cannot be paid for.
    torch.manual_seed(0)
    network = ValueNetwork(ValueConfig.paper(features=5, scenario=2))
    path = write_value_weights(tmp_path, "capital-budgeting-v1", network, "capital-budgeting")
    instance = CapitalBudgeting.generate(6, seed=1)
    result = Neur2RO(weights=str(path), patience=2).solve(instance, Budget(30, iterations=3))
    assert result.evaluation.startswith("sampled")
    assert result.objective > 0


def _order(**changes):
    """Two orders of which one may be lost, with other numbers."""
    values = {
        "profits": [5, 7], "degradations": [2, 3], "repair_weights": [3, 2], "weights": [4, 5],
        "outsourcing_costs": [6, 8],
    }  # fmt: skip
    arrays = {key: np.array(value) for key, value in {**values, **changes}.items()}
    return TwoStageKnapsack(**arrays, capacity=9.0, gamma=1.0)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("changes", [
    {"weights": [0, 5]}, {"degradations": [0, 0], "repair_weights": [0, 0]},
])  # fmt: skip
def test_zeros_are_no_trouble(weights, changes):
    instance = _order(**changes)
    best = CCG().solve(instance, Budget(60))
    assert best.status is Status.OPTIMAL
    result = Neur2RO(weights=weights).solve(instance, Budget(60, iterations=3))
    assert result.objective == pytest.approx(best.objective)


@pytest.mark.parametrize("changes", [{"weights": [0, 0]}, {"outsourcing_costs": [0, 0]}])
def test_what_the_network_cannot_see_is_refused(weights, changes):
    with pytest.raises(UnsupportedError, match="weights are all zero"):
        Neur2RO(weights=weights).solve(_order(**changes), Budget(60, iterations=3))
