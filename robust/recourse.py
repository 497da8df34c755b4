"""Exact second stages of the knapsack family, compiled.

The recourse of the two-stage knapsack and of capital budgeting, with and without loans,
is a knapsack in which each item offers nothing, a first or a second option. One kernel
solves it: Lagrangian bound of the linear relaxation, then dynamic programming over the
items in order of what leaving their choice in the relaxation costs (D. Pisinger, A minimal
algorithm for the multiple-choice knapsack problem, EJOR 83, 1995).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nco.classical.compiling import floats, kernel

Vector = NDArray[np.float64]

#: Relative improvement below which two values are the same; with fractional weights, values
#: as near as that are without number, and searching for the best of them never ends.
_SAME, _NEAR = 1e-12, 1e-6
#: What fits exactly but for rounding fits: 0.1 and 0.2 in 0.3. A share of the capacity.
_HAIR = 1e-9
#: With fractional weights, no list has more states than this for long: the items that are left
#: get a list of their own, and then both are searched for the best pair (E. Horowitz and S. Sahni,
#: Computing partitions with applications to the knapsack problem, J. ACM 21, 1974). Items beyond
#: that stay as they are in the relaxation; there are more than 1 << 28 pairs to choose from then.
_MOST = 1 << 14


@kernel()
def _hull(v1, w1, v2, w2):
    """Increments of the items' upper hulls: slope, value, weight, item, option reached."""
    n = len(v1)
    slope = np.empty(2 * n)
    dv = np.empty(2 * n)
    dw = np.empty(2 * n)
    item = np.empty(2 * n, dtype=np.int64)
    option = np.empty(2 * n, dtype=np.int64)
    m = 0
    for i in range(n):
        a, b = v1[i] > 0.0, v2[i] > 0.0
        # An option that is no better than a lighter one is never needed.
        if a and b:
            if w2[i] <= w1[i] and v2[i] >= v1[i]:
                a = False
            elif w1[i] <= w2[i] and v1[i] >= v2[i]:
                b = False
        if a and b:
            first, second = 1, 2
            fv, fw, sv, sw = v1[i], w1[i], v2[i], w2[i]
            if w2[i] < w1[i]:
                first, second = 2, 1
                fv, fw, sv, sw = v2[i], w2[i], v1[i], w1[i]
            one = fv / fw if fw > 0.0 else np.inf
            two = (sv - fv) / (sw - fw)
            if two < one:
                slope[m], dv[m], dw[m], item[m], option[m] = one, fv, fw, i, first
                slope[m + 1], dv[m + 1], dw[m + 1] = two, sv - fv, sw - fw
                item[m + 1], option[m + 1] = i, second
                m += 2
                continue
            a, b = second == 1, second == 2
        if a:
            slope[m] = v1[i] / w1[i] if w1[i] > 0.0 else np.inf
            dv[m], dw[m], item[m], option[m] = v1[i], w1[i], i, 1
            m += 1
        elif b:
            slope[m] = v2[i] / w2[i] if w2[i] > 0.0 else np.inf
            dv[m], dw[m], item[m], option[m] = v2[i], w2[i], i, 2
            m += 1
    return slope[:m], dv[:m], dw[:m], item[:m], option[:m]


@kernel()
def _merge(w, v, h, count, w_new, v_new, h_new, count_new, w_out, v_out, h_out):
    """Merge two lists of states by weight; keep those worth more than any lighter one."""
    i = j = k = 0
    best = -np.inf
    while i < count or j < count_new:
        if j >= count_new or (
            i < count and (w[i] < w_new[j] or (w[i] == w_new[j] and v[i] >= v_new[j]))
        ):
            weight, value, history = w[i], v[i], h[i]
            i += 1
        else:
            weight, value, history = w_new[j], v_new[j], h_new[j]
            j += 1
        if value > best:
            best = value
            w_out[k], v_out[k], h_out[k] = weight, value, history
            k += 1
    return k


@kernel()
def _solve(v1, w1, v2, w2, capacity, choice, same, enough, floor):
    """Best value within the capacity; ``choice`` [n] becomes the options taken.

    Improvements below ``same`` are not sought, nor any once the value is above ``enough``. If
    no value is above ``floor``, that is the answer, and the choice may be any.
    """
    n = len(v1)
    choice[:] = 0
    slope, dv, dw, item, option = _hull(v1, w1, v2, w2)
    order = np.argsort(-slope, kind="mergesort")
    base = np.zeros(n, dtype=np.int64)
    base_value = base_weight = 0.0
    place = len(order)
    for position in range(len(order)):
        k = order[position]
        if base_weight + dw[k] > capacity:
            place = position
            break
        base_weight += dw[k]
        base_value += dv[k]
        base[item[k]] = option[k]
    best = base_value
    choice[:] = base
    if place == len(order):
        return best
    # A quick incumbent: whatever still fits, in order of slope.
    weight, value = base_weight, base_value
    closed = np.zeros(n, dtype=np.bool_)
    for position in range(place, len(order)):
        k = order[position]
        i = item[k]
        if not closed[i] and weight + dw[k] <= capacity:
            weight += dw[k]
            value += dv[k]
            choice[i] = option[k]
        else:
            closed[i] = True
    best = value
    if best > enough:
        return best
    rate = slope[order[place]]
    bound = base_value + (capacity - base_weight) * rate
    if bound <= floor:
        return floor
    best = max(best, floor)
    # What each item loses, at the price `rate` of capacity, by another option.
    loss = np.full((n, 3), np.inf)
    least = np.full(n, np.inf)
    for i in range(n):
        b = base[i]
        vb = 0.0 if b == 0 else (v1[i] if b == 1 else v2[i])
        wb = 0.0 if b == 0 else (w1[i] if b == 1 else w2[i])
        for o in range(3):
            if o == b or (o == 1 and v1[i] <= 0.0) or (o == 2 and v2[i] <= 0.0):
                continue
            vo = 0.0 if o == 0 else (v1[i] if o == 1 else v2[i])
            wo = 0.0 if o == 0 else (w1[i] if o == 1 else w2[i])
            loss[i, o] = max(0.0, (vb - rate * wb) - (vo - rate * wo))
            least[i] = min(least[i], loss[i, o])
    ranks = np.argsort(least, kind="mergesort")
    size = 64
    w, v, h = np.empty(size), np.empty(size), np.empty(size, dtype=np.int64)
    w_alt, v_alt, h_alt = np.empty(size), np.empty(size), np.empty(size, dtype=np.int64)
    w_out, v_out, h_out = np.empty(size), np.empty(size), np.empty(size, dtype=np.int64)
    before = np.empty(256, dtype=np.int64)
    move = np.empty(256, dtype=np.int64)
    past = 0
    w[0], v[0], h[0] = base_weight, base_value, -1
    count = 1
    winner = partner = -2
    # The first list, once it is long, and its states.
    w_one, v_one, h_one = w[:0], v[:0], h[:0]
    for position in range(n):
        i = ranks[position]
        slack = same * max(1.0, abs(best))
        if not bound - least[i] > best + slack:
            break
        following = least[ranks[position + 1]] if position + 1 < n else np.inf
        b = base[i]
        vb = 0.0 if b == 0 else (v1[i] if b == 1 else v2[i])
        wb = 0.0 if b == 0 else (w1[i] if b == 1 else w2[i])
        old = count
        # States as they were; the two alternatives are merged in one after the other.
        w_old, v_old, h_old = w[:old].copy(), v[:old].copy(), h[:old].copy()
        for o in range(3):
            if not np.isfinite(loss[i, o]):
                continue
            vo = 0.0 if o == 0 else (v1[i] if o == 1 else v2[i])
            wo = 0.0 if o == 0 else (w1[i] if o == 1 else w2[i])
            if len(w_alt) < old:
                w_alt, v_alt = np.empty(2 * old), np.empty(2 * old)
                h_alt = np.empty(2 * old, dtype=np.int64)
            made = 0
            for s in range(old):
                weight, value = w_old[s] + wo - wb, v_old[s] + vo - vb
                # The state's own bound: value and remaining capacity at the price.
                if not value + (capacity - weight) * rate > best + slack:
                    continue
                if past == len(before):
                    longer = np.empty(2 * past, dtype=np.int64)
                    longer[:past] = before
                    before = longer
                    longer = np.empty(2 * past, dtype=np.int64)
                    longer[:past] = move
                    move = longer
                before[past], move[past] = h_old[s], 3 * i + o
                w_alt[made], v_alt[made], h_alt[made] = weight, value, past
                if weight <= capacity and value > best + slack:
                    best = value
                    slack = same * max(1.0, abs(best))
                    winner, partner = past, -2
                past += 1
                made += 1
                if best > enough:
                    break
            if len(w_out) < count + made:
                size = 2 * (count + made)
                w_out, v_out = np.empty(size), np.empty(size)
                h_out = np.empty(size, dtype=np.int64)
            count = _merge(w, v, h, count, w_alt, v_alt, h_alt, made, w_out, v_out, h_out)
            if best > enough:
                break
            w, w_out = w_out, w
            v, v_out = v_out, v
            h, h_out = h_out, h
        if best > enough:
            break
        # Any further gain costs at least the next item's loss; in a pair, it may be the other's.
        further = 0.0 if len(w_one) else following
        kept = 0
        for s in range(count):
            if v[s] + (capacity - w[s]) * rate - further > best + slack:
                w[kept], v[kept], h[kept] = w[s], v[s], h[s]
                kept += 1
        count = kept
        if count == 0:
            break
        if same > _SAME and count > _MOST:
            if len(w_one):
                break
            w_one, v_one, h_one = w[:count].copy(), v[:count].copy(), h[:count].copy()
            w[0], v[0], h[0] = base_weight, base_value, -1
            count = 1
    if len(w_one) and best <= enough:
        slack = same * max(1.0, abs(best))
        s = count - 1
        for k in range(len(w_one)):
            while s >= 0 and w_one[k] + (w[s] - base_weight) > capacity:
                s -= 1
            if s < 0:
                break
            value = v_one[k] + (v[s] - base_value)
            if value > best + slack:
                best = value
                slack = same * max(1.0, abs(best))
                winner, partner = h_one[k], h[s]
    if winner >= 0 or partner >= 0:
        choice[:] = base
        for last in (winner, partner):
            while last >= 0:
                choice[move[last] // 3] = move[last] % 3
                last = before[last]
    return best


def choose_options(
    v1: ArrayLike, w1: ArrayLike, v2: ArrayLike, w2: ArrayLike, capacity: float
) -> tuple[float, NDArray[np.int64]]:
    """The most valuable choice of no, the first or the second option of every item.

    Parameters
    ----------
    v1, w1, v2, w2
        Values and weights of the options [n]; one with a value <= 0 is never taken.
    capacity
        Largest total weight.

    Returns
    -------
    The value and the options taken [n], 0, 1 or 2.

    Raises
    ------
    ValueError
        When the capacity or a weight is negative, or a number is not finite.
    """
    arrays = [floats(a) for a in (v1, w1, v2, w2)]
    if not all(np.isfinite(a).all() for a in arrays) or not np.isfinite(capacity):
        raise ValueError("values, weights and capacity must be finite.")
    if capacity < 0 or (arrays[1] < 0).any() or (arrays[3] < 0).any():
        raise ValueError("weights and capacity must not be negative.")
    choice = np.zeros(len(arrays[0]), dtype=np.int64)
    one, two, three, four = arrays
    value = _solve(one, two, three, four, float(capacity), choice, _SAME, np.inf, -np.inf)
    return float(value), choice


@kernel()
def _knapsack(f, d, c, t, capacity, x, xi, values, y, r):
    n = len(f)
    choice = np.empty(n, dtype=np.int64)
    v1, w1, v2, w2 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for a in range(len(x)):
        for b in range(len(xi)):
            for i in range(n):
                on = 1.0 if x[a, i] > 0.5 else 0.0
                v1[i], w1[i] = on * (f[i] - d[i] * xi[b, i]), on * c[i]
                # Without a loss to repair, the second option is never better.
                again = on if xi[b, i] > 0.0 else 0.0
                v2[i], w2[i] = again * f[i], again * (c[i] + t[i])
            values[a, b] = _solve(v1, w1, v2, w2, capacity, choice, _SAME, np.inf, -np.inf)
            for i in range(n):
                y[a, b, i] = choice[i] > 0
                r[a, b, i] = choice[i] == 2


def knapsack_recourse(
    f: ArrayLike,
    d: ArrayLike,
    c: ArrayLike,
    t: ArrayLike,
    capacity: float,
    x: ArrayLike,
    xi: ArrayLike,
) -> tuple[Vector, NDArray[np.bool_], NDArray[np.bool_]]:
    """Second stages of the two-stage knapsack, for all pairs of first stage and scenario.

    Maximise ``sum (f - d xi) y + d xi r`` over ``sum c y + t r <= C, r <= y <= x`` (A. Arslan
    and B. Detienne, INFORMS J. Computing 34, 2022, section 5.1).

    Parameters
    ----------
    f, d, c, t
        Outsourcing costs, largest degradations, weights and repair weights [n].
    capacity
        C.
    x, xi
        First stages [a, n] and scenarios [b, n].

    Returns
    -------
    Values [a, b], and y and r [a, b, n].
    """
    data = [floats(v) for v in (f, d, c, t)]
    first, scenarios = floats(np.atleast_2d(x)), floats(np.atleast_2d(xi))
    n, room = len(data[0]), capacity * (1.0 + _HAIR)
    shape = (len(first), len(scenarios))
    values = np.empty(shape)
    y, r = np.empty((*shape, n), dtype=np.bool_), np.empty((*shape, n), dtype=np.bool_)
    _knapsack(data[0], data[1], data[2], data[3], room, first, scenarios, values, y, r)
    return values, y, r


@kernel()
def _lift(value, weight, value2, weight2, capacity, order, limit):
    """Raise the options of items that have none as far as ``limit`` stays an upper bound."""
    choice = np.empty(len(value), dtype=np.int64)
    hair = 1e-9 * limit
    for i in order:
        first, second = limit, limit
        if weight[i] <= capacity:
            room = capacity - weight[i]
            first = limit - _solve(
                value, weight, value2, weight2, room, choice, _SAME, np.inf, -np.inf
            )
        if weight2[i] <= capacity:
            room = capacity - weight2[i]
            second = limit - _solve(
                value, weight, value2, weight2, room, choice, _SAME, np.inf, -np.inf
            )
        value[i] = max(0.0, first - hair)
        value2[i] = max(value[i], second - hair)


def cut_of_orders(
    data: list[Vector], capacity: float, x: Vector, xi: Vector
) -> tuple[Vector, float] | None:
    """An inequality for production and repair in which x is worth no more than in xi.

    ``sum (f - d xi) y + d xi r`` over the orders of x is at most its largest value; the other
    orders get the largest coefficients that keep it so, one after the other (E. Balas, Facets
    of the knapsack polytope, Math. Programming 8, 1975).

    Parameters
    ----------
    data
        Degradations, repair weights, weights and outsourcing costs [n].
    capacity
        C.
    x, xi
        First stage and scenario [n].

    Returns
    -------
    Coefficients of y, then r [2 n], and the limit; None if nothing is worth anything.
    """
    d, t, c, f = (floats(v) for v in data)
    on = x > 0.5
    value = np.where(on, np.maximum(0.0, f - d * xi), 0.0)
    second = np.where(on & (xi > 0.0), f, value)
    choice = np.empty(len(d), dtype=np.int64)
    room = capacity * (1.0 + _HAIR)
    limit = _solve(value, c, second, c + t, room, choice, _SAME, np.inf, -np.inf)
    if limit <= 0.0:
        return None
    out = np.flatnonzero(~on)
    order = out[np.argsort(c[out], kind="stable")]
    _lift(value, c, second, c + t, room, order, limit)
    return np.concatenate([value, second - value]), limit


@kernel()
def _budget(value, weight, capacity, x, same, values, y):
    """One knapsack per first stage and scenario over what is not in x; NaN: no room."""
    n = value.shape[1]
    choice = np.empty(n, dtype=np.int64)
    v1, w1, zero = np.empty(n), np.empty(n), np.zeros(n)
    for a in range(len(x)):
        for b in range(len(value)):
            room = capacity[a]
            for i in range(n):
                on = x[a, i] > 0.5
                room -= weight[b, i] if on else 0.0
                v1[i] = 0.0 if on else value[b, i]
                w1[i] = weight[b, i]
            if room < -1e-9 * max(1.0, abs(capacity[a])):
                values[a, b] = np.nan
                y[a, b] = False
                continue
            # All projects may fit exactly, but for rounding.
            room = max(0.0, room) + 1e-9 * max(1.0, abs(capacity[a]))
            values[a, b] = _solve(v1, w1, zero, zero, room, choice, same, np.inf, -np.inf)
            for i in range(n):
                y[a, b, i] = choice[i] > 0


@kernel()
def _screen(value, weight, capacity, x, same, least, values):
    """As `_budget` for one scenario, as far as it takes to tell whether they exceed ``least``."""
    n = len(value)
    choice = np.empty(n, dtype=np.int64)
    v1, zero = np.empty(n), np.zeros(n)
    hair = 1e-9 * max(1.0, abs(capacity))
    for a in range(len(x)):
        room = capacity
        for i in range(n):
            on = x[a, i] > 0.5
            room -= weight[i] if on else 0.0
            v1[i] = 0.0 if on else value[i]
        if room < -hair:
            values[a] = np.nan
        else:
            room = max(0.0, room) + hair
            found = _solve(v1, weight, zero, zero, room, choice, same, least[a], least[a])
            values[a] = max(found, least[a])


def screen_budgets(
    value: ArrayLike, weight: ArrayLike, capacity: float, x: ArrayLike, least: ArrayLike
) -> Vector:
    """Whether late projects bring more than ``least`` in one scenario.

    Where costs and revenues are proportional, the last bit of the best value takes long.

    Parameters
    ----------
    value, weight
        As in `budget_recourse`, in that scenario [n].
    capacity
        Budget.
    x
        First stages [a, n].
    least
        A value for each of them [a].

    Returns
    -------
    Values [a]: ``least`` where no recourse brings more, NaN without room, and otherwise what
    some recourse brings that does.
    """
    first = floats(x)
    values = np.empty(len(first))
    _screen(floats(value), floats(weight), float(capacity), first, _NEAR, floats(least), values)
    return values


def budget_recourse(
    value: ArrayLike,
    weight: ArrayLike,
    capacity: ArrayLike,
    x: ArrayLike,
    tolerance: float | None = None,
) -> tuple[Vector, NDArray[np.bool_]]:
    """Second stages of capital budgeting, for all pairs of first stage and scenario.

    Maximise ``value y`` over ``weight (x + y) <= B, x + y <= 1`` (A. Subramanyam,
    C. Gounaris and W. Wiesemann, Math. Prog. Comp. 12, 2020, section 5.2). Exact where weights
    are whole; else to a relative 1e-6. (Where values and weights are nearly proportional, the
    last items may be left out once there are 1 << 28 choices among the first: none of those
    measured, n = 12 to 36, was further off.)

    Parameters
    ----------
    value, weight
        What late projects bring and projects cost in every scenario [b, n].
    capacity
        Budget of every first stage [a], or one for all.
    x
        First stages [a, n].
    tolerance
        Relative tolerance of the values instead of that.

    Returns
    -------
    Values [a, b], NaN where x alone exceeds the budget, and y [a, b, n].
    """
    v, w, first = (floats(np.atleast_2d(part)) for part in (value, weight, x))
    rooms = floats(np.broadcast_to(capacity, len(first)))
    values = np.empty((len(first), len(v)))
    y = np.empty((len(first), len(v), v.shape[1]), dtype=np.bool_)
    whole = bool((w == np.rint(w)).all())
    if whole:
        rooms = np.floor(rooms + 1e-9 * np.maximum(1.0, np.abs(rooms)))
    same = (_SAME if whole else _NEAR) if tolerance is None else tolerance
    _budget(v, w, rooms, first, same, values, y)
    return values, y


@kernel()
def _worst(first, value, weight, capacity, x, same, worst, values, y):
    """As `_budget` for one first stage, exact for what joins the ``worst`` values only."""
    n = value.shape[1]
    choice = np.empty(n, dtype=np.int64)
    v1, zero = np.empty(n), np.zeros(n)
    for b in range(len(value)):
        room = capacity
        for i in range(n):
            on = x[i] > 0.5
            room -= weight[b, i] if on else 0.0
            v1[i] = 0.0 if on else value[b, i]
        # What is not worse by more than the tolerance does not count as worse.
        limit = worst[-1] * (1.0 - same) - first[b]
        # All projects may fit exactly, but for rounding.
        room = max(0.0, room) + 1e-9 * max(1.0, abs(capacity))
        found = _solve(v1, weight[b], zero, zero, room, choice, same, limit, -np.inf)
        values[b] = first[b] + found
        for i in range(n):
            y[b, i] = choice[i] > 0
        if found > limit:
            # The search has ended there: it may be anything from here on.
            values[b] = max(values[b], worst[-1])
        else:
            k = len(worst) - 1
            while k > 0 and worst[k - 1] > values[b]:
                worst[k] = worst[k - 1]
                k -= 1
            worst[k] = values[b]


def worst_budgets(
    first: ArrayLike,
    value: ArrayLike,
    weight: ArrayLike,
    capacity: float,
    x: ArrayLike,
    worst: Vector,
) -> tuple[Vector, NDArray[np.bool_]]:
    """Capital budgeting's recourse for one first stage: exact in its worst scenarios.

    Others are left as soon as they are known not to be among the worst.

    Parameters
    ----------
    first
        What x itself brings in every scenario [b].
    value, weight
        As in `budget_recourse` [b, n].
    capacity
        Budget.
    x
        A first stage [n] that is affordable in all of them.
    worst
        The worst values so far, least first, infinite where there are none yet; values that
        are less join them, here, in place of the largest.

    Returns
    -------
    Values [b], with ``first``, exact for those that joined and for the others not less than
    the largest of the worst; and y [b, n].
    """
    v, w = floats(value), floats(weight)
    values, y = np.empty(len(v)), np.empty(v.shape, dtype=np.bool_)
    _worst(floats(first), v, w, float(capacity), floats(x), _NEAR, worst, values, y)
    return values, y


def loans_recourse(
    value: ArrayLike,
    cost: ArrayLike,
    budget: float,
    loan: tuple[float, float, float],
    x: ArrayLike,
    x0: ArrayLike,
) -> tuple[Vector, NDArray[np.bool_], NDArray[np.bool_]]:
    """Second stages of capital budgeting with loans, for all pairs as above.

    Maximise ``value y - l2 y0`` over ``cost (x + y) <= B + C1 x0 + C2 y0, x + y <= 1``
    (A. Arslan and B. Detienne, INFORMS J. Computing 34, 2022, section 5.2).

    Parameters
    ----------
    value
        What late projects bring in every scenario [b, n].
    cost
        Costs [n]; whole, if values are to be exact.
    budget, loan
        B, and C1, C2 and l2.
    x, x0
        First stages [a, n] and whether they take the early loan [a].

    Returns
    -------
    Values [a, b], y [a, b, n] and y0 [a, b].
    """
    early, late, price = loan
    v = np.atleast_2d(np.asarray(value, dtype=np.float64))
    weight = np.broadcast_to(np.asarray(cost, dtype=np.float64), v.shape)
    room = budget + early * np.atleast_1d(np.asarray(x0, dtype=np.float64))
    without, y_without = budget_recourse(v, weight, room, x)
    with_loan, y_with = budget_recourse(v, weight, room + late, x)
    with_loan = with_loan - price
    # NaN where there is no room: a comparison with it is False.
    take = (with_loan > without) | (np.isnan(without) & ~np.isnan(with_loan))
    values = np.where(take, with_loan, without)
    return values, np.where(take[:, :, None], y_with, y_without), take


def compile_knapsack() -> None:
    """Compile what the two-stage knapsack needs."""
    one: Any = np.ones(1)
    knapsack_recourse(one, one, one, one, 1.0, one, one)
    cut_of_orders([one] * 4, 1.0, one, 0.0 * one)


def compile_budgeting() -> None:
    """Compile what capital budgeting needs, with and without loans."""
    one: Any = np.ones(1)
    budget_recourse(one, one, 1.0, one)
    screen_budgets(one, one, 1.0, one[None], one)
    worst_budgets(one, one[None], one[None], 1.0, one, one)
