"""Divider of the stochastic prize-collecting travelling salesman problem.

Starts and stages make a plan for the expected prizes, which is carried out once: real
prizes are learned visit by visit, and none of a customer that has not been visited.
"""

from __future__ import annotations

import dataclasses

from nco.classical.sequential import follow
from nco.instances.spctsp import SPCTSP
from nco.udc.dividers import pctsp

DIVIDER = dataclasses.replace(
    pctsp.DIVIDER, name="spctsp", plan=SPCTSP.public, planned="pctsp", follow=follow
)
