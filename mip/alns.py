"""The search loop of `balans`: a bandit over neighbourhoods beside a main solve.

J. Cai, S. Kadıoğlu, B. Dilkina, Balans: multi-armed bandits-based adaptive large
neighborhood search for mixed-integer programming, IJCAI 2025. Unlike there, continuous
variables stay free, sub-solves get a cutoff and a start and stream what they find, and
an exact solve goes on in between, so that the result has a bound.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from nco.classical.compiling import compiled_before
from nco.instances.core import FLOAT_TOLERANCE, Status, Stop, Tracker, meets, primal_gap
from nco.instances.mip import MipView
from nco.instances.registry import operators
from nco.mip.backend import (
    EXACT,
    Backend,
    Form,
    Limits,
    Neighborhood,
    Outcome,
    OutOfTimeError,
    Vector,
    Watch,
    offer_bound,
    polish,
    refuted,
)
from nco.mip.bandit import Bandit
from nco.mip.main_solve import MainSolve
from nco.mip.neighborhoods import RELAXED, Incumbents, Operator, fill, free_only
from nco.mip.relaxation import LinearProgram
from nco.mip.starters import load_starters, run_starters, trivial

logger = logging.getLogger("nco")

#: Solutions kept for crossover.
POOL = 10
#: Sizes that adapt start here and stay inside these limits.
FIRST_SIZE, LEAST_SIZE, LARGEST_SIZE = 0.2, 0.02, 0.9
#: Sizes of these are gains that they ask for: a larger one is harder, not a larger search.
DEMANDING = {"proximity": 0.01}
LEAST_DEMAND = 1e-4
#: Reward of a real try that took no time and brought nothing, and seconds that halve it;
#: an arm without a neighbourhood gets 0.
VAIN, VAIN_SECONDS = 0.15, 0.3
#: An arm whose latest rewards are above this is promising: then arms that wait for their first
#: turn get it with this chance, after trials in vain.
PROMISING, EXPLORE = 0.3, 0.3
#: Seconds below which loading the starters does not pay.
SHORT = 1.0
#: Largest shares of the time that the main engine's root is favoured for, and before the first
#: trial: as long as it improves, and without any solution.
FIRST_SHARE, MOST_FIRST, VAIN_FIRST = 0.3, 0.5, 0.1
#: The main engine's least share beside the trials while it is at its root, where engines find most.
ROOT_MAIN = 0.4
#: A gap is wide from here on: then an engine at its root, the relaxation solved, may stall for
#: so many seconds.
WIDE, ROOT_PATIENCE = 0.1, 5.0
#: Where the gap is wide the other engine is asked once about the whole model. It has this share
#: of the time to close that share of the gap, and seconds more once it has. If so it goes on, with
#: at least a share of the time, and a larger one while nothing pays.
RIVAL_SHARE, RIVAL_CLOSES, RIVAL_MORE = 0.125, 0.25, 1.0
LEAST_RIVAL, QUIET_RIVAL = 0.1, 0.4
#: The main engine's share while nothing pays, where it has found more than the trials.
AHEAD_MAIN = 0.8
#: Trials without a new best solution from anywhere after which nothing pays.
QUIET = 8
#: What an engine finds at its root depends much on its seed. Where the best solution is within
#: this gap of the best that a root has found, and the main engine took at most this share of the
#: time for its own, its root is begun anew with another seed, and without a start, after trials
#: in vain of as many seconds. These are so many times those that the main engine took.
ROOT_GAP, ROOT_LIMIT, ROOT_LONGER = 0.01, 0.15, 1.25
#: What a root that is begun anew is called.
ROOT = "root"
#: Seconds below which asking the other engine is no use.
RIVAL_SECONDS = 1.0
#: Seconds that the main engine has for itself before the starters are loaded, which takes a
#: core about as long: of easy models it has a good solution by then.
LEAD = 0.35
#: Largest share of the time for the starters, which the main engine has to do without, and
#: seconds for them once they have a solution.
START_SHARE, START_MORE = 0.03, 0.3
#: The main engine's least share of the time beside the trials (it is also theirs), and how
#: much a gain counts one trial later.
LEAST_MAIN, FADE = 0.15, 0.93
#: Seconds of a sub-solve: at first, at least and at most; they adapt.
FIRST_SUB, LEAST_SUB, MOST_SUB = 0.6, 0.3, 3.0
#: A trial may go on without an improvement for so many times the nodes that those which paid
#: lately have needed at most for their last one, and for `Plan.sub_stall` nodes at least.
STALLED = 3
#: An engine whose sub-solves fail so often in a row gets no more.
FAILURES = 3
#: The second engine of sub-solves joins when of so many trials half have run out of time,
#: and the model has at most so many entries: writing large ones takes seconds.
LATEST, MOST_ENTRIES = 4, 500_000
#: Points that violate a few rows, kept for repairs.
NEAR = 3
#: Trials after which the relaxation is solved anew.
REFRESH = 6


class Share(Protocol):
    """What workers of a portfolio tell each other."""

    def tell(self, x: Vector, value: float, by: str) -> None:
        """Announce a new best solution and what found it."""
        ...

    def tell_bound(self, bound: float) -> None:
        """Announce a better lower bound."""
        ...

    def hear(self) -> tuple[list[Vector], float]:
        """Solutions of others since the last call, and their best lower bound."""
        ...


@dataclass
class _State:
    """A solution as `alns` wants it."""

    x: Vector
    value: float

    def objective(self) -> float:
        return self.value


@dataclass(frozen=True)
class _Turns:
    """When trials and exact solves began to take turns, and what the latter had had by then."""

    begin: float
    before: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Parameters of the loop.

    Parameters
    ----------
    arms
        Operators, with a fixed size (``"rins:0.25"``) or an adaptive one (``"rins"``).
    accept
        Makes the acceptance criterion of `alns.accept`.
    cutoff
        Whether sub-solves must improve on the current solution.
    sub_seconds, sub_nodes
        Limits of a sub-solve; None for no limit.
    sub_stall
        Nodes of a trial without an improvement, more where later ones have paid; None for no
        limit.
    main_share
        Share of the time for the exact solves while nothing pays; more at their roots, and
        where another engine has paid beside the main one. 0 for none at all.
    deterministic
        Only nodes limit and reward, so that a seed repeats everything.
    """

    arms: tuple[str, ...]
    accept: Callable[[], Any]
    cutoff: bool = True
    sub_seconds: float | None = None
    sub_nodes: int | None = 2000
    sub_stall: int | None = 500
    main_share: float = 0.5
    deterministic: bool = False


class Search:
    """One worker's search.

    Parameters
    ----------
    form, view
        The model, and how it belongs to the instance.
    tracker
        Gets solutions and bounds.
    plan
        Parameters.
    bandit
        Chooses arms; its names are the plan's arms.
    main
        Makes the engine of the main solve; other numbers than 0 give it other seeds.
    sub
        Make the engines of the sub-solves, by name; a second one joins where the first one
        is slow.
    seed
        Of all random choices.
    share
        The other workers, or None.
    """

    def __init__(
        self,
        form: Form,
        view: MipView,
        tracker: Tracker[Any],
        plan: Plan,
        bandit: Bandit,
        main: Callable[[int], Backend],
        sub: Mapping[str, Callable[[], Backend]],
        seed: int,
        share: Share | None = None,
    ):
        self.form, self.view, self.tracker, self.plan = form, view, tracker, plan
        self.bandit, self.share = bandit, share
        self.rng = np.random.default_rng(seed)
        self.pool: list[_State] = []
        self.current: _State | None = None
        self.iterations = 0
        #: Improvements by the exact solves, "main" and "rival", and by the trials: lately, and
        #: all since the first trial.
        self.gains = {"main": 0.0, "rival": 0.0, "trials": 0.0}
        self.gained = dict(self.gains)
        self.main_best = self._trivial = math.inf
        #: What each arm, engine or starter has improved the best solution by.
        self._found: dict[str, float] = {}
        #: Engines of sub-solves that cannot be used, how often in a row each has failed, and
        #: failures that were told.
        self._broken: set[str] = set()
        self._failures: dict[str, int] = {}
        self._told: set[str] = set()
        #: Whose proofs do not hold although engines keep rows as closely as they can.
        self._refuted: set[str] = set()
        self.engine_seconds = 0.0
        self.suggested = self.heard = 0
        self.near: list[tuple[int, Vector]] = []
        self._make_main, self._make_sub = main, sub
        self._subs: dict[str, Backend] = {}
        self.engines = Bandit(list(sub), "epsilon-greedy", 0.2, seed=seed)
        self._turns: _Turns | None = None
        self._slow: deque[bool] = deque(maxlen=LATEST)
        self._second = False
        self._main: MainSolve | None = None
        self._rival: MainSolve | None = None
        #: All exact solves that were begun, also those that have failed or did not pay.
        self._exacts: dict[str, MainSolve] = {}
        #: The latest sub-solve of the whole model, or its relaxation if that is unbounded.
        self._whole_outcome: Outcome | None = None
        self._asked = self._paid = False
        self._vain = QUIET
        #: Times the root was begun anew, their seconds, the best that a root has found, and how
        #: long the main engine took for its own.
        self.roots = 0
        self._root_seconds = 0.0
        #: Seconds of trials since the last new best solution, less those of roots begun anew.
        self._idle = 0.0
        self._root_best = self._root_took = math.inf
        self._starters: threading.Thread | None = None
        self._loaded = threading.Event()
        self._loading = False
        self._ended = False
        #: What a listener has raised. Engines, which hear of nothing else, are not to blame for it.
        self._error: Exception | None = None
        self._lock = threading.RLock()
        self._news: dict[str, Vector | None] = {"main": None, "rival": None}
        self._accept: Any = None
        self._operators: dict[str, Operator] = {}
        self._sizes: dict[str, float] = {}
        self._adaptive: set[str] = set()
        for arm in plan.arms:
            name, _, size = arm.partition(":")
            self._operators[arm] = operators.load(name)
            self._sizes[arm] = float(size) if size else DEMANDING.get(name, FIRST_SIZE)
            if not size:
                self._adaptive.add(arm)
        self._program: LinearProgram | None = None
        self._root: Vector | None = None
        self._relaxation: Vector | None = None
        self._age = 0
        #: Whether the last one was solved in time; else the next ones would not be, either.
        self._refreshes = True
        self._rate = 0.0
        #: Of each engine, the most nodes of a trial before an improvement, fading.
        self._needed = dict.fromkeys(sub, 0.0)
        limit = tracker.budget.time_limit
        self._most_sub = MOST_SUB if limit is None else min(MOST_SUB, max(LEAST_SUB, 0.05 * limit))
        first = min(FIRST_SUB, self._most_sub)
        self._sub_seconds = first if plan.sub_seconds is None else plan.sub_seconds

    # ------------------------------------------------------------------ solutions

    def offer(self, x: Vector, by: str, *, shared: bool = False) -> bool:
        """Check and keep column values; True if they are a new best."""
        polished = self._checked(x)
        if polished is None:
            return False
        value = self.form.value(polished)
        with self._lock:
            if self._ended:
                return False
            best = self.pool[0].value if self.pool else math.inf
            if not any(np.array_equal(polished, state.x) for state in self.pool):
                self.pool.append(_State(polished, value))
                self.pool.sort(key=_State.objective)
                del self.pool[POOL:]
            if value >= best - self._least_gain(best):
                return False
            if self.current is None or value < self.current.value:
                self.current = _State(polished, value)
            try:
                self.tracker.offer(self.view.decode(polished), by)
            except Exception as error:
                self._error, self._ended = error, True
                return False
            if math.isfinite(best):
                self._found[by] = self._found.get(by, 0.0) + best - value
            self._news = dict.fromkeys(self._news, polished)
            self._vain, self._idle = 0, 0.0
        if self.share is not None and not shared:
            self.share.tell(polished, value, by)
        return True

    def _least_gain(self, value: float) -> float:
        """By how much a solution must be better than one of this value to count as better."""
        varying = abs(value - self.form.offset)
        return FLOAT_TOLERANCE * max(1.0, varying) + math.ulp(self.form.offset)

    def _checked(self, x: Vector) -> Vector | None:
        """Column values [n] that model and instance admit, mended if need be; or None."""
        polished = polish(self.form, x)
        if polished is None or self.tracker.instance.violations(self.view.decode(polished)):
            return None
        return polished

    def offer_bound(self, bound: float, by: str) -> None:
        """Keep a lower bound of the whole model."""
        with self._lock:
            if self._ended:
                return
            try:
                offer_bound(self.tracker, self.form, self.view, bound, by)
            except Exception as error:
                self._error, self._ended = error, True
                return
        if self.share is not None and math.isfinite(bound):
            self.share.tell_bound(bound)

    def done(self) -> Stop | None:
        """Why to stop now, or None."""
        if self._error is not None:
            return Stop.ERROR
        reason = self.tracker.done(self.iterations)
        if reason is not None:
            return reason
        objective, bound = self.tracker.objective, self.tracker.bound
        if objective is not None and bound is not None:
            # What the result takes for a proof.
            constant = getattr(self.tracker.instance, "offset", 0.0)
            return Stop.PROVED if meets(objective, bound, constant) else None
        return None

    def _stop(self) -> bool:
        return self.done() is not None

    def _listen(self) -> None:
        if self.share is None:
            return
        solutions, bound = self.share.hear()
        for x in solutions:
            self.heard += self.offer(x, "shared", shared=True)
        if math.isfinite(bound):
            with self._lock:
                offer_bound(self.tracker, self.form, self.view, bound, "shared")

    # ------------------------------------------------------------------ the loop

    def run(self, hint: Vector | None) -> Outcome:
        """Search until the budget ends or the main solve has proved the optimum.

        Parameters
        ----------
        hint
            A start, feasible or not, or None.

        Raises
        ------
        Exception
            What the tracker's listener has raised.
        """
        if hint is not None:
            self.offer(hint, "start")
        try:
            run = self._run_counted if self.plan.deterministic else self._run_timed
            outcome = run(hint)
        finally:
            with self._lock:
                self._ended = True
            answered = all([solve.stop() for solve in self._exacts.values()])
            if self._starters is not None:
                self._starters.join(0.2)
            for engine in self._subs.values():
                engine.close()
            if not answered:
                logger.info("an exact solve did not stop in time; it is left behind.")
        if self._error is not None:
            raise self._error
        return outcome

    def _start_up(self, hint: Vector | None) -> Vector | None:
        """Run the starters; they may go on beside the main solve. Returns a start."""
        limit = self.tracker.budget.time_limit
        seed = int(self.rng.integers(2**31))
        for x in trivial(self.form):
            if self.pool and self._stop():
                break
            self.offer(x, "trivial")
            self._trivial = min(self._trivial, self.form.value(x))
        # Engines that are given a poor solution look less hard for a good one.
        self._news = dict.fromkeys(self._news)
        if self.plan.deterministic or limit is None:
            found = None
            if compiled_before(load_starters, self._stop):
                found = run_starters(self.form, seed, self.offer, self._stop, self.promise)
        elif limit < SHORT:
            return hint
        else:
            lead = min(LEAD, 0.03 * limit)
            alone = self.plan.main_share <= 0

            def over() -> bool:
                with self._lock:
                    led = bool(self.pool) and self.main_best <= self.pool[0].value
                return led or self._ended or self._stop()

            def work() -> None:
                begin = time.monotonic()
                while not alone and time.monotonic() < begin + lead and not over():
                    time.sleep(0.01)
                # Loading and compiling is not the starters' own time; a search that ends does not
                # wait for it.
                if over() or not compiled_before(load_starters, over):
                    return
                deadline = time.monotonic() + max(0.3, START_SHARE * limit)

                def keep(x: Vector, by: str) -> None:
                    nonlocal deadline
                    if self.offer(x, by) and not alone:
                        deadline = min(deadline, time.monotonic() + START_MORE)

                run_starters(
                    self.form, seed, keep,
                    lambda: over() or time.monotonic() > deadline, self.promise,
                )  # fmt: skip

            self._starters = threading.Thread(target=work, name="nco-starters")
            self._starters.start()
            if alone:
                # The first call of all may have to compile; nobody waits for that.
                self._starters.join(lead)
            found = None
        return self._known(hint if hint is not None else found)

    def _known(self, hint: Vector | None) -> Vector | None:
        """A start for the main engine: the best solution, if it is more than trivial."""
        with self._lock:
            if self.pool and self.pool[0].value < self._trivial:
                return self.pool[0].x
        return hint

    def _run_counted(self, hint: Vector | None) -> Outcome:
        hint = self._start_up(hint)
        outcome: Outcome | None = None
        if self.plan.main_share > 0:
            try:
                engine = self._make_main(0)
                watch = Watch(
                    on_solution=lambda x: self.offer(x, engine.name),
                    on_bound=lambda b: self.offer_bound(b, engine.name),
                    stop=self._stop,
                )
                limits = Limits(self.tracker.budget.left(), nodes=100)
                outcome = engine.solve(limits, None, hint, watch)
                engine.close()
            except OutOfTimeError:
                raise
            except Exception as error:
                self._tell("the exact solve", error)
            if outcome is not None:
                if self._settles(outcome, engine.name):
                    return outcome
                self.offer_bound(outcome.bound, engine.name)
        reason = self._trials(lambda: None)
        return self._settled() or self._finish(reason, outcome)

    def _run_timed(self, hint: Vector | None) -> Outcome:
        hint = self._start_up(hint)
        reason: Stop | None = None
        if self.plan.main_share > 0:
            self._begin(self._known(hint))
        if self._main is not None:
            self._first_slices(self._main)
        if self._settled() is None:
            reason = self._trials(self._main_turn)
        settled = self._settled()
        if settled is not None:
            return settled
        return self._finish(reason, self._main.outcome if self._main is not None else None)

    def _settled(self) -> Outcome | None:
        """What a solve of the whole model has proved, or None."""
        solves = [solve for solve in (self._main, self._rival) if solve is not None]
        outcomes = [(solve.outcome, solve.engine) for solve in solves]
        for outcome, by in (*outcomes, (self._whole_outcome, "whole")):
            if self._settles(outcome, by):
                return outcome
        return None

    def _exact(self, role: str, engine: Backend) -> MainSolve:
        """An exact solve of the whole model that goes on in slices."""
        watch = Watch(
            on_solution=lambda x: self._from_exact(role, x, engine.name),
            on_bound=lambda b: self.offer_bound(b, engine.name),
            stop=self._stop,
            suggest=lambda: self._suggest(role),
        )
        self._exacts[role] = MainSolve(engine, Limits(self.tracker.budget.left()), watch)
        return self._exacts[role]

    def _begin(self, x: Vector | None, seconds: float = 0.0) -> None:
        """The main engine on the whole model, from column values [n] if there are any.

        It is taken to have had so many seconds. If it cannot be made, there is none.
        """
        try:
            engine = self._make_main(0)
        except OutOfTimeError:
            raise
        except Exception as error:
            self._tell("the exact solve", error)
            return
        # Known before it begins: its first solution may come at once.
        self._main = self._exact("main", engine)
        self._main.seconds = seconds
        self._main.start(x)

    def _load(self) -> None:
        """Load MABWiser, which takes seconds, beside the engines."""
        if self._loading or self.plan.deterministic or self.tracker.budget.left() < SHORT:
            return

        self._loading = True

        def work() -> None:
            try:
                self.bandit.load()
                self.engines.load()
            except Exception:
                # A closing interpreter imports no more; nobody wants the choices then.
                if not self._ended:
                    raise
                return
            self._loaded.set()

        # A daemon: it runs no engine, and nobody needs to wait for it.
        threading.Thread(target=work, name="nco-loading", daemon=True).start()

    def _settles(self, outcome: Outcome | None, by: str) -> bool:
        """Whether a solve of the whole model has proved something that what was kept bears out.

        If it does not, the outcome proves nothing any more, and engines keep rows more closely.
        """
        proofs = (Status.OPTIMAL, Status.INFEASIBLE, Status.UNBOUNDED)
        if outcome is None or outcome.status not in proofs:
            return False
        if outcome.x is not None:
            self.offer(outcome.x, by)
        if not refuted(self.tracker, self.form, self.view, outcome):
            return True
        outcome.error = f"it says {outcome.status}, which the checked solutions do not bear out"
        outcome.status, outcome.stopped = Status.UNKNOWN, Stop.ERROR
        self._tell(f"the exact solve of {by}", outcome.error)
        if self.form.tolerance is not None:
            self._refuted.add(by)
        elif self.done() is None:
            self._tighten()
        return False

    def _tighten(self) -> None:
        """Have engines keep rows more closely, and begin those that there are anew."""
        self.form.tolerance = EXACT
        for engine in self._subs.values():
            engine.close()
        self._subs.clear()
        self._whole_outcome = None
        if self._main is None:
            return
        before, self._main = self._main, None
        before.stop()
        with suppress(OutOfTimeError):
            self._begin(self._known(None), before.seconds)

    def _finish(self, reason: Stop | None, main: Outcome | None) -> Outcome:
        best = self.pool[0] if self.pool else None
        return Outcome(
            Status.FEASIBLE if best is not None else Status.UNKNOWN,
            None if best is None else best.x,
            math.inf if best is None else best.value,
            -math.inf if main is None else main.bound,
            reason or Stop.FINISHED,
        )

    def _from_exact(self, role: str, x: Vector, by: str) -> None:
        before = self.pool[0].value if self.pool else None
        if role == "main":
            self.main_best = min(self.main_best, self.form.value(self.form.rounded(x)))
        if not self.offer(x, by):
            return
        with self._lock:
            # It knows its own solution.
            self._news[role] = None
            main = self._main if role == "main" and self._turns is None else None
            if main is not None and main.nodes == 0:
                self._root_best = min(self._root_best, self.form.value(self.form.rounded(x)))
                self._root_took = main.seconds
        if before is not None:
            self._gain(role, before - self.pool[0].value)

    def _gain(self, by: str, gain: float) -> None:
        self.gains[by] += gain
        self.gained[by] += gain

    def _suggest(self, role: str) -> Vector | None:
        with self._lock:
            x, self._news[role] = self._news[role], None
            self.suggested += x is not None
        return x

    def _first_slices(self, main: MainSolve) -> None:
        """Let the main solve work until it has a solution and stalls, or has none for long."""
        begin = last = time.monotonic()
        mark = math.inf
        limit = self.tracker.budget.time_limit
        patience = 0.5 if limit is None else min(2.0, max(0.2, 0.02 * limit))
        while not main.finished and not self._stop():
            self.engine_seconds += main.run(0.1, self._stop)
            self._listen()
            now = time.monotonic()
            if self.main_best < mark:
                last, mark = now, self.main_best
            # It gets half as long again as its last improvement took, and its first relaxation.
            waited, worked = now - last, now - begin
            enough = max(patience, (last - begin) / 2)
            if self._at_root():
                wide = self._wide()
                if wide is None or not math.isfinite(mark):
                    enough = math.inf
                elif wide:
                    enough = max(enough, ROOT_PATIENCE)
            if self.pool and waited > enough:
                return
            if worked > (MOST_FIRST if self.pool else VAIN_FIRST) * (limit or math.inf):
                return

    def _at_root(self) -> bool:
        """Whether the main engine is at its root, where it finds most, and not for long."""
        limit = self.tracker.budget.time_limit or math.inf
        main = self._main
        return main is not None and main.nodes == 0 and main.seconds < FIRST_SHARE * limit

    def _wide(self) -> bool | None:
        """Whether a wide gap is left; None before there are a solution and a bound."""
        objective, bound = self.tracker.objective, self.tracker.bound
        if objective is None or bound is None:
            return None
        return primal_gap(objective, bound) > WIDE

    def _ask_rival(self) -> None:
        """Let the other engine look at the whole model, once, where a large gap is left.

        Engines differ most there. If it closes enough of the gap it goes on beside the trials.
        """
        wide = self._wide()
        if wide is None:
            return
        self._asked = True
        limit, bound = self.tracker.budget.time_limit, self.tracker.bound
        if limit is None or RIVAL_SHARE * limit < RIVAL_SECONDS or self.form.A.nnz > MOST_ENTRIES:
            return
        known = self._main.engine if self._main is not None else None
        name = next((name for name in self._make_sub if name != known), None)
        if known is None or name is None or not self.pool or not wide or bound is None:
            return
        begin = time.monotonic()
        try:
            rival = self._exact("rival", self._make_sub[name]())
        except OutOfTimeError:
            return
        except Exception as error:
            self._tell(f"the exact solve of {name}", error)
            return
        finally:
            self.engine_seconds += time.monotonic() - begin
        rival.start(self._known(None))
        pays = False
        while not rival.finished and rival.seconds < RIVAL_SHARE * limit and not self._stop():
            self.engine_seconds += rival.run(0.1, self._stop)
            self._listen()
            # Of the gap that there would be without it; the main engine may work beside.
            gain = self.gains["rival"]
            pays = gain > RIVAL_CLOSES * (self.pool[0].value + gain - self.form.minimised(bound))
            if pays:
                self.engine_seconds += rival.run(RIVAL_MORE, self._stop)
                break
        if pays or rival.finished:
            self._rival = rival
            self._second = len(self.engines.arms) > 1
        else:
            # One that does not answer works on for a while; it is told again at the end.
            rival.stop()

    def _main_turn(self) -> None:
        """Give the exact solves their shares of the time."""
        if not self._asked and self._main is not None:
            self._ask_rival()
        solves = {
            role: solve
            for role, solve in (("main", self._main), ("rival", self._rival))
            if solve is not None and not solve.finished
        }
        if not solves:
            return
        if self._turns is None:
            # What they found by themselves says nothing about what they find beside the trials.
            before = {role: solve.seconds for role, solve in solves.items()}
            self._turns = _Turns(self.tracker.budget.elapsed(), before)
            self.gains = dict.fromkeys(self.gains, 0.0)
            self.gained = dict(self.gains)
        elapsed = max(1e-9, self.tracker.budget.elapsed() - self._turns.begin)
        spent = {role: s.seconds - self._turns.before[role] for role, s in solves.items()}
        rates = {role: self.gains[role] / max(spent[role], 1e-3) for role in solves}
        others = sum(spent.values()) + self._root_seconds
        trials = self.gains["trials"] / max(elapsed - others, 1e-3)
        anew = self._roots_differ()
        total = sum(rates.values()) + trials
        quiet = self._vain >= QUIET or not total > 0
        # Roots begun anew share what the main engine's own would have.
        root = ROOT_MAIN / (1 + anew) if self._at_root() else LEAST_MAIN
        least = {"main": root, "rival": LEAST_RIVAL}
        rest = 1.0 - LEAST_MAIN - sum(least[role] for role in solves)
        for role, solve in solves.items():
            if quiet:
                equal = self.plan.main_share / (len(solves) + anew)
                # What has found more so far is the likelier one to find more.
                if self.gained["main"] > self.gained["trials"]:
                    equal = max(equal, AHEAD_MAIN)
                share = max(least[role], QUIET_RIVAL if role == "rival" else equal)
            else:
                share = least[role] + rest * rates[role] / total
            if solve.idle and spent[role] < share * elapsed:
                wanted = min(2.0, max(0.3, self._sub_seconds))
                self.engine_seconds += solve.run(wanted, self._stop)
        if anew and self._idle >= self._root_limit():
            self._begin_anew()
        # What paid long ago says little about now.
        self.gains = {by: FADE * gain for by, gain in self.gains.items()}

    def _roots_differ(self) -> bool:
        """Whether another seed may find more at the root, and soon."""
        limit = self.tracker.budget.time_limit
        if limit is None or not self.pool or self._root_took > ROOT_LIMIT * limit:
            return False
        near = primal_gap(self.pool[0].value, self._root_best) <= ROOT_GAP
        return near and self.form.A.nnz <= MOST_ENTRIES and ROOT not in self._broken

    def _root_limit(self) -> float:
        """Seconds for a root begun anew."""
        return LEAST_SUB + ROOT_LONGER * self._root_took

    def _begin_anew(self) -> None:
        """Let the main engine begin the whole model with another seed, until its root is done."""
        left = self.tracker.budget.left()
        if left <= 0:
            return
        begin = time.monotonic()
        self.roots += 1
        # A start would make it look less hard.
        limits = Limits(min(left, self._root_limit()), nodes=1)
        outcome = self._solve(None, limits, None, ROOT, ROOT)
        engine = self._subs.pop(ROOT, None)
        if engine is not None:
            engine.close()
        seconds = time.monotonic() - begin
        self._root_seconds += seconds
        self._idle -= seconds
        self.offer_bound(outcome.bound, ROOT)
        if outcome.x is not None:
            self._root_best = min(self._root_best, self.form.value(self.form.rounded(outcome.x)))
            self.offer(outcome.x, ROOT)

    def _trials(self, between: Callable[[], None]) -> Stop | None:
        empty_in_a_row = 0
        while True:
            reason = self.done()
            if reason is not None:
                return reason
            if self._settles(self._whole_outcome, "whole"):
                return None
            if "whole" in self._refuted and (self._main is None or self._main.finished):
                # Nothing is left to try.
                return Stop.ERROR
            for solve in (self._main, self._rival):
                if solve is None or not solve.finished:
                    continue
                if self._settles(solve.outcome, solve.engine):
                    return None
                error = solve.error or (solve.outcome and solve.outcome.error)
                if error:
                    self._tell(f"the exact solve of {solve.engine}", error)
                if solve is self._rival:
                    self._rival = None
                elif error and solve is self._main:
                    self._main = None
            self._listen()
            between()
            if self.done() is not None:
                continue
            if not self._usable():
                # Without sub-solves the exact ones have all the time.
                exact = (self._main, self._rival)
                alive = [s for s in exact if s is not None and not s.finished]
                if not alive:
                    return Stop.ERROR
                for solve in alive:
                    self.engine_seconds += solve.run(0.5, self._stop)
                continue
            tried = True
            if self.current is None:
                self._find()
            elif empty_in_a_row > 3 * len(self.plan.arms):
                # Nothing can be freed any more: the whole model is left to solve.
                self._whole()
            else:
                tried = self._trial()
            empty_in_a_row = 0 if tried else empty_in_a_row + 1
            self.iterations += 1

    def _usable(self) -> list[str]:
        """Engines of sub-solves that have not failed for good."""
        return [name for name in self.engines.arms if name not in self._broken]

    def _which(self) -> str:
        """The engine of the next trial: the first one, or whichever has earned more."""
        names = self._usable()
        if len(names) < len(self.engines.arms):
            return names[0]
        if not self._second:
            ripe = len(self._slow) == LATEST and 2 * sum(self._slow) >= LATEST
            self._second = ripe and len(names) > 1 and self.form.A.nnz <= MOST_ENTRIES
            if not self._second:
                return names[0]
        hurry = not self.plan.deterministic and not self._loaded.is_set()
        return self.engines.choose(hurry=hurry)

    def _engine(self, name: str) -> Backend:
        if name not in self._subs:
            made = self._make_main(self.roots) if name == ROOT else self._make_sub[name]()
            self._subs[name] = made
        return self._subs[name]

    def _tell(self, what: str, error: object) -> None:
        """Say that something failed, and why, once for each reason."""
        level = logging.DEBUG if str(error) in self._told else logging.WARNING
        self._told.add(str(error))
        logger.log(level, "%s failed: %s", what, error)

    def _limits(self, factor: float = 1.0, trial_of: str | None = None) -> Limits:
        """Limits of a sub-solve; of a trial, by the engine named, it may not stall."""
        left = self.tracker.budget.left()
        stall = self.plan.sub_stall if trial_of is not None else None
        if stall is not None and trial_of is not None:
            stall = max(stall, round(STALLED * self._needed[trial_of]))
        if self.plan.deterministic:
            return Limits(left, self.plan.sub_nodes or 500, stall)
        return Limits(min(left, factor * self._sub_seconds), self.plan.sub_nodes, stall)

    def _solve(
        self,
        neighborhood: Neighborhood | None,
        limits: Limits,
        start: Vector | None,
        by: str,
        name: str | None = None,
    ) -> Outcome:
        """One sub-solve; an engine that fails is replaced, and the sub-solve lost."""
        begin = time.monotonic()
        name = name or self._which()
        engine: Backend | None = None
        watch = Watch(stop=self._stop)
        self._improved = 0

        def hear(x: Vector) -> None:
            if self.offer(x, by):
                self._improved = watch.nodes

        watch.on_solution = hear
        try:
            engine = self._engine(name)
            outcome = engine.solve(limits, neighborhood, start, watch)
        except OutOfTimeError:
            outcome = Outcome(stopped=Stop.TIME)
        except Exception as error:
            if engine is None:
                self._broken.add(name)
            self._subs.pop(name, None)
            outcome = Outcome(stopped=Stop.ERROR, error=str(error))
        if outcome.error:
            self._tell(f"a sub-solve of {by}", outcome.error)
        failed = outcome.stopped is Stop.ERROR
        self._failures[name] = self._failures.get(name, 0) + 1 if failed else 0
        if self._failures[name] >= FAILURES:
            self._broken.add(name)
        if engine is not None and engine.lost:
            self._subs.pop(name, None)
        self.engine_seconds += time.monotonic() - begin
        return outcome

    def promise(self, x: Vector, count: int) -> None:
        """Keep column values that violate so many rows; repairs start from them."""
        with self._lock:
            if not any(np.array_equal(x, other) for _, other in self.near):
                self.near.append((count, x))
                self.near.sort(key=lambda point: point[0])
                del self.near[NEAR:]

    def _repair(self) -> tuple[Neighborhood | None, Vector | None]:
        """The columns of a promising point's violated rows, and some others, to be freed."""
        with self._lock:
            if not self.near:
                return None, None
            _, x = self.near[self.iterations % len(self.near)]
        activity = self.form.A @ x
        slack = 1e-6 * np.maximum(1.0, np.abs(activity))
        bad = (activity < self.form.row_lower - slack) | (activity > self.form.row_upper + slack)
        touched = np.unique(self.form.A[np.flatnonzero(bad)].indices)
        free = touched[self.form.movable[touched]]
        size = min(LARGEST_SIZE, FIRST_SIZE + 0.1 * (self.iterations + 1))
        known = Incumbents(self.form, x)
        total = len(self.form.integers)
        if len(free) < size * total:
            free = fill(known, free, size, self.rng)
        return free_only(known, free), x

    def _find(self) -> None:
        """Look for a first solution with the engines of the sub-solves, in turn."""
        # Every other time the whole model: what is near may not be near enough.
        repair, x = (None, None) if self.iterations % 2 else self._repair()
        # Longer and longer, as nothing else can be done without one.
        limits = self._limits(3.0 * (self.iterations + 1) if repair is None else 1.0)
        nodes = None
        if self.plan.deterministic and limits.nodes is not None:
            nodes = 10 * (self.iterations + 1) * limits.nodes
        limits = Limits(limits.seconds, nodes=nodes, solutions=1)
        # Engines differ much in what they find; each has its turn with both. The main solve's,
        # which has looked for long, comes last.
        names = self._usable()
        names.sort(key=lambda name: self._main is not None and name == self._main.engine)
        name = names[self.iterations // 2 % len(names)]
        outcome = self._solve(repair, limits, x, "first" if repair is None else "repair", name)
        if outcome.x is not None:
            self.offer(outcome.x, "first")
        if repair is None:
            self._whole_outcome = outcome

    def _whole(self) -> None:
        assert self.current is not None
        outcome = self._solve(None, self._limits(3.0), self.current.x, "whole")
        self.offer_bound(outcome.bound, "whole")
        if outcome.x is not None:
            self.offer(outcome.x, "whole")
        self._whole_outcome = outcome

    def _refresh(self) -> None:
        """Solve the relaxation anew, with some whole columns at the current solution."""
        self._age += 1
        if self._root is not None and (self._age % REFRESH or not self._refreshes):
            return
        left = self.tracker.budget.left()
        begin = time.monotonic()
        if self._program is None:
            self._program = LinearProgram(self.form)
            seconds = left if self.plan.deterministic else min(0.2 * left, 10.0)
            outcome = self._program.solve(seconds, stop=self._stop)
            if outcome.status is Status.OPTIMAL and outcome.x is not None:
                # A sub-solve solves a few relaxations, too.
                wanted = 4 * (time.monotonic() - begin)
                if self._adapts() and wanted > self._sub_seconds:
                    self._sub_seconds = min(self._most_sub, wanted)
                self._root = self._relaxation = outcome.x
                self.offer_bound(outcome.bound, "relaxation")
            elif outcome.status is Status.UNBOUNDED:
                # With a solution, as there is one, so is the model.
                self._whole_outcome = outcome
        elif self._root is not None and self.current is not None:
            columns = self.form.integers
            fixed = self.rng.choice(columns, max(1, len(columns) // 4), replace=False)
            lower, upper = self.form.lower.copy(), self.form.upper.copy()
            lower[fixed] = upper[fixed] = np.rint(self.current.x[fixed])
            self._program.bounds(lower, upper)
            seconds = left if self.plan.deterministic else min(left, self._sub_seconds)
            outcome = self._program.solve(seconds, stop=self._stop)
            self._refreshes = outcome.status is Status.OPTIMAL
            self._relaxation = outcome.x if self._refreshes else self._root
        self.engine_seconds += time.monotonic() - begin

    def _context(self) -> list[float]:
        """What contextual policies see, all in [0, 1].

        The gap, trials since the last new best, whether the last trial paid, and shares of the
        time: gone by, and since the last event; 0 where time must not count.
        """
        objective, bound = self.tracker.objective, self.tracker.bound
        gap = 1.0 if objective is None or bound is None else min(1.0, primal_gap(objective, bound))
        state = [gap, self._vain / (self._vain + QUIET), float(self._paid)]
        limit = self.tracker.budget.time_limit
        if self.plan.deterministic or not limit:
            return [*state, 0.0, 0.0]
        elapsed = self.tracker.budget.elapsed()
        last = self.tracker.trajectory[-1].seconds if self.tracker.trajectory else 0.0
        return [*state, elapsed / limit, (elapsed - last) / limit]

    def _trial(self) -> bool:
        """One arm's turn; False if it had no neighbourhood to offer."""
        assert self.current is not None
        context = self._context()
        hurry = not self.plan.deterministic and not self._loaded.is_set()
        if hurry and not self.bandit.untried:
            self._load()
        # While something pays, nobody looks for something else; as long as it may, few do.
        promising = self.bandit.promise() > PROMISING
        explore = not promising or (not self._paid and self.rng.random() < EXPLORE)
        new = set(self.bandit.untried)
        arm = self.bandit.choose(context, hurry=hurry, explore=explore)
        if arm in new & self._adaptive:
            self._begin_size(arm, new)
        try:
            if arm.partition(":")[0] in RELAXED:
                self._refresh()
                if self.done() is not None:
                    return True
            current = self.current
            neighborhood = self._operate(arm, current)
        except OutOfTimeError:
            raise
        except Exception as error:
            self._tell(arm, error)
            neighborhood = None
        if neighborhood is None:
            self.bandit.nothing(arm)
            return False
        if self.plan.cutoff and neighborhood.cutoff is None:
            scale = abs(current.value - self.form.offset)
            step = 1.0 if self.form.mip.integral else max(1e-7, 1e-5 * scale)
            cutoff = current.value - step + (1e-6 if self.form.mip.integral else 0.0)
            neighborhood = replace(neighborhood, cutoff=cutoff)
        before = self._found.get(arm, 0.0)
        name = self._which()
        begin = time.monotonic()
        base = neighborhood.start
        if base is None and self.plan.cutoff:
            # Where worse answers are wanted, it would be the best one.
            base = current.x
        limits = self._limits(trial_of=name)
        outcome = self._solve(neighborhood, limits, base, arm, name)
        seconds = max(1e-3, time.monotonic() - begin)
        if outcome.x is not None:
            self._judge(outcome.x, arm)
        # What others found meanwhile is not the arm's.
        gain = self._found.get(arm, 0.0) - before
        self._paid = gain > 0
        self._vain += 1
        self._idle += seconds
        self._gain("trials", gain)
        seconds = 0.0 if self.plan.deterministic else seconds
        failed = outcome.stopped is Stop.ERROR
        effort = outcome.nodes + 1 if self.plan.deterministic else seconds
        reward = 0.0 if failed and gain <= 0 else self._reward(gain, effort)
        needed = self._improved if gain > 0 else 0
        self._needed[name] = max(FADE * self._needed[name], needed)
        learn = partial(
            Bandit.learn, reward=reward, gain=max(0.0, gain), win=reward >= 0.5, seconds=seconds
        )
        learn(self.bandit, arm, context=context)
        learn(self.engines, name)
        if not failed:
            self._adapt(arm, gain, outcome)
        return True

    def _operate(self, arm: str, current: _State) -> Neighborhood | None:
        """The arm's neighbourhood of the current solution, or None."""
        known = Incumbents(
            self.form,
            current.x,
            [state.x for state in self.pool],
            self._root,
            self._relaxation,
            self.view.groups,
            self._program,
            filled=arm in self._adaptive,
        )
        before = 0.0 if self._program is None else self._program.seconds
        try:
            return self._operators[arm](known, self._sizes[arm], self.rng)
        finally:
            if self._program is not None:
                self.engine_seconds += self._program.seconds - before

    def _begin_size(self, arm: str, new: set[str]) -> None:
        """A size for an arm's first turn: those of the others have adapted to the model."""
        alike = self._adaptive - new - DEMANDING.keys()
        sizes = [self._sizes[other] for other in sorted(alike)]
        if sizes and arm not in DEMANDING:
            self._sizes[arm] = float(np.median(sizes))

    def _judge(self, x: Vector, arm: str) -> None:
        """Keep a sub-solve's solution; the acceptance criterion may move to it."""
        polished = self._checked(x)
        if polished is None or self.current is None:
            return
        self.offer(polished, arm)
        candidate = _State(polished, self.form.value(polished))
        with self._lock:
            accepted = candidate.value <= self.current.value
            if not accepted:
                # Loaded when first asked, which is never where every answer is better.
                if self._accept is None:
                    self._accept = self.plan.accept()
                accepted = self._accept(self.rng, self.pool[0], self.current, candidate)
            if accepted:
                self.current = candidate

    def _reward(self, gain: float, effort: float) -> float:
        """Worth of a trial in [0, 1]: improvement per second or node, beside the best rate."""
        if gain <= self._least_gain(self.pool[0].value):
            return (
                VAIN * VAIN_SECONDS / (VAIN_SECONDS + (0.0 if self.plan.deterministic else effort))
            )
        rate = gain / effort
        self._rate = max(0.9 * self._rate, rate)
        return 0.5 + 0.5 * rate / self._rate

    def _adapts(self) -> bool:
        """Whether the seconds of sub-solves are not prescribed."""
        return self.plan.sub_seconds is None and not self.plan.deterministic

    def _adapt(self, arm: str, gain: float, outcome: Outcome) -> None:
        """Larger where the neighbourhood was searched in vain, smaller where time ran out.

        A sub-solve that did not get beyond its root gets more time, too.
        """
        searched = outcome.status in (Status.OPTIMAL, Status.INFEASIBLE)
        self._slow.append(not searched)
        if gain > 0:
            return
        if self._adapts():
            factor = 0.98 if searched else 1.15 if outcome.nodes <= 1 else 1.0
            self._sub_seconds = min(self._most_sub, max(LEAST_SUB, factor * self._sub_seconds))
        if arm not in self._adaptive:
            return
        demands = arm in DEMANDING
        size = self._sizes[arm] * (1.4 if searched != demands else 0.6)
        least = LEAST_DEMAND if demands else LEAST_SIZE
        self._sizes[arm] = min(LARGEST_SIZE, max(least, size))

    def statistics(self) -> Mapping[str, Any]:
        """Tries, wins, seconds and size of each arm, shares of time, and what was exchanged.

        ``roots`` counts how often the main engine's root was begun anew with another seed;
        ``suggested`` solutions given to the main solve, ``heard`` those of other
        workers that were the best.
        """
        arms = {
            arm: {
                "tries": known.tries,
                "wins": known.wins,
                "empty": known.empty,
                "seconds": round(known.seconds, 4),
                "reward": round(known.reward, 4),
                "gain": known.gain,
                "size": round(self._sizes[arm], 4),
            }
            for arm, known in self.bandit.statistics.items()
        }
        return {
            "arms": arms,
            "iterations": self.iterations,
            "roots": self.roots,
            **{
                f"{role}_seconds": round(self._exacts[role].seconds, 4)
                if role in self._exacts
                else 0.0
                for role in ("main", "rival")
            },
            "engine_seconds": round(self.engine_seconds, 4),
            "engines": {name: known.tries for name, known in self.engines.statistics.items()},
            "sub_seconds": round(self._sub_seconds, 4),
            "suggested": self.suggested,
            "heard": self.heard,
        }
