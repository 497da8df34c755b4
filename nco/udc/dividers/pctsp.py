"""Divider of the prize-collecting travelling salesman problem."""

from __future__ import annotations

import numpy as np

from nco.classical.constructive import hilbert_order
from nco.instances.pctsp import PCTSP
from nco.udc.dividers import Divider, inserted


def everyone(instance: PCTSP) -> list[int]:
    """All customers along a curve, which collects all there is."""
    if instance.coords is None:
        return list(range(1, instance.nodes))
    return (hilbert_order(np.asarray(instance.coords)[1:]) + 1).tolist()


DIVIDER = Divider("pctsp", {"insertion": inserted}, everyone)
