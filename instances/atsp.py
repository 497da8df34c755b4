"""The asymmetric travelling salesman problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from nco.instances.tsp import TSP


@dataclass(frozen=True, eq=False, kw_only=True)
class ATSP(TSP):
    """A travelling salesman problem given by a cost matrix, asymmetric in general.

    Fixed and missing edges are arcs, even if the matrix is symmetric.

    Raises
    ------
    ValueError
        As `TSP`, and without a matrix.
    """

    problem: ClassVar[str] = "atsp"

    matrix: NDArray[Any] = field(metadata={"ndim": 2})

    def __post_init__(self) -> None:
        """Validate and freeze the arrays."""
        if self.matrix is None:
            raise ValueError("matrix missing; an ATSP needs a cost matrix.")
        super().__post_init__()

    @property
    def directed(self) -> bool:
        """Whether a tour and its reverse are two: costs are asymmetric, or edges are arcs."""
        return self.restricted or super().directed

    @classmethod
    def claims(cls, fields: Mapping[str, Any]) -> bool:
        """Whether there is a matrix, or a stack of them, that is not symmetric."""
        if not super().claims(fields):
            return False
        matrix = np.asarray(fields["matrix"])
        if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
            return True
        return bool((matrix != np.swapaxes(matrix, -1, -2)).any())

    @classmethod
    def generate(cls, n: int, *, seed: int, distribution: str = "tmat", **options: Any) -> Self:
        """A random cost matrix; distributions as `nco.instances.generate.matrix`."""
        from nco.instances import generate

        rng = generate.random(seed, cls.problem, n, distribution)
        return cls(
            matrix=generate.matrix(n, rng, distribution, **options),
            name=f"{cls.problem}-{distribution}-n{n}-s{seed}",
        )
