"""The asymmetric travelling salesman problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from nco.instances.tsp import TSP


@dataclass(frozen=True, eq=False, kw_only=True)
class ATSP(TSP):
    """A travelling salesman problem given by a cost matrix, asymmetric in general.

    Raises
    ------
    ValueError
        As `TSP`, and without a matrix.
    """

    problem: ClassVar[str] = "atsp"

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        if self.matrix is None:
            raise ValueError("matrix missing; an ATSP needs a cost matrix.")
        super().__post_init__()

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "tmat", **options: Any) -> Self:
        """A random cost matrix; distributions as `nco.instances.generate.matrix`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            matrix=generate.matrix(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
