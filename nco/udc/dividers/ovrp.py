"""Divider of the open vehicle routing problem: as for closed routes."""

from __future__ import annotations

import dataclasses
import functools

from nco.udc.dividers import cvrp

# Open routes are better where ends at one distance from the depot are joined; of many customers
# that matters more.
SAVINGS = functools.partial(cvrp.savings, shapes=(0.5, 1.15), spreads=(-0.5, 0.0))

STARTS = {
    "sweep-or-savings": functools.partial(cvrp.sweep_or_savings, savings=SAVINGS),
    "savings": SAVINGS,
}

DIVIDER = dataclasses.replace(
    cvrp.DIVIDER, name="ovrp", starts={**cvrp.DIVIDER.starts, **STARTS}, size=50
)
