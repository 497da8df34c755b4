"""One divider per problem: what a start is, and how tours drawn from heat become solutions.

A divider ``<name>`` is the module ``nco.udc.dividers.<name>`` with the attribute `DIVIDER`,
or an entry point of that name in the group ``nco.dividers`` that gives such a module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget, Instance
from nco.instances.registry import plugins
from nco.udc.pieces import Piece

if TYPE_CHECKING:
    from nco.udc.divide import Graph

#: A start, f(instance, seed, budget): a feasible solution, or None where there is none;
#: TimeoutError when the budget ends first.
Start = Callable[[Any, int, Budget], Any]


#: Beyond so many nodes, greedy insertion and assignments take longer than they are worth.
LARGE = 5000


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
    graph
        f(instance, k, stop=None): the sparse graph that heat is on, with at most k candidates
        per node; `Stopped` when stop() says so. None where starts are not drawn from heat.
    of_tour
        f(instance, tour): the solution that a tour through the nodes of the graph, or an order
        of its items, stands for, or None.
    plan
        f(instance): what is known before anything is carried out, an instance of its own
        that all of the above are for; None where all is known.
    planned
        The problem of those.
    follow
        f(instance, solution of that): the solution that comes of carrying it out, once.
    piece
        f(instance, index, scalar): a part as an instance of its own, from the node numbers and
        scalars of its state, without rows that only fill up; None for tours, whose parts are
        paths.
    within
        The problem whose policy decides paths within a route, ends fixed; "" where solutions
        are no routes.
    decoded
        Whether to begin with the whole instance, decoded by the problem's policy, where time
        allows and it is better than the first start.
    large
        The start beyond `LARGE` nodes, where the first takes too long; "" for the first always.
    """

    name: str
    starts: Mapping[str, Start]
    plain: Callable[[Any], Any]
    size: int = 100
    graph: Callable[..., Graph] | None = None
    of_tour: Callable[[Any, Sequence[int]], Any] | None = None
    plan: Callable[[Any], Instance[Any]] | None = None
    planned: str = ""
    follow: Callable[[Any, Any], Any] | None = None
    piece: Callable[[Any, NDArray[np.int64], NDArray[Any]], Piece] | None = None
    within: str = ""
    decoded: bool = False
    large: str = ""

    def first(self, n: int) -> str:
        """The start that `auto` takes for n nodes or items."""
        return self.large if n > LARGE and self.large else next(iter(self.starts))


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


def insertion_order(coords: NDArray[np.float64], seed: int, budget: Budget) -> list[int]:
    """The points [n, 2] along a tour of random insertion."""
    from nco.classical.random_insertion import random_insertion

    return random_insertion(coords, seed, budget)


def curve_order(coords: NDArray[np.float64], seed: int, budget: Budget) -> list[int]:
    """The points [n, 2] along a space-filling curve."""
    from nco.classical.constructive import hilbert_order

    order: list[int] = hilbert_order(coords).tolist()
    return order


def toured(
    of_tour: Callable[[Any, Sequence[int]], Any],
    order: Callable[[NDArray[np.float64], int, Budget], list[int]] = insertion_order,
) -> Start:
    """A start: what a tour through all customers stands for.

    Its time grows hardly faster than n, that of greedy insertion, which takes its place where
    there are no coordinates, with n squared.
    """

    def start(instance: Any, seed: int, budget: Budget) -> Any:
        if instance.coords is None:
            return inserted(instance, seed, budget)
        return of_tour(instance, order(np.asarray(instance.coords)[1:], seed, budget))

    return start


def tour_starts(of_tour: Callable[[Any, Sequence[int]], Any]) -> dict[str, Start]:
    """Greedy insertion, and what tours through all customers stand for."""
    return {
        "insertion": inserted,
        "tour": toured(of_tour),
        "space-filling-curve": toured(of_tour, curve_order),
    }


def nodes_graph(
    instance: Any,
    k: int,
    *columns: NDArray[Any],
    depot: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Graph:
    """The k nearest of every node by place, or by cost where there are no coordinates.

    Parameters
    ----------
    instance
        With ``coords`` and ``distances``.
    k
        Candidates per node.
    columns
        More features of the nodes, customers alone with a depot [n] each.
    depot
        Whether node 0 is one: it is left out of the graph, and polar coordinates around it
        are features of the customers.
    stop
        Asked every now and then, or None.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    import torch

    from nco.bq.decoding import never
    from nco.bq.plane import unit_box
    from nco.udc.divide import cost_graph, near_graph

    stop = stop or never
    first = int(depot)
    known = instance.coords is not None
    points = np.array(instance.coords, dtype=np.float64)[:, :2] if known else None
    if depot:
        far = radius(instance)
        gap = np.zeros((len(far), 2)) if points is None else points[1:] - points[0]
        angle = np.arctan2(gap[:, 1], gap[:, 0])
        columns = (*columns, far, np.cos(angle), np.sin(angle))
    extra = None
    if columns:
        extra = torch.as_tensor(np.column_stack(columns), dtype=torch.float32)[None]
    if points is None:
        costs = torch.as_tensor(np.array(instance.distances.matrix[first:, first:]))
        return cost_graph(costs[None].float(), k, extra, stop)
    return near_graph(unit_box(torch.as_tensor(points[first:])[None]), k, extra, stop)


def radius(instance: Any) -> NDArray[np.float64]:
    """How far the customers are from the depot, in units of the farthest [n]."""
    far = instance.distances.pairs(0, np.arange(1, instance.nodes))
    return far / max(float(far.max(initial=0.0)), 1e-300)


def share(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values in units of the largest [n]."""
    return values / max(float(values.max(initial=0.0)), 1e-300)


@dataclass(frozen=True)
class Along:
    """The customers in the order of a tour: what a stretch of it costs as a route of its own.

    Parameters
    ----------
    visits
        The customers [n].
    out, back
        Costs from the depot to each, and from each to the depot [n].
    place
        Costs of the way along the tour from its first customer [n].
    """

    visits: NDArray[np.int64]
    out: NDArray[np.float64]
    back: NDArray[np.float64]
    place: NDArray[np.float64]

    @classmethod
    def of(cls, instance: Any, tour: Sequence[int]) -> Along:
        """A tour through the graph's nodes, which the depot is none of."""
        visits = np.asarray(tour, dtype=np.int64) + 1
        pairs = instance.distances.pairs
        legs = pairs(visits[:-1], visits[1:])
        return cls(visits, pairs(0, visits), pairs(visits, 0), np.r_[0.0, np.cumsum(legs)])

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sums of the values [n + 1] of the first 0..n customers."""
        return np.r_[0.0, np.cumsum(values[self.visits].astype(np.float64))]


def tour_itself(instance: Any, tour: Sequence[int]) -> list[int]:
    """The tour itself."""
    return list(tour)
