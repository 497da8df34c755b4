"""Random objective: another solution that is as good."""

from __future__ import annotations

import numpy as np

from nco.mip.backend import Neighborhood
from nco.mip.neighborhoods import Incumbents
from nco.mip.neighborhoods.mutation import mutation


def random_objective(
    incumbents: Incumbents, size: float, rng: np.random.Generator
) -> Neighborhood | None:
    """Minimise random coefficients among solutions no worse than the current one.

    It moves along plateaus; a random share of the whole columns is free.
    """
    form = incumbents.form
    base = mutation(incumbents, size, rng)
    if base is None or base.fix is None:
        return None
    objective = np.zeros(form.n)
    objective[form.integers] = rng.uniform(-1.0, 1.0, len(form.integers))
    # A tie is what it looks for.
    cutoff = form.value(incumbents.current)
    return Neighborhood(fix=base.fix, objective=objective, cutoff=cutoff)
