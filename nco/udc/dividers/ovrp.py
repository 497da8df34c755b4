"""Divider of the open vehicle routing problem: as for closed routes."""

from __future__ import annotations

import dataclasses
import functools

from nco.udc.dividers import cvrp

SAVINGS = functools.partial(cvrp.savings, shapes=(0.9, 1.4), spreads=(-0.1, 0.15))

DIVIDER = dataclasses.replace(
    cvrp.DIVIDER, name="ovrp", starts={**cvrp.DIVIDER.starts, "savings": SAVINGS}, size=50
)
