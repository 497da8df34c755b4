"""What two-stage robust problems have in common: the form of a solution and its check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nco.instances.core import Budget, Instance

if TYPE_CHECKING:
    from nco.robust.two_stage import TwoStageProblem

#: ``x``: first stage; ``xi``: worst scenario found; ``y``: recourse there; ``policies``, only
#: where the worst case was not settled: recourses whose best bounds it from the safe side.
TwoStageSolution = dict[str, Any]

_KEYS = ("x", "xi", "y")


class TwoStageInstance(Instance[TwoStageSolution]):
    """A problem whose recourse answers the worst scenario of an uncertainty set.

    The model itself, with the check and the evaluation of solutions, is a
    `nco.robust.two_stage.TwoStageProblem`; subclasses give it as the cached property
    ``two_stage``.
    """

    solution_form: ClassVar[str] = "two-stage"

    @property
    def two_stage(self) -> TwoStageProblem:
        """First stage, recourse and uncertainty set."""
        raise TypeError(f"{type(self).__name__} does not define two_stage")

    def objective(self, solution: TwoStageSolution) -> float:
        """Value of the first stage in its worst scenario."""
        return self.two_stage.value(solution)

    def violations(self, solution: TwoStageSolution) -> list[str]:
        """Rows of either stage, and scenarios outside the set."""
        return self.two_stage.check(solution)

    def violations_in_time(self, solution: TwoStageSolution, budget: Budget) -> list[str]:
        """As `violations`; out of time, without those that only worst scenarios show."""
        return self.two_stage.check(solution, budget)

    def canonical(self, solution: TwoStageSolution) -> TwoStageSolution:
        """Plain numbers, whole where they must be."""
        return self.two_stage.plain(solution)

    def evaluation(self, solution: TwoStageSolution) -> str:
        """How `objective` is computed: "exact", "sampled:<set>" or "interval"."""
        return self.two_stage.evaluation(solution)


def parse_solution(value: Any) -> TwoStageSolution:
    """A JSON value as a solution: checked for its form only.

    Raises
    ------
    ValueError
        When the form is another one.
    """
    if not isinstance(value, Mapping) or not set(_KEYS) <= value.keys():
        raise ValueError("a solution is an object with the keys x, xi and y.")
    unknown = sorted(map(str, value.keys() - {*_KEYS, "policies"}))
    if unknown:
        raise ValueError(f"a solution has no key {unknown[0][:40]!r}.")
    out: TwoStageSolution = {key: _numbers(key, value[key]) for key in _KEYS}
    if "policies" in value:
        if not isinstance(value["policies"], list) or not value["policies"]:
            raise ValueError("policies are a list of recourses.")
        out["policies"] = [_numbers("policies", policy) for policy in value["policies"]]
    return out


def _numbers(key: str, values: Any) -> list[float]:
    fine = isinstance(values, Sequence) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )
    if not fine:
        raise ValueError(f"{key} is not a list of numbers.")
    return list(values)


def as_numbers(values: Any, whole: Any = None) -> list[float]:
    """An array as plain numbers, whole where they are to be."""
    array = np.asarray(values, dtype=np.float64)
    flags = np.zeros(len(array), dtype=bool) if whole is None else whole
    return [
        round(v) if w else v + 0.0
        for v, w in zip(array.tolist(), np.asarray(flags).tolist(), strict=True)
    ]
