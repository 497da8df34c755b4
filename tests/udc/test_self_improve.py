"""Self-improvement of a conqueror without labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nco.cli import main
from nco.training.checkpoints import checkpoints, read_checkpoint
from nco.training.export import read_run
from nco.udc.dividers import op, tsp
from nco.udc.self_improve import SelfConfig, SelfTrainer

from ..bq.test_weights import small


def settings(problem: str = "tsp", **changes: object) -> SelfConfig:
    values = {
        "problem": problem, "n": 60, "pool": 4, "held_out": 2, "every": 2, "rounds": 3,
        "part": 12, "layers": 2, "width": 16, "heads": 2, "ff": 32, "batch": 8, "steps": 4,
        "warmup": 1, "bf16": False, "device": "cpu", "eval_every": 4, "log_every": 1,
        "checkpoint_every": 0.0, "lr": 1e-3, "k": 20, "eval_k": 20,
    }  # fmt: skip
    return SelfConfig.of({**values, **changes})


def costs(trainer: SelfTrainer) -> torch.Tensor:
    fields = {k: v[: trainer.config.pool] for k, v in trainer.given.items()}
    cost: torch.Tensor = trainer.policy.cost(fields, trainer._short(trainer.pool.actions))
    return cost


@pytest.mark.parametrize(
    "problem", ["tsp", "atsp", "cvrp", "ovrp", "op", "pctsp", "mtsp", "knapsack", "mis"]
)
def test_solutions_only_get_better_and_are_what_is_learned(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Starts that even an untrained policy betters.
    monkeypatch.setitem(tsp.DIVIDER.starts, "insertion", lambda i, *_: list(range(i.n)))
    trainer = SelfTrainer(settings(problem, rounds=30, part=6), tmp_path)
    before, network = costs(trainer), [p.clone() for p in trainer.network.parameters()]
    for _ in range(3):
        trainer.update()
    assert (costs(trainer) <= before + 1e-9).all()
    if problem == "tsp":
        assert (costs(trainer) < before - 1e-9).any()
    assert any(
        not torch.equal(a, b) for a, b in zip(network, trainer.network.parameters(), strict=True)
    )
    learned = trainer.teacher.cost(trainer.sources[0].train)
    assert torch.allclose(learned.double(), costs(trainer), rtol=1e-6)


def test_large_instances_begin_with_the_start_for_large_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nco.udc.dividers.LARGE", 50)
    monkeypatch.setitem(op.DIVIDER.starts, "insertion", lambda *_: None)
    SelfTrainer(settings("op"), tmp_path)


def test_a_resumed_run_ends_with_the_same_weights_and_pool(tmp_path: Path) -> None:
    SelfTrainer(settings(), tmp_path / "a").run()
    trainer = SelfTrainer(settings(), tmp_path / "b")
    for _ in range(3):
        trainer.update()
    trainer.save()
    SelfTrainer(settings(), tmp_path / "b").run()
    one, two = (read_checkpoint(checkpoints(tmp_path / name)[-1])[0] for name in "ab")
    assert one.keys() == two.keys()
    assert "pool.actions" in one
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert read_run(tmp_path / "a", "tsp").policy.name == "tsp"


def test_another_run_gives_its_network_and_not_its_solutions(tmp_path: Path) -> None:
    SelfTrainer(settings(steps=1, eval_every=1), tmp_path / "a").run()
    plain = SelfTrainer(settings(seed=1), tmp_path / "b")
    trainer = SelfTrainer(settings(seed=1, init_from=str(tmp_path / "a")), tmp_path / "c")
    assert torch.equal(trainer.pool.actions, plain.pool.actions)
    given = read_checkpoint(checkpoints(tmp_path / "a")[-1])[0]
    for name, tensor in trainer.network.state_dict().items():
        assert torch.equal(tensor, given[f"model.{name}"])


def test_all_processes_improve_the_pool_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Starts that even an untrained policy betters.
    monkeypatch.setitem(tsp.DIVIDER.starts, "insertion", lambda i, *_: list(range(i.n)))
    first, second = (SelfTrainer(settings(rounds=10), tmp_path / name) for name in "ab")
    before, second.rank = first.pool.actions.clone(), 1
    first.renew()
    second.renew()
    assert not torch.equal(first.pool.actions, before)
    assert torch.equal(first.pool.actions, second.pool.actions)


def test_bad_settings_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pool = 0 not understood"):
        settings(pool=0)
    with pytest.raises(ValueError, match="regions = 2"):
        settings(regions=2)
    with pytest.raises(ValueError, match="prizes at visits"):
        SelfTrainer(settings("spctsp"), tmp_path)
    with pytest.raises(ValueError, match="needs none"):
        SelfTrainer(settings(data=["x.npz"]), tmp_path)
    with pytest.raises(ValueError, match=r"recipe 'foo' for tsp is not known; .* tsp-uniform"):
        SelfTrainer(settings(recipe="foo"), tmp_path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = small("tsp", tmp_path)
    config, out = tmp_path / "self.toml", tmp_path / "run"
    config.write_text(settings(steps=1, eval_every=1).toml())
    words = ["train", "self-tsp", "--out", out, "--config", config, "--init-from", weights]
    assert main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert checkpoints(out)
