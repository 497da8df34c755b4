"""One divider per problem: what a start is, and how tours drawn from heat become solutions.

A divider ``<name>`` is the module ``nco.udc.dividers.<name>`` with the attribute `DIVIDER`,
or an entry point of that name in the group ``nco.dividers`` that gives such a module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget, Instance
from nco.instances.registry import plugins
from nco.udc.pieces import Piece

#: A start, f(instance, seed, budget): a feasible solution, or None where there is none;
#: TimeoutError when the budget ends first.
Start = Callable[[Any, int, Budget], Any]


@dataclass(frozen=True)
class Divider:
    """The problem's side of dividing.

    Parameters
    ----------
    name
        The problem's name.
    starts
        Starts by name, the best measured one first.
    plain
        f(instance): a solution that takes next to no time.
    size
        Nodes in a part, unless it is said otherwise.
    view
        f(instance): points [n, 2] that tours go through and more features of them [n, extra],
        or None where starts are not drawn from heat.
    of_tour
        f(instance, tour): the solution that a tour through these points stands for, or None.
    extra
        Number of those features.
    plan
        f(instance): what is known before anything is carried out, an instance of its own
        that all of the above are for; None where all is known.
    follow
        f(instance, solution of that): the solution that comes of carrying it out, once.
    piece
        f(instance, index, scalar): a part as an instance of its own, from the node numbers and
        scalars of its state, without rows that only fill up; None for tours, whose parts are
        paths.
    """

    name: str
    starts: Mapping[str, Start]
    plain: Callable[[Any], Any]
    size: int = 100
    view: Callable[[Any], tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None
    of_tour: Callable[[Any, Sequence[int]], Any] | None = None
    extra: int = 0
    plan: Callable[[Any], Instance[Any]] | None = None
    follow: Callable[[Any, Any], Any] | None = None
    piece: Callable[[Any, NDArray[np.int64], NDArray[Any]], Piece] | None = None


def load_divider(name: str) -> Divider | None:
    """The divider of a problem, or None where there is none."""
    module = f"{__name__}.{name}"
    if name.isidentifier() and find_spec(module) is not None:
        return importlib.import_module(module).DIVIDER
    points = plugins("nco.dividers", name=name)
    return next((point.load().DIVIDER for point in points), None)


def inserted(instance: Any, seed: int, budget: Budget) -> Any:
    """Greedy insertion."""
    from nco.classical.insertion import insertion

    return insertion(instance, budget)
