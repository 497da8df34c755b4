"""Training examples from solved instances.

Any contiguous part of an optimal solution is an optimal solution of the sub-instance
that it decides (BQ-NCO, section 3). An example is such a part, cut anywhere, in either
direction, whole solutions included, so that the first decision is trained too. Batches
are made by tensor operations on the training device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nco.bq.state import Fields, State


@dataclass(frozen=True)
class Examples:
    """States of equal width with what an expert did in them.

    Parameters
    ----------
    state
        The sub-instances.
    target
        Share of every action [b, n * actions_per_node]; rows sum to 1, or to 0 where the
        expert's action was not among the rows looked at.
    position
        Place of every row in the expert's solution [b, n], or None; rows whose places
        differ by one are linked there.
    """

    state: State
    target: Tensor
    position: Tensor | None = None


class Teacher(Protocol):
    """The training side of a policy."""

    def examples(
        self, fields: Fields, size: int, k: int, augment: bool, generator: torch.Generator
    ) -> Examples:
        """A batch of examples drawn from solved instances.

        Parameters
        ----------
        fields
            Arrays of all solved instances, their solutions included.
        size
            Number of examples.
        k
            Largest number of candidates; the nearest are kept.
        augment
            Whether to turn and flip the plane at random.
        generator
            Source of all randomness, on the device of the fields.
        """
        ...

    def cost(self, fields: Fields) -> Tensor:
        """Objective to be minimised [N] of the solutions in the fields, in float64."""
        ...


def uniform_int(low: int, high: int, size: int, generator: torch.Generator) -> Tensor:
    """Integers [size] in ``low..high``, both included."""
    return torch.randint(low, high + 1, (size,), generator=generator, device=generator.device)


def random_isometry(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points [b, n, 2] turned and flipped at random about the centre of the unit box."""
    b = len(points)
    angle = 2 * torch.pi * torch.rand(b, 1, generator=generator, device=points.device)
    sign = 1.0 - 2.0 * uniform_int(0, 1, b, generator)[:, None].to(points.dtype)
    x, y = points[..., 0] - 0.5, (points[..., 1] - 0.5) * sign
    return torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], 2)


@dataclass(frozen=True)
class TSPTeacher:
    """Open paths cut from tours.

    Every micro-batch has one width: either all paths have the same number r of inner
    nodes, or every path has its own r > k, of which the k nearest to the current node
    are kept. Over batches, r is uniform in 2..n-1 as if drawn per example.
    """

    def examples(
        self, fields: Fields, size: int, k: int, augment: bool, generator: torch.Generator
    ) -> Examples:
        """As `Teacher.examples`; fields are ``coords`` [N, n, 2] and ``tour`` [N, n]."""
        coords, tour = fields["coords"], fields["tour"]
        count, n = tour.shape
        device = coords.device
        which = uniform_int(0, count - 1, size, generator)
        begin = uniform_int(0, n - 1, size, generator)[:, None]
        way = 2 * uniform_int(0, 1, size, generator)[:, None] - 1
        # One number per micro-batch, on the host: it decides the shape.
        r = int(torch.randint(2, n, (1,), generator=generator, device=device))
        if r <= k:
            place = torch.arange(r + 2, device=device).expand(size, -1)
        else:
            place = torch.arange(n + 1, device=device).expand(size, -1)
        node = tour[which].long().gather(1, (begin + way * place) % n)
        points = coords[which].gather(1, node[..., None].expand(-1, -1, 2))
        if r > k:
            length = uniform_int(k + 1, n - 1, size, generator)[:, None]
            d = torch.linalg.vector_norm(points - points[:, :1], dim=2)
            d = d.masked_fill((place < 1) | (place > length), torch.inf)
            near = d.topk(k, dim=1, largest=False, sorted=False).indices.sort(1).values
            place = torch.cat([torch.zeros_like(length), near, length + 1], 1)
            node = node.gather(1, place)
            points = points.gather(1, place[..., None].expand(-1, -1, 2))
        if augment:
            points = random_isometry(points, generator)
        # Current node first, destination second, as in the policy's states.
        order = torch.cat(
            [torch.tensor([0, node.shape[1] - 1]), torch.arange(1, node.shape[1] - 1)]
        ).to(device)
        place = place[:, order]
        target = (place == 1).float()
        state = State(points[:, order], node[:, order], points.new_zeros(size, 0))
        return Examples(state, target, place)

    def cost(self, fields: Fields) -> Tensor:
        """Lengths [N] of the labels' tours, in float64."""
        points = fields["coords"].double()
        points = points.gather(1, fields["tour"].long()[..., None].expand(-1, -1, 2))
        return torch.linalg.vector_norm(points - points.roll(-1, 1), dim=2).sum(1)
