"""What all methods for two-stage problems share: evaluating first stages and keeping the best."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    Budget,
    CheckError,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
    close,
    spawn_seed,
)
from nco.instances.registry import backends
from nco.instances.two_stage import TwoStageSolution, as_numbers
from nco.mip.backend import Form, Limits, Watch, settle
from nco.robust.cold import compiled, offer_static
from nco.robust.duality import bad_scenario
from nco.robust.masters import Master
from nco.robust.model import Model
from nco.robust.two_stage import (
    Evaluation,
    InfeasibleRecourseError,
    TwoStageProblem,
    UnboundedRecourseError,
)

logger = logging.getLogger("nco")

Vector = NDArray[np.float64]
#: Relative width that engines' tolerances may leave between a bound and a value beyond it.
AGREE = 1e-6
#: Scenarios no further apart, relative to entries beyond 1, are the same.
APART = 1e-7
#: Solutions of a master that are evaluated, besides its last one.
PROPOSALS = 3
#: Share of the time for the worst case of doing nothing.
NOTHING = 0.1


class Search:
    """One solve: the problem, what is known of its first stages, and the limits.

    Parameters
    ----------
    tracker
        Keeps what is best.
    problem
        The problem.
    engine
        Class of a MIP engine.
    seed
        Of the engine and of sampling.
    """

    def __init__(self, tracker: Tracker[Any], problem: TwoStageProblem, engine: Any, seed: int):
        self.tracker, self.problem, self.engine, self.seed = tracker, problem, engine, seed
        self.budget = tracker.budget
        self.rng = np.random.default_rng(seed)
        self.scenarios: list[Vector] = []
        #: Those of them that masters have, see `choose`.
        self.chosen: list[Vector] = []
        self.known: dict[bytes, Evaluation | None] = {}
        self.best: Evaluation | None = None
        self.value = -math.inf
        self.bound = math.inf
        self.infeasible = False
        self.refused: InfeasibleRecourseError | None = None
        self.spent = {"master": 0.0, "adversary": 0.0}
        #: What was found while nothing was compiled yet; see `nco.robust.cold.compiled`.
        self.static: list[TwoStageSolution] = []
        self.rows: list[dict[str, Any]] = []

    def keep(self, xi: Vector) -> bool:
        """Add a scenario to those known; False if it is one of them."""
        # Where values jump, scenarios on both sides of a limit are all but the same.
        apart = APART if self.problem.tolerance is None else 1e-3 * self.problem.tolerance
        apart *= max(1.0, float(np.abs(xi).max()))
        if any(float(np.abs(xi - other).max()) <= apart for other in self.scenarios):
            return False
        self.scenarios.append(np.asarray(xi, dtype=float))
        return True

    def choose(self, x: Vector) -> bool:
        """Give masters the worst scenario so far for x; False if they have it, or none is known.

        Few of those that other searches meet bind where masters look, and each is a copy of the
        second stage in all masters to come.
        """
        if not self.scenarios:
            return False
        if self.problem.oracle is None:
            # Second stages take long; whatever was met is a worst case.
            fresh = self.scenarios[len(self.chosen) :]
            self.chosen = [*self.scenarios]
            return bool(fresh)
        values = self.problem.recourse_at(x, np.array(self.scenarios))[0][0]
        worst = self.scenarios[int(np.argmin(np.where(np.isnan(values), -np.inf, values)))]
        if any(worst is other for other in self.chosen):
            return False
        self.chosen.append(worst)
        return True

    def hints(self, x: Vector) -> Vector:
        """Scenarios so far, the worst for x first."""
        known = np.array(self.scenarios[-60:]).reshape(-1, self.problem.uncertainty.dimension)
        if self.problem.oracle is None or len(known) < 2:
            return known[::-1]
        values, _ = self.problem.recourse_at(x, known)
        return known[np.argsort(values[0], kind="stable")]

    def evaluate(self, x: Vector, by: str = "", budget: Budget | None = None) -> Evaluation | None:
        """The worst case of a first stage, kept if it is the best; None if there is no value."""
        x = self.problem.whole_x(x)
        key = x.tobytes()
        if key in self.known:
            return self.known[key]
        begin = self.budget.elapsed()
        try:
            hints = self.hints(x)
            shown = bad_scenario(self.problem, x, budget or self.budget, hints)
            if shown is not None and -math.inf < shown[0] <= self.value:
                # It is not better; what its worst case is, does not matter.
                self.keep(shown[1])
                self.known[key] = None
                return None
            found = self.problem.worst_case(x, budget or self.budget, hints)
        except InfeasibleRecourseError as error:
            self.known[key] = None
            self.refused = InfeasibleRecourseError(error.xi, x)
            self.keep(error.xi)
            return None
        except TimeoutError:
            return None
        finally:
            self.spent["adversary"] += self.budget.elapsed() - begin
        if found.exact or found.sampled:
            self.known[key] = found
        elif found.policies is None:
            # Neither a value nor something that can be checked again in no time.
            return None
        self.keep(found.xi)
        value = found.value if found.exact or found.sampled else found.guaranteed
        if value > self.value and self.tracker.offer(self.problem.solution(found), by or None):
            self.best, self.value = found, value
            self._lift(by)
        return found

    def offer_bound(self, bound: float, by: str = "") -> None:
        """Keep an upper bound of the maximised problem, a hair wider for the engines' sake.

        Raises
        ------
        CheckError
            When what is known to be attained is beyond it by more than rounding.
        """
        if not math.isfinite(bound):
            return
        bound += 1e-7 * max(1.0, abs(bound))
        if bound < self.bound:
            self.bound = bound
            self._lift(by)
            self.tracker.offer_bound(self.problem.sign * self.bound, by or None)

    def _lift(self, by: str) -> None:
        """Lift the bound to what is attained, which rounding may leave just beyond it."""
        if self.best is None or self.best.sampled or self.value <= self.bound:
            return
        sign = self.problem.sign
        instance, by = self.tracker.instance, by or self.tracker.solver
        where = f"{by} on {instance.name or instance.problem}"
        what = f"bound {sign * self.bound:.12g}, beyond objective {sign * self.value:.12g}"
        if not close(self.bound, self.value, AGREE):
            raise CheckError(f"{where} claims {what}")
        logger.debug("%s: rounding leaves %s", where, what)
        self.bound = self.value

    @property
    def closed(self) -> bool:
        """Whether bound and value meet."""
        apart = self.bound - self.value
        return math.isfinite(apart) and apart <= 1e-6 * max(1.0, abs(self.value))

    @property
    def gap(self) -> float:
        """Distance of bound and value relative to the value."""
        if not math.isfinite(self.bound - self.value):
            return math.inf
        return max(0.0, self.bound - self.value) / max(1e-9, abs(self.value))

    def solve(
        self,
        master: Master,
        budget: Budget,
        *,
        gap: float = 1e-6,
        start: Vector | None = None,
        by: str = "",
        bounds: bool = False,
        evaluate: int = PROPOSALS,
    ) -> Vector | None:
        """Solve a master and evaluate its best first stages; the last one [p], or None.

        Parameters
        ----------
        master
            The MIP.
        budget
            All of it may be used for the MIP.
        gap
            Certified gap at which it ends.
        start
            Column values to start from.
        by
            Name for events.
        bounds
            Whether the master's bound is one of the problem.
        evaluate
            How many of its solutions are evaluated.
        """
        form = Form(master.mip, self.problem.tolerance)
        begin = self.budget.elapsed()
        outcome = settle(form)
        seen: list[Vector] = []
        if outcome is None:
            engine = self.engine(form, seed=self.seed)
            watch = Watch(
                on_solution=lambda v: seen.append(v[master.x].copy()),
                stop=self.budget.spent,
            )
            try:
                outcome = engine.solve(Limits(budget.left(), gap=gap), None, start, watch)
            finally:
                engine.close()
        self.spent["master"] += self.budget.elapsed() - begin
        if outcome.status is Status.INFEASIBLE:
            self.infeasible = bounds
            return None
        if outcome.status is Status.UNBOUNDED:
            raise UnboundedRecourseError(
                "the problem is unbounded; give its columns or rows limits."
            )
        if bounds:
            self.offer_bound(form.original(outcome.bound), by)
        if outcome.x is not None:
            seen.append(outcome.x[master.x])
        fresh: list[Vector] = []
        for x in (self.problem.whole_x(v) for v in reversed(seen)):
            if not any(np.array_equal(x, other) for other in fresh):
                fresh.append(x)
        for x in fresh[:evaluate]:
            if self.budget.interrupted() and self.best is not None:
                break
            self.evaluate(x, by)
            if bounds:
                self.choose(x)
        return fresh[0] if fresh else None

    def log(self, method: str, started: float) -> None:
        """One row of the iterations' log."""
        sign = self.problem.sign
        self.rows.append({
            "by": method,
            "seconds": round(self.budget.elapsed(), 4),
            "objective": sign * self.value if math.isfinite(self.value) else None,
            "bound": sign * self.bound if math.isfinite(self.bound) else None,
            "scenarios": len(self.scenarios),
            "lasted": round(self.budget.elapsed() - started, 4),
        })  # fmt: skip
        logger.debug("%s: %s", method, self.rows[-1])

    def excluded(self) -> bool:
        """Whether the first stage's own rows and bounds leave nothing."""
        model = Model()
        self.problem.add_first_stage(model)
        form = Form(model.mip())
        outcome = settle(form)
        if outcome is None:
            engine = self.engine(form, seed=self.seed)
            try:
                outcome = engine.solve(
                    Limits(self.budget.left(), gap=1.0), watch=Watch(stop=self.budget.interrupted)
                )
            finally:
                engine.close()
        return outcome.status is Status.INFEASIBLE

    def nothing(self) -> Vector:
        """The first stage that does nothing [p], as far as its bounds allow that."""
        first = self.problem.first
        return np.clip(np.zeros(self.problem.n), first.lower, first.upper)

    def trivial(self) -> None:
        """Evaluate the first stage that does nothing, where that is allowed."""
        first, x = self.problem.first, self.nothing()
        activity = first.A @ x
        if (activity >= first.row_lower - 1e-9).all() and (
            activity <= first.row_upper + 1e-9
        ).all():
            # An interval does for a start; the time is for better ones.
            self.evaluate(x, "nothing", self.budget.share(NOTHING))

    def try_static(self) -> None:
        """Evaluate the static first stage, where there is one already."""
        for solution in self.static[-1:]:
            x = np.asarray(solution["x"], dtype=float)
            self.evaluate(x, "static", self.budget.share(NOTHING))


def feasible_rows(problem: TwoStageProblem, x: Vector) -> NDArray[np.bool_]:
    """Which of first stages [k, p] satisfy the first stage's rows [k]."""
    first = problem.first
    activity = x @ first.A.T
    slack = 1e-9 * np.maximum(1.0, np.abs(activity))
    good = (activity >= first.row_lower - slack) & (activity <= first.row_upper + slack)
    return np.asarray(good.all(1))


@dataclass(frozen=True)
class RobustSolver:
    """The base of the methods: checks, limits, and the result.

    Parameters
    ----------
    backend
        MIP engine: ``highs`` or ``scip``.
    """

    name: ClassVar[str]
    proves: ClassVar[bool] = True
    backend: str = "highs"

    def reason(self, problem: TwoStageProblem) -> str | None:
        """None, or why the method cannot take a two-stage problem."""
        return None

    def loads(self) -> Callable[[], object] | None:
        """What imports what the method needs and takes long to import, or None."""
        return None

    def run(self, search: Search) -> Stop | None:
        """Do the work; the reason to stop, or None for the budget's."""
        raise NotImplementedError

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        problem = getattr(instance, "two_stage", None)
        if not isinstance(problem, TwoStageProblem):
            return f"{instance.problem} is not a two-stage problem"
        return self.reason(problem)

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Solve one instance.

        Raises
        ------
        UnsupportedError
            When the method cannot take it.
        InfeasibleRecourseError
            When no first stage has a recourse in every scenario and one is at fault.
        """
        why = self.supports(instance)
        if why is not None:
            raise UnsupportedError(why)
        tracker: Tracker[Any] = Tracker(
            instance, budget, solver=self.name, seed=seed, on_event=on_event
        )
        problem: TwoStageProblem = instance.two_stage  # type: ignore[attr-defined]
        engine = backends.load(self.backend)
        search = Search(tracker, problem, engine, spawn_seed(seed, instance.digest))
        with budget.catch_interrupt():
            begin, search.static = compiled(tracker, problem, engine, start, self.loads())
            if not begin:
                return self._result(search, tracker.done() or Stop.TIME)
            if start is not None:
                search.keep(np.asarray(start["xi"], dtype=float))
                search.evaluate(np.asarray(start["x"], dtype=float), "start")
            stopped = self.run(search)
        status, more = None, {}
        if search.best is None and tracker.done() is not None:
            offer_static(tracker, problem, engine, search.static)
        if search.best is None and tracker.solution is None:
            more = self.blame(search)
            status = Status.INFEASIBLE if search.infeasible else Status.UNKNOWN
            if search.infeasible:
                stopped = Stop.PROVED
            elif search.refused is not None and tracker.done() is None:
                raise search.refused
        elif search.best is not None and search.closed and not search.best.sampled:
            tracker.bound = tracker.objective
            stopped = Stop.PROVED
        elif stopped is Stop.PROVED:
            # The value is that of a list of scenarios.
            stopped = None
        if stopped is None:
            stopped = tracker.done() or Stop.FINISHED
        return self._result(search, stopped, status, **more)

    def _result(
        self, search: Search, stopped: Stop, status: Status | None = None, **more: Any
    ) -> Result:
        return search.tracker.result(
            stopped, status=status, params=self.params(), versions=self.versions(),
            extra={"iterations": search.rows, "seconds": search.spent,
                   "scenarios": len(search.scenarios), **more},
        )  # fmt: skip

    def blame(self, search: Search) -> dict[str, Any]:
        """Find out why there is no first stage: its own rows, or scenarios, which are logged."""
        if search.tracker.done() is not None:
            return {}
        if search.refused is None and search.excluded():
            search.infeasible = True
            return {}
        if not (search.infeasible and search.scenarios):
            return {}
        shown = ", ".join(
            np.array2string(xi, precision=6, separator=", ", threshold=12, edgeitems=6,
                            max_line_width=10_000)
            for xi in search.scenarios[:3]
        )  # fmt: skip
        others = len(search.scenarios) - 3
        logger.warning(
            "%s: no first stage has a recourse in all of these scenarios: %s%s.",
            search.tracker.instance.name or search.problem.problem, shown,
            f" and {others} more" if others > 0 else "",
        )  # fmt: skip
        return {"infeasible": [as_numbers(xi) for xi in search.scenarios]}

    def params(self) -> Mapping[str, Any]:
        """The parameters, for the result."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def versions(self) -> Mapping[str, str]:
        """What computed the result."""
        from importlib.metadata import version

        package = {"highs": "highspy", "scip": "pyscipopt"}.get(self.backend)
        return {package: version(package)} if package else {}
