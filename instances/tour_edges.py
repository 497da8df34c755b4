"""Edges that a tour must use, and edges that are missing: checks, and costs for searches.

Pairs of nodes are edges, or arcs from the first to the second where direction matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.instances.core import MAX_MATRIX_NODES, Distances, UnsupportedError, frozen_array

if TYPE_CHECKING:
    from nco.instances.tsp import TSP

Indices = NDArray[np.int64]

#: Larger costs are not summed exactly.
LARGEST_COST = 1e12
#: A missing edge costs so many times the most that any other one does.
MISSING = 100.0


def edge_name(i: int, j: int, directed: bool) -> str:
    """How texts call an edge or an arc."""
    return f"arc {i}->{j}" if directed else f"edge {i}-{j}"


def edge_array(name: str, value: ArrayLike, n: int, directed: bool) -> Indices:
    """Pairs of nodes [m, 2], sorted, each once, read-only.

    Parameters
    ----------
    name
        Field name for the error texts.
    value
        Pairs of node indices; repetition does not matter.
    n
        Number of nodes.
    directed
        Whether the order within a pair matters.

    Raises
    ------
    ValueError
        When they are not pairs of two nodes.
    """
    raw = np.asarray(value)
    edges = frozen_array(name, raw.reshape(0, 2) if raw.size == 0 else raw, ndim=2)
    if edges.shape[1] != 2 or edges.dtype != np.int64:
        raise ValueError(f"{name} are not pairs of node indices [m, 2].")
    for i, j in edges[((edges < 0) | (edges >= n)).any(1)].tolist():
        raise ValueError(f"{name}: {edge_name(i, j, directed)}: nodes are 0..{n - 1}.")
    for i, j in edges[edges[:, 0] == edges[:, 1]].tolist():
        raise ValueError(f"{name}: {edge_name(i, j, directed)} joins a node to itself.")
    edges = np.unique(edges if directed else np.sort(edges, axis=1), axis=0)
    edges.setflags(write=False)
    return edges


def fixed_fault(
    fixed: Indices, n: int, directed: bool, numbers: Sequence[int] | None = None
) -> tuple[int, str] | None:
    """The first row [m, 2] at which no tour can hold all fixed edges, and why; or None.

    Parameters
    ----------
    fixed
        Pairs of two nodes; repetition does not matter.
    n
        Number of nodes.
    directed
        Whether they are arcs.
    numbers
        What the text calls the nodes [n]; by default 0..n-1.
    """
    names = range(n) if numbers is None else numbers
    root = list(range(n))
    size = [1] * n
    used: dict[tuple[int, int], int] = {}
    known = set()

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for row, (i, j) in enumerate(fixed.tolist()):
        pair = (i, j) if directed or i < j else (j, i)
        if pair in known:
            continue
        known.add(pair)
        for node, side in ((i, 0), (j, int(directed))):
            used[node, side] = used.get((node, side), 0) + 1
            if used[node, side] > (1 if directed else 2):
                if directed:
                    what = f"two fixed arcs {'enter' if side else 'leave'} node {names[node]}"
                else:
                    what = f"node {names[node]} has three fixed edges, a tour has two"
                return row, what
        a, b = find(i), find(j)
        if a != b:
            root[a] = b
            size[b] += size[a]
        elif size[a] < n:
            kind = "arcs" if directed else "edges"
            return row, f"fixed {kind} close a cycle of {size[a]} of {n} nodes"
    return None


def missing_fault(
    edges: Indices, n: int, directed: bool, numbers: Sequence[int] | None = None
) -> str | None:
    """Why no tour can be made of these edges, where a look at each node shows it.

    Parameters
    ----------
    edges
        The edges there are, each once.
    n, directed, numbers
        As in `fixed_fault`.
    """
    names = range(n) if numbers is None else numbers
    least = min(n - 1, 1 if directed else 2)
    for ends, what in (
        ((edges[:, 0], "arcs from it"), (edges[:, 1], "arcs to it"))
        if directed
        else ((edges, "edges"),)
    ):
        count = np.bincount(ends.reshape(-1), minlength=n)
        for k in np.flatnonzero(count < least).tolist():
            return f"node {names[k]} has too few {what}: {count[k]}, a tour needs {least}"
    return None


def unlisted_fault(
    fixed: Indices, edges: Indices, n: int, directed: bool, numbers: Sequence[int] | None = None
) -> tuple[int, str] | None:
    """The first fixed edge that is missing, as in `fixed_fault`."""
    names = range(n) if numbers is None else numbers
    ends = fixed if directed else np.sort(fixed, axis=1)
    for row in np.flatnonzero(~np.isin(_keys(ends, n), _keys(edges, n))).tolist():
        i, j = (names[k] for k in fixed[row].tolist())
        return row, f"fixed {edge_name(i, j, directed)} is not among the edges there are"
    return None


def validated(instance: TSP) -> tuple[Indices | None, Indices | None]:
    """The fields ``fixed`` and ``edges`` of an instance, checked; None where they say nothing.

    Raises
    ------
    ValueError
        When an edge is none, fixed edges are in no tour, or a node has too few edges.
    """
    n, directed = instance.n, instance.directed
    fixed = edges = None
    if instance.fixed is not None:
        fixed = edge_array("fixed", instance.fixed, n, directed)
        fault = fixed_fault(fixed, n, directed)
        if fault is not None:
            raise ValueError(f"{fault[1]}.")
        fixed = fixed if len(fixed) else None
    if instance.edges is not None:
        if n > MAX_MATRIX_NODES:
            raise ValueError(f"n = {n} > {MAX_MATRIX_NODES}: too many nodes for missing edges.")
        edges = edge_array("edges", instance.edges, n, directed)
        what = missing_fault(edges, n, directed)
        if what is not None:
            raise ValueError(f"{what}.")
        fault = None if fixed is None else unlisted_fault(fixed, edges, n, directed)
        if fault is not None:
            raise ValueError(f"{fault[1]}.")
    return fixed, edges


def _keys(edges: Indices, n: int) -> Indices:
    keys: Indices = edges[:, 0] * n + edges[:, 1]
    return keys


def edge_violations(instance: TSP, tour: Sequence[int]) -> list[str]:
    """Fixed edges that a permutation of the nodes leaves out, and missing ones it uses."""
    if not instance.restricted:
        return []
    n, directed = instance.n, instance.directed
    nodes = np.asarray(tour, dtype=np.int64)
    legs = np.stack([nodes, np.roll(nodes, -1)], axis=1)[: n if n > 1 else 0]
    legs = legs if directed else np.sort(legs, axis=1)
    problems = []
    if instance.fixed is not None:
        left_out = ~np.isin(_keys(instance.fixed, n), _keys(legs, n))
        problems += [
            f"{edge_name(i, j, directed)} is fixed but not in the tour"
            for i, j in instance.fixed[left_out][:3].tolist()
        ]
    if instance.edges is not None:
        missing = ~np.isin(_keys(legs, n), _keys(instance.edges, n))
        problems += [
            f"{edge_name(i, j, directed)} does not exist" for i, j in legs[missing][:3].tolist()
        ]
    return problems


def mended(instance: TSP, tour: Sequence[int]) -> list[int]:
    """A tour with every path of fixed edges whole, where its first node stood."""
    tour = [int(k) for k in tour]
    if instance.fixed is None or not edge_violations(instance, tour):
        return tour
    links: dict[int, list[int]] = {}
    for i, j in instance.fixed.tolist():
        links.setdefault(i, []).append(j)
        if not instance.directed:
            links.setdefault(j, []).append(i)
    if instance.directed:
        begins = sorted(links.keys() - set(instance.fixed[:, 1].tolist()))
    else:
        begins = [k for k, others in links.items() if len(others) == 1]
    path_of: dict[int, list[int]] = {}
    # Without any end the fixed edges are a whole tour.
    for begin in begins or tour[:1]:
        if begin in path_of:
            continue
        path = [begin]
        while following := [k for k in links.get(path[-1], []) if k not in path[-2:]]:
            if following[0] == begin:
                break
            path.append(following[0])
        path_of.update(dict.fromkeys(path, path))
    out: list[int] = []
    done: set[int] = set()
    for k in tour:
        if k in done:
            continue
        path = path_of.get(k, [k])
        if out and not instance.directed:
            near, far = instance.distances.pairs(out[-1], [path[0], path[-1]]).tolist()
            path = path if near <= far else path[::-1]
        out += path
        done.update(path)
    return out


class SearchDistances(Distances):
    """Costs whose shortest tours are those of an instance with fixed or missing edges.

    A fixed edge costs nothing and any other one 3 c more than it did, c the largest cost. A
    tour that lacks a fixed edge is then never shortest: three of its other edges can be
    exchanged for that one and two others, which saves 3 c and adds at most 2 c. Whole costs
    stay whole, unless they leave the range of costs. A missing edge is dear, but a sum of
    others may be dearer: such tours are refused when they are checked.

    Parameters
    ----------
    instance
        Whose costs.

    Raises
    ------
    UnsupportedError
        Above `MAX_MATRIX_NODES` nodes.
    """

    def __init__(self, instance: TSP):
        if instance.n > MAX_MATRIX_NODES:
            raise UnsupportedError(f"needs n <= {MAX_MATRIX_NODES:,} where edges are fixed")
        self.__dict__.update(instance.distances.__dict__)
        self.coords, self.metric, self._full = None, "exact", None
        self._base, self._fixed, self._edges = instance.distances, instance.fixed, instance.edges
        self.symmetric = not instance.directed
        self._surplus = 0.0

    @property
    def explicit(self) -> bool:
        """Coordinates alone do not give these costs."""
        return True

    @property
    def integral(self) -> bool:
        """Whether all costs are whole."""
        self.full_matrix()
        return self._integral

    @property
    def surplus(self) -> float:
        """By how much these costs make every feasible tour longer; nan where they were scaled."""
        self.full_matrix()
        return self._surplus

    def pairs(self, i: ArrayLike, j: ArrayLike) -> NDArray[np.float64]:
        """Costs from nodes ``i`` to nodes ``j``, broadcast against each other."""
        return np.asarray(self.matrix[np.asarray(i, dtype=np.intp), np.asarray(j, dtype=np.intp)])

    def row(self, i: int) -> NDArray[np.float64]:
        """Costs [n] from node ``i`` to every node."""
        return self.matrix[i]

    def _put(self, array: NDArray[Any], edges: Indices, values: Any) -> None:
        i, j = edges.T
        array[i, j] = values
        if self.symmetric:
            array[j, i] = values

    def _make(self, stop: Callable[[], bool]) -> NDArray[np.float64]:
        n, base, fixed, edges = self.n, self._base, self._fixed, self._edges
        known = None if edges is None else base.pairs(*edges.T)
        if known is None:
            costs = np.empty((n, n))
            for i in range(n):
                if i % 256 == 255 and stop():
                    raise TimeoutError("out of time.")
                costs[i] = base.row(i)
            np.fill_diagonal(costs, 0.0)
            top = float(costs.max())
        else:
            top = float(known.max(initial=0.0))
        extra = 0.0 if fixed is None else 3.0 * top or 1.0
        top += extra
        if edges is None or known is None:
            costs += extra
        else:
            top = MISSING * (top or 1.0)
            costs = np.full((n, n), top)
            self._put(costs, edges, known + extra)
        surplus = 0.0
        if fixed is not None:
            surplus = (n - len(fixed)) * extra - math.fsum(base.pairs(*fixed.T))
            self._put(costs, fixed, 0.0)
        np.fill_diagonal(costs, 0.0)
        if top > LARGEST_COST:
            costs *= LARGEST_COST / top
            self._integral, surplus = False, math.nan
        self._surplus = surplus
        return costs
