"""BQ policy of the open vehicle routing problem.

As for the CVRP, but the way back to the depot costs nothing: routes have a direction, and
what a new route costs does not depend on where the last one ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from nco.bq.imitation import CVRPTeacher
from nco.bq.policies.cvrp import CVRPPolicy


@dataclass(frozen=True)
class OVRPPolicy(CVRPPolicy):
    """States, features and steps of the OVRP with coordinates."""

    name = "ovrp"
    open = True


@dataclass(frozen=True)
class OVRPTeacher(CVRPTeacher):
    """As `CVRPTeacher`, with routes in their own direction."""

    open = directed = True


POLICY = OVRPPolicy
TEACHER = OVRPTeacher
