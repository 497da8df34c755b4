from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nco.bq.policies import load_policy
from nco.training.checkpoints import checkpoints, read_checkpoint, write_checkpoint
from nco.training.config import TrainConfig
from nco.training.labels import write_labels
from nco.training.train import Trainer, TrainingError, made_with, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("labels") / "tsp.npz"
    rng = np.random.default_rng(0)
    tours = rng.permuted(np.tile(np.arange(12, dtype=np.uint8), (40, 1)), axis=1)
    write_labels(path, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=3)
    return str(path)


def settings(labels: str, **changes: object) -> TrainConfig:
    values = {
        "problem": "tsp", "data": [labels], "held_out": 4, "layers": 2, "width": 16, "heads": 2,
        "ff": 32, "head": "pointer", "edges": 0.5, "k": 6, "k_min": 4, "batch": 16,
        "micro_batches": 2, "steps": 12, "warmup": 2, "optimizer": "muon", "bf16": False,
        "device": "cpu", "eval_every": 6, "log_every": 1, "checkpoint_every": 0.0,
    }  # fmt: skip
    return TrainConfig.of({**values, **changes})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(checkpoints(folder)[-1])[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(labels: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    Trainer(settings(labels), folder).run()
    return folder


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loss_falls(labels: str, tmp_path: Path, optimizer: str) -> None:
    config = settings(labels, steps=60, lr=3e-3, optimizer=optimizer, log_every=20)
    Trainer(config, tmp_path).run()
    rows = [json.loads(row) for row in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    loss = [row["loss"] for row in rows if "loss" in row]
    assert loss[-1] < loss[0]


def test_stopping_and_resuming_changes_nothing(labels: str, whole: Path, tmp_path: Path) -> None:
    for _ in range(30):
        trainer = Trainer(settings(labels), tmp_path)
        if trainer.step == 12:
            break
        assert not list(tmp_path.glob(".step*"))
        trainer.run(minutes=0.0)  # stops after one step
    assert same(weights(tmp_path), weights(whole))


def test_the_metrics_of_a_resumed_run_are_those_of_one(
    labels: str, whole: Path, tmp_path: Path
) -> None:
    trainer = Trainer(settings(labels), tmp_path)
    trainer.run(minutes=0.0)
    # As after a kill: rows that no checkpoint has seen, and half a row.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 9.0}\n{"step": 3, "lo')
    Trainer(settings(labels), tmp_path).run()

    def losses(folder: Path) -> list[tuple[int, float]]:
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        return [(row["step"], row["loss"]) for row in rows if "loss" in row]

    assert losses(tmp_path)[1:] == losses(whole)[-len(losses(tmp_path)) + 1 :]


def killed_runs(labels: str, folder: Path, kills: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = folder.with_suffix(".toml")
    config.write_text(settings(labels, steps=200).toml())
    command = [sys.executable, "-m", "nco.training.train", str(config), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(kills):
        before = checkpoints(folder)
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        # Once it makes progress it may die at any moment, also inside a write.
        while checkpoints(folder) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(float(rng.random()) * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_a_killed_run_ends_with_the_same_weights(labels: str, tmp_path: Path) -> None:
    killed_runs(labels, tmp_path / "killed", kills=2, seed=0)
    Trainer(settings(labels, steps=200), tmp_path / "whole").run()
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_a_run_killed_many_times_ends_with_the_same_weights(labels: str, tmp_path: Path) -> None:
    killed_runs(labels, tmp_path / "killed", kills=20, seed=1)
    Trainer(settings(labels, steps=200), tmp_path / "whole").run()
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


@pytest.mark.slow
def test_two_processes_share_their_gradients(labels: str, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(settings(labels, steps=60).toml())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(out: Path) -> list[str]:
        return [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "nco.training.train", str(config), "--out", str(out),
        ]  # fmt: skip

    two, killed = tmp_path / "two", tmp_path / "killed"
    assert subprocess.run(command(two), env=environment, check=False).returncode == 0
    Trainer(settings(labels, steps=60), tmp_path / "one").run()
    assert not same(weights(two), weights(tmp_path / "one"))
    assert read_checkpoint(checkpoints(two)[-1])[1]["step"] == 60
    # Its processes end soon after torchrun is killed, and the same call goes on.
    process = subprocess.Popen(command(killed), env=environment, stderr=subprocess.DEVNULL)
    while not checkpoints(killed) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert subprocess.run(command(killed), env=environment, check=False).returncode == 0
    assert same(weights(two), weights(killed))


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(labels: str, tmp_path: Path) -> None:
    trainer = Trainer(settings(labels), tmp_path)
    trainer.run(minutes=0.0)
    kept = weights(tmp_path)
    trainer = Trainer(settings(labels), tmp_path)
    for field in trainer.sources[0].train.values():
        if field.is_floating_point():
            field.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"batch of step 1 .*last good checkpoint is .*step-"):
        trainer.run()
    assert same(weights(tmp_path), kept)


def test_a_folder_of_another_run_is_refused(labels: str, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trained with width = 16, not 32"):
        Trainer(settings(labels, width=32), whole)
    other = tmp_path / "other.npz"
    tours = np.tile(np.arange(12), (40, 1))
    write_labels(other, "tsp", {"tour": tours}, recipe="tsp-uniform", seed=4)
    with pytest.raises(ValueError, match="trained on other labels"):
        Trainer(settings(str(other)), whole)


@pytest.mark.slow
def test_compiling_changes_little(labels: str, whole: Path, tmp_path: Path) -> None:
    Trainer(settings(labels, compile=True), tmp_path).run()
    a, b = weights(tmp_path), weights(whole)
    assert all(torch.allclose(a[k], b[k], atol=2e-2) for k in a if k.startswith("model."))


def test_a_checkpoint_of_another_network_is_one_line(labels: str, tmp_path: Path) -> None:
    trainer = Trainer(settings(labels), tmp_path)
    trainer.run(minutes=0.0)
    # As if this version built the same settings differently.
    tensors, meta = read_checkpoint(checkpoints(tmp_path)[-1])
    tensors["model.embed.weight"] = tensors["model.embed.weight"][:, 1:].contiguous()
    write_checkpoint(tmp_path, 2, tensors, meta)
    with pytest.raises(ValueError, match="step-000000002: does not fit this version") as caught:
        Trainer(settings(labels), tmp_path)
    assert "\n" not in str(caught.value)


def test_options_of_policies_are_checked() -> None:
    policy = load_policy("tsp").POLICY
    assert made_with(policy, {"rotate": False}, "policy") == policy(rotate=False)
    with pytest.raises(ValueError, match=r"policy\.turn is not known; there are: shift, scale"):
        made_with(policy, {"turn": True}, "policy")
    with pytest.raises(ValueError, match=r"policy\.rotate = 'False' not understood; expected bool"):
        made_with(policy, {"rotate": "False"}, "policy")


def test_a_trunk_is_transferred(labels: str, whole: Path, tmp_path: Path) -> None:
    start = checkpoints(whole)[-1]
    config = settings(labels, init_from=str(start), head="linear", edges=0.0)
    trainer = Trainer(config, tmp_path)
    tensors, _ = read_checkpoint(start)
    own = trainer.network.state_dict()
    assert torch.equal(own["blocks.1.up.weight"], tensors["model.blocks.1.up.weight"])
    assert "key.weight" not in own


def test_what_is_shown_anew_counts_nothing_at_first(
    labels: str, whole: Path, tmp_path: Path
) -> None:
    config = settings(labels, init_from=str(checkpoints(whole)[-1]), policy={"ways": True})
    trainer = Trainer(config, tmp_path)
    tensors, _ = read_checkpoint(checkpoints(whole)[-1])
    own = trainer.network.embed.weight
    assert own.shape[1] == trainer.policy.node_dim > tensors["model.embed.weight"].shape[1] == 4
    assert torch.equal(own[:, :4], tensors["model.embed.weight"])
    assert not bool(own[:, 4:].any())
    # The other way round, what is no longer shown is left out.
    trainer.save()
    config = settings(labels, init_from=str(tmp_path))
    back = Trainer(config, tmp_path / "back").network.embed.weight
    assert torch.equal(back, own[:, :4])


def test_checkpoints_do_not_wait_for_a_log_line(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings(labels, log_every=100, steps=3), tmp_path)
    saved, save = [], trainer.save

    def noting() -> None:
        saved.append((trainer.step, trainer.seconds))
        save()

    monkeypatch.setattr(trainer, "save", noting)
    trainer.run()
    assert [step for step, _ in saved] == [1, 2, 3, 3]
    seconds = [time for _, time in saved]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0.0


@pytest.mark.parametrize("pays", [False, True])
def test_bfloat16_is_for_devices_that_have_it(
    labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pays: bool
) -> None:
    """Elsewhere it is emulated, many times slower than float32."""
    monkeypatch.setattr("nco.training.train.bf16_pays", lambda device: pays)
    trainer = Trainer(settings(labels, bf16=True), tmp_path)
    with trainer._autocast():
        one = torch.ones(2, 2)
        assert (one @ one).dtype == (torch.bfloat16 if pays else torch.float32)


def test_cuda_is_refused_where_there_is_none(
    labels: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    config = tmp_path / "run.toml"
    config.write_text(settings(labels).toml())
    assert main([str(config), "--out", str(tmp_path), "--set", "device=cuda"]) == 2
    assert capsys.readouterr().err.strip() == ("device cuda: no CUDA device here; use device cpu")


def test_training_imports_torch_numpy_and_safetensors_only() -> None:
    code = (
        "import sys\n"
        "for name in ('scipy', 'numba', 'matplotlib', 'ortools', 'pyvrp', 'pyscipopt', 'rich',\n"
        "             'typer', 'torch_geometric', 'joblib', 'nco.instances'):\n"
        "    sys.modules[name] = None\n"
        "import nco.training.train, nco.training.evaluate\n"
        "from nco.bq.policies import load_policy\n"
        "for name in ('tsp', 'atsp', 'cvrp', 'op', 'knapsack'):\n"
        "    load_policy(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_labels_that_cost_nothing_leave_a_finite_gap(tmp_path: Path) -> None:
    """All items of the last packings are too heavy."""
    fields = {
        "chosen": np.zeros((12, 6), dtype=bool), "values": np.ones((12, 6), dtype=int),
        "weights": np.full((12, 6), 9), "capacity": np.full(12, 3),
    }  # fmt: skip
    fields["weights"][:9] = 1
    fields["chosen"][:9, :3] = True
    path = tmp_path / "a.npz"
    write_labels(path, "knapsack", fields)
    config = settings(
        str(path), problem="knapsack", held_out=4, steps=1, eval_every=1, head="linear", edges=0.0
    )
    Trainer(config, tmp_path / "run").run()
    rows = [json.loads(r) for r in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (gap,) = [row["gap"] for row in rows if "gap" in row]
    assert 0.0 <= gap < 100.0


def test_metrics_are_json(labels: str, tmp_path: Path) -> None:
    trainer = Trainer(settings(labels), tmp_path)
    trainer.record({"step": 1, "gap": math.inf, "loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "gap": null, "loss": 0.5}\n'
