"""The solver ``auto``: the best measured choice for the instance at hand.

The choice is read from ``auto.json``, a table that ``nco bench --choices`` made of
measured rows: for a problem, a size and a time limit, the mean gap of every solver.
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar

from nco.instances.core import (
    Budget,
    CheckError,
    InputError,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
)
from nco.instances.registry import solvers

logger = logging.getLogger("nco")


@functools.cache
def table() -> list[dict[str, Any]]:
    """The measured choices: problem, n, time_limit, solvers [spec, gap, runs, seconds]."""
    rows: list[dict[str, Any]] = json.loads((files("nco") / "auto.json").read_text())
    return rows


def parse_plan(plan: str) -> list[tuple[str, float]]:
    """Split ``"fast-tsp@0.3+lkh"``: solver names with their share of the time left.

    Raises
    ------
    InputError
        When a solver is unknown or a share is not in (0, 1].
    """
    steps = []
    for item in plan.split("+"):
        name, _, share = item.partition("@")
        solvers.entry(name)
        try:
            value = float(share) if share else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value <= 1:
            raise InputError(None, None, f"share {share!r} not understood", "give 0 < share <= 1")
        steps.append((name, value))
    return steps


@dataclass(frozen=True)
class Auto:
    """Run one solver after the other, each from the best solution so far.

    A limit on iterations is that of every step, which counts its own.

    Parameters
    ----------
    plan
        ``"solver@share+solver"``; by default the best measured plan that is installed
        and supports the instance. Under a limit on iterations, plans with a solver that
        searches by the clock alone (``timed = True``) are left out.

    Raises
    ------
    InputError
        When the plan cannot be understood.
    """

    name: ClassVar[str] = "auto"

    plan: str = ""

    def __post_init__(self) -> None:
        if self.plan:
            parse_plan(self.plan)

    def supports(self, instance: Instance[Any]) -> str | None:
        """None if any solver supports the instance."""
        if self.plan:
            usable = self._usable(self.plan, instance)
            return None if usable else f"{self.plan} does not support {instance.problem}"
        found = next(self.candidates(instance, None), None)
        return None if found else f"no installed solver supports {instance.problem}"

    def candidates(
        self, instance: Instance[Any], time_limit: float | None, *, counted: bool = False
    ) -> Iterator[str]:
        """Usable plans, best first: measured ones, then the rest as registered.

        Parameters
        ----------
        instance
            What they are for.
        time_limit
            Seconds, or None.
        counted
            Whether iterations are limited: nothing that knows seconds only is usable.
        """
        seconds = 60.0 if time_limit is None else max(time_limit, 1e-3)

        def distance(row: dict[str, Any]) -> float:
            size = abs(math.log(row["n"] / max(1, instance.n)))
            return size + 0.5 * abs(math.log(row["time_limit"] / seconds))

        rows = [row for row in table() if row["problem"] == instance.problem]
        tried = {"auto"}
        for row in sorted(rows, key=distance):
            for spec, *_ in sorted(row["solvers"], key=lambda s: (s[1], s[3])):
                plan = spec.removeprefix("auto:plan=")
                if plan not in tried and self._usable(plan, instance, counted):
                    yield plan
                tried.add(plan)
        for entry in solvers:
            if entry.name not in tried and self._usable(entry.name, instance, counted):
                yield entry.name

    def _usable(self, plan: str, instance: Instance[Any], counted: bool = False) -> bool:
        for name, _ in parse_plan(plan):
            found = None if name == "auto" else solvers.find(name)
            if found is None:
                return False
            solver = found()
            if (counted and getattr(solver, "timed", False)) or solver.supports(instance):
                return False
        return True

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Solve with the chosen plan.

        Raises
        ------
        UnsupportedError
            When no installed solver supports the instance, or none under a limit on iterations.
        """
        reason = self.supports(instance)
        if reason:
            raise UnsupportedError(reason)
        plans: Iterable[str] = [self.plan]
        if not self.plan:
            counted = budget.iterations is not None
            plans = self.candidates(instance, budget.time_limit, counted=counted)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        if start is not None:
            tracker.offer(start, by="start")
        ran: list[str] = []
        errors: list[str] = []
        stopped, status = Stop.FINISHED, None
        versions: dict[str, str] = {}
        told: dict[str, Any] = {}
        # Another plan is tried only if the best one failed to give a solution.
        for plan in plans:
            steps = parse_plan(plan)
            for position, (name, share) in enumerate(steps):
                if ran and tracker.done():
                    break
                last = position == len(steps) - 1
                part = 1.0 if last else share
                whole = last and not ran
                sub = budget if whole else budget.share(part, iterations=budget.iterations)
                ran.append(name)
                try:
                    result = solvers.load(name)().solve(
                        instance,
                        sub,
                        seed=seed,
                        start=tracker.solution,
                        on_event=tracker.observe,
                    )
                except (CheckError, RuntimeError, MemoryError) as error:
                    logger.warning("%s failed: %s", name, error)
                    errors.append(f"{name}: {error}")
                    continue
                versions.update(result.versions)
                told.update(result.extra)
                stopped = result.stopped
                if result.bound is not None:
                    tracker.offer_bound(result.bound, by=name)
                if result.solution is not None:
                    tracker.offer(result.solution, by=name)
                if result.status in (Status.OPTIMAL, Status.INFEASIBLE, Status.UNBOUNDED):
                    status = result.status
                    break
            if tracker.solution is not None or status is not None or tracker.done():
                break
        if not ran:
            raise UnsupportedError(f"no solver of {instance.problem} counts iterations")
        if errors and tracker.solution is None and status is None:
            raise CheckError(errors[0])
        return tracker.result(
            tracker.done() or stopped,
            status=status,
            params={"plan": self.plan} if self.plan else {},
            versions=versions,
            extra={**told, "plan": "+".join(ran), "errors": errors},
        )
