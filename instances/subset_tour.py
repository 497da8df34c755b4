"""What problems that visit some of their customers on one closed tour share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances import generate
from nco.instances.core import FLOAT_TOLERANCE, SpatialInstance, as_number, frozen_array
from nco.instances.tsp import permutation_violations


@dataclass(frozen=True, eq=False, kw_only=True)
class SubsetTour(SpatialInstance[list[int]]):
    """A tour from the depot 0 through some of the customers 1..n.

    A solution lists the visited customers in visiting order, without the depot.
    """

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        if self.nodes < 2:
            raise ValueError("has no customers.")

    @property
    def n(self) -> int:
        """Number of customers."""
        return self.nodes - 1

    def _freeze(self, name: str, *, depot: bool = False) -> None:
        """Validate a field of one number >= 0 per node."""
        values = frozen_array(name, getattr(self, name), ndim=1)
        if len(values) != self.nodes:
            raise ValueError(f"{len(values)} {name} for {self.nodes} nodes, depot included.")
        if (values < 0).any():
            k = int(np.argmax(values < 0))
            raise ValueError(f"{name}[{k}] = {values[k]} < 0.")
        if not depot and values[0] != 0:
            raise ValueError(f"{name}[0] of the depot is {values[0]}, expected 0.")
        if float(values.astype(np.float64).sum()) > 2**53:
            raise ValueError(f"{name} add up to more than 2^53; scale them down.")
        object.__setattr__(self, name, values)

    def _limit(self, name: str) -> None:
        """Validate a field that is one number >= 0."""
        value = getattr(self, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} = {value} not understood; give a number >= 0.")
        object.__setattr__(self, name, as_number(value, float(value).is_integer()))

    def length(self, solution: list[int]) -> float:
        """Length of the tour, depot to depot."""
        return self.distances.tour_length([0, *solution])

    def left_out(self, solution: list[int]) -> NDArray[np.bool_]:
        """Which nodes [n + 1] a solution does not visit; the depot always is."""
        out = np.ones(self.nodes, dtype=bool)
        out[[0, *solution]] = False
        return out

    def total(self, values: NDArray[Any], nodes: Any) -> float:
        """Sum of some nodes' values, exact for integers."""
        chosen = values[nodes]
        if np.issubdtype(values.dtype, np.integer):
            return int(chosen.sum())
        return math.fsum(chosen.tolist())

    def collecting_cost(self, solution: list[int], penalties: NDArray[Any]) -> float:
        """Length of the tour plus the penalties [n + 1] of customers left out."""
        paid = self.total(penalties, self.left_out(solution))
        length = self.length(solution)
        return as_number(length + paid, isinstance(length, int) and isinstance(paid, int))

    def violations(self, solution: list[int]) -> list[str]:
        """Customers repeated or unknown."""
        problems = permutation_violations(solution, 1, self.n, "customer")
        return [p for p in problems if not p.endswith("is missing")]

    def canonical(self, solution: list[int]) -> list[int]:
        """The tour from its smaller end if symmetric."""
        tour = [int(k) for k in solution]
        return tour[::-1] if self.distances.symmetric and tour and tour[0] > tour[-1] else tour

    def prize_violations(
        self, solution: list[int], prizes: NDArray[Any], min_prize: float
    ) -> list[str]:
        """A text if the visited prizes fall short of the minimum and a customer is left."""
        found = self.total(prizes, list(solution))
        slack = FLOAT_TOLERANCE * max(1.0, min_prize)
        if found < min_prize - slack and len(solution) < self.n:
            return [f"prize {found} < minimum {min_prize}"]
        return []


def distance_prizes(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prizes [n + 1] in (0, 1] that grow with the distance from the depot, which has 0.

    ``(1 + floor(99 d_0i / max_j d_0j)) / 100``: M. Fischetti, J. J. Salazar and P. Toth,
    Solving the orienteering problem through branch-and-cut (INFORMS Journal on Computing
    10, 1998), scaled as by W. Kool et al. (ICLR 2019).
    """
    away = np.sqrt(((coords - coords[0]) ** 2).sum(1))
    prizes = (1.0 + np.floor(99.0 * away / max(float(away.max()), 1e-300))) / 100.0
    prizes[0] = 0.0
    return prizes


def by_size(n: int, table: Mapping[int, float]) -> float:
    """The entry for size n of a table, linear in between, constant beyond its ends."""
    return float(np.interp(n, list(table), list(table.values())))


#: Expected length of the tour through all customers by n, after which penalties scale:
#: W. Kool et al. (ICLR 2019), appendix C.4, up to 100; Z. Zheng et al., UDC (NeurIPS 2024)
#: from 500 on.
PENALTY_SCALES: Mapping[int, float] = {20: 2, 50: 3, 100: 4, 500: 9, 1000: 12, 2000: 15}


def prize_collecting(
    n: int,
    rng: np.random.Generator,
    distribution: str,
    penalty_scale: float | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fields of a random prize-collecting TSP (Kool et al.; UDC).

    Prizes are uniform in (0, 4 / n), so that half of the customers have the minimum prize
    1; penalties uniform in (0, 3 K / n), K = ``penalty_scale`` or by `PENALTY_SCALES`.
    """
    scale = by_size(n, PENALTY_SCALES) if penalty_scale is None else penalty_scale
    generate._check(0 <= scale < math.inf, "penalty_scale >= 0")
    coords = generate.points(n + 1, rng, distribution, **options)
    penalties = np.r_[0.0, rng.uniform(0.0, 3.0 * scale / n, n)]
    prizes = np.r_[0.0, rng.uniform(0.0, 4.0 / n, n)]
    return {"coords": coords, "prizes": prizes, "penalties": penalties}
