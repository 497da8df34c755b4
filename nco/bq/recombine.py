"""Of a new path, the changes that pay.

A path decided anew is often longer than before, though in some places it is better. What
differs between the two falls into components that share no node, and each of them can be
taken or left by itself where one path remains: partition crossover (D. Whitley, D. Hains and
A. Howe, Tunneling between optima, GECCO 2009) of a path with its own successor.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: A change that gains less is none, relative to the path's legs.
TINY = 1e-12


def recombined(order: Tensor, size: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Paths that differ from the old ones only where it pays, in the form of ``order``.

    Parameters
    ----------
    order
        Places of old paths in the order of new ones [parts, m], from place 0 to the last one;
        behind it each place stands for itself.
    size
        Places of every path [parts].
    before, after
        Lengths [parts, m - 1] of the legs of old and new paths, in their orders. Paths may be
        turned round.
    """
    parts, m = order.shape
    last = (size - 1)[:, None]
    place = torch.arange(m, device=order.device).expand(parts, m)
    rank = torch.zeros_like(order).scatter_(1, order, place)
    old = _neighbours(place, place, last)
    new = _neighbours(order, rank, last)
    # Legs that both paths have are no change.
    left = ~(old[..., None] == new[:, :, None, :]).any(3)
    taken = ~(new[..., None] == old[:, :, None, :]).any(3)
    itself = place[..., None]
    near = torch.cat([torch.where(left, old, itself), torch.where(taken, new, itself)], 2)
    label = _components(near)
    inside = place[:, 1:] <= last
    gain = before.new_zeros(parts, m)
    gain.scatter_add_(1, label[:, :-1], before * (left[:, :-1, 1] & inside))
    begin = order[:, :-1]
    fresh = taken[..., 1].gather(1, begin) & inside
    gain.scatter_add_(1, label.gather(1, begin), -after * fresh)
    gain, which = gain.sort(1, descending=True)
    pays = gain > TINY * before.sum(1, keepdim=True)
    use = torch.zeros_like(place, dtype=torch.bool)
    whole = ((before - after) * inside).sum(1)
    gained = torch.zeros_like(whole)
    for turn in range(int(pays.sum(1).max()) if parts else 0):
        more = use | ((label == which[:, turn : turn + 1]) & pays[:, turn : turn + 1])
        path = _steps_left(torch.where(more[..., None], new, old), last)
        one = (path[:, 0] == last[:, 0]) & pays[:, turn]
        use = torch.where(one[:, None], more, use)
        gained = gained + gain[:, turn] * one
    # What gains only together with what does not may be more.
    use = use | (whole > gained)[:, None]
    steps = _steps_left(torch.where(use[..., None], new, old), last)
    return torch.where(place <= last, -steps, place).argsort(1)


def _neighbours(order: Tensor, rank: Tensor, last: Tensor) -> Tensor:
    """Places [parts, m, 2] before and after each one; ends, and what is behind, themselves."""
    before = order.gather(1, (rank - 1).clamp_min(0))
    after = order.gather(1, (rank + 1).minimum(last))
    behind = (rank > last)[..., None]
    own = torch.arange(order.shape[1], device=order.device)[:, None]
    return torch.where(behind, own, torch.stack([before, after], 2))


def _components(near: Tensor) -> Tensor:
    """The smallest place [parts, m] that every one is connected to by its neighbours."""
    parts, m = near.shape[:2]
    label = torch.arange(m, device=near.device).expand(parts, m)
    flat = near.flatten(1)
    while True:
        least = label.gather(1, flat).view(near.shape).amin(2).minimum(label)
        least = least.gather(1, least)
        if torch.equal(least, label):
            return label
        label = least


def _steps_left(beside: Tensor, last: Tensor) -> Tensor:
    """Steps [parts, m] from every place to the last one; more than m where none lead there.

    Parameters
    ----------
    beside
        Both neighbours of every place [parts, m, 2]; a place without one has itself.
    last
        The last place [parts, 1].
    """
    parts, m = beside.shape[:2]
    place = torch.arange(m, device=beside.device).expand(parts, m)
    goal = beside.flatten(1)
    # A step leads on from where it arrives to the neighbour that it does not come from.
    back = beside[..., 0].gather(1, goal) == place.repeat_interleave(2, 1)
    jump = 2 * goal + back
    there, home = goal == last, goal == 0
    own = torch.arange(2 * m, device=beside.device).expand(parts, -1)
    jump = torch.where(there | home, own, jump)
    steps = (jump != own).long()
    for _ in range(m.bit_length()):
        steps = steps + steps.gather(1, jump)
        jump = jump.gather(1, jump)
    steps = torch.where(there.gather(1, jump), steps + 1, 2 * m)
    return steps.view(parts, m, 2).amin(2).masked_fill(place == last, 0)
