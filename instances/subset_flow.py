"""Flow models of tours through some customers, and of routes of which the longest counts.

Arcs and the flow that forbids subtours are as in `nco.instances.flow`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Sense
from nco.instances.flow import _groups, _lookup, _names, _Rows, _walks, arcs
from nco.instances.mip import MIP, MipView

if TYPE_CHECKING:
    from nco.instances.mtsp import MTSP
    from nco.instances.op import OP
    from nco.instances.pctsp import PCTSP


class _Flow:
    """Arc choices x and flow f, of which every visited customer keeps one unit."""

    def __init__(self, instance: OP | PCTSP | MTSP, routes: list[list[int]]):
        self.nodes = instance.nodes
        self.tail, self.head, self.exact = arcs(
            instance.distances, [[0, *route] for route in routes if route], hub=True
        )
        self.a = len(self.tail)
        self.x, self.f = np.arange(self.a), self.a + np.arange(self.a)
        self.cost = instance.distances.pairs(self.tail, self.head)
        self.into, self.out = self.head > 0, self.tail > 0
        self.rows = _Rows()

    def visit(self, column: Any, right: float) -> None:
        """One arc in and out of every customer, as often as its column plus ``right`` says."""
        inner = range(1, self.nodes)
        into, out, n = self.into, self.out, self.nodes - 1
        kept = [] if column is None else [(np.arange(n), column, -1.0)]
        self.rows.add("out", inner, [(self.tail[out] - 1, self.x[out], 1.0), *kept], right, right)
        self.rows.add("in", inner, [(self.head[into] - 1, self.x[into], 1.0), *kept], right, right)
        balance = [
            (self.head[into] - 1, self.f[into], 1.0),
            (self.tail[out] - 1, self.f[out], -1.0),
        ]
        self.rows.add("flow", inner, [*balance, *kept], right, right)
        most = np.where(self.head == 0, 0.0, np.where(self.tail == 0, n, n - 1.0))
        each = np.arange(self.a)
        self.rows.add(
            "most", self.pairs, [(each, self.f, 1.0), (each, self.x, -most)], -math.inf, 0.0
        )
        least = np.where(self.head == 0, 0.0, 1.0)
        self.rows.add(
            "least", self.pairs, [(each, self.f, 1.0), (each, self.x, -least)], 0.0, math.inf
        )

    def leave(self, most: int) -> None:
        """At most so many routes, all of which come back."""
        begin, end = self.x[self.tail == 0], self.x[self.head == 0]
        self.rows.add("depot", ["out"], [(0, begin, 1.0)], 0.0, most)
        self.rows.add("depot", ["back"], [(0, begin, 1.0), (0, end, -1.0)], 0.0, 0.0)

    @property
    def pairs(self) -> list[str]:
        return [f"{i}_{j}" for i, j in zip(self.tail.tolist(), self.head.tolist(), strict=True)]

    def used(self, route: list[int]) -> NDArray[np.intp]:
        """The arcs of a route, in driving order."""
        path = np.asarray([0, *route], dtype=np.intp)
        return _lookup(self.nodes, self.tail, self.head, path, np.roll(path, -1))

    def encode(self, values: NDArray[np.float64], route: list[int]) -> NDArray[np.intp]:
        used = self.used(route)
        values[used] = 1.0
        values[self.a + used] = np.arange(len(route), -1, -1)
        return used

    def decode(self, values: NDArray[np.float64]) -> list[list[int]]:
        walks = _walks(self.nodes, self.tail, self.head, values[: self.a])
        return [walk[1:] for walk in walks]


def subset_view(instance: OP | PCTSP, start: list[int] | None = None) -> MipView:
    """A tour through some customers as a MIP, with a column y for every customer.

    Parameters
    ----------
    instance
        Orienteering or prize-collecting TSP.
    start
        A tour whose arcs must be columns.
    """
    n = instance.n
    flow = _Flow(instance, [start] if start else [])
    a = flow.a
    y = 2 * a + np.arange(n)
    flow.visit(y, 0.0)
    flow.leave(1)
    data: dict[str, Any]
    prizes = instance.prizes[1:].astype(np.float64)
    if instance.problem == "op":
        limit = instance.max_length  # type: ignore[union-attr]
        flow.rows.add("length", ["limit"], [(0, flow.x, flow.cost)], -math.inf, limit)
        data = {
            "c": np.r_[np.zeros(2 * a), prizes],
            "offset": float(instance.prizes[0]),
            "sense": Sense.MAXIMIZE,
        }
    else:
        penalties = instance.penalties[1:].astype(np.float64)  # type: ignore[union-attr]
        least = instance.min_prize  # type: ignore[union-attr]
        flow.rows.add("prize", ["least"], [(0, y, prizes)], least, math.inf)
        data = {
            "c": np.r_[flow.cost, np.zeros(a), -penalties],
            "offset": float(penalties.sum()),
        }
    mip = MIP(
        **data,
        A=flow.rows.matrix(2 * a + n),
        row_lower=np.concatenate(flow.rows.lower),
        row_upper=np.concatenate(flow.rows.upper),
        upper=np.r_[np.ones(a), np.full(a, float(n)), np.ones(n)],
        integrality=np.r_[np.ones(a), np.zeros(a), np.ones(n)],
        columns=[*_names(flow.tail, flow.head), *(f"y_{k}" for k in range(1, n + 1))],
        rows=flow.rows.names,
        name=instance.name,
    )

    def encode(solution: list[int]) -> NDArray[np.float64]:
        values = np.zeros(2 * a + n)
        if solution:
            flow.encode(values, solution)
            values[2 * a - 1 + np.asarray(solution)] = 1.0
        return values

    groups = _groups(instance.nodes, flow.tail, flow.head, 2)
    return MipView(
        mip=mip,
        encode=encode,
        decode=lambda values: [k for route in flow.decode(values) for k in route],
        groups=[groups[0], *(np.r_[g, y[k]] for k, g in enumerate(groups[1:]))],
        exact=flow.exact,
    )


def longest_view(instance: MTSP, start: list[list[int]] | None = None) -> MipView:
    """Routes of which the longest counts: a second flow is the length travelled so far.

    Parameters
    ----------
    instance
        Min-max multiple TSP.
    start
        Routes whose arcs must be columns.
    """
    n, m = instance.n, instance.salesmen
    # Any solution bounds the length of all routes; this one uses arcs that are columns.
    known = start or [part.tolist() for part in np.array_split(np.arange(1, n + 1), min(m, n))]
    flow = _Flow(instance, known)
    a, cost = flow.a, flow.cost
    longest = float(instance.objective(known))
    flow.visit(None, 1.0)
    flow.leave(m)
    g, top = 2 * a + np.arange(a), 3 * a
    out, into = flow.out, flow.into
    tail, head = flow.tail, flow.head
    rows, each = flow.rows, np.arange(a)
    rows.add(
        "way",
        range(1, n + 1),
        [
            (tail[out] - 1, g[out], 1.0),
            (head[into] - 1, g[into], -1.0),
            (tail[out] - 1, flow.x[out], -cost[out]),
        ],
        0.0,
        0.0,
    )
    leaves = np.flatnonzero(tail == 0)
    first = np.arange(len(leaves))
    rows.add(
        "leave",
        head[leaves].tolist(),
        [(first, g[leaves], 1.0), (first, flow.x[leaves], -cost[leaves])],
        0.0,
        0.0,
    )
    rows.add("late", flow.pairs, [(each, g, 1.0), (each, flow.x, -longest)], -math.inf, 0.0)
    comes = np.flatnonzero(head == 0)
    last = np.arange(len(comes))
    rows.add(
        "longest", tail[comes].tolist(), [(last, g[comes], 1.0), (last, top, -1.0)], -math.inf, 0.0
    )
    mip = MIP(
        c=np.r_[np.zeros(3 * a), 1.0],
        A=rows.matrix(3 * a + 1),
        row_lower=np.concatenate(rows.lower),
        row_upper=np.concatenate(rows.upper),
        upper=np.r_[np.ones(a), np.full(a, float(n)), np.full(a + 1, longest)],
        integrality=np.r_[np.ones(a), np.zeros(2 * a + 1)],
        columns=[
            *_names(tail, head),
            *(f"g_{pair}" for pair in flow.pairs),
            "longest",
        ],
        rows=rows.names,
        name=instance.name,
    )

    def encode(solution: list[list[int]]) -> NDArray[np.float64]:
        values = np.zeros(3 * a + 1)
        for route in solution:
            if route:
                used = flow.encode(values, route)
                values[2 * a + used] = np.cumsum(cost[used])
                values[top] = max(values[top], values[2 * a + used[-1]])
        return values

    groups = _groups(instance.nodes, tail, head, 3)
    return MipView(
        mip=mip,
        encode=encode,
        decode=flow.decode,
        groups=[np.r_[groups[0], top], *groups[1:]],
        exact=flow.exact,
    )
