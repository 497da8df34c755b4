"""BQ policy of the stochastic prize-collecting travelling salesman problem.

States are those of the PCTSP. What is seen of customers ahead are their expected prizes;
a visit shows the real one, which is taken off what is due. Decisions are therefore made
once: there is no second view, sample or reconstruction of what has been seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nco.bq.policies.pctsp import PCTSPPolicy, PCTSPTeacher
from nco.bq.state import Cut, Fields


@dataclass(frozen=True)
class SPCTSPPolicy(PCTSPPolicy):
    """States, features and steps of the SPCTSP with coordinates."""

    name = "spctsp"
    fields: ClassVar[tuple[str, ...]] = (
        "coords",
        "prizes",
        "penalties",
        "real_prizes",
        "min_prize",
    )
    values: ClassVar[tuple[str, ...]] = ("prizes", "penalties", "real_prizes")
    collected = "real_prizes"
    online = True

    def cut(
        self, fields: Fields, actions: Tensor, size: int, generator: torch.Generator
    ) -> Cut | None:
        """Nothing: what has been visited cannot be decided again."""
        return None


@dataclass(frozen=True)
class SPCTSPTeacher(PCTSPTeacher):
    """What remained at every visit, with the real prizes so far taken off what is due."""

    values: ClassVar[tuple[str, ...]] = ("prizes", "penalties", "real_prizes")
    collected = "real_prizes"
    ordered = True


POLICY = SPCTSPPolicy
TEACHER = SPCTSPTeacher
