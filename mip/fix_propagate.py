"""Fix and propagate: whole columns one by one, with bound propagation after each.

T. Berthold, G. Hendel, Shift-and-propagate, Journal of Heuristics 21 (2015), and D.
Salvagnin, R. Roberti, M. Fischetti, A fix-propagate-repair heuristic for mixed integer
programming, Mathematical Programming Computation (2025), without the repair, which
`nco.mip.jump` does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel
from nco.mip.backend import Form, Vector

#: Row visits of one propagation.
MOST_VISITS = 2000
#: Columns fixed between two looks at the clock.
CHUNK = 4000


@kernel()
def _sums(
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    lower: NDArray,
    upper: NDArray,
    row: int,
    least: NDArray,
    most: NDArray,
    least_free: NDArray,
    most_free: NDArray,
) -> None:
    """Set a row's least and most activity: finite parts, and numbers of infinite ones."""
    least[row] = most[row] = 0.0
    least_free[row] = most_free[row] = 0
    for e in range(row_start[row], row_start[row + 1]):
        j, a = row_index[e], row_value[e]
        low, high = (a * lower[j], a * upper[j]) if a > 0 else (a * upper[j], a * lower[j])
        if low == -np.inf:
            least_free[row] += 1
        else:
            least[row] += low
        if high == np.inf:
            most_free[row] += 1
        else:
            most[row] += high


@kernel()
def _set(
    j: int,
    new_lower: float,
    new_upper: float,
    column_start: NDArray,
    column_index: NDArray,
    column_value: NDArray,
    lower: NDArray,
    upper: NDArray,
    least: NDArray,
    most: NDArray,
    least_free: NDArray,
    most_free: NDArray,
) -> None:
    """Give a column other bounds, and its rows other sums."""
    for q in range(column_start[j], column_start[j + 1]):
        i, a = column_index[q], column_value[q]
        if a > 0:
            old_low, old_high, low, high = a * lower[j], a * upper[j], a * new_lower, a * new_upper
        else:
            old_low, old_high, low, high = a * upper[j], a * lower[j], a * new_upper, a * new_lower
        if old_low == -np.inf:
            least_free[i] -= 1
        else:
            least[i] -= old_low
        if low == -np.inf:
            least_free[i] += 1
        else:
            least[i] += low
        if old_high == np.inf:
            most_free[i] -= 1
        else:
            most[i] -= old_high
        if high == np.inf:
            most_free[i] += 1
        else:
            most[i] += high
    lower[j], upper[j] = new_lower, new_upper


@kernel()
def _propagate(
    start: int,
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    column_start: NDArray,
    column_index: NDArray,
    column_value: NDArray,
    low: NDArray,
    high: NDArray,
    reach: NDArray,
    whole: NDArray,
    lower: NDArray,
    upper: NDArray,
    least: NDArray,
    most: NDArray,
    least_free: NDArray,
    most_free: NDArray,
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
        bottom = -np.inf if least_free[row] > 0 else least[row]
        top = np.inf if most_free[row] > 0 else most[row]
        # A row with room for its largest column tells nothing: most rows are not looked at.
        if bottom + reach[row] <= high[row] and top - reach[row] >= low[row]:
            continue
        if bottom >= low[row] and top <= high[row]:
            continue
        # Sums drift as bounds go and come.
        _sums(row_start, row_index, row_value, lower, upper, row,
              least, most, least_free, most_free)  # fmt: skip
        bottom_sum, bottom_free = least[row], least_free[row]
        top_sum, top_free = most[row], most_free[row]
        bottom = -np.inf if bottom_free > 0 else bottom_sum
        top = np.inf if top_free > 0 else top_sum
        slack = 1e-6 * max(1.0, min(abs(low[row]), abs(high[row])))
        if bottom > high[row] + slack or top < low[row] - slack:
            fine = False
            break
        for e in range(row_start[row], row_start[row + 1]):
            j, a = row_index[e], row_value[e]
            new_low, new_high = lower[j], upper[j]
            own_least, own_most = (
                (a * lower[j], a * upper[j]) if a > 0 else (a * upper[j], a * lower[j])
            )
            # What all others add up to: finite if none, or only this one, is infinite.
            others = bottom_sum - (own_least if own_least > -np.inf else 0.0)
            if high[row] < np.inf and bottom_free == (own_least == -np.inf):
                if a > 0:
                    new_high = min(new_high, (high[row] - others) / a)
                else:
                    new_low = max(new_low, (high[row] - others) / a)
            others = top_sum - (own_most if own_most < np.inf else 0.0)
            if low[row] > -np.inf and top_free == (own_most == np.inf):
                if a > 0:
                    new_low = max(new_low, (low[row] - others) / a)
                else:
                    new_high = min(new_high, (low[row] - others) / a)
            if whole[j]:
                # NumPy's keep infinite bounds; numba makes whole numbers of those of `math`.
                new_low, new_high = np.ceil(new_low - 1e-6), np.floor(new_high + 1e-6)
            if new_low <= lower[j] + 1e-7 and new_high >= upper[j] - 1e-7:
                continue
            if new_low > new_high + 1e-6 or depth >= len(trail):
                fine = False
                break
            trail[depth], trail_lower[depth], trail_upper[depth] = j, lower[j], upper[j]
            depth += 1
            # The row's sums are those before; older bounds are weaker, never wrong.
            new_low = max(lower[j], min(new_low, upper[j]))
            new_high = max(new_low, min(upper[j], new_high))
            _set(j, new_low, new_high, column_start, column_index, column_value,
                 lower, upper, least, most, least_free, most_free)  # fmt: skip
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


@kernel()
def _rows(
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    lower: NDArray,
    upper: NDArray,
    least: NDArray,
    most: NDArray,
    least_free: NDArray,
    most_free: NDArray,
    reach: NDArray,
) -> None:
    """Set the sums of all rows, and how far one column can move each."""
    for row in range(len(least)):
        _sums(row_start, row_index, row_value, lower, upper, row,
              least, most, least_free, most_free)  # fmt: skip
        reach[row] = 0.0
        for e in range(row_start[row], row_start[row + 1]):
            j = row_index[e]
            if lower[j] < upper[j]:
                reach[row] = max(reach[row], abs(row_value[e]) * (upper[j] - lower[j]))


@kernel()
def _fix(
    order: NDArray,
    wish: NDArray,
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    column_start: NDArray,
    column_index: NDArray,
    column_value: NDArray,
    low: NDArray,
    high: NDArray,
    reach: NDArray,
    whole: NDArray,
    lower: NDArray,
    upper: NDArray,
    least: NDArray,
    most: NDArray,
    least_free: NDArray,
    most_free: NDArray,
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
                elif value < upper[j] < np.inf:
                    value = upper[j]
                else:
                    value = value + 1.0 if value < upper[j] else value - 1.0
            before_lower, before_upper = lower[j], upper[j]
            _set(j, value, value, column_start, column_index, column_value,
                 lower, upper, least, most, least_free, most_free)  # fmt: skip
            fine, depth = _propagate(
                j, row_start, row_index, row_value, column_start, column_index, column_value,
                low, high, reach, whole, lower, upper, least, most, least_free, most_free,
                trail, trail_lower, trail_upper, queue, queued,
            )  # fmt: skip
            if fine:
                break
            for k in range(depth - 1, -1, -1):
                _set(trail[k], trail_lower[k], trail_upper[k],
                     column_start, column_index, column_value,
                     lower, upper, least, most, least_free, most_free)  # fmt: skip
            _set(j, before_lower, before_upper, column_start, column_index, column_value,
                 lower, upper, least, most, least_free, most_free)  # fmt: skip
        if lower[j] < upper[j]:
            # Both ways contradict: go on, something else may be mended later.
            failures += 1
            value = min(max(wish[j], lower[j]), upper[j])
            _set(j, value, value, column_start, column_index, column_value,
                 lower, upper, least, most, least_free, most_free)  # fmt: skip
    return failures


def fix_propagate(
    form: Form,
    wish: Vector,
    rng: np.random.Generator,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Vector, int]:
    """Fix whole columns near ``wish``, in random order of the most constrained first.

    Parameters
    ----------
    form
        The model.
    wish
        Preferred values [n].
    rng
        Breaks ties.
    stop
        Asked every few thousand columns; those left then keep their wishes.

    Returns
    -------
    Column values [n], continuous ones at the bound nearest to ``wish``, and the number of
    fixings that had to contradict a row.
    """
    columns = form.columns
    degree = np.diff(columns.indptr)[form.integers]
    order = form.integers[np.lexsort((rng.random(len(degree)), -degree))].astype(np.int64)
    wish = np.asarray(wish, dtype=np.float64)
    lower, upper = form.lower.copy(), form.upper.copy()
    rows = form.A.indptr.astype(np.int64), form.A.indices.astype(np.int64), form.A.data
    across = columns.indptr.astype(np.int64), columns.indices.astype(np.int64), columns.data
    least, most, reach = np.empty(form.m), np.empty(form.m), np.empty(form.m)
    least_free, most_free = np.empty(form.m, dtype=np.int64), np.empty(form.m, dtype=np.int64)
    _rows(*rows, lower, upper, least, most, least_free, most_free, reach)
    failures = 0
    for first in range(0, len(order), CHUNK):
        if stop():
            break
        failures += _fix(
            order[first : first + CHUNK], wish, *rows, *across, form.row_lower, form.row_upper,
            reach, form.whole, lower, upper, least, most, least_free, most_free,
        )  # fmt: skip
    return form.rounded(np.clip(wish, lower, upper)), int(failures)
