"""Neur2RO: column-and-constraint generation whose second stages a network stands in for.

J. Dumouchelle, E. Julien, J. Kurtz and E. B. Khalil, Neur2RO: neural two-stage robust
optimization, ICLR 2024. A master proposes first stages by what the network sees in the
scenarios so far; an adversary adds scenarios in which it sees less. Every first stage that is
proposed is evaluated by the problem itself: what the network believes never becomes an
objective or a bound. Beyond the paper, the worst scenario of that evaluation joins the
scenarios, and a master proposes its near-optimal neighbours as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import (
    Budget,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    Tracker,
    UnsupportedError,
    spawn_seed,
)
from nco.instances.registry import backends
from nco.robust import OWN
from nco.robust.cold import compiled, offer_static
from nco.robust.duality import bad_scenario
from nco.robust.encoding import ENCODERS, Encoder, Encoding, encode
from nco.robust.local_search import neighbors
from nco.robust.own_labels import steps
from nco.robust.search import feasible_rows
from nco.robust.two_stage import Evaluation, InfeasibleRecourseError, TwoStageProblem

log = logging.getLogger("nco")

Vector = NDArray[np.float64]
MASTERS = ("value", "second-stage")
#: The newest scenarios, by which neighbours are judged.
LOOKED_AT = 24


@cache
def _model(problem: str, path: str, stamp: float) -> Any:
    from nco.robust.weights import read_value_model

    return read_value_model(problem, path)


def load_modules() -> None:
    """Import what runs networks: a second or more, which cannot be stopped."""
    import nco.robust.adversary
    import nco.robust.master
    import nco.robust.weights  # noqa: F401


def weights_file(problem: str, weights: str = "") -> Path:
    """The weights file for a problem.

    Raises
    ------
    nco.weights.WeightsError
        When there is none, or it is damaged or for another problem.
    """
    from nco.weights import (
        VALUE_ARCHITECTURE,
        WeightsError,
        default_weights,
        read_checked,
        shipped,
        shipped_folder,
    )

    if problem == OWN and not weights:
        raise WeightsError(
            "no weights are shipped for problems of one's own: run 'nco label two-stage --from "
            "FILE --count 50000 --out labels.npz' and 'nco train two-stage --data labels.npz "
            "--out RUN', then name them with weights=RUN"
        )
    path = Path(weights) if weights else default_weights(problem)
    if weights and not path.suffix and weights in shipped():
        path = shipped_folder() / f"{weights}.safetensors"
    if path.is_dir():
        # A run of 'nco train'.
        path = path / f"{problem}-v1.safetensors"
    read_checked(path, problem, VALUE_ARCHITECTURE)
    return path


def load_model(problem: str, weights: str = "") -> Any:
    """The value network for a problem, read once; see `nco.robust.weights.read_value_model`.

    Raises
    ------
    nco.weights.WeightsError
        When there is none, or it cannot be used.
    """
    path = weights_file(problem, weights)
    return _model(problem, str(path), path.stat().st_mtime)


def outside_range(
    card: Mapping[str, Any], n: int, encoding: Encoding, bounds: tuple[Vector, Vector]
) -> str | None:
    """What of an instance the network was not trained on, with the range; None if nothing.

    Parameters
    ----------
    card
        The weights' card.
    n
        Size of the instance.
    encoding
        The instance as the network sees it.
    bounds
        Smallest and largest scenarios [q].
    """
    ranges = card.get("ranges", {})
    # Items that are no part of the size, such as an early loan.
    more = len(encoding.features[0]) - n
    for name, size, extra in (("n", n, more), ("entries", len(bounds[0]), 0)):
        fewest, greatest = ranges.get(name, (size + extra, size + extra))
        if not fewest <= size + extra <= greatest:
            what = f"n = {n}" if name == "n" else f"{size} entries of a scenario"
            return f"{what}, trained on {fewest - extra} to {greatest - extra}"
    for k, features in enumerate(encoding.features):
        seen = [("", features, features)]
        base, slope = encoding.base[k], encoding.slope[k]
        if base is not None and slope is not None:
            plus, minus = np.maximum(slope, 0.0), np.minimum(slope, 0.0)
            seen.append((
                " in scenarios", base + plus @ bounds[0] + minus @ bounds[1],
                base + plus @ bounds[1] + minus @ bounds[0],
            ))  # fmt: skip
        for kind, least, most in seen:
            limits = next(
                (v for name, v in ranges.items()
                 if name.startswith(f"{k}:") and name.endswith(" in scenarios") == bool(kind)), None
            )  # fmt: skip
            if limits is None:
                continue
            small, large = (np.asarray(v) for v in limits)
            # A twentieth of the range; where that is narrow or a point, of the numbers in it.
            magnitude = np.maximum(np.abs(small), np.abs(large))
            spread = 1e-6 + 0.05 * np.maximum(large - small, magnitude)
            low, high = small - spread, large + spread
            if kind:
                # Few of the scenarios that were seen are at their ends all over.
                low, high = low - 0.2 * (large - small), high + 0.2 * (large - small)
            bad = (least < low) | (most > high)
            if bad.any():
                i, j = (int(v[0]) for v in np.nonzero(bad))
                value = least[i, j] if least[i, j] < low[j] else most[i, j]
                return (
                    f"input {j}{kind} of item {i} is {value:.4g}, "
                    f"trained on {small[j]:.4g} to {large[j]:.4g}"
                )
    return None


@dataclass
class _Run:
    """One solve.

    Parameters
    ----------
    problem, encoder, network, encoding, seen
        The problem, and how the network sees it.
    tracker, budget, rng
        What is kept, the limits, randomness.
    worst
        Whether scenarios of evaluations are kept.
    """

    problem: TwoStageProblem
    encoder: Encoder
    network: Any
    encoding: Encoding
    seen: NDArray[np.intp]
    tracker: Tracker[Any]
    budget: Budget
    rng: np.random.Generator
    worst: bool = True
    scenarios: list[Vector] = field(default_factory=list)
    hopeless: list[Vector] = field(default_factory=list)
    known: dict[bytes, Evaluation | None] = field(default_factory=dict)
    best: Evaluation | None = None
    best_value: float = -math.inf

    def add(self, xi: Vector) -> bool:
        """Keep a scenario unless it is one already."""
        apart = 1e-3 * max(1.0, float(np.abs(xi).sum()))
        if any(float(np.abs(xi - other).sum()) <= apart for other in self.scenarios):
            return False
        self.scenarios.append(np.asarray(xi, dtype=float))
        return True

    def values(self, x: Vector) -> Vector:
        """What first stages [k, p] are worth by the network, in the scenarios so far."""
        from nco.robust.embedding import network_values

        value, score = network_values(
            self.network, self.encoding, x[:, self.seen], np.array(self.scenarios[-LOOKED_AT:])
        )
        first = self.problem.first
        value = np.where(score < 0, -np.inf, value) if self.encoder.scored else value
        return np.asarray(x @ first.c + first.offset + value.min(1))

    def hurt(self, x: Vector, steps: int = 30) -> tuple[float, Vector]:
        """What x is worth at most, and the scenario that shows it.

        The exact second stages of the scenarios so far and, where these are convex in xi,
        projected subgradient steps from the worst of them; the step length aims at the best
        value (B. T. Polyak, Minimization of unsmooth functionals, 1969).
        """
        problem = self.problem
        known = self.scenarios[-LOOKED_AT:]
        values, ys = problem.recourse_at(x, np.array(known), self.budget)
        if np.isnan(values).any():
            return -math.inf, known[int(np.argmax(np.isnan(values[0])))]
        first = problem.first.value(x)
        k = int(np.argmin(values[0]))
        value, xi, y = float(values[0, k]), known[k], ys[0, k]
        worst = (value, xi)
        if not (problem.affine.certain_rows and problem.uncertainty.convex):
            hints = np.array(known)[np.argsort(values[0], kind="stable")]
            found = bad_scenario(problem, x, self.budget, hints)
            return found if found and found[0] < first + value else (first + value, xi)
        target = self.best_value - first
        if not math.isfinite(target):
            target = value - 0.05 * abs(value)
        for _ in range(steps):
            if worst[0] <= target:
                break
            slope, _ = problem.affine.linear(x, y)
            length = float(slope @ slope)
            if length <= 0.0:
                break
            xi = problem.uncertainty.project((xi - (value - target) / length * slope)[None])[0]
            here, more = problem.recourse_at(x, xi)
            value, y = float(here[0, 0]), more[0, 0]
            if value < worst[0]:
                worst = (value, xi)
        return first + worst[0], worst[1]

    def consider(self, x: Vector) -> None:
        """Evaluate a first stage unless some scenario shows that it is not better."""
        x = self.problem.whole_x(x)
        if x.tobytes() in self.known or self.budget.done():
            return
        try:
            most, xi = self.hurt(x)
        except TimeoutError:
            return
        if self.worst:
            self.add(xi)
        if most > self.best_value:
            found = self.evaluate(x)
            if found is not None and self.worst:
                self.add(found.xi)
        elif math.isfinite(most):
            self.known[x.tobytes()] = None
        else:
            # No second stage there.
            self.evaluate(x)

    def evaluate(self, x: Vector) -> Evaluation | None:
        """The problem's own evaluation of a first stage, remembered; None if infeasible."""
        x = self.problem.whole_x(x)
        key = x.tobytes()
        if key not in self.known:
            try:
                hints = np.array(self.scenarios).reshape(-1, self.problem.uncertainty.dimension)
                if len(hints) > 1:
                    values, _ = self.problem.recourse_at(x, hints, self.budget)
                    hints = hints[np.argsort(values[0], kind="stable")]
                found = self.problem.worst_case(x, self.budget, hints)
            except TimeoutError:
                return None
            except InfeasibleRecourseError as error:
                self.known[key] = None
                if not any(np.array_equal(error.xi, xi) for xi in self.hopeless):
                    self.hopeless.append(error.xi)
                return None
            if not (found.exact or found.sampled) and self.budget.done():
                self.keep(found)
                return found
            self.known[key] = found
            self.keep(found)
        return self.known[key]

    def keep(self, found: Evaluation) -> None:
        """Offer an evaluation if it is the best."""
        value = float(found.value if found.exact or found.sampled else found.guaranteed)
        if value > self.best_value:
            self.tracker.offer(self.problem.solution(found))
            self.best, self.best_value = found, value

    def attack(self, x: Vector, steps: int = 25) -> bool:
        """Add the scenario in which the network sees the least for x."""
        from nco.robust.adversary import descend

        problem = self.problem
        low, high = self.width
        starts = problem.uncertainty.sample(16, self.rng)
        if self.scenarios:
            starts = np.concatenate([starts, np.array(self.scenarios[-8:])])
        added = False
        for score in (False, True) if self.encoder.scored and self.hopeless else (False,):
            found = descend(
                self.network,
                self.encoding,
                x[self.seen],
                starts,
                problem.uncertainty.project,
                score=score,
                steps=steps,
                width=high - low,
                count=1,
                stop=lambda: self.budget.done() is not None,
            )
            added |= self.add(found.xi[0])
        return added

    @property
    def binary(self) -> NDArray[np.bool_]:
        """Which first-stage columns [p] are 0 or 1."""
        first = self.problem.first
        return np.asarray(first.whole & (first.lower >= 0.0) & (first.upper <= 1.0))

    @property
    def width(self) -> tuple[Vector, Vector]:
        """Smallest and largest scenarios."""
        if not hasattr(self, "_width"):
            self._width = self.problem.uncertainty.bounds()
        return self._width

    def explore(self, x: Vector, rounds: int, ranked: int, tried: int) -> None:
        """Evaluate the neighbours of x that the network ranks first, from the best again."""
        for _ in range(rounds):
            options = neighbors(x, self.rng, self.seen[self.binary[self.seen]], most=4000)
            others = self.seen[~self.binary[self.seen]]
            if len(others):
                width = np.broadcast_to(self.encoding.width, len(self.seen))
                moved = steps(self.problem.first, x, others, width)
                options = np.concatenate([options, moved])
            options = options[feasible_rows(self.problem, options)]
            if not len(options) or self.budget.done():
                return
            order = np.argsort(-self.values(options), kind="stable")[:ranked]
            # Without an oracle, second stages are a program each.
            options = options[order if self.problem.oracle is not None else order[:tried]]
            # Second stages in the scenarios so far show at once what cannot be better.
            known = np.array(self.scenarios[-LOOKED_AT:])
            try:
                exact, _ = self.problem.recourse_at(options, known, self.budget)
            except TimeoutError:
                return
            worth = options @ self.problem.first.c + self.problem.first.offset
            worth = worth + np.where(np.isnan(exact), -np.inf, exact).min(1)
            before = self.best_value
            for k in np.argsort(-worth, kind="stable")[:tried]:
                if worth[k] <= self.best_value or self.budget.done():
                    break
                self.consider(options[k])
            if self.best_value <= before or self.best is None:
                return
            x = self.best.x


@dataclass(frozen=True)
class Neur2RO:
    """Learned column-and-constraint generation.

    Parameters
    ----------
    weights
        A weights file, a run of ``nco train`` or the name of shipped weights; by default the
        problem's own.
    backend
        MIP engine of masters and of the adversary's certificate.
    master
        "value" maximises the smallest value that the network sees; "second-stage" has the
        exact second stage of the scenario in which it sees the least, as in the paper; ""
        is the problem's own: the exact one where it is linear and its limits are uncertain.
    scenarios
        Largest number of scenarios in a master; the oldest leave.
    patience
        Ends after so many masters that brought nothing better.
    neighbors
        Neighbours of a proposal that are looked at, as ranked by the network; 0 for none.
    certify
        Seconds for a MIP that proves the adversary's scenario for the returned first stage
        to be the worst the network sees; 0 for none.
    gap
        Certified gap of the masters.
    worst
        Whether worst scenarios of evaluations join the network's.
    slack
        For "second-stage": how far the value may exceed what the network sees, as a share
        of the network's scale.

    Raises
    ------
    ValueError
        When a parameter makes no sense.
    """

    name: ClassVar[str] = "neur2ro"
    weights: str = ""
    backend: str = "highs"
    master: str = ""
    scenarios: int = 40
    patience: int = 5
    neighbors: int = 60
    certify: float = 0.0
    gap: float = 1e-3
    worst: bool = True
    slack: float = 0.01

    def __post_init__(self) -> None:
        """Validate."""
        if self.master and self.master not in MASTERS:
            raise ValueError(f"master {self.master!r} not understood; {' or '.join(MASTERS)}.")
        if min(self.scenarios, self.patience) < 1 or min(self.neighbors, self.certify) < 0:
            raise ValueError("scenarios and patience must be positive, neighbors and certify >= 0.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        if not isinstance(getattr(instance, "two_stage", None), TwoStageProblem):
            return f"{instance.problem} is not a two-stage problem"
        if instance.problem not in ENCODERS:
            return f"no value network knows {instance.problem}; known: {', '.join(ENCODERS)}"
        return None

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
            When no network knows the problem.
        nco.weights.WeightsError
            When its weights are missing or cannot be used.
        """
        reason = self.supports(instance)
        if reason is not None:
            raise UnsupportedError(reason)
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        problem: TwoStageProblem = instance.two_stage  # type: ignore[attr-defined]
        engine = backends.load(self.backend)
        weights_file(instance.problem, self.weights)
        extra: dict[str, Any] = {}
        with budget.catch_interrupt():
            begin, static = compiled(tracker, problem, engine, start, load_modules)
            if begin:
                run = self._begin(instance, tracker, seed)
                extra = self._search(run, start, spawn_seed(seed, instance.digest))
                if run.best is None:
                    # No proposal of the network's in time: the first stage is not its own.
                    offer_static(tracker, problem, engine, static)
        stopped = tracker.done() or Stop.FINISHED
        status = Status.FEASIBLE if tracker.solution is not None else Status.UNKNOWN
        return tracker.result(stopped, status=status, params=self._params(), extra=extra)

    def scenarios_for(
        self, instance: Instance[Any], budget: Budget, *, seed: int = 0
    ) -> tuple[list[Vector], Evaluation | None]:
        """Scenarios and the best first stage, for a method that starts from them.

        Raises
        ------
        nco.weights.WeightsError
            When the network's weights are missing or cannot be used.
        """
        tracker: Tracker[Any] = Tracker(instance, budget, solver=self.name, seed=seed)
        run = self._begin(instance, tracker, seed)
        self._search(run, None, spawn_seed(seed, instance.digest))
        return run.scenarios, run.best

    def _begin(self, instance: Instance[Any], tracker: Tracker[Any], seed: int) -> _Run:
        model = load_model(instance.problem, self.weights)
        problem: TwoStageProblem = instance.two_stage  # type: ignore[attr-defined]
        encoder = ENCODERS[instance.problem]
        # Weights of zero are infinitely worth their while; what matters is what comes of it.
        with np.errstate(divide="ignore", invalid="ignore"):
            encoding = encode(
                encoder, model.network.config.streams, instance, problem.uncertainty.dimension
            )
        if not np.isfinite(np.concatenate([*map(np.ravel, encoding.features)])).all():
            raise UnsupportedError(
                f"the network sees no finite numbers in {instance.name or instance.problem}: "
                "its values or its weights are all zero"
            )
        strange = outside_range(
            model.card,
            instance.n,
            encoding,
            problem.uncertainty.bounds(),
        )
        if strange is not None:
            log.warning("%s: outside what the network was trained on: %s.",
                        instance.name or instance.problem, strange)  # fmt: skip
        return _Run(
            problem=problem,
            encoder=encoder,
            network=model.network,
            encoding=encoding,
            seen=encoder.seen(problem),
            tracker=tracker,
            budget=tracker.budget,
            rng=np.random.default_rng(spawn_seed(seed, instance.digest)),
            worst=self.worst,
        )

    def _params(self) -> dict[str, Any]:
        return {
            "backend": self.backend, "master": self.master, "scenarios": self.scenarios,
            "patience": self.patience, "neighbors": self.neighbors, "worst": self.worst,
        }  # fmt: skip

    def _search(self, run: _Run, start: Any, seed: int) -> dict[str, Any]:
        from nco.robust.master import Memory, build_master, solve_master

        problem, budget = run.problem, run.budget
        engine = backends.load(self.backend)
        if start is not None:
            run.evaluate(np.asarray(start["x"], dtype=float))
        spent = {"master": 0.0, "adversary": 0.0, "evaluation": 0.0}
        clock = budget.elapsed()

        def charge(to: str) -> None:
            nonlocal clock
            now = budget.elapsed()
            spent[to] += now - clock
            clock = now

        x = np.where(problem.first.whole, np.minimum(problem.first.upper, 1.0), 0.0)
        x = np.maximum(problem.first.lower, x)
        iteration = stale = 0
        rows: list[dict[str, Any]] = []
        proposed: list[Vector] = []
        while run.tracker.done(iteration) is None and stale < self.patience:
            run.attack(x)
            charge("adversary")
            before, state = run.best_value, (len(run.known), len(run.scenarios))
            memory = Memory([np.frombuffer(k) for k in list(run.known)[-300:]], run.hopeless)
            mip, columns = build_master(
                problem,
                run.seen,
                run.scenarios[-self.scenarios :],
                run.network,
                run.encoding,
                slack=self.slack,
                choose=(self.master or run.encoder.master) == "second-stage",
                memory=memory if run.binary.all() else Memory((), run.hopeless),
            )
            # Half of the time is left for what the master proposes.
            proposal = solve_master(
                mip, columns, budget.share(0.5), backend=engine, gap=self.gap, seed=seed, most=3
            )
            charge("master")
            if not len(proposal.x):
                # Either no time is left, or there is nothing that is not known already.
                break
            proposed = list(proposal.x)
            for candidate in proposed:
                run.consider(candidate)
            x = proposal.x[0]
            # Neighbours are worth a look once the scenarios tell good ones from bad ones.
            if self.neighbors and run.best is not None and iteration >= 2:
                run.explore(x if iteration % 2 == 0 else run.best.x, 3, self.neighbors, 6)
            charge("evaluation")
            iteration += 1
            better = run.best is None or run.best_value > before + 1e-9 * abs(before)
            stale = 0 if better else stale + 1
            if state == (len(run.known), len(run.scenarios)):
                stale = self.patience
            known = run.best is not None
            rows.append({
                "believed": None if proposal.value is None else problem.sign * proposal.value,
                "best": problem.sign * run.best_value if known else None,
                "scenarios": len(run.scenarios),
            })  # fmt: skip
            log.debug("neur2ro %d: %s", iteration, rows[-1])
        if run.best is None:
            # The time is over: what can be said at once of the last proposals.
            for candidate in proposed:
                if run.best is None and feasible_rows(problem, candidate[None])[0]:
                    run.evaluate(candidate)
        extra: dict[str, Any] = {"iterations": rows, "seconds": spent}
        if self.certify and run.best is not None and budget.done() is None:
            from nco.robust.adversary import certify

            share = budget.child(time_limit=min(self.certify, budget.left()))
            attack, bound = certify(
                run.network, run.encoding, run.best.x[run.seen], problem.uncertainty, share,
                backend=engine, seed=seed,
            )  # fmt: skip
            first = problem.first.value(run.best.x)
            extra["network"] = {
                "value": None
                if attack is None
                else problem.sign * (first + float(attack.values[0])),
                "bound": problem.sign * (first + bound),
            }
        return extra
