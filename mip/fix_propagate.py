"""Fix and propagate: whole columns one by one, with bound propagation after each.

T. Berthold, G. Hendel, Shift-and-propagate, Journal of Heuristics 21 (2015), and D.
Salvagnin, R. Roberti, M. Fischetti, A fix-propagate-repair heuristic for mixed integer
programming, Mathematical Programming Computation (2025), without the repair, which
`nco.mip.jump` does.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from nco.mip.backend import Form, Vector

#: Row visits of one propagation.
MOST_VISITS = 2000


@numba.njit(cache=True, nogil=True)
def _propagate(
    start: int,
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    column_start: NDArray,
    column_index: NDArray,
    low: NDArray,
    high: NDArray,
    whole: NDArray,
    lower: NDArray,
    upper: NDArray,
    trail: NDArray,
    trail_lower: NDArray,
    trail_upper: NDArray,
    queue: NDArray,
    queued: NDArray,
) -> tuple[bool, int]:
    """Tighten bounds from the rows of column ``start``; (False, .) on a contradiction."""
    depth, head, tail = 0, 0, 0
    size = len(queue)
    for q in range(column_start[start], column_start[start + 1]):
        queue[tail % size] = column_index[q]
        queued[column_index[q]] = True
        tail += 1
    visits, fine = 0, True
    while head < tail and visits < MOST_VISITS:
        row = queue[head % size]
        queued[row] = False
        head += 1
        visits += 1
        least, most = 0.0, 0.0
        for e in range(row_start[row], row_start[row + 1]):
            j, a = row_index[e], row_value[e]
            least += a * lower[j] if a > 0 else a * upper[j]
            most += a * upper[j] if a > 0 else a * lower[j]
        slack = 1e-6 * max(1.0, min(abs(low[row]), abs(high[row])))
        if least > high[row] + slack or most < low[row] - slack:
            fine = False
            break
        if least >= low[row] and most <= high[row]:
            continue
        for e in range(row_start[row], row_start[row + 1]):
            j, a = row_index[e], row_value[e]
            new_low, new_high = lower[j], upper[j]
            if high[row] < np.inf and least > -np.inf:
                rest = high[row] - (least - (a * lower[j] if a > 0 else a * upper[j]))
                if a > 0:
                    new_high = min(new_high, rest / a)
                else:
                    new_low = max(new_low, rest / a)
            if low[row] > -np.inf and most < np.inf:
                rest = low[row] - (most - (a * upper[j] if a > 0 else a * lower[j]))
                if a > 0:
                    new_low = max(new_low, rest / a)
                else:
                    new_high = min(new_high, rest / a)
            if whole[j]:
                new_low, new_high = math.ceil(new_low - 1e-6), math.floor(new_high + 1e-6)
            if new_low <= lower[j] + 1e-7 and new_high >= upper[j] - 1e-7:
                continue
            if new_low > new_high + 1e-6 or depth >= len(trail):
                fine = False
                break
            trail[depth], trail_lower[depth], trail_upper[depth] = j, lower[j], upper[j]
            depth += 1
            # The row's sums are those before; older bounds are weaker, never wrong.
            lower[j] = max(lower[j], min(new_low, upper[j]))
            upper[j] = max(lower[j], min(upper[j], new_high))
            for q in range(column_start[j], column_start[j + 1]):
                i = column_index[q]
                if not queued[i] and i != row and tail - head < size:
                    queue[tail % size] = i
                    queued[i] = True
                    tail += 1
        if not fine:
            break
    while head < tail:
        queued[queue[head % size]] = False
        head += 1
    return fine, depth


@numba.njit(cache=True, nogil=True)
def _fix(
    order: NDArray,
    wish: NDArray,
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    column_start: NDArray,
    column_index: NDArray,
    low: NDArray,
    high: NDArray,
    whole: NDArray,
    lower: NDArray,
    upper: NDArray,
) -> int:
    """Fix the columns of ``order``; returns how many fixings ended in a contradiction."""
    n, m = len(lower), len(low)
    trail = np.empty(4 * n + 64, dtype=np.int64)
    trail_lower, trail_upper = np.empty(len(trail)), np.empty(len(trail))
    queue, queued = np.empty(m + 1, dtype=np.int64), np.zeros(m, dtype=np.bool_)
    failures = 0
    for j in order:
        if lower[j] == upper[j]:
            continue
        value = min(max(wish[j], lower[j]), upper[j])
        for attempt in range(2):
            if attempt == 1:
                # The other end, or a step away from an infinite one.
                middle = 0.5 * (lower[j] + upper[j])
                if value > middle and lower[j] > -np.inf:
                    value = lower[j]
                elif upper[j] < np.inf:
                    value = upper[j]
                else:
                    value = value + 1.0
            before_lower, before_upper = lower[j], upper[j]
            lower[j] = upper[j] = value
            fine, depth = _propagate(
                j, row_start, row_index, row_value, column_start, column_index, low, high,
                whole, lower, upper, trail, trail_lower, trail_upper, queue, queued,
            )  # fmt: skip
            if fine:
                break
            for k in range(depth - 1, -1, -1):
                lower[trail[k]], upper[trail[k]] = trail_lower[k], trail_upper[k]
            lower[j], upper[j] = before_lower, before_upper
        if lower[j] < upper[j]:
            # Both ways contradict: go on, something else may be mended later.
            failures += 1
            lower[j] = upper[j] = min(max(wish[j], lower[j]), upper[j])
    return failures


def fix_propagate(form: Form, wish: Vector, rng: np.random.Generator) -> tuple[Vector, int]:
    """Fix whole columns near ``wish``, in random order of the most constrained first.

    Parameters
    ----------
    form
        The model.
    wish
        Preferred values [n].
    rng
        Breaks ties.

    Returns
    -------
    Column values [n], continuous ones at the bound nearest to ``wish``, and the number of
    fixings that had to contradict a row.
    """
    columns = form.columns
    degree = np.diff(columns.indptr)[form.integers]
    order = form.integers[np.lexsort((rng.random(len(degree)), -degree))]
    lower, upper = form.lower.copy(), form.upper.copy()
    failures = _fix(
        order.astype(np.int64),
        np.asarray(wish, dtype=np.float64),
        form.A.indptr.astype(np.int64),
        form.A.indices.astype(np.int64),
        form.A.data,
        columns.indptr.astype(np.int64),
        columns.indices.astype(np.int64),
        form.row_lower,
        form.row_upper,
        form.whole,
        lower,
        upper,
    )
    return form.rounded(np.clip(wish, lower, upper)), int(failures)
