"""A first solution without LP: weighted violations, tight moves.

Weights grow where moves no longer help, as in Feasibility Jump (B. Luteberget, G. Sartor,
Mathematical Programming Computation 15, 2023); a move makes one violated row tight, as in
Local-MIP (P. Lin, M. Zou, S. Cai, CP 2024). The objective, once bounded, is one more row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.classical.compiling import kernel
from nco.mip.backend import Form, Vector

#: Entries of a row that are tried in one step.
SAMPLE = 30
#: Steps between two looks at the clock.
CHUNK = 20_000
#: A column stays put this long after it has moved.
TABU = 4


@kernel()
def _excess(activity: float, low: float, high: float) -> float:
    if activity < low:
        return low - activity
    if activity > high:
        return activity - high
    return 0.0


@kernel()
def _steps(
    row_start: NDArray,
    row_index: NDArray,
    row_value: NDArray,
    column_start: NDArray,
    column_index: NDArray,
    column_value: NDArray,
    low: NDArray,
    high: NDArray,
    tolerance: NDArray,
    lower: NDArray,
    upper: NDArray,
    whole: NDArray,
    x: NDArray,
    activity: NDArray,
    weight: NDArray,
    violated: NDArray,
    place: NDArray,
    count: int,
    last: NDArray,
    first: int,
    steps: int,
    seed: int,
) -> int:
    """Make moves; returns the number of violated rows, 0 if x is feasible."""
    np.random.seed(seed)  # noqa: NPY002
    for step in range(first, first + steps):
        if count == 0:
            return 0
        row = violated[np.random.randint(count)]  # noqa: NPY002
        begin, length = row_start[row], row_start[row + 1] - row_start[row]
        shift = np.random.randint(length) if length > 0 else 0  # noqa: NPY002
        best, best_column, best_value = -np.inf, -1, 0.0
        for k in range(min(length, SAMPLE)):
            e = begin + (shift + k) % length
            j, a = row_index[e], row_value[e]
            if last[j] > step:
                continue
            if activity[row] < low[row]:
                target = x[j] + (low[row] - activity[row]) / a
                up = a > 0
            else:
                target = x[j] + (high[row] - activity[row]) / a
                up = a < 0
            if whole[j]:
                target = np.ceil(target - 1e-9) if up else np.floor(target + 1e-9)
            target = min(max(target, lower[j]), upper[j])
            move = target - x[j]
            if abs(move) < 1e-9:
                continue
            score = 0.0
            for q in range(column_start[j], column_start[j + 1]):
                i = column_index[q]
                before = _excess(activity[i], low[i], high[i])
                after = _excess(activity[i] + column_value[q] * move, low[i], high[i])
                if before > tolerance[i]:
                    if after <= tolerance[i]:
                        score += weight[i]
                    elif after < before:
                        score += 0.2 * weight[i]
                    elif after > before:
                        score -= 0.2 * weight[i]
                elif after > tolerance[i]:
                    score -= weight[i]
            if score > best:
                best, best_column, best_value = score, j, target
        if best <= 0.0:
            for k in range(min(count, 50)):
                weight[violated[(k + step) % count]] += 1.0
            # Now and then a bad move leaves a dead end.
            if best_column < 0 or np.random.random() < 0.5:  # noqa: NPY002
                continue
        move = best_value - x[best_column]
        x[best_column] = best_value
        last[best_column] = step + TABU
        for q in range(column_start[best_column], column_start[best_column + 1]):
            i = column_index[q]
            activity[i] += column_value[q] * move
            bad = _excess(activity[i], low[i], high[i]) > tolerance[i]
            if bad and place[i] < 0:
                violated[count] = i
                place[i] = count
                count += 1
            elif not bad and place[i] >= 0:
                count -= 1
                other = violated[count]
                violated[place[i]] = other
                place[other] = place[i]
                place[i] = -1
    return count


def jump(
    form: Form,
    x: Vector,
    seed: int,
    stop: Callable[[], bool],
    *,
    steps: int = 1_000_000,
    cutoff: float | None = None,
) -> tuple[Vector, int]:
    """Move towards feasibility.

    Parameters
    ----------
    form
        The model.
    x
        Where to begin [n]; brought inside the bounds.
    seed
        Of the random choices.
    stop
        Asked every few thousand steps.
    steps
        Largest number of moves.
    cutoff
        Largest minimised objective that is wanted, or None.

    Returns
    -------
    Column values [n], and the number of rows they violate (0: feasible).
    """
    A, low, high = form.A, form.row_lower, form.row_upper
    if cutoff is not None:
        A = sparse.csr_array(sparse.vstack([A, sparse.csr_array(form.c[None])]))
        low = np.r_[low, -math.inf]
        high = np.r_[high, cutoff - form.offset]
    columns = sparse.csc_array(A)
    m = A.shape[0]
    x = form.rounded(np.array(x, dtype=np.float64))
    limit = np.maximum(
        1.0,
        np.minimum(
            np.where(np.isfinite(low), np.abs(low), np.inf),
            np.where(np.isfinite(high), np.abs(high), np.inf),
        ),
    )
    # A little inside of the tolerance of the final check.
    tolerance = 5e-7 * np.where(np.isfinite(limit), limit, 1.0)
    weight = np.ones(m)
    last = np.zeros(form.n, dtype=np.int64)
    done = 0
    while True:
        # Sums drift: they are made anew for each chunk.
        activity = A @ x
        bad = np.flatnonzero((low - activity > tolerance) | (activity - high > tolerance))
        count = len(bad)
        if count == 0 or done >= steps or stop():
            return x, count
        violated = np.zeros(m, dtype=np.int64)
        violated[:count] = bad
        place = np.full(m, -1, dtype=np.int64)
        place[bad] = np.arange(count)
        batch = min(CHUNK, steps - done)
        _steps(
            A.indptr.astype(np.int64), A.indices.astype(np.int64), A.data,
            columns.indptr.astype(np.int64), columns.indices.astype(np.int64), columns.data,
            low, high, tolerance, form.lower, form.upper, form.whole,
            x, activity, weight, violated, place, count, last,
            done, batch, (seed + done) % 2**31,
        )  # fmt: skip
        done += batch
