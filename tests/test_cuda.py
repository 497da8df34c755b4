"""Policies on a CUDA device: all that one computes is there, and what one reads is here.

Where there is no such device one is pretended, which finds tensors that are in the wrong place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nco.bq.decoding import improve
from nco.bq.solver import BQ
from nco.instances.core import Budget
from nco.instances.registry import problems
from nco.training.config import TrainConfig
from nco.training.label import label
from nco.training.train import Trainer
from nco.udc.self_improve import SelfConfig, SelfTrainer
from nco.udc.solver import UDC
from nco.udc.train import UDCConfig, UDCTrainer

from .pretended import Pretended, pretend

PROBLEMS = ("tsp", "atsp", "cvrp", "ovrp", "op", "pctsp", "spctsp", "mtsp", "knapsack", "mis")
#: The smallest networks and runs.
TINY = {
    "held_out": 2, "layers": 1, "width": 16, "heads": 2, "ff": 16, "steps": 1, "warmup": 1,
    "eval_every": 1, "log_every": 1, "bf16": False,
}  # fmt: skip


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a CUDA device."""
    if torch.cuda.is_available():
        yield "cuda:0"
        return
    monkeypatch.setattr("nco.training.train.matmul_peak", lambda *_: 1e12)
    with monkeypatch.context() as patch, pretend(patch):
        yield "cuda:0"


def some(problem: str, n: int = 14) -> list[Any]:
    """Two instances."""
    cls = problems.load(problem)
    return [cls.generate(n, seed=seed) for seed in (1, 2)]


def test_a_device_keeps_its_tensors(cuda: str) -> None:
    here, there = torch.ones(3), torch.ones(3, device=cuda)
    assert there.is_cuda
    assert (there + here.to(cuda) * 2.0).tolist() == [3.0, 3.0, 3.0]
    assert there[here.bool()].device == there.device
    assert (there * torch.tensor(2.0)).cpu().numpy().sum() == 6.0
    for wrong in (
        lambda: there + here, lambda: here[there.long()],
        lambda: torch.where(there > 0, here, here), lambda: there.__setitem__(here.long(), here),
        lambda: torch.rand(2, generator=torch.Generator(), device=cuda),
        lambda: torch.rand(2, generator=torch.Generator(cuda)),
    ):  # fmt: skip
        with pytest.raises(RuntimeError):
            wrong()
    for wrong_type in (lambda: there.numpy(), lambda: np.asarray(there)):
        with pytest.raises(TypeError):
            wrong_type()


def test_what_is_pretended_learns_and_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.cuda.is_available, torch.Generator, torch.tensor
    with monkeypatch.context() as patch, pretend(patch):
        layer = torch.nn.Linear(3, 1).to("cuda:0")
        x = torch.rand(8, 3).to("cuda:0")
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = (layer(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert isinstance(layer.weight, Pretended)
        assert losses[2] < losses[0]
    assert (torch.cuda.is_available, torch.Generator, torch.tensor) == before


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_policy_decides_there(problem: str, cuda: str) -> None:
    # Not in bfloat16, which rounds otherwise where products are fused otherwise.
    there, here = (
        BQ(device=device, precision="fp32", reconstruct=False).solve_batch(some(problem), Budget())
        for device in (cuda, "cpu")
    )
    for a, b in zip(there, here, strict=True):
        assert a.solution is not None
        assert a.objective == pytest.approx(b.objective, rel=0.1)


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "op", "knapsack", "mis"])
def test_solutions_are_improved_there(problem: str, cuda: str) -> None:
    first, last = (
        BQ(device=cuda).solve_batch(some(problem)[:1], Budget(iterations=rounds))[0]
        for rounds in (1, 3)
    )
    assert first.objective is not None
    assert last.objective is not None
    sign = -1 if last.sense == "maximize" else 1
    assert sign * last.objective <= sign * first.objective


@pytest.mark.parametrize("problem", PROBLEMS)
def test_stages_are_there(problem: str, cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = []

    def counted(*given: Any, on_round: Any, **options: Any) -> Any:
        def told(number: int, now: torch.Tensor) -> None:
            stages.append(now.device.type)
            on_round(number, now)

        return improve(*given, on_round=told, **options)

    monkeypatch.setattr("nco.bq.decoding.improve", counted)
    solver = UDC(device=cuda, size=6, stages=2, samples=2)
    for result in solver.solve_batch(some(problem), Budget()):
        assert result.solution is not None
    assert stages == ["cuda", "cuda"]


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "pctsp", "knapsack", "mis"])
def test_heat_is_there(problem: str, cuda: str) -> None:
    solver = UDC(device=cuda, divide="network", size=6, stages=1)
    for result in solver.solve_batch(some(problem), Budget()):
        assert result.trajectory[0].by == "network"


@pytest.mark.parametrize(
    ("problem", "package", "effort", "changes"),
    [
        ("tsp", "fast_tsp", 0.001, {"policy": {"ways": True}, "teacher": {"regions": 0.5}}),
        ("cvrp", "hygese", 20, {"policy": {"ways": True}, "teacher": {"regions": 0.5}}),
        ("atsp", "elkai", 1, {}), ("acvrp", "pyvrp", 20, {}), ("ovrp", "pyvrp", 20, {}),
        ("op", "numba", 20, {}), ("pctsp", "numba", 20, {}), ("spctsp", "numba", 20, {}),
        ("mtsp", "numba", 20, {}), ("knapsack", "numpy", 0, {}),
        # What is pretended knows no autocast.
        pytest.param("tsp", "fast_tsp", 0.001, {"bf16": True}, marks=pytest.mark.gpu),
        ("mis", "numba", 20, {}),
    ],
)  # fmt: skip
def test_policies_are_taught_there(
    problem: str, package: str, effort: float, changes: dict[str, Any], cuda: str, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    data = tmp_path / "labels.npz"
    label(problem, str(data), n=10, count=10, seed=1, effort=effort)
    if problem not in ("knapsack", "mis"):
        changes = {"head": "pointer", "edges": 0.5, **changes}
    config = TrainConfig.of(
        {**TINY, "problem": problem, "data": [str(data)], "norm": "rms", "k": 8, "k_min": 5,
         "batch": 8, "micro_batches": 2, "optimizer": "muon", "device": cuda, **changes}
    )  # fmt: skip
    trainer = Trainer(config, tmp_path / "run")
    trainer.run()
    assert trainer.step == 1


@pytest.mark.parametrize("problem", ["tsp", "cvrp", "knapsack", "mis"])
def test_dividers_and_conquerors_learn_there(problem: str, cuda: str, tmp_path: Path) -> None:
    config = UDCConfig.of(
        {**TINY, "problem": problem, "n": 16, "batch": 1, "samples": 2, "copies": 2, "part": 6,
         "neighbors": 5, "divider_layers": 1, "divider_width": 8, "device": cuda}
    )  # fmt: skip
    trainer = UDCTrainer(config, tmp_path)
    trainer.run()
    assert trainer.step == 1


@pytest.mark.parametrize("problem", ["tsp", "ovrp", "op", "knapsack"])
def test_conquerors_improve_themselves_there(problem: str, cuda: str, tmp_path: Path) -> None:
    config = SelfConfig.of(
        {**TINY, "problem": problem, "n": 16, "pool": 2, "every": 1, "rounds": 1, "part": 6,
         "batch": 4, "k": 10, "eval_k": 10, "device": cuda}
    )  # fmt: skip
    trainer = SelfTrainer(config, tmp_path)
    trainer.run()
    assert trainer.step == 1
