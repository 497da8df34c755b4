"""The knapsack policy's look-ahead against a greedy packing written down plainly."""

from __future__ import annotations

import numpy as np
import torch

from nco.bq.policies.knapsack import break_price, look_ahead


def greedy(values: list[float], weights: list[float], left: float, first: int) -> float:
    """Value of a greedy packing that begins with an item."""
    order = sorted(range(len(values)), key=lambda i: (-values[i] / weights[i], -values[i]))
    total = 0.0
    for i in [first, *(i for i in order if i != first)]:
        if weights[i] <= left:
            left -= weights[i]
            total += values[i]
    return total


def test_the_look_ahead_is_a_greedy_packing() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.integers(1, 99, (2, 30, 9)).astype(np.float32)
    left = rng.integers(60, 160, (30, 1)).astype(np.float32)
    filled = weights <= left
    v, w, c, f = map(torch.from_numpy, (values, weights, left, filled))
    v, share = v * f, w / c * f
    price = break_price(v, share, f)
    lost, free, best = look_ahead(v, w, c, price, f)
    for b in range(30):
        rows = np.flatnonzero(filled[b])
        picked = [values[b][rows].tolist(), weights[b][rows].tolist(), float(left[b, 0])]
        totals = np.array([greedy(*picked, first=i) for i in range(len(rows))])
        expected = 0.3 * np.arcsinh(100.0 * (totals.max() - totals) / float(price[b, 0]))
        assert np.allclose(lost[b, rows].numpy(), expected, atol=1e-4)
        assert (best[b, rows].numpy() == (totals == totals.max())).all()
    assert (free >= 0.0).all()


def test_rows_in_another_order_see_the_same_ahead() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few different items: many rows have equal value per weight.
    value = torch.randint(1, 4, (20, 12), generator=generator).float()
    weight = torch.randint(1, 4, (20, 12), generator=generator).float()
    left, filled = torch.full((20, 1), 9.0), torch.ones(20, 12, dtype=torch.bool)
    price = break_price(value, weight / left, filled)
    turn = torch.randperm(12, generator=generator)
    one = look_ahead(value, weight, left, price, filled)
    two = look_ahead(value[:, turn], weight[:, turn], left, price, filled)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a[:, turn], b)
