"""The stochastic prize-collecting travelling salesman problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import FLOAT_TOLERANCE, as_indices
from nco.instances.pctsp import PCTSP
from nco.instances.subset_tour import SubsetTour, prize_collecting


@dataclass(frozen=True, eq=False, kw_only=True)
class SPCTSP(SubsetTour):
    """The prize-collecting TSP whose real prizes show only at a visit.

    W. Kool et al. (ICLR 2019), appendix C.5. Solvers plan on `public` and learn real
    prizes by `reveal`, of visited customers only. A solution lists the visited customers
    in visiting order; its tour must have the minimum real prize, or visit all.

    Parameters
    ----------
    prizes
        Expected prize of every node [n + 1]; the depot's is 0.
    penalties
        Penalty for leaving a node out [n + 1]; the depot's is 0.
    real_prizes
        Real prizes [n + 1]: for `reveal`, `execute` and the check of solutions; no solver
        may read them.
    min_prize
        Real prize that must be collected.

    Raises
    ------
    ValueError
        As `SpatialInstance`, and when an array has negative numbers or misses a node.
    """

    problem: ClassVar[str] = "spctsp"

    prizes: NDArray[Any]
    penalties: NDArray[Any]
    real_prizes: NDArray[Any] = field(repr=False)
    min_prize: float = 1.0

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        super().__post_init__()
        for name in ("prizes", "penalties", "real_prizes"):
            self._freeze(name)
        self._limit("min_prize")

    def public(self) -> PCTSP:
        """What is known before the first visit: expected prizes.

        The minimum is at most their sum.
        """
        return PCTSP(
            coords=self.coords,
            matrix=self.matrix,
            metric=self.metric,
            prizes=self.prizes,
            penalties=self.penalties,
            min_prize=min(self.min_prize, self.total(self.prizes, slice(None))),
            name=self.name,
        )

    def reveal(self, prefix: Sequence[int]) -> list[float]:
        """The real prizes of the customers visited so far, in their order.

        Raises
        ------
        ValueError
            When ``prefix`` repeats a customer or holds an unknown one.
        """
        visits = as_indices(prefix)
        # One visit is checked without looking at all customers.
        if visits is None or not (
            len(np.unique(visits)) == len(visits) and ((visits > 0) & (visits <= self.n)).all()
        ):
            raise ValueError(f"{super().violations(list(prefix))[0]}.")
        return list(self.real_prizes[visits].tolist())

    def enough(self, revealed: Sequence[float]) -> bool:
        """Whether revealed prizes suffice."""
        found = np.float64(sum(revealed))
        return bool(found >= self.min_prize - FLOAT_TOLERANCE * max(1.0, self.min_prize))

    def execute(self, order: Sequence[int]) -> list[int]:
        """Visit customers in a given order, until the revealed prize suffices.

        Returns
        -------
        The visited customers; all of ``order`` where its prizes do not suffice.

        Raises
        ------
        ValueError
            When ``order`` repeats a customer or holds an unknown one.
        """
        found = 0.0
        for count, prize in enumerate(self.reveal(order)):
            if self.enough([found]):
                return [int(k) for k in order[:count]]
            found += prize
        return [int(k) for k in order]

    def objective(self, solution: list[int]) -> float:
        """Length of the tour plus the penalties of customers left out."""
        return self.collecting_cost(solution, self.penalties)

    def violations(self, solution: list[int]) -> list[str]:
        """Customers repeated or unknown; too little real prize."""
        return super().violations(solution) or self.prize_violations(
            solution, self.real_prizes, self.min_prize
        )

    def canonical(self, solution: list[int]) -> list[int]:
        """The order of the visits as it is: it decides what was known when."""
        return [int(k) for k in solution]

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "uniform", **options: Any) -> Self:
        """As `PCTSP`; real prizes are uniform in (0, 2 x the expected one)."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        fields = prize_collecting(n, rng, distribution, **options)
        return cls(
            **fields,
            real_prizes=fields["prizes"] * rng.uniform(0.0, 2.0, n + 1),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
