"""Networks for problems of one's own: encoding, labels, training and solving."""

import numpy as np
import pytest
import torch

import nco
from nco.cli import main
from nco.instances.core import Budget, InputError
from nco.mip.highs import HighsEngine
from nco.robust import OWN
from nco.robust.adversary import certify, descend
from nco.robust.embedding import embed_first_stage, embed_scenario, network_values
from nco.robust.encoding import ENCODERS, encode
from nco.robust.labels import label, make_chunk, read_labels
from nco.robust.master import build_master, solve_master
from nco.robust.model import Model
from nco.robust.network import ValueNetwork
from nco.robust.own_encoding import limits
from nco.robust.own_labels import Instances, perturbed, steps
from nco.robust.train import SHAPES, ValueTrainer, ValueTraining
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import Box, BudgetSet
from nco.weights import WeightsError

SHOP = """
from nco.robust.two_stage import FirstStage, Recourse, TwoStageProblem
from nco.robust.uncertainty import BudgetSet

def shop(goods, price=1.0):
    eye = [[float(i == j) for j in range(goods)] for i in range(goods)]
    return TwoStageProblem(
        name="shop", sense="minimize",
        first_stage=FirstStage(
            c=[5.0 - k % 2 for k in range(goods)], A=[[1.0] * goods], row_upper=[4.0 * goods],
            upper=[8.0] * goods, whole=True,
        ),
        recourse=Recourse(
            q=[price * (15.0 - 3 * (k % 2)) for k in range(goods)], T=eye, W=eye,
            row_lower=[2.0 - k % 2 for k in range(goods)],
            h_xi=[[(4.0 - i % 2) * (i == j) for j in range(goods)] for i in range(goods)],
        ),
        uncertainty=BudgetSet(goods, 1.0),
    )
"""


def shop(goods=2):
    namespace = {}
    exec(SHOP, namespace)
    return namespace["shop"](goods)


def mixed():
    """Binary, whole and continuous first stages; everything depends on the scenario."""
    rng = np.random.default_rng(4)
    return TwoStageProblem(
        name="mixed",
        first_stage=FirstStage(
            c=[-1.0, -2.0, -0.5], A=[[1.0, 1.0, 1.0]], row_upper=[5.0],
            lower=[0.0, -1.0, 0.0], upper=[1.0, 3.0, np.inf], whole=[True, True, False],
        ),
        recourse=Recourse(
            q=[3.0, 2.0], q_xi=rng.normal(size=(2, 2)) * 0.3, T=-np.ones((2, 3)),
            W=[[1.0, 0.5], [0.2, 1.0]], row_upper=[2.0, 3.0], h_xi=0.5 * np.eye(2),
            upper=[9.0, 9.0], p=[0.5, 0.0, 0.0], p_xi=rng.normal(size=(3, 2)) * 0.2,
            offset_xi=[0.1, 0.0], T_xi={0: -0.2 * np.ones((2, 3))}, W_xi={1: 0.1 * np.eye(2)},
        ),
        uncertainty=Box([-1.0, 0.0], [1.0, 2.0]),
    )  # fmt: skip


def untrained(problem, shape="concave"):
    torch.manual_seed(3)
    network = ValueNetwork(SHAPES[OWN][shape]).requires_grad_(False)
    return network, encode(
        ENCODERS[OWN], network.config.streams, problem, problem.uncertainty.dimension
    )


@pytest.mark.parametrize("make", [shop, mixed])
def test_the_encoding_is_free_of_units_and_affine_in_scenarios(make):
    problem = make()
    encoder = ENCODERS[OWN]
    fields = encoder.fields(problem)
    assert set(fields) == set(encoder.names)
    assert all(np.isfinite(v).all() for v in fields.values())
    _, one = untrained(problem)
    xi = problem.uncertainty.sample(3, np.random.default_rng(0))
    many = encoder.scenario(fields, xi[None])
    for name, numbers in zip(("items", "entries"), one.scenario(xi), strict=True):
        np.testing.assert_allclose(numbers, many[name][0], atol=1e-12)
    # Money in another currency: only the scale changes.
    first, recourse = problem.first_stage, problem.recourse
    dear = TwoStageProblem(
        sense=problem.sense,
        first_stage=FirstStage(**{**vars(first), "c": 7 * first.c}),
        recourse=Recourse(**{**vars(recourse), **{
            k: 7 * getattr(recourse, k) for k in ("q", "q_xi", "p", "p_xi", "offset_xi")
        }}),
        uncertainty=problem.uncertainty,
    )  # fmt: skip
    other = encoder.fields(dear)
    assert other["scale"][0] == pytest.approx(7 * fields["scale"][0])
    for name in ("items", "slope", "entries"):
        np.testing.assert_allclose(other[name], fields[name], rtol=1e-6, atol=1e-9)


def test_columns_without_bounds_get_those_of_the_rows_or_are_refused():
    low, width = limits(mixed().first)
    assert (low + width).tolist() == [1.0, 3.0, 6.0]
    endless = FirstStage(c=[1.0], upper=[np.inf], whole=[False])
    with pytest.raises(InputError, match="column 0 has no limits"):
        limits(endless)


@pytest.mark.parametrize("shape", list(SHAPES[OWN]))
def test_whole_and_continuous_columns_are_embedded_exactly(shape):
    problem = mixed()
    network, encoding = untrained(problem, shape)
    rng = np.random.default_rng(1)
    xi = problem.uncertainty.sample(3, rng)
    x = np.array([[1.0, 2.0, 0.7], [0.0, -1.0, 0.0], [1.0, 3.0, 0.25]])
    expected, _ = network_values(network, encoding, x, xi)

    def optimum(model, out):
        model.set_cost(target := model.add_columns(1, -np.inf, np.inf), 1.0)
        value = out.value
        model.add_rows(
            np.hstack([value.matrix, [[-1.0]]]), np.concatenate([value.columns, target]),
            -value.constant, -value.constant,
        )  # fmt: skip
        found = solve_master(model.mip(), target, Budget(20), backend=HighsEngine, gap=0.0, seed=0)
        return found.value

    for a, point in enumerate(x):
        for b, scenario in enumerate(xi):
            model = Model()
            columns = model.add_columns(3, point, point)
            by_x = embed_first_stage(model, network, encoding, columns, scenario)
            assert optimum(model, by_x) == pytest.approx(expected[a, b], rel=1e-3, abs=1e-3)
            model = Model()
            columns = model.add_columns(2, scenario, scenario)
            by_xi = embed_scenario(model, network, encoding, point, columns)
            assert optimum(model, by_xi) == pytest.approx(expected[a, b], rel=1e-3, abs=1e-3)


def test_the_master_and_the_adversary_are_exact_for_whole_columns():
    problem = shop()
    network, encoding = untrained(problem)
    scenarios = problem.uncertainty.sample(2, np.random.default_rng(0))
    every = np.array([[i, j] for i in range(9) for j in range(9) if i + j <= 8], dtype=float)
    believed, _ = network_values(network, encoding, every, scenarios)
    value = every @ problem.first.c + believed.min(1)
    mip, x = build_master(problem, np.arange(2), list(scenarios), network, encoding, choose=False)
    found = solve_master(mip, x, Budget(20), backend=HighsEngine, gap=0.0, seed=0)
    assert found.value == pytest.approx(value.max(), rel=1e-4)
    point = np.array([3.0, 5.0])
    attack = descend(network, encoding, point, scenarios, problem.uncertainty.project)
    _, bound = certify(
        network, encoding, point, problem.uncertainty, Budget(30), backend=HighsEngine, gap=1e-6
    )
    assert bound <= attack.values[0] + 1e-4 * abs(attack.values[0])


@pytest.mark.parametrize("make", [shop, mixed])
def test_labels_are_exact_second_stages(make):
    problem = make()
    made = make_chunk(OWN, 2, 0, 1, 4, 8, problem)
    rng = np.random.default_rng([2, 0])
    instance = Instances(problem).draw(0, int(rng.integers(2**31)), rng)
    assert not np.array_equal(instance.recourse.q, problem.recourse.q)
    low, width = limits(instance.first)
    k = problem.uncertainty.dimension
    x = instance.whole_x(low + width * made[f"x/{problem.n}.{k}"][0])
    xi = made[f"xi/{problem.n}.{k}"][0].astype(float)
    assert all(problem.uncertainty.contains(row, 1e-5) for row in xi)
    for row in x:
        assert (problem.first.A @ row <= problem.first.row_upper + 1e-5).all()
    values, _ = instance.recourse_at(x, xi)
    np.testing.assert_allclose(made[f"values/{problem.n}.{k}"][0], values, rtol=1e-9)


def test_perturbed_problems_keep_their_structure():
    problem = mixed()
    other = perturbed(problem, np.random.default_rng(0))
    assert (other.recourse.T.toarray() == -1.0).all()
    assert (other.recourse.W.toarray() != problem.recourse.W.toarray()).any()
    ratio = other.first_stage.c / problem.first_stage.c
    assert (np.abs(np.log(ratio)) <= np.log(1.3)).all()
    assert (ratio != 1.0).all()
    assert other.uncertainty is problem.uncertainty


def test_steps_stay_within_bounds():
    problem = mixed()
    x = np.array([1.0, 3.0, 0.0])
    moved = steps(problem.first, x, np.array([1, 2]), limits(problem.first)[1])
    assert len(moved)
    assert (moved >= problem.first.lower).all()
    assert (moved <= problem.first.upper).all()
    assert ((moved != x).sum(1) == 1).all()
    assert (moved[:, 1] == np.rint(moved[:, 1])).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network of the shop, with two and three goods, from the command line."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "shops.py").write_text(
        SHOP + "\ndef generate(seed):\n    return shop(2 + seed % 2, 0.8 + seed % 5 / 10)\n"
    )
    labels, run = str(folder / "labels.npz"), str(folder / "run")
    calls = [
        ["label", OWN, "--from", str(folder / "shops.py"), "--count", "3072", "--out", labels],
        ["train", OWN, "--data", labels, "--out", run, "--set", "steps=240", "--set", "warmup=10",
         "--set", "held_out=0.3"],
    ]  # fmt: skip
    for call in calls:
        assert main([*call, "--quiet"]) == 0
    return folder


def test_one_network_serves_all_sizes_and_its_answer_is_certified(trained):
    groups, meta = read_labels(trained / "labels.npz")
    assert set(groups) == {(2, 2), (3, 3)}
    assert meta["problem"] == OWN
    for goods in (2, 3):
        problem = shop(goods)
        best = nco.solve(problem, solver="ccg", time_limit=300)
        found = nco.solve(
            problem, solver="neur2ro", weights=str(trained / "run"), iterations=3, time_limit=60
        )
        assert found.evaluation == "exact"
        assert nco.check(problem, found.solution).feasible
        assert best.objective - 1e-6 <= found.objective <= 1.05 * best.objective
        started = nco.solve(
            problem, solver="ccg", learned=0.3, weights=str(trained / "run"), time_limit=60
        )
        assert started.status == "optimal"
        assert started.objective == pytest.approx(best.objective)


def test_problems_of_ones_own_without_weights_say_how_to_train_them(tmp_path, capsys):
    with pytest.raises(WeightsError, match="nco label two-stage --from FILE") as error:
        nco.solve(shop(), solver="neur2ro", time_limit=5)
    assert "\n" not in str(error.value)
    assert main(["label", OWN, "--count", "256", "--out", str(tmp_path / "l.npz")]) == 2
    error = capsys.readouterr().err.strip()
    assert "--from" in error
    assert "\n" not in error
    (tmp_path / "none.py").write_text("x = 1\n")
    with pytest.raises(InputError, match="defines no two-stage problem"):
        label(OWN, tmp_path / "l.npz", instances=1, seed=0, source=str(tmp_path / "none.py"))


MODEL = """NAME shop
ROWS
 N cost
 G good
COLUMNS
 x cost 5 good 1
 y cost 15 good 1
RHS
 RHS good 2
BOUNDS
BOUND_OF_X
ENDATA
"""


@pytest.mark.parametrize(("bound", "why"), [
    (" UP BND x 8", ""), (" FR BND x", "column 0 has no limits")
])  # fmt: skip
def test_labels_of_files_need_limits_of_first_stages(tmp_path, capsys, bound, why):
    (tmp_path / "shop.mps").write_text(MODEL.replace("BOUND_OF_X", bound))
    (tmp_path / "shop.toml").write_text(
        'model = "shop.mps"\nsecond_stage = ["y"]\n'
        'uncertainty = { type = "box", lower = [0.0], upper = [1.0], names = ["rise"] }\n'
        "[uncertain.good]\nrhs = { rise = 3 }\n"
    )
    out = tmp_path / "labels.npz"
    arguments = ["label", OWN, "--from", str(tmp_path / "shop.toml"), "--count", "256"]
    assert main([*arguments, "--out", str(out)]) == (2 if why else 0)
    said = capsys.readouterr()
    if why:
        assert why in said.err
        assert "\n" not in said.err.strip()
        assert not out.exists()
    else:
        assert (1, 1) in read_labels(out)[0]


def test_labels_of_problems_without_recourse_are_refused(tmp_path):
    hopeless = TwoStageProblem(
        first_stage=FirstStage(c=[1.0]),
        recourse=Recourse(q=[1.0], T=[[0.0]], W=[[1.0]], row_lower=[3.0], upper=[1.0]),
        uncertainty=BudgetSet(1, 1.0),
    )
    with pytest.raises(ValueError, match="no second stage has a solution"):
        label(OWN, tmp_path / "l.npz", instances=2, seed=0, a=4, b=8, source=hopeless)


def test_training_needs_instances_of_every_size(tmp_path):
    label(OWN, tmp_path / "l.npz", instances=1, seed=0, a=4, b=8, source=shop())
    with pytest.raises(ValueError, match="too few instances of size 2"):
        ValueTrainer(ValueTraining(problem=OWN, labels=str(tmp_path / "l.npz")), tmp_path / "run")
