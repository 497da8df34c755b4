"""The open vehicle routing problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.instances.core import Distances
from nco.instances.cvrp import CVRP


class OpenDistances(Distances):
    """Travel costs where every way back to node 0 is free.

    Parameters
    ----------
    base
        The costs of all other ways.
    """

    def __init__(self, base: Distances):
        self.__dict__.update(base.__dict__)
        self._full = None
        self._base = base
        self.symmetric = False

    @property
    def base(self) -> Distances:
        """The costs of all ways but those back."""
        return self._base

    @property
    def explicit(self) -> bool:
        """Coordinates alone do not give these costs."""
        return True

    def pairs(self, i: ArrayLike, j: ArrayLike) -> NDArray[np.float64]:
        """Costs from nodes ``i`` to nodes ``j``, broadcast against each other."""
        return np.where(np.asarray(j) == 0, 0.0, self._base.pairs(i, j))

    def row(self, i: int) -> NDArray[np.float64]:
        """Costs [n] from node ``i`` to every node."""
        costs = np.array(self._base.row(i))  # a row of a matrix is a view
        costs[0] = 0.0
        return costs

    def _make(self, stop: Callable[[], bool]) -> NDArray[np.float64]:
        full = self._base.full_matrix(stop).copy()
        full[:, 0] = 0.0
        return full


@dataclass(frozen=True, eq=False, kw_only=True)
class OVRP(CVRP):
    """Serve every customer once, with routes that end at their last customer.

    The vehicle's way back to the depot costs nothing and does not count against
    ``max_distance``; all else is as in `CVRP`, of which this is the special case of free
    ways to the depot. Routes have a direction.
    """

    problem: ClassVar[str] = "ovrp"

    @cached_property
    def distances(self) -> Distances:
        """Travel costs between all nodes, free towards the depot."""
        return OpenDistances(super().distances)

    @classmethod
    def claims(cls, fields: Any) -> bool:
        """Never: the fields are those of a CVRP, so a file must name the problem."""
        return False
