"""Solutions before any LP is solved: the starters, one after the other, into the pool."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nco.mip.backend import Form, Vector, polish
from nco.mip.relaxation import solve_lp

#: Rounds of starts and of improvements.
ROUNDS = 4
#: Moves of one jump.
STEPS = 200_000
#: Seconds for the continuous rest of a start.
REST_SECONDS = 1.0


def load_starters() -> None:
    """Import the compiled parts and run them once on a trifle."""
    from nco.instances.mip import MIP

    one = np.ones(1)
    trifle = MIP(c=one, A=one[None], row_lower=one, upper=one, integrality=one)
    run_starters(Form(trifle), 0, lambda x, by: None, lambda: False)


def wishes(form: Form, rng: np.random.Generator) -> list[Vector]:
    """Column values [n] to start from: best for the objective, near zero, mixed."""
    zero = np.clip(np.zeros(form.n), form.lower, form.upper)
    greedy = np.where(form.c > 0, form.lower, np.where(form.c < 0, form.upper, zero))
    greedy = np.where(np.isfinite(greedy), greedy, zero)
    mixed = np.where(rng.random(form.n) < 0.5, greedy, zero)
    return [greedy, zero, mixed]


def trivial(form: Form) -> list[Vector]:
    """Feasible ones among the simplest points [n]: no compiled code, no search.

    Every column at zero, at a bound, or where no row of it can be violated (its locks).
    """
    zero = np.clip(np.zeros(form.n), form.lower, form.upper)
    low = np.where(np.isfinite(form.lower), form.lower, zero)
    high = np.where(np.isfinite(form.upper), form.upper, zero)
    columns = form.columns
    rows = columns.indices
    up = np.where(columns.data > 0, np.isfinite(form.row_upper)[rows],
                  np.isfinite(form.row_lower)[rows])  # fmt: skip
    down = np.where(columns.data > 0, np.isfinite(form.row_lower)[rows],
                    np.isfinite(form.row_upper)[rows])  # fmt: skip
    of = np.repeat(np.arange(form.n), np.diff(columns.indptr))
    up_locks = np.bincount(of, up, form.n)
    down_locks = np.bincount(of, down, form.n)
    safe = np.where(up_locks < down_locks, high, np.where(down_locks < up_locks, low, zero))
    points = [safe, zero, low, high]
    return [x for x in map(form.rounded, points) if form.feasible(x)]


def with_best_rest(form: Form, x: Vector) -> Vector:
    """The same whole columns with the best continuous ones, where that is quick."""
    if form.whole.all():
        return x
    lower, upper = form.lower.copy(), form.upper.copy()
    lower[form.whole] = upper[form.whole] = x[form.whole]
    outcome = solve_lp(form, form.within(REST_SECONDS), lower=lower, upper=upper)
    if outcome.x is None:
        return x
    better = form.rounded(outcome.x)
    return better if form.feasible(better) and form.value(better) < form.value(x) else x


def run_starters(
    form: Form,
    seed: int,
    offer: Callable[[Vector, str], object],
    stop: Callable[[], bool],
    promise: Callable[[Vector, int], object] = lambda x, count: None,
) -> Vector | None:
    """Offer what propagation, jumps and lifts find, then jump below the best with a cutoff.

    Points that violate a few rows go to ``promise``. Returns the best start, or else the
    point that violates the fewest rows.
    """
    from nco.mip.fix_propagate import fix_propagate
    from nco.mip.jump import jump
    from nco.mip.lift import lift

    rng = np.random.default_rng(seed)
    best: Vector | None = None
    near: tuple[int, Vector] | None = None
    for x in trivial(form):
        if stop():
            break
        lifted = lift(form, x, rng, stop)
        if form.feasible(lifted) and (best is None or form.value(lifted) < form.value(best)):
            best = lifted
            offer(lifted, "lift")
    for number, wish in enumerate(wishes(form, rng)):
        if stop():
            break
        x, _ = fix_propagate(form, wish, rng, stop)
        by = "fix-propagate"
        found = polish(form, x, REST_SECONDS)
        if found is None:
            x, count = jump(form, x, seed + number, stop, steps=STEPS)
            by = "jump"
            found = polish(form, x, REST_SECONDS) if count == 0 else None
            if found is None:
                promise(x, count)
                if near is None or count < near[0]:
                    near = count, x
        if found is None:
            continue
        found = with_best_rest(form, found)
        lifted = lift(form, found, rng, stop)
        found = lifted if form.feasible(lifted) else found
        offer(found, by)
        if best is None or form.value(found) < form.value(best):
            best = found
    for number in range(ROUNDS):
        if best is None or stop():
            break
        value = form.value(best)
        cutoff = value - max(1e-6, 0.02 * abs(value - form.offset))
        x, count = jump(form, best, seed + 7 * number, stop, steps=STEPS, cutoff=cutoff)
        found = polish(form, x, REST_SECONDS) if count == 0 else None
        if found is None or form.value(found) >= value:
            break
        best = with_best_rest(form, found)
        lifted = lift(form, best, rng, stop)
        best = lifted if form.feasible(lifted) else best
        offer(best, "jump")
    return best if best is not None else (near[1] if near is not None else None)
