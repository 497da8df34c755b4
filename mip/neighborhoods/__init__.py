"""Neighbourhood operators, one pure function per file.

An operator gets what is known, a size in (0, 1] and a generator, and returns a
`Neighborhood` or None where it has nothing to offer. Whole columns are fixed; continuous
ones stay free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nco.mip.backend import Form, Neighborhood, Vector
from nco.mip.relaxation import LinearProgram

Index = NDArray[np.intp]


#: Operators that look at relaxations; where none of them is chosen, none is solved.
RELAXED = frozenset({"rins", "rens", "dins", "lb-relax"})


@dataclass
class Incumbents:
    """What operators may look at.

    Parameters
    ----------
    form
        The model.
    current
        The accepted solution [n].
    pool
        Distinct feasible solutions, best first; the best one may not be the current one.
    root
        Solution [n] of the root relaxation, or None.
    relaxation
        A recent relaxation solution [n], refreshed as the search goes on, or None.
    groups
        Columns of each customer, item or edge of the original problem.
    program
        The relaxation, for operators that solve it with rows of their own; None: they make one.
    filled
        Whether sizes are shares of all whole columns, where fewer than that disagree with
        others at random; else they are shares of those that disagree, as the papers have it.
    """

    form: Form
    current: Vector
    pool: Sequence[Vector] = ()
    root: Vector | None = None
    relaxation: Vector | None = None
    groups: Sequence[Index] = field(default=())
    program: LinearProgram | None = None
    filled: bool = True

    @property
    def best(self) -> Vector:
        """The best solution."""
        return self.pool[0] if self.pool else self.current


Operator = Callable[[Incumbents, float, np.random.Generator], Neighborhood | None]


def free_only(
    incumbents: Incumbents,
    free: Index,
    base: Vector | None = None,
    bounds: tuple[Vector, Vector] | None = None,
) -> Neighborhood | None:
    """Fix every whole column but ``free`` at ``base`` (default: the current solution).

    Those that are free may have narrower bounds; else all of them are the whole model.
    """
    form = incumbents.form
    fixed = form.movable.copy()
    fixed[free] = False
    columns = np.flatnonzero(fixed)
    if len(columns) == len(form.integers) or not (len(columns) or bounds):
        return None
    values = incumbents.current if base is None else base
    fix = (columns, np.rint(values[columns])) if len(columns) else None
    return Neighborhood(fix=fix, bounds=None if bounds is None else (free, *bounds), start=base)


def count(incumbents: Incumbents, size: float) -> int:
    """Number of whole columns that a size stands for; at least two."""
    total = len(incumbents.form.integers)
    return min(total, max(2, round(size * total)))


def fill(incumbents: Incumbents, first: Index, size: float, rng: np.random.Generator) -> Index:
    """``first``, cut or filled up at random to the number of columns of ``size``."""
    if not incumbents.filled:
        return rng.choice(first, min(len(first), max(2, round(size * len(first)))), replace=False)
    wanted = count(incumbents, size)
    if len(first) >= wanted:
        return rng.choice(first, wanted, replace=False)
    rest = np.setdiff1d(incumbents.form.integers, first)
    more = rng.choice(rest, min(len(rest), wanted - len(first)), replace=False)
    return np.concatenate([first, more])
