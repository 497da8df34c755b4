"""A MIP under construction, filled by uncertainty sets, masters and embeddings alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from nco.instances.core import Sense
from nco.instances.mip import MIP

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]


class Model:
    """Columns and rows in the order in which they are added."""

    def __init__(self) -> None:
        self._lower: list[Vector] = []
        self._upper: list[Vector] = []
        self._whole: list[NDArray[np.bool_]] = []
        self._cost: list[Vector] = []
        self._entries: list[tuple[Indices, Indices, Vector]] = []
        self._row_lower: list[Vector] = []
        self._row_upper: list[Vector] = []
        self.columns = 0
        self.rows = 0
        self.offset = 0.0

    def add_columns(
        self,
        count: int,
        lower: ArrayLike = 0.0,
        upper: ArrayLike = np.inf,
        *,
        whole: ArrayLike = False,
        cost: ArrayLike = 0.0,
    ) -> Indices:
        """Add columns; their indices [count]."""
        for target, value in ((self._lower, lower), (self._upper, upper), (self._cost, cost)):
            target.append(np.broadcast_to(np.asarray(value, dtype=np.float64), count).copy())
        self._whole.append(np.broadcast_to(np.asarray(whole, dtype=bool), count).copy())
        first = self.columns
        self.columns += count
        return np.arange(first, first + count)

    def add_rows(
        self, matrix: Any, columns: Indices, lower: ArrayLike, upper: ArrayLike
    ) -> Indices:
        """Add rows ``lower <= matrix x[columns] <= upper``; their indices [r]."""
        coo = sparse.coo_array(matrix)
        count = int(coo.shape[0])
        rows = np.asarray(coo.row, dtype=np.intp) + self.rows
        self._entries.append((rows, np.asarray(columns)[coo.col], coo.data.astype(np.float64)))
        for target, value in ((self._row_lower, lower), (self._row_upper, upper)):
            target.append(np.broadcast_to(np.asarray(value, dtype=np.float64), count).copy())
        first = self.rows
        self.rows += count
        return np.arange(first, first + count)

    def set_cost(self, columns: Indices, cost: ArrayLike) -> None:
        """Set the objective coefficients of columns."""
        costs = np.concatenate(self._cost)
        costs[columns] = cost
        self._cost = [costs]

    def bounds(self, columns: Indices) -> tuple[Vector, Vector]:
        """Lower and upper bounds of columns."""
        return np.concatenate(self._lower)[columns], np.concatenate(self._upper)[columns]

    def mip(self, sense: Sense = Sense.MAXIMIZE) -> MIP:
        """The finished model."""
        rows, columns, data = (
            np.concatenate([e[k] for e in self._entries]) if self._entries else np.zeros(0)
            for k in range(3)
        )
        matrix = sparse.csr_array(
            (data, (rows.astype(np.intp), columns.astype(np.intp))),
            shape=(self.rows, self.columns),
        )
        empty = np.zeros(0)
        return MIP(
            c=np.concatenate([*self._cost, empty]),
            A=matrix,
            row_lower=np.concatenate([*self._row_lower, empty]),
            row_upper=np.concatenate([*self._row_upper, empty]),
            lower=np.concatenate([*self._lower, empty]),
            upper=np.concatenate([*self._upper, empty]),
            integrality=np.concatenate([*self._whole, empty.astype(bool)]),
            offset=self.offset,
            sense=sense,
        )
