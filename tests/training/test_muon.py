from __future__ import annotations

import pytest
import torch

from nco.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8)])
def test_singular_values_become_alike(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)).float())
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.4


@pytest.mark.parametrize("pays", [False, True])
def test_bfloat16_is_for_devices_that_have_it(monkeypatch: pytest.MonkeyPatch, pays: bool) -> None:
    monkeypatch.setattr("nco.training.muon.bf16_pays", lambda device: pays)
    made = orthogonalised(torch.eye(4)[None])
    assert made.dtype == (torch.bfloat16 if pays else torch.float32)


def test_steps_are_those_of_torch() -> None:
    torch.manual_seed(0)
    mine = [torch.nn.Parameter(torch.randn(24, 12)), torch.nn.Parameter(torch.randn(24, 12))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    a = Muon(mine, lr=0.01, weight_decay=0.1)
    b = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for p, q in zip(mine, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        a.step()
        b.step()
    for p, q in zip(mine, theirs, strict=True):
        assert torch.allclose(p, q, atol=2e-3)


def test_parts_are_orthogonalised_by_themselves() -> None:
    torch.manual_seed(0)
    fused = torch.nn.Parameter(torch.zeros(36, 12))
    fused.grad = torch.randn(36, 12)
    Muon([{"params": [fused], "parts": 3}], lr=1.0).step()
    single = torch.nn.Parameter(torch.zeros(12, 12))
    single.grad = fused.grad[12:24].clone()
    Muon([single], lr=1.0).step()
    assert torch.allclose(fused[12:24], single, atol=1e-2)
