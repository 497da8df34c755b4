"""What a value network sees of a problem of one's own, whatever that is.

Items are the first stage's columns, entries those of a scenario. Both are described free of
scale, and above all by what they are worth at a few probes: linear relaxations of the recourse
at both ends and in the middle of the first stage's bounds give values, duals, and with them the
slope of the value in x and in xi. One network therefore serves instances of all sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, InputError, Sense, Status
from nco.mip.backend import Form
from nco.mip.highs import pass_model
from nco.robust.evaluation import recourse_model
from nco.robust.linear import linear_optimum
from nco.robust.model import Model
from nco.robust.two_stage import FirstStage, TwoStageProblem

Vector = NDArray[np.float64]
Fields = Mapping[str, NDArray[Any]]

#: Numbers of an item, of what a scenario does to it, and of an entry.
ITEM, MOVED, ENTRY = 16, 7, 10


def limits(first: FirstStage) -> tuple[Vector, Vector]:
    """Smallest values and widths [p] of first-stage columns; bounds, or what rows leave.

    Raises
    ------
    InputError
        When a column has no limits.
    """
    low, high = first.lower.copy(), first.upper.copy()
    for i in np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high)):
        for side, out in ((1.0, low), (-1.0, high)):
            if np.isfinite(out[i]):
                continue
            model = Model()
            cost = np.zeros(len(low))
            cost[i] = side
            x = model.add_columns(len(low), first.lower, first.upper, cost=cost)
            model.add_rows(first.A, x, first.row_lower, first.row_upper)
            form = Form(model.mip(Sense.MINIMIZE))
            status, found = linear_optimum(pass_model(form, relaxed=True), Budget())
            if status is not Status.OPTIMAL or found is None:
                raise InputError(
                    None, None, f"first-stage column {i} has no limits, which a network needs",
                    "give it bounds",
                )  # fmt: skip
            out[i] = found[i]
    if first.whole.any():
        low = np.where(first.whole, np.ceil(low - 1e-6), low)
        high = np.where(first.whole, np.floor(high + 1e-6), high)
    return low, np.where(high > low, high - low, 1.0)


@dataclass(frozen=True)
class _Probe:
    """A relaxed recourse: its value, y [m], and its slopes in x [p] and xi [k]."""

    value: float
    y: Vector
    price: Vector
    in_x: Vector
    in_xi: Vector


def _probe(problem: TwoStageProblem, x: Vector, xi: Vector) -> _Probe | None:
    """The relaxed recourse at one first stage and scenario; None without an optimum."""
    affine, stage = problem.affine, problem.stage(xi)
    model, _ = recourse_model(stage, x)
    highs = pass_model(Form(model.mip(Sense.MAXIMIZE)), relaxed=True)
    status, y = linear_optimum(highs, Budget())
    if status is not Status.OPTIMAL or y is None:
        return None
    # The engine minimises, so that a unit of a limit adds minus its dual to the value.
    price = -np.array(highs.getSolution().row_dual)
    slope, _ = affine.linear(x, y)
    return _Probe(
        float(stage.q @ y) + stage.offset + float(stage.p @ x),
        y,
        price,
        np.asarray(stage.p - stage.T.T @ price),
        np.asarray(slope - affine.slopes(x, y).T @ price),
    )


def _probes(
    problem: TwoStageProblem, low: Vector, width: Vector, nominal: Vector
) -> list[list[_Probe]]:
    """Probes at both ends and in the middle: in the nominal scenario and a bad one for it."""
    out = []
    for share in (0.0, 0.5, 1.0):
        x = problem.whole_x(low + share * width)
        first = _probe(problem, x, nominal)
        slope = np.zeros(len(nominal)) if first is None else first.in_xi
        second = _probe(problem, x, problem.uncertainty.worst_case(slope)[0])
        out.append([p for p in (first, second) if p is not None])
    return out


def _means(probes: list[list[_Probe]], name: str, size: int) -> Vector:
    """Mean of a number over the scenarios at each x [3, size]; where there is none, over all."""
    every = [np.atleast_1d(getattr(p, name)) for group in probes for p in group]
    default = np.mean(every, axis=0) if every else np.zeros(size)
    return np.array([
        np.mean([np.atleast_1d(getattr(p, name)) for p in group], axis=0) if group else default
        for group in probes
    ])  # fmt: skip


def _shares(matrix: Any, width: Vector, more: Vector) -> tuple[Vector, Vector]:
    """How much of its rows a column is, on average, and the share of rows that it is in [p]."""
    size = np.maximum(1e-12, np.abs(matrix) @ width + more)
    touched = sparse.csr_array(np.abs(matrix).sign())
    count = np.asarray(touched.sum(0)).reshape(-1)
    part = np.asarray(np.abs(matrix).T @ (1.0 / size)).reshape(-1) * width
    return part / np.maximum(1, count), count / max(1, matrix.shape[0])


def describe(problem: TwoStageProblem) -> dict[str, Vector]:
    """What the network sees.

    Returns
    -------
    ``items`` [p, `ITEM`], ``slope`` [p, `MOVED`, k], ``entries`` [k, `ENTRY`], the middle
    ``center`` and half the range ``half`` of a scenario [k], ``low`` and ``width`` of x [p],
    and the ``scale`` of values [].

    Raises
    ------
    InputError
        When a first-stage column has no limits.
    """
    # Baselines may start from this network.
    from nco.robust.baselines import nominal_scenario

    first, affine = problem.first, problem.affine
    low, width = limits(first)
    smallest, largest = problem.uncertainty.bounds()
    center, half = 0.5 * (smallest + largest), 0.5 * (largest - smallest)
    half = np.where(half > 0.0, half, 1.0)
    p, k, (r, m) = len(low), len(center), affine.W.shape
    nominal = nominal_scenario(problem.uncertainty)
    probes = _probes(problem, low, width, nominal)
    values = _means(probes, "value", 1)
    scale = float(np.abs(values).max()) or float(np.abs(first.c) @ width) or 1.0
    prices = _means(probes, "price", r).mean(0)
    size_of_price = np.abs(_means(probes, "price", r)).mean(0)
    y = np.abs(_means(probes, "y", m)).mean(0)
    in_x, in_xi = _means(probes, "in_x", p), _means(probes, "in_xi", k)

    worth = width * p / scale
    limit = np.where(np.isfinite(affine.row_lower), affine.row_lower, affine.row_upper)
    limit = np.where(np.isfinite(limit), limit, 0.0)
    h = affine.h_xi.toarray() * half
    touch = np.abs(affine.T).sign()
    for more in affine.T_xi.values():
        touch = (touch + np.abs(more)).sign()
    touch = sparse.csr_array(touch).T.tocsr()
    more = np.abs(limit) + np.abs(h).sum(1)
    part, rows = _shares(affine.T, width, more)
    own = np.where(np.isfinite(first.row_lower), first.row_lower, first.row_upper)
    own_part, own_rows = _shares(first.A, width, np.abs(np.where(np.isfinite(own), own, 0.0)))
    items = np.stack([
        first.c * worth, affine.p * worth, *(in_x * worth), part, rows, own_part, own_rows,
        first.whole, np.where(first.whole, 1.0 / width, 0.0), np.full(p, 1.0 / p),
        *np.broadcast_to(values / scale, (3, p)), touch @ (size_of_price * limit) * (p / scale),
    ], -1)  # fmt: skip

    # What scenarios do to a column of x: by way of its rows and of recourses that share them.
    size = np.maximum(1e-12, np.abs(affine.T) @ width + more)
    count = np.maximum(1.0, np.asarray(touch.sum(1)).reshape(-1, 1))
    shared = (touch @ np.abs(affine.W)).sign()
    in_T, in_W = np.zeros((p, k)), np.zeros((r, k))
    for j, matrix in affine.T_xi.items():
        in_T[:, j] = -(matrix.T @ prices)
    for j, matrix in affine.W_xi.items():
        in_W[:, j] = matrix @ y
    q_xi, p_xi = affine.q_xi.toarray(), affine.p_xi.toarray()
    slope = np.stack([
        touch @ (size_of_price[:, None] * h) * (p / scale),
        touch @ (h / size[:, None]) / count,
        p_xi * half * worth[:, None],
        in_T * half * worth[:, None],
        shared @ (q_xi * half * y[:, None]) * (p / scale),
        touch @ (size_of_price[:, None] * in_W * half) * (p / scale),
        np.broadcast_to(in_xi.mean(0) * half / scale, (p, k)),
    ], 1)  # fmt: skip

    hit, late, early = h != 0.0, q_xi != 0.0, p_xi != 0.0
    for parts, columns in ((affine.T_xi, early), (affine.W_xi, late)):
        for j, matrix in parts.items():
            meets = sparse.csr_array(matrix).toarray() != 0.0
            hit[:, j] |= meets.any(1)
            columns[:, j] |= meets.any(0)
    entries = np.stack([
        *(in_xi * half * k / scale), hit.sum(0) / max(1, r), late.sum(0) / m, early.sum(0) / p,
        size_of_price @ np.abs(h) * (k / scale), y @ np.abs(q_xi) * half * (k / scale),
        np.full(k, 1.0 / k), (nominal - center) / half,
    ], -1)  # fmt: skip
    return {
        "items": items, "slope": slope, "entries": entries, "center": center, "half": half,
        "low": low, "width": width, "scale": np.asarray(scale),
    }  # fmt: skip


@dataclass(frozen=True)
class OwnEncoder:
    """Any two-stage problem: columns of x as items, scenario entries as a set of their own."""

    names: ClassVar[tuple[str, ...]] = (
        "items", "slope", "entries", "center", "half", "low", "width", "scale",
    )  # fmt: skip
    scored: ClassVar[bool] = True
    #: What a recourse may have no limits for is not in masters.
    master: ClassVar[str] = "value"

    def fields(self, instance: Any) -> dict[str, NDArray[Any]]:
        """The description of one instance, g = 1."""
        return {name: value[None] for name, value in describe(instance.two_stage).items()}

    def features(self, fields: Fields) -> dict[str, Vector]:
        """Of columns: worth, rows, bounds, kind; of entries: worth, and what they move."""
        return {"items": np.asarray(fields["items"]), "entries": np.asarray(fields["entries"])}

    def scenario(self, fields: Fields, xi: Vector) -> dict[str, Vector]:
        """What moves at each column, and where entries are within their ranges, -1 to 1."""
        place = (xi - fields["center"][:, None]) / fields["half"][:, None]
        moved = np.einsum("gnmk,gbk->gbnm", fields["slope"], place)
        return {"items": moved, "entries": place[..., None]}

    def scale(self, fields: Fields) -> Vector:
        """The largest value of the probes."""
        return np.asarray(fields["scale"], dtype=float)

    def seen(self, problem: TwoStageProblem) -> NDArray[np.intp]:
        """All."""
        return np.arange(problem.n)
