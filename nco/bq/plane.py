"""How a policy sees points of the plane: the similarities of the plane, taken out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nco.bq.state import Fields, State


@dataclass(frozen=True)
class PlaneFrame:
    """The frame in which coordinates are shown to a network, renewed at every step.

    The best way through the remaining nodes does not change under shifts, scalings, turns
    and flips of the plane; what is taken out here need not be learned. Row 0 is the current
    node, row 1 the destination (or depot).

    Parameters
    ----------
    shift
        Move the current node to the origin.
    scale
        Divide by the largest distance of a candidate from the current node.
    rotate
        Turn the destination (or the candidates' centroid, while the destination is the
        current node) into the direction of the first axis.
    reflect
        Flip the second axis so that the candidates, weighted by their distance, lie on its
        positive side on average.
    distances
        Add the distances to the current node and to the destination.
    """

    shift: bool = True
    scale: bool = True
    rotate: bool = True
    reflect: bool = True
    distances: bool = True

    #: Points say all about pairs of them.
    edge_dim = 0
    #: All is known from the beginning.
    online = False

    @property
    def node_dim(self) -> int:
        """Features per row."""
        return 4 if self.distances else 2

    @property
    def views(self) -> int:
        """Symmetries of the square that are left in what is shown."""
        return (1 if self.reflect else 2) if self.rotate else 8

    def edges(self, state: State) -> None:
        """Nothing is shown of pairs."""

    def see(self, nodes: Tensor, filled: Tensor, others: Tensor | None = None) -> Tensor:
        """Features of points [b, n, 2]; zero where ``filled`` [b, n] is not.

        Parameters
        ----------
        nodes, filled
            The points.
        others
            One more point per row [b, n, 2], seen in the same frame, or None.

        Returns
        -------
        [b, n, node_dim], or twice as much, the other points behind.
        """
        x, y = nodes, others
        keep = filled[..., None].to(x.dtype)
        if self.shift:
            origin = x[:, :1]
            x = (x - origin) * keep
            y = None if y is None else (y - origin) * keep
        inner, ends = x[:, 2:], x[:, :2]
        tiny = 1e-9
        if self.scale:
            radius = torch.linalg.vector_norm(inner - ends[:, :1], dim=2).masked_fill(
                ~filled[:, 2:], 0.0
            )
            # There may be no candidates but the destination.
            radius = torch.nn.functional.pad(radius, (0, 1)).amax(1)
            x = x / radius.clamp_min(tiny)[:, None, None]
            # The destination may be far outside of what is looked at.
            x = torch.cat([x[:, :1], compressed(x[:, 1:2], x[:, :1]), x[:, 2:]], 1)
            if y is not None:
                y = compressed(y / radius.clamp_min(tiny)[:, None, None], x[:, :1])
        if self.rotate:
            count = keep[:, 2:].sum(1).clamp_min(1.0)
            centre = ((x[:, 2:] - x[:, :1]) * keep[:, 2:]).sum(1) / count
            goal = x[:, 1] - x[:, 0]
            same = torch.linalg.vector_norm(goal, dim=1, keepdim=True) < 1e-6
            axis = torch.where(same, centre, goal)
            axis = axis + tiny * (axis == 0).all(1, keepdim=True)
            axis = axis / torch.linalg.vector_norm(axis, dim=1, keepdim=True)
            x = turned(x, axis)
            y = None if y is None else turned(y, axis)
        if self.reflect:
            # Weighted by the distance, as the plain sum vanishes in the centroid's frame.
            up = (x[:, 2:, 1] - x[:, :1, 1]) * keep[:, 2:, 0]
            far = torch.linalg.vector_norm(x[:, 2:] - x[:, :1], dim=2)
            side = (up * far).sum(1, keepdim=True)
            sign = torch.where(side < 0, -1.0, 1.0).to(x.dtype)
            sign = torch.stack([torch.ones_like(sign), sign], 2)
            x = x * sign
            y = None if y is None else y * sign
        here, goal = x[:, :1], x[:, 1:2]
        seen = [p for point in (x, y) if point is not None for p in self._seen(point, here, goal)]
        return torch.cat(seen, 2) * keep

    def see_ways(
        self, points: Tensor, filled: Tensor, others: Tensor | None, leads: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What `see` gives, and where fixed ways lead.

        Parameters
        ----------
        points, filled
            As for `see`.
        others
            Where the ways lead that begin at points; the points themselves where none does.
            None if there are no ways at all.
        leads
            Whether a way begins there [b, n]; None to tell from the points.

        Returns
        -------
        Features [b, n, d], and those of where ways lead, and whether [b, n, d + 1].
        """
        if others is None:
            seen = self.see(points, filled)
            return seen, torch.nn.functional.pad(torch.zeros_like(seen), (0, 1))
        if leads is None:
            leads = (others != points).any(2)
        leads = (leads & filled)[..., None]
        # From where one is, and from the destination, no way is left to be taken.
        leads[:, :2] = False
        seen, beyond = self.see(points, filled, others).chunk(2, 2)
        return seen, torch.cat([beyond * leads, leads], 2)

    def _seen(self, points: Tensor, here: Tensor, goal: Tensor) -> list[Tensor]:
        """Points and their distances to two, if shown."""
        if not self.distances:
            return [points]
        return [
            points,
            torch.linalg.vector_norm(points - here, dim=2, keepdim=True),
            torch.linalg.vector_norm(points - goal, dim=2, keepdim=True),
        ]


def compressed(points: Tensor, origin: Tensor) -> Tensor:
    """Points with their distance from the origin, beyond the unit circle, as 1 + log."""
    away = points - origin
    far = torch.linalg.vector_norm(away, dim=2, keepdim=True)
    shrink = torch.where(far > 1.0, (1.0 + far.clamp_min(1.0).log()) / far, 1.0)
    return origin + away * shrink


def turned(points: Tensor, axis: Tensor) -> Tensor:
    """Points [b, n, 2] in a frame whose first axis has the directions [b, 2]."""
    cos, sin = axis[:, None, 0], axis[:, None, 1]
    x, y = points[..., 0], points[..., 1]
    return torch.stack([x * cos + y * sin, y * cos - x * sin], 2)


def unit_box(coords: Tensor) -> Tensor:
    """Points [b, n, 2] moved and scaled into the unit box, in float32.

    Computed in the precision of the input, so that float32 holds any coordinates after.
    """
    low, high = coords.amin(1, keepdim=True), coords.amax(1, keepdim=True)
    size = (high - low).amax(2, keepdim=True)
    return ((coords - low) / size.clamp_min(torch.finfo(coords.dtype).tiny)).float()


def dihedral(points: Tensor, view: int) -> Tensor:
    """Points [b, n, 2] of the unit square under one of its eight symmetries."""
    if view & 1:
        points = torch.stack([1.0 - points[..., 0], points[..., 1]], 2)
    if view & 2:
        points = torch.stack([points[..., 0], 1.0 - points[..., 1]], 2)
    return points.flip(2) if view & 4 else points


def points_of(fields: Fields, nodes: Tensor, owner: Tensor | None = None) -> Tensor:
    """Coordinates [b, m, 2] of nodes [b, m], in float64."""
    coords = fields["coords"].double()
    if owner is not None:
        return coords[owner[:, None], nodes]
    return coords.gather(1, nodes[..., None].expand(-1, -1, 2))
