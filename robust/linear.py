"""Linear programs that are solved again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import Budget, Status

Vector = NDArray[np.float64]


def limit_run(highs: Any, budget: Budget) -> None:
    """Give the next run of a HiGHS object what is left of a budget."""
    highs.setOptionValue("time_limit", highs.getRunTime() + max(0.0, budget.left()) + 0.01)


def linear_optimum(highs: Any, budget: Budget) -> tuple[Status, Vector | None]:
    """Solve the linear program that a HiGHS object holds; how it ended, and its columns."""
    # Small linear programs by the hundred: a thread each, as engines have, would cost more
    # than the solve.
    from highspy import HighsModelStatus as Code

    if budget.left() <= 0.0:
        return Status.UNKNOWN, None
    limit_run(highs, budget)
    # HiGHS refuses another number of threads than the first one asked for in this thread,
    # which may have been the caller's; zero takes what is there.
    highs.setOptionValue("threads", 0)
    highs.run()
    code = highs.getModelStatus()
    if code == Code.kOptimal:
        return Status.OPTIMAL, np.array(highs.getSolution().col_value)
    if code in (Code.kUnbounded, Code.kUnboundedOrInfeasible):
        highs.setOptionValue("presolve", "off")
        highs.run()
        code = highs.getModelStatus()
        if code == Code.kOptimal:
            return Status.OPTIMAL, np.array(highs.getSolution().col_value)
        if code in (Code.kUnbounded, Code.kUnboundedOrInfeasible):
            return Status.UNBOUNDED, None
    return (Status.INFEASIBLE if code == Code.kInfeasible else Status.UNKNOWN), None
