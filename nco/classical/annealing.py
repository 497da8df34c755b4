"""Simulated annealing under a budget, around kernels that cannot look at a clock."""

from __future__ import annotations

import math
from collections.abc import Callable

from nco.instances.core import Budget, Stop

#: Seconds between two looks at the clock.
PACE = 0.02
#: Seconds between two solutions that are checked and reported.
REPORT = 0.2
#: Seconds of search where neither time nor iterations are limited.
DEFAULT_SECONDS = 10.0


def anneal(
    run: Callable[[int, float], float],
    report: Callable[[], object],
    budget: Budget,
    done: Callable[[int], Stop | None],
    *,
    hot: float,
    cold: float,
    chunk: int,
    iterations: int | None = None,
) -> Stop:
    """Run a search until ``done``, in chunks, at temperatures that fall from hot to cold.

    Parameters
    ----------
    run
        ``run(iterations, temperature)`` searches, and gives the best cost so far.
    report
        Called when that cost has fallen, but not all the time, and in the end.
    budget
        Its share that is spent sets the temperature.
    done
        The reason to stop after so many iterations, or None.
    hot, cold
        Temperatures at begin and end, in the search's own unit.
    chunk
        Iterations between two looks at the clock, when nothing is known of their pace.
    iterations
        Most of them; chunks are of a fixed size then: the same search on every machine.
        Without, the time that is left, or `DEFAULT_SECONDS`, is spent.
    """
    begin, iteration, size = budget.elapsed(), 0, chunk
    limit = DEFAULT_SECONDS if budget.time_limit is None else budget.time_limit
    seconds = max(limit - begin, 1e-9)
    record = offered = math.inf
    reported = begin
    while True:
        stopped = done(iteration)
        now = budget.elapsed()
        if iterations is not None:
            spent = iteration / max(1, iterations)
            size = min(chunk, iterations - iteration)
        else:
            spent = (now - begin) / seconds
        if stopped is None and spent >= 1.0:
            timed = iterations is None and budget.time_limit is not None
            stopped = Stop.TIME if timed else Stop.FINISHED
        if record < offered and (stopped is not None or now - reported >= REPORT):
            report()
            offered, reported = record, now
        if stopped is not None:
            return stopped
        record = min(record, run(size, hot * (cold / hot) ** spent))
        iteration += size
        if iterations is None:
            took = budget.elapsed() - now
            size = max(1, min(2 * size, int(size * PACE / max(took, 1e-9))))
