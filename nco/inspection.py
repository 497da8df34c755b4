"""What can be said of instances and solutions without solving anything."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nco.api import Many, PathLike, dual_bound, opened, supporting
from nco.instances import io
from nco.instances.core import (
    Batch,
    Budget,
    InputError,
    Instance,
    Result,
    Sense,
    better,
    close,
    plain,
    reference_gap,
    relative_gap,
)


@dataclass(frozen=True)
class Check:
    """What an instance says of a solution.

    Parameters
    ----------
    problem, instance
        Problem name and name of the instance.
    objective
        Objective, or None for an infeasible solution.
    violations
        What is wrong, in words; empty for a feasible solution.
    ref_cost
        The instance's stored reference, or None.
    stated
        The objective that a solution file claims for itself, or None.
    sense
        Direction of the objective.
    evaluation
        How the objective was computed: "exact", "sampled:<set>" or "interval".
    strong
        Whether a stated objective that is worse than the true one is truthful, too: a bound
        from the safe side.
    """

    problem: str
    instance: str
    objective: float | None
    violations: list[str]
    ref_cost: float | None = None
    stated: float | None = None
    sense: Sense = Sense.MINIMIZE
    evaluation: str = "exact"
    strong: bool = False

    @property
    def feasible(self) -> bool:
        """Whether nothing is violated."""
        return not self.violations

    @property
    def truthful(self) -> bool:
        """Whether the objective is the stated one, where both are known."""
        if self.objective is None or self.stated is None:
            return True
        if close(self.objective, self.stated, 1e-6):
            return True
        return self.strong and better(self.objective, self.stated, self.sense)

    @property
    def ref_gap(self) -> float | None:
        """Signed per cent worse than the stored reference; None without one."""
        if self.objective is None or self.ref_cost is None:
            return None
        return reference_gap(self.objective, self.ref_cost, self.sense)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        out: dict[str, Any] = plain(
            {
                **values,
                "feasible": self.feasible,
                "truthful": self.truthful,
                "ref_gap": self.ref_gap,
            }
        )
        return out


def check(
    instance: Instance[Any] | PathLike,
    solution: Any,
    *,
    problem: str = "",
    metric: str | None = None,
    evaluation: str = "",
    truncate_budget: bool = False,
) -> Check:
    """Check a solution and evaluate it.

    Parameters
    ----------
    instance
        An instance or a path.
    solution
        A solution, a result or a solution file.
    problem, metric
        As in `nco.solve`.
    evaluation
        "strong" evaluates the first stage of a two-stage problem anew, however long it takes:
        the exact worst case where there is one, else the problem's longest list of scenarios.
    truncate_budget
        As in `nco.instances.io.read`; also for instances.

    Raises
    ------
    InputError
        When a file or the evaluation cannot be understood, or the file holds a batch.
    """
    instance = _one(instance, problem, metric)
    if truncate_budget:
        instance = _truncated(instance)
    stated = None
    if isinstance(solution, (str, os.PathLike)):
        stated = io.stated_cost(solution, instance)
        solution = io.read_solution(solution, instance)
    elif isinstance(solution, Result):
        solution = solution.solution
    if solution is None:
        raise InputError(None, None, "the result has no solution", "nothing to check")
    return _check(instance, solution, stated, evaluation)


def check_results(
    instances: Instance[Any] | Many | PathLike,
    results: PathLike,
    *,
    problem: str = "",
    metric: str | None = None,
    evaluation: str = "",
    truncate_budget: bool = False,
) -> list[Check]:
    """Check results, one JSON line each, and evaluate them.

    Parameters
    ----------
    instances
        An instance, a batch, a list of instances or a path.
    results
        What ``nco solve --out`` writes for many instances; lines of other instances, which
        their digests tell, are left out.
    problem, metric, evaluation, truncate_budget
        As in `check`.

    Raises
    ------
    InputError
        When a file, a line or the evaluation cannot be understood, or no line is of one of
        the instances.
    """
    path = instances if isinstance(instances, (str, os.PathLike)) else None
    if not isinstance(instances, (list, tuple)):
        found = opened(instances, problem, metric)
        instances = found if isinstance(found, Batch) else [found]
        problem, metric = "", None
    known = {}
    for instance in instances:
        one = _one(instance, problem, metric)
        one = _truncated(one) if truncate_budget else one
        known[one.digest] = one
    checks = []
    for number, line in enumerate(io.read_text(results).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("digest"), str):
                raise ValueError("it has no digest")
            if row["digest"] not in known:
                continue
            instance = known[row["digest"]]
            if row.get("solution") is None:
                raise ValueError("it has no solution")
            solution = io.as_solution(row["solution"], instance)
            stated = io.stated_objective(row)
        except (ValueError, OverflowError) as error:
            hint = "see nco solve --json"
            raise InputError(results, number, f"not a result: {error}", hint) from None
        checks.append(_check(instance, solution, stated, evaluation))
    if not checks:
        what = f"holds no result of {path or 'these instances'}"
        raise InputError(results, None, what, "results know instances by their digests")
    return checks


def _check(instance: Instance[Any], solution: Any, stated: float | None, evaluation: str) -> Check:
    if evaluation not in ("", "strong"):
        raise InputError(None, None, f"unknown evaluation {evaluation!r}", "known: strong")
    if evaluation and instance.solution_form != "two-stage":
        raise InputError(
            None, None, f"a {instance.problem} has one evaluation only", "leave --evaluation out"
        )
    if evaluation and isinstance(solution, Mapping):
        # Recourses that bound the worst case from the safe side are what is to be replaced.
        solution = {k: v for k, v in solution.items() if k != "policies"}
    problems = instance.violations(solution)
    return Check(
        problem=instance.problem,
        instance=instance.name,
        objective=None if problems else instance.objective(instance.canonical(solution)),
        violations=problems,
        ref_cost=instance.ref_cost,
        stated=stated,
        sense=instance.sense,
        evaluation="" if problems else instance.evaluation(solution),
        strong=bool(evaluation),
    )


def _truncated(instance: Instance[Any]) -> Instance[Any]:
    try:
        return io.with_truncated_budget(instance)
    except ValueError as error:
        raise InputError(None, None, f"{instance.name or instance.problem} {error}") from None


def _one(
    instance: Instance[Any] | PathLike, problem: str = "", metric: str | None = None
) -> Instance[Any]:
    path = instance if isinstance(instance, (str, os.PathLike)) else None
    found = opened(instance, problem, metric)
    if isinstance(found, Batch):
        raise InputError(path, None, f"holds {len(found)} instances", "give a single one")
    if not isinstance(found, Instance):
        kind = type(found).__name__
        raise InputError(None, None, f"a {kind} is no instance", "give an instance or a path")
    return found


def info(
    instance: Instance[Any] | Batch[Any] | PathLike,
    *,
    problem: str = "",
    metric: str | None = None,
    bound_seconds: float = 0.0,
) -> dict[str, Any]:
    """What is known of an instance without solving it.

    Parameters
    ----------
    instance
        An instance, a batch or a path.
    problem, metric
        As in `nco.solve`.
    bound_seconds
        Seconds for a dual bound; without any, only a bound that takes no time.

    Returns
    -------
    Plain values: name, problem, n, sense, digest, fields (shape and range of every
    array), reference, bound, and the solvers that can solve it.

    Raises
    ------
    InputError
        When the file or the seconds cannot be understood.
    """
    try:
        Budget(bound_seconds)
    except ValueError:
        what = f"bound_seconds = {bound_seconds} not understood"
        raise InputError(None, None, what, "give a number >= 0") from None
    instance = opened(instance, problem, metric)
    if not isinstance(instance, Batch):
        instance = _one(instance)
    out: dict[str, Any] = {"name": instance.name}
    if isinstance(instance, Batch):
        costs = instance.ref_cost
        known = costs is not None and not np.isnan(costs).all()
        out |= {
            "instances": len(instance),
            "ref_cost": float(np.nanmean(costs)) if known else None,  # type: ignore[arg-type]
            "ref_method": instance.ref_method,
        }
        fields, first = instance.arrays, instance[0]
    else:
        out |= {
            "digest": instance.digest,
            "ref_cost": instance.ref_cost,
            "ref_method": instance.ref_method,
        }
        fields, first = instance.data(), instance
    out |= {"problem": first.problem, "n": first.n, "sense": first.sense}
    distances = getattr(first, "distances", None)
    if distances is not None:
        out["metric"] = "matrix" if distances.explicit else distances.metric
        out["symmetric"] = distances.symmetric
    out["fields"] = {name: _describe(value) for name, value in fields.items()}
    if not isinstance(instance, Batch):
        out["bound"] = dual_bound(instance, Budget(bound_seconds))
        if out["bound"] is not None and instance.ref_cost is not None:
            out["ref_bound_gap"] = relative_gap(instance.ref_cost, out["bound"])
    out["solvers"] = supporting(first)
    result: dict[str, Any] = plain(out)
    return result


def _describe(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        described: dict[str, Any] = {"shape": list(value.shape)}
        if value.size and value.dtype.kind in "iuf":
            described |= {"min": value.min(), "mean": float(value.mean()), "max": value.max()}
        return described
    if isinstance(value, (tuple, list)):
        return {"shape": [len(value)]}
    return value
