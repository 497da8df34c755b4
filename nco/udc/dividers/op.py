"""Divider of the orienteering problem: paths, with what the rest leaves of the length."""

from __future__ import annotations

from nco.instances.op import OP
from nco.udc.dividers import Divider, inserted


def nothing(instance: OP) -> list[int]:
    """No customer, which is feasible wherever anything is."""
    return []


DIVIDER = Divider("op", {"insertion": inserted}, nothing)
