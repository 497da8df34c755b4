"""The orienteering problem."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances import routing
from nco.instances.core import FLOAT_TOLERANCE, Sense
from nco.instances.subset_tour import SubsetTour, by_size, distance_prizes

if TYPE_CHECKING:
    from nco.instances.mip import MipView

#: Length limits by n: W. Kool et al. (ICLR 2019), and 4 from 100 on, as in BQ-NCO and UDC.
MAX_LENGTHS: Mapping[int, float] = {20: 2.0, 50: 3.0, 100: 4.0}


@dataclass(frozen=True, eq=False, kw_only=True)
class OP(SubsetTour):
    """Collect the most prize on a tour from the depot within a length limit.

    A solution lists the visited customers in visiting order, without the depot.

    Parameters
    ----------
    prizes
        Prize of every node [n + 1]; the depot's is always collected.
    max_length
        Largest length of the tour.

    Raises
    ------
    ValueError
        As `SpatialInstance`, and when prizes are negative or miss a node.
    """

    problem: ClassVar[str] = "op"
    sense: Sense = field(default=Sense.MAXIMIZE, init=False, repr=False)

    prizes: NDArray[Any]
    max_length: float

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        self._freeze("prizes", depot=True)
        self._limit("max_length")

    def objective(self, solution: list[int]) -> float:
        """Total prize, the depot's included."""
        return self.total(self.prizes, [0, *solution])

    def unbeatable(self) -> float:
        """The prizes of all."""
        return self.objective(list(range(1, self.nodes)))

    def violations(self, solution: list[int]) -> list[str]:
        """Customers repeated or unknown; a tour that is too long."""
        problems = super().violations(solution)
        if not problems and solution:
            length = self.length(solution)
            if length > self.max_length * (1 + FLOAT_TOLERANCE):
                problems.append(f"length {length} > limit {self.max_length}")
        return problems

    def to_routing(self) -> routing.RoutingView:
        """One route; leaving a customer out costs its prize."""
        return routing.RoutingView(
            distances=self.distances,
            encode=routing.single,
            decode=routing.flat,
            max_length=self.max_length,
            skip_costs=np.r_[0, self.prizes[1:]],
            free=True,
        )

    def to_mip(self, start: list[int] | None = None) -> MipView:
        """The tour as a MIP, single-commodity flow; see `nco.instances.subset_flow`."""
        from nco.instances.subset_flow import subset_view

        return subset_view(self, start)

    @classmethod
    def generate(
        cls,
        n: int,
        *,
        seed: int,
        distribution: str = "uniform",
        max_length: float | None = None,
        prize: str = "distance",
        **options: Any,
    ) -> Self:
        """Random points in the unit square.

        Parameters
        ----------
        n
            Number of customers.
        seed
            The same seed gives the same instance.
        distribution
            A distribution of `nco.instances.generate.points`, the depot one of them.
        max_length
            Length limit; by default by `MAX_LENGTHS`.
        prize
            ``distance`` (`distance_prizes`), ``uniform`` (0.01 to 1 in steps of 0.01) or
            ``constant`` (1): the three of Fischetti et al.
        options
            Parameters of the distribution.
        """
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        limit = by_size(n, MAX_LENGTHS) if max_length is None else max_length
        generate._check(0 <= limit < math.inf, "max_length >= 0")
        coords = generate.points(n + 1, rng, distribution, **options)
        laws = {
            "distance": lambda: distance_prizes(coords),
            "uniform": lambda: np.r_[0.0, rng.integers(1, 101, n) / 100.0],
            "constant": lambda: np.r_[0, np.ones(n, dtype=np.int64)],
        }
        return cls(
            coords=coords,
            prizes=generate._pick("prize", prize, laws)(),
            max_length=limit,
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
