"""From labels over training to a model, for every problem with an expert."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nco.training.checkpoints import checkpoints, read_checkpoint
from nco.training.config import TrainConfig
from nco.training.export import read_run
from nco.training.label import label
from nco.training.train import Trainer

#: Problem -> (package of its expert, effort, settings).
CASES: dict[str, tuple[str, float, dict[str, object]]] = {
    "tsp": ("fast_tsp", 0.001, {"head": "pointer", "edges": 0.5}),
    "atsp": ("elkai", 1, {"head": "pointer", "edges": 0.5}),
    "cvrp": ("hygese", 20, {"head": "pointer", "edges": 0.5}),
    "acvrp": ("pyvrp", 20, {"head": "pointer", "edges": 0.5}),
    "op": ("pyvrp", 20, {"head": "pointer", "edges": 0.5}),
    "ovrp": ("pyvrp", 20, {"head": "pointer", "edges": 0.5}),
    "pctsp": ("numba", 20, {"head": "pointer", "edges": 0.5}),
    "spctsp": ("numba", 20, {"head": "pointer", "edges": 0.5}),
    "mtsp": ("numba", 20, {"head": "pointer", "edges": 0.5}),
    "knapsack": ("numpy", 0, {}),
    "mis": ("numba", 20, {}),
}


@pytest.mark.parametrize("problem", CASES)
def test_labels_train_a_policy_and_a_stopped_run_goes_on(problem: str, tmp_path: Path) -> None:
    package, effort, changes = CASES[problem]
    pytest.importorskip(package)
    data = str(tmp_path / "labels.npz")
    label(problem, data, n=12, count=24, seed=1, effort=effort)
    values = {
        "problem": problem, "data": [data], "held_out": 4, "layers": 2, "width": 16, "heads": 2,
        "ff": 32, "norm": "rms", "k": 8, "k_min": 5, "batch": 16, "micro_batches": 2, "steps": 12,
        "warmup": 2, "lr": 3e-3, "optimizer": "muon", "bf16": False, "device": "cpu",
        "eval_every": 6, "log_every": 1, **changes,
    }  # fmt: skip
    config = TrainConfig.of(values)
    Trainer(config, tmp_path / "whole").run()
    for _ in range(12):
        trainer = Trainer(config, tmp_path / "parts")
        trainer.run(minutes=0.0)  # one step
    one, two = (read_checkpoint(checkpoints(tmp_path / f)[-1])[0] for f in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    model = read_run(tmp_path / "parts")
    trainer = Trainer(config, tmp_path / "whole")
    trainer.network.load_state_dict(model.network.state_dict())
    assert trainer.validate() == pytest.approx(trainer.validate())
