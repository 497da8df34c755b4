"""Parts of solutions as instances of their own, so that any solver can decide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Instance


@dataclass(frozen=True)
class Piece:
    """A part as an instance of its own.

    Parameters
    ----------
    instance
        The part alone.
    nodes
        The whole instance's numbers of its nodes or items.
    ends
        Whether nodes 1 and 2 are the ends of a path, which leads through a depot that the
        whole instance does not have.
    """

    instance: Instance[Any]
    nodes: NDArray[np.int64]
    ends: bool = False

    def actions(self, solution: Any) -> list[int] | None:
        """A solution as the whole instance records it; None where the path misses an end."""
        form = self.instance.solution_form
        if form == "routes":
            return [
                2 * int(self.nodes[node]) + (place == 0)
                for route in solution
                for place, node in enumerate(route)
            ]
        if self.ends:
            order = list(solution)
            order = order[::-1] if order[:1] == [2] else order
            if len(order) < 2 or (order[0], order[-1]) != (1, 2):
                return None
            solution = order[1:-1]
        return [int(self.nodes[node]) for node in solution]

    def solution(self, actions: Sequence[int]) -> Any:
        """What the whole instance has recorded [steps], as a solution of the part."""
        place = {int(node): at for at, node in enumerate(self.nodes)}
        form = self.instance.solution_form
        if form == "routes":
            routes: list[list[int]] = []
            for action in actions:
                if action % 2 or not routes:
                    routes.append([])
                routes[-1].append(place[action // 2])
            return routes
        inner = [place[node] for node in actions if node in place]
        return [1, *inner, 2] if self.ends else inner


def some_nodes(instance: Any, nodes: NDArray[np.int64], **changes: Any) -> Any:
    """An instance of some of the nodes of another, in that order.

    Parameters
    ----------
    instance
        With a row for every node in its arrays.
    nodes
        Their numbers.
    changes
        Fields with other values.
    """
    rows = {}
    for name in ("coords", "demands", "prizes", "penalties", "values", "weights"):
        if getattr(instance, name, None) is not None:
            rows[name] = getattr(instance, name)[nodes]
    if getattr(instance, "matrix", None) is not None:
        rows["matrix"] = instance.matrix[np.ix_(nodes, nodes)]
    none: dict[str, Any] = {"name": "", "ref_cost": None, "ref_solution": None, "ref_method": ""}
    return instance.replace(**(none | rows | changes))


def routes_piece(instance: Any, index: NDArray[np.int64], scalar: NDArray[Any]) -> Piece:
    """Some customers with the depot.

    Parameters
    ----------
    instance
        The whole.
    index, scalar
        Of the part's state, without what it is filled up with: depot twice, then customers.
    """
    nodes = index[1:]
    return Piece(some_nodes(instance, nodes), nodes)


def path_piece(
    instance: Any, index: NDArray[np.int64], limit: str, left: float, forced: Sequence[str]
) -> Piece:
    """A path between two nodes through some of the customers, as a tour.

    Where the ends are not the depot, another one takes its place beside them: every other
    way to it is longer than any tour.

    Parameters
    ----------
    instance
        The whole.
    index
        Both ends, then customers.
    limit, left
        The field of what is left of the limit, or due, and its value.
    forced
        Fields by which the ends are worth more than all customers together.
    """
    if index[0] == index[1] == 0:
        nodes = index[1:]
        return Piece(some_nodes(instance, nodes, **{limit: max(0.0, left)}), nodes)
    nodes = np.r_[0, index]
    m = len(nodes)
    costs = np.zeros((m, m))
    costs[1:, 1:] = instance.distances.pairs(index[:, None], index[None, :])
    np.fill_diagonal(costs, 0.0)
    costs[0, 3:] = costs[3:, 0] = 3.0 * (float(costs.max()) * m + abs(left))
    changes: dict[str, Any] = {"coords": None, "matrix": costs, "metric": "exact"}
    for name in ("prizes", "penalties"):
        if getattr(instance, name, None) is not None:
            values = getattr(instance, name)[nodes].astype(np.float64)
            values[:3] = 0.0
            values[1:3] = 2.0 * values.sum() + 1.0 if name in forced else 0.0
            changes[name] = values
    return Piece(some_nodes(instance, nodes, **changes, **{limit: max(0.0, left)}), nodes, True)
