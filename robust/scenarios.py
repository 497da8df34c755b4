"""Programs whose solutions are scenarios of an uncertainty set."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget
from nco.robust.uncertainty import UncertaintySet

Vector = NDArray[np.float64]


class ScenarioProgram(ABC):
    """A program over scenarios of a set, whose rows `add_to` gives and `separate` completes."""

    uncertainty: UncertaintySet

    def solve(self, budget: Budget) -> tuple[Vector, float] | None:
        """A scenario, and a lower bound of the smallest value; None out of time."""
        for _ in range(200):
            found = self._optimum(budget)
            if found is None:
                return None
            xi, z = found
            cut = self.uncertainty.separate(xi)
            if cut is None:
                return xi, z
            self._row(np.concatenate([cut[0], [0.0]]), -np.inf, cut[1])
        return self.uncertainty.project(xi[None])[0], z

    @abstractmethod
    def _row(self, row: Vector, lower: float, upper: float) -> None:
        """Add a row of xi and z [q + 1]."""

    @abstractmethod
    def _optimum(self, budget: Budget) -> tuple[Vector, float] | None:
        """A scenario by the rows so far, and a lower bound; None out of time."""
