"""Muon: momentum whose matrices are orthogonalised before the step, all of a shape at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from nco.bq.weights import bf16_pays

#: Newton-Schulz iterations and their coefficients (K. Jordan, Muon, 2024).
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices [m, rows, columns], roughly.

    In bfloat16, which is exact enough, where the device has instructions for it.

    Parameters
    ----------
    matrices
        Any matrices [m, rows, columns] of one shape.
    """
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if bf16_pays(matrices.device) else matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with decoupled weight decay, its updates scaled to the size of AdamW's.

    As `torch.optim.Muon` with ``adjust_lr_fn="match_rms_adamw"`` (Liu et al., Muon is
    Scalable for LLM Training, 2025), but in a few batched kernels instead of dozens for
    every matrix, which is what a small network's step would otherwise wait for.

    Parameters
    ----------
    params
        Matrices, or groups of them. A group's ``parts`` says of how many matrices, one
        below the other, each of its tensors consists (3 for query, key and value in one).
    lr, weight_decay, momentum
        Learning rate, decay, momentum (Nesterov's).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "parts": 1}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum, parts = group["lr"], group["momentum"], group["parts"]
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in shapes.items():
                rows, columns = shape[0] // parts, shape[1]
                gradients = [p.grad for p in parameters if p.grad is not None]
                buffers = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(parameter)
                    buffers.append(state["momentum_buffer"])
                torch._foreach_lerp_(buffers, gradients, 1 - momentum)
                updates = torch._foreach_lerp(gradients, buffers, momentum)
                stacked = torch.stack(list(updates)).view(-1, rows, columns)
                new = orthogonalised(stacked).to(stacked.dtype).reshape(-1, *shape)
                torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
                size = 0.2 * math.sqrt(max(rows, columns))
                torch._foreach_add_(parameters, list(new.unbind()), alpha=-lr * size)
        return loss
