from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import nco
from nco import weights as cards
from nco.bq.decoding import Model
from nco.bq.solver import stack_fields
from nco.bq.state import State
from nco.cli import main
from nco.instances.core import Budget, InputError
from nco.instances.cvrp import CVRP
from nco.instances.tsp import TSP
from nco.training import export
from nco.training.checkpoints import CheckpointError, checkpoints, read_checkpoint
from nco.training.export import read_run
from nco.udc import train
from nco.udc.divide import read_divider
from nco.udc.dividers import pctsp
from nco.udc.solver import UDC
from nco.udc.train import UDCConfig, UDCTrainer, advantages, draw_parts, push
from nco.weights import WeightsError

from ..bq.test_weights import small


def settings(problem: str = "tsp", **changes: object) -> UDCConfig:
    values = {
        "problem": problem, "n": 24, "held_out": 2, "layers": 2, "width": 16, "heads": 2,
        "ff": 32, "batch": 2, "steps": 4, "warmup": 1, "bf16": False, "device": "cpu",
        "eval_every": 4, "log_every": 1, "checkpoint_every": 0.0, "samples": 3, "copies": 3,
        "part": 8, "neighbors": 6, "divider_layers": 2, "divider_width": 8, "lr": 1e-2,
        "divider_lr": 1e-2,
    }  # fmt: skip
    return UDCConfig.of({**values, **changes})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(checkpoints(folder)[-1])[0]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], prefix: str) -> bool:
    names = [k for k in before if k.startswith(prefix)]
    assert names
    return any(not torch.equal(before[k], after[k]) for k in names)


def start_of(trainer: UDCTrainer) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{k}": v.clone()
        for name, module in trainer.modules().items()
        for k, v in module.state_dict().items()
        if "norm" not in k
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    UDCTrainer(settings(), folder).run()
    return folder


def test_both_learn_and_the_run_is_a_solver(run: Path) -> None:
    before = start_of(UDCTrainer(settings(), run.with_name("fresh")))
    assert changed(before, tensors(run), "model.")
    assert changed(before, tensors(run), "divider.")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any("gap" in row for row in rows)
    assert all(row["instances_per_second"] > 0 for row in rows if "loss" in row)
    solver = UDC(divide="network", divider=str(run), weights=str(run), size=8, stages=2, samples=2)
    result = solver.solve(TSP.generate(30, seed=0), Budget())
    assert result.trajectory[0].by == "network"
    assert read_run(run, "tsp").policy.name == "tsp"
    assert read_divider(run, "tsp")[0].config.width == 8


def test_dividers_are_written_and_read_in_bfloat16(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(run), "--folder", str(tmp_path), "--name", "tsp-divider-v1", "--divider"]
    assert export.main([*words, "--card", 'licence="Apache-2.0"']) == 0
    path = tmp_path / "tsp-divider-v1.safetensors"
    network, neighbors = read_divider(path, "tsp")
    assert neighbors == 6
    for name, value in read_divider(run, "tsp")[0].state_dict().items():
        assert torch.equal(network.state_dict()[name], value.bfloat16().to(value.dtype))
    with pytest.raises(WeightsError, match="weights for tsp, not for cvrp"):
        read_divider(path, "cvrp")
    with pytest.raises(CheckpointError, match="holds no divider for cvrp"):
        read_divider(run, "cvrp")
    with pytest.raises(WeightsError, match="not a divider"):
        read_divider(cards.default_weights("tsp"), "tsp")
    # What is shipped need not be named.
    monkeypatch.setattr(cards, "shipped_folder", lambda: tmp_path)
    solver = UDC(divide="network", conquer="or-opt", size=8, stages=1)
    assert solver.solve(TSP.generate(30, seed=0), Budget()).trajectory[0].by == "network"
    with pytest.raises(InputError, match="no divider is shipped for cvrp: train one"):
        UDC(divide="network", conquer="ruin-recreate", size=8).solve(
            CVRP.generate(30, seed=0), Budget()
        )
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"network": {"layers": 2}}))
    with pytest.raises(WeightsError, match="weights and card do not fit this version"):
        read_divider(path, "tsp")


def test_a_resumed_run_ends_with_the_same_weights(run: Path, tmp_path: Path) -> None:
    trainer = UDCTrainer(settings(), tmp_path)
    trainer.update()
    trainer.save()
    UDCTrainer(settings(), tmp_path).run()
    one, two = tensors(run), tensors(tmp_path)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize(
    ("changes", "model", "divider"),
    [
        ({"reunion": False}, True, True),
        ({"normalise": False}, True, True),
        ({"frozen": True}, False, True),
        ({"heat": "uniform"}, True, False),
        ({"heat": "distance"}, True, False),
    ],
)
def test_what_can_be_left_out(
    changes: dict[str, object], model: bool, divider: bool, tmp_path: Path
) -> None:
    trainer = UDCTrainer(settings(**changes), tmp_path)
    before = start_of(trainer)
    for _ in range(2):
        trainer.update()
    after = start_of(trainer)
    assert changed(before, after, "model.") is model
    assert changed(before, after, "divider.") is divider
    if changes == {"normalise": False}:
        assert not trainer.policy.scale


@pytest.mark.parametrize(
    "problem", ["atsp", "cvrp", "ovrp", "op", "pctsp", "spctsp", "mtsp", "knapsack", "mis"]
)
def test_every_problem_is_trained_by_the_same_trainer(problem: str, tmp_path: Path) -> None:
    trainer = UDCTrainer(settings(problem, samples=2, copies=2, batch=2, heads=2), tmp_path)
    before = start_of(trainer)
    for _ in range(2):
        trainer.update()
    assert changed(before, start_of(trainer), "model.")
    assert changed(before, start_of(trainer), "divider.")
    assert all(torch.isfinite(value).all() for value in start_of(trainer).values())
    assert math.isfinite(trainer.validate())
    trainer.save()
    solver = UDC(divide="network", divider=str(tmp_path), weights=str(tmp_path), size=8, stages=1)
    result = solver.solve(nco.generate(problem, 24, seed=0), Budget())
    assert result.feasible
    assert (result.trajectory[0].by == "network") is (problem != "spctsp")


def test_large_instances_are_compared_with_the_start_for_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nco.udc.dividers.LARGE", 20)
    monkeypatch.setitem(pctsp.DIVIDER.starts, "insertion", lambda *_: None)
    assert math.isfinite(UDCTrainer(settings("pctsp"), tmp_path).validate())


def test_what_is_planned_is_trained_and_resumed_by_its_problem(tmp_path: Path) -> None:
    config, run = tmp_path / "x.toml", str(tmp_path / "run")
    text = settings("pctsp", steps=1).toml().replace('recipe = "pctsp-mixed"', 'recipe = ""')
    config.write_text(text.replace('problem = "pctsp"', 'problem = "spctsp"'))
    call = ["train", "udc-spctsp", "--out", run, "--quiet"]
    assert main([*call, "--config", str(config)]) == 0
    assert main([*call, "--resume", "--set", "steps=2"]) == 0
    assert checkpoints(Path(run))[-1].name == "step-000000002"
    meta = read_checkpoint(checkpoints(Path(run))[-1])[1]
    assert (meta["config"]["problem"], meta["config"]["recipe"]) == ("pctsp", "spctsp-mixed")


def sub_instances(trainer: UDCTrainer, count: int, k: int = 0) -> tuple[Model, State]:
    model = Model(trainer.network, trainer.policy, k)
    fields = stack_fields(trainer.policy.fields, trainer.instances(0, count))
    return model, trainer.policy.start(fields)


def log_probabilities(model: Model, state: State, records: torch.Tensor) -> torch.Tensor:
    """Of what was recorded, looked up by node number in states that keep all rows."""
    policy, now = model.policy, state
    kinds, total = policy.actions_per_node, torch.zeros(state.batch)
    for record in records.T:
        going = policy.mask(now).any(1)
        assert torch.equal(going, record >= 0)
        row = (now.index == (record // kinds)[:, None]).int()[:, policy.markers :]
        row = row.argmax(1) + policy.markers
        which = going.nonzero()[:, 0]
        rows, rates = model.rates(now.take(which))
        at = row[which] if rows is None else (rows == row[which, None]).int().argmax(1)
        taken = rates.gather(1, (at * kinds + record[which] % kinds)[:, None])[:, 0]
        total = total.index_add(0, which, taken)
        after = policy.step(now, row * kinds + record % kinds)
        now = after if now.dense else after.where(going, now)
    return total


@pytest.mark.parametrize(
    ("problem", "k"), [("tsp", 0), ("cvrp", 0), ("mis", 0), ("knapsack", 0), ("knapsack", 8)]
)
@pytest.mark.parametrize("tokens", [0, 10_000])
def test_the_gradient_is_that_of_the_draws_log_probability(
    problem: str, k: int, tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of any size, and without the rows that are dropped on the way."""
    monkeypatch.setattr(train, "CPU_TOKENS", tokens)
    # The look-ahead turns over with the rounding of sums, and where all items fit, the others
    # tell whether a row is empty.
    bare = {"policy": dict.fromkeys(("ahead", "core", "reduced"), False)}
    changes = bare if problem == "knapsack" else {}
    trainer = UDCTrainer(settings(problem, **changes), tmp_path)
    model, state = sub_instances(trainer, 6, k)
    draws = draw_parts(model, state, torch.Generator().manual_seed(1), "all")
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
    total = push(model, draws, weight)
    used = {k: p for k, p in trainer.network.named_parameters() if p.grad is not None}
    assert len(used) > 10
    found = {k: p.grad.clone() for k, p in used.items()}
    trainer.network.zero_grad()
    wanted = (log_probabilities(model, state, draws.records) * weight).sum()
    wanted.backward()
    near = 1e-4
    assert total == pytest.approx(float(wanted.detach()), rel=near)
    wrong = sum((found[name] - p.grad).square().sum() for name, p in used.items())
    assert wrong.sqrt() < near * sum(g.square().sum() for g in found.values()).sqrt()


def test_some_decisions_have_the_gradient_of_all_in_the_mean(tmp_path: Path) -> None:
    trainer = UDCTrainer(settings(n=8), tmp_path)
    model, state = sub_instances(trainer, 1)
    # A policy that is sure of some of its decisions.
    torch.nn.init.normal_(trainer.network.query.weight if hasattr(trainer.network, "query")
                          else trainer.network.head.weight, std=1.0,
                          generator=torch.Generator().manual_seed(0))  # fmt: skip
    many = state.take(torch.zeros(6000, dtype=torch.int64))
    gradient, count = {}, {}
    for which in ("all", "some"):
        trainer.network.zero_grad()
        draws = draw_parts(model, many, torch.Generator().manual_seed(2), which)
        tours = draws.records
        points = state.nodes[0, 2:, 0]
        weight = points[tours[:, 0] - 1] - points[tours[:, 3] - 1]
        push(model, draws, weight / len(weight))
        count[which] = sum(len(d.action) for d in draws.decisions)
        gradient[which] = torch.cat([p.grad.flatten() for p in trainer.network.parameters()])
    apart = (gradient["some"] - gradient["all"]).norm() / gradient["all"].norm()
    assert count["some"] < 0.8 * count["all"]
    assert apart < 0.15


def test_only_what_is_learned_from_is_kept(tmp_path: Path) -> None:
    trainer = UDCTrainer(settings("cvrp"), tmp_path)
    model, state = sub_instances(trainer, 4)
    for which in ("all", "some"):
        for some in draw_parts(model, state, torch.Generator(), which).decisions:
            assert len(some.action) == some.state.batch == len(some.draw) == len(some.share)
            assert (some.share >= 1.0 - 1e-6).all()
    assert not draw_parts(model, state, torch.Generator(), "none").decisions


def test_advantages_are_in_standard_deviations() -> None:
    cost = torch.tensor([[1.0, 2.0, 3.0], [1e-9, 0.0, -1e-9], [5.0, 5.0, 5.0], [0.0, 0.0, 0.0],
                         [2.0, 2.0, 2.0 + 1e-12]], dtype=torch.float64)  # fmt: skip
    found = advantages(cost)
    edge = 1.5**0.5
    wanted = torch.tensor([[-edge, 0.0, edge], [edge, 0.0, -edge]], dtype=torch.float64)
    assert torch.allclose(found[:2], wanted)
    assert not found[2:].any()
    assert torch.allclose(advantages(1000.0 * cost[:2] + 7.0), wanted, atol=1e-4)


def test_weights_give_the_conqueror_their_shape(tmp_path: Path) -> None:
    weights = small("tsp", tmp_path)
    config = settings(init_from=str(weights), layers=5, width=64)
    shape = cards.read_card(weights)["network"]
    assert (config.layers, config.width) == (shape["layers"], shape["width"])
    trainer = UDCTrainer(config, tmp_path / "run")
    assert trainer.network.config.to_dict() == shape
    # The run goes on where the file is gone.
    trainer.save()
    weights.unlink()
    UDCTrainer(UDCConfig.of(config.to_dict()), tmp_path / "run")


def test_another_run_gives_its_divider_too(run: Path, tmp_path: Path) -> None:
    trainer = UDCTrainer(settings(init_from=str(run), seed=1), tmp_path)
    given = tensors(run)
    own = {
        f"{name}.{k}": v
        for name, module in trainer.modules().items()
        for k, v in module.state_dict().items()
    }
    assert any("running_mean" in name for name in own)
    assert all(torch.equal(own[name], given[name]) for name in own)


def test_draws_that_cost_nothing_teach_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = UDCTrainer(settings(frozen=True), tmp_path)
    cost = trainer.policy.cost
    monkeypatch.setattr(type(trainer.policy), "cost", lambda *given: cost(*given[1:]) * 0.0)
    values, _, _ = trainer.update()
    assert torch.isfinite(values).all()
    assert all(torch.isfinite(p).all() for p in trainer.divider.parameters())


def test_the_divider_learns_what_costs_less(tmp_path: Path) -> None:
    """With the same draws, the mean cost of what the heat prefers falls."""
    config = settings(steps=40, frozen=True, samples=16, copies=2, batch=4, divider_lr=3e-2)
    trainer = UDCTrainer(config, tmp_path)
    generator = torch.Generator()

    def mean() -> float:
        generator.manual_seed(5)
        trainer.divider.eval()
        instances = trainer.instances(0, 4)
        with torch.no_grad():
            _, _, tours, actions = trainer.divide(instances, 32, generator)
        assert len(tours) == 4
        coords = torch.stack([torch.as_tensor(i.coords) for i in instances])  # type: ignore[attr-defined]
        return float(
            trainer.policy.cost({"coords": coords.repeat_interleave(32, 0)}, actions).mean()
        )

    before = mean()
    for _ in range(30):
        trainer.update()
    assert mean() < 0.95 * before


def test_bad_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples = 1 not understood"):
        settings(samples=1)
    with pytest.raises(ValueError, match="heat 'cold' not understood"):
        settings(heat="cold")
    with pytest.raises(ValueError, match="decisions 'few' not understood; some, all"):
        settings(decisions="few")
    with pytest.raises(ValueError, match="nothing to train"):
        settings(frozen=True, heat="uniform")
    with pytest.raises(ValueError, match="draws nothing from heat"):
        UDCTrainer(settings("acvrp"), tmp_path)
    with pytest.raises(ValueError, match="need none"):
        UDCTrainer(settings(data=["x.npz"]), tmp_path)
    with pytest.raises(ValueError, match=r"recipe 'foo' for tsp is not known; .* tsp-uniform"):
        UDCTrainer(settings(recipe="foo"), tmp_path)
    with pytest.raises(ValueError, match="recipe 'cvrp-mixed' for tsp is not known"):
        UDCTrainer(settings(recipe="cvrp-mixed"), tmp_path)
    with pytest.raises(ValueError, match="atsp has no frame to leave out"):
        settings("atsp", normalise=False)
    for idle in ({"micro_batches": 2}, {"augment": False}, {"compile": True}, {"k": 4, "k_min": 2}):
        with pytest.raises(ValueError, match=f"{[*idle][-1]} is for training on labels only"):
            settings(**idle)
    UDCTrainer(settings(), tmp_path / "a").save()
    with pytest.raises(ValueError, match="trained with samples"):
        UDCTrainer(settings(samples=4), tmp_path / "a")


def test_the_command_line_trains_from_given_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = small("tsp", tmp_path)
    out = tmp_path / "run"
    config = tmp_path / "udc.toml"
    config.write_text(settings(steps=1, eval_every=1).toml())
    words = ["train", "udc-tsp", "--out", out, "--config", config, "--init-from", weights]
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert checkpoints(out)
    assert main(["train", "udc-tsp", "--out", str(out), "--resume", "--set", "steps=2"]) == 0
