"""Lift moves: better solutions from feasible ones, one column at a time, without LP.

The lift move of Local-MIP (P. Lin, M. Zou, S. Cai, An efficient local search solver for
mixed integer programming, CP 2024): a column goes as far in the direction of its cost as
all its rows allow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel
from nco.mip.backend import Form, Vector

#: Passes over all columns.
PASSES = 20


@kernel()
def _pass(
    order: NDArray,
    start: NDArray,
    index: NDArray,
    value: NDArray,
    c: NDArray,
    low: NDArray,
    high: NDArray,
    lower: NDArray,
    upper: NDArray,
    whole: NDArray,
    x: NDArray,
    activity: NDArray,
) -> int:
    """Lift the columns in this order; returns how many moved."""
    moved = 0
    for j in order:
        sign = -1.0 if c[j] > 0 else 1.0
        step = x[j] - lower[j] if sign < 0 else upper[j] - x[j]
        for q in range(start[j], start[j + 1]):
            i = index[q]
            slope = sign * value[q]
            room = high[i] - activity[i] if slope > 0 else low[i] - activity[i]
            step = min(step, max(0.0, room / slope))
            if step < 1e-9:
                break
        if whole[j]:
            step = np.floor(step + 1e-9)
        # An unbounded ray is the engines' to prove.
        if step < 1e-9 or not np.isfinite(step):
            continue
        x[j] += sign * step
        for q in range(start[j], start[j + 1]):
            activity[index[q]] += sign * step * value[q]
        moved += 1
    return moved


def lift(form: Form, x: Vector, rng: np.random.Generator, stop: Callable[[], bool]) -> Vector:
    """Column values [n] at least as good as the feasible ``x``, which stays as it is.

    Parameters
    ----------
    form
        The model.
    x
        Feasible column values [n].
    rng
        Chooses between two orders: by cost, and by cost per row of the column.
    stop
        Asked between passes.
    """
    x = np.array(form.rounded(x))
    columns = form.columns
    activity = form.A @ x
    used = np.flatnonzero((form.c != 0) & (form.lower < form.upper))
    weight = np.abs(form.c[used])
    if rng.random() < 0.5:
        weight = weight / (1.0 + np.diff(columns.indptr)[used])
    # Ties at random.
    order = used[np.lexsort((rng.random(len(used)), -weight))]
    for _ in range(PASSES):
        moved = _pass(
            order, columns.indptr.astype(np.int64), columns.indices.astype(np.int64),
            columns.data, form.c, form.row_lower, form.row_upper,
            form.lower, form.upper, form.whole, x, activity,
        )  # fmt: skip
        if moved == 0 or stop():
            break
    return x
