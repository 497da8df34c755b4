"""Divider of the open vehicle routing problem: as for closed routes."""

from __future__ import annotations

import dataclasses

from nco.udc.dividers import cvrp

DIVIDER = dataclasses.replace(cvrp.DIVIDER, name="ovrp", size=50)
