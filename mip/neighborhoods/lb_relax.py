"""LB-RELAX: let the relaxation of local branching say what to free."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents, count, free_only
from nco.mip.neighborhoods.local_branching import distance_row
from nco.mip.relaxation import LinearProgram

#: Seconds for the relaxation; without a solution by then there is no neighbourhood.
SECONDS = 2.0


def lb_relax(incumbents: Incumbents, size: float, rng: np.random.Generator) -> Neighborhood | None:
    """Free the columns that the relaxation moves most inside a ball.

    The ball holds as many flips as columns are freed; ties are broken at random.
    T. Huang, A. Ferber, Y. Tian, B. Dilkina, B. Steiner, Local branching relaxation
    heuristics for integer linear programs, CPAIOR 2023, section 4.
    """
    form = incumbents.form
    if len(form.binaries) < 2:
        return None
    wanted = count(incumbents, size)
    row, constant = distance_row(incumbents, form.binaries)
    program = incumbents.program or LinearProgram(form)
    ball = sparse.csr_array(row[None]), np.array([-math.inf]), np.array([wanted - constant])
    outcome = program.solve_with(ball, form.within(SECONDS))
    if outcome.x is None:
        return None
    columns = form.integers
    moved = np.abs(outcome.x[columns] - incumbents.current[columns])
    order = np.lexsort((rng.random(len(columns)), -moved))
    return free_only(incumbents, columns[order[:wanted]])
