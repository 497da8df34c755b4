"""The meta-solver ``balans``: presets and the solver around `nco.mip.alns`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial, wraps
from os import PathLike
from typing import Any, ClassVar, TypeVar

import numpy as np

from nco.instances.core import (
    Budget,
    InputError,
    Instance,
    Listener,
    Result,
    Status,
    Stop,
    Tracker,
    spawn_seed,
)
from nco.instances.mip import MipView
from nco.instances.registry import backends, operators
from nco.mip.alns import Plan, Search, Share
from nco.mip.backend import (
    Backend,
    Form,
    Limits,
    Outcome,
    OutOfTimeError,
    Vector,
    Watch,
    conclude,
    confirm_unbounded,
    offer,
    offer_bound,
    prepare,
    reason_without_mip,
    settle,
)
from nco.mip.bandit import Bandit, check_memory, check_policy, load_memory, save_memory
from nco.parallel import check_jobs

logger = logging.getLogger("nco")
Made = TypeVar("Made")

#: The default portfolio, tried first in this order: what is quick and needs no relaxation
#: comes before what has to solve one. An operator without a size adapts it.
ARMS = (
    "variable-patch",
    "mutation",
    "objective-guided",
    "constraint-patch",
    "crossover",
    "rens",
    "rins",
    "dins",
    "lb-relax",
    "local-branching:0.02",
    "proximity:0.01",
)
#: In their place where the model came from a problem with a structure, whose neighbourhoods find
#: most there: the first turns of many others would cost more than they bring.
STRUCTURE_ARMS = ("structure", "variable-patch", "crossover", "rins")

#: Named configurations. The one of IJCAI 2025 is the paper's for MIPLIB: 16 operators,
#: Thompson sampling, simulated annealing 20 -> 1, sub-solves of SCIP of a minute, no main solve.
#: Rewards, starters and local branching's seconds are ours.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "balans-ijcai25": {
        "arms": (
            "crossover:0.5", "mutation:0.25", "mutation:0.5", "mutation:0.75",
            "local-branching:0.1", "local-branching:0.25", "local-branching:0.5",
            "proximity:0.005", "proximity:0.015", "proximity:0.03",
            "rens:0.25", "rens:0.5", "rens:0.75", "rins:0.25", "rins:0.5", "rins:0.75",
        ),
        "policy": "thompson",
        "accept": "simulated-annealing",
        "sub": "scip",
        "cutoff": False,
        "sub_seconds": 60.0,
        "sub_nodes": None,
        "sub_stall": None,
        "main_share": 0.0,
    },
}  # fmt: skip


#: Acceptance criteria: class of `alns.accept` and its arguments.
ACCEPTANCE: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "hill-climbing": ("HillClimbing", ()),
    "always": ("AlwaysAccept", ()),
    "simulated-annealing": ("SimulatedAnnealing", (20.0, 1.0, 0.1, "linear")),
    "record-to-record": ("RecordToRecordTravel", (1.0, 0.0, 0.01)),
}


def _acceptance(name: str) -> Any:
    from alns import accept

    kind, arguments = ACCEPTANCE[name]
    return getattr(accept, kind)(*arguments)


def _remembering(cls: type[Made]) -> type[Made]:
    """Keep which parameters are given: a default that is asked for by name is no default."""
    whole = cls.__init__

    @wraps(whole)
    def init(self: Made, *args: Any, **given: Any) -> None:
        names = [f.name for f in fields(self)][: len(args)]  # type: ignore[arg-type]
        object.__setattr__(self, "_given", frozenset([*names, *given]))
        whole(self, *args, **given)

    cls.__init__ = init  # type: ignore[method-assign, assignment]
    return cls


@_remembering
@dataclass(frozen=True)
class Balans:
    """Adaptive large-neighbourhood search over MIP engines, chosen by a bandit.

    Parameters
    ----------
    preset
        A key of `PRESETS`, whose values stand for the parameters that are not given.
    arms
        Operators with a fixed size (``"rins:0.25"``) or an adaptive one (``"rins"``);
        None for the preset's. A string joins them by "+".
    policy, policy_parameter
        Of the bandit, see `nco.mip.bandit`.
    accept
        "hill-climbing", "simulated-annealing", "record-to-record" or "always".
    main, sub
        Engines of the main solve and of the sub-solves. Of two for the sub-solves, joined by
        "+", the second joins where the first is slow, and the better one gets more of them.
    cutoff
        Whether sub-solves must improve on the current solution; not by default where another
        criterion than hill climbing is asked for.
    sub_seconds, sub_nodes
        Limits of a sub-solve; by default the seconds adapt, from 0.3 to 3.
    sub_stall
        Nodes of a sub-solve of a neighbourhood without an improvement, more where later ones have
        paid; None for no limit.
    main_share
        Share of the time for the exact solves while nothing pays; more at their roots, and
        where another engine has paid beside the main one.
    deterministic
        Count nodes instead of seconds, so that a seed repeats everything; limit the
        iterations then.
    memory
        JSON file that keeps what arms were worth over related instances, or None.
    jobs
        Workers beside each other, with different engines and policies.
    backend
        Where workers run: "loky" (this process and others of this machine) or "ray" (a
        cluster, nco[ray]).
    share
        Whether workers hear of each other's solutions and bounds.

    Raises
    ------
    ValueError
        When a parameter is not understood.
    InputError
        When the memory is no such file, or its folder does not exist.
    MissingExtraError
        When the backend is not installed.
    """

    name: ClassVar[str] = "balans"
    #: Its main solve and its relaxation give bounds; no time is kept for another.
    proves: ClassVar[bool] = True
    preset: str = "default"
    arms: tuple[str, ...] | str | None = None
    policy: str = "softmax"
    policy_parameter: float | None = None
    accept: str = "hill-climbing"
    main: str = "highs"
    sub: str = "highs+scip"
    cutoff: bool = True
    sub_seconds: float | None = None
    sub_nodes: int | None = 2000
    sub_stall: int | None = 500
    main_share: float = 0.5
    deterministic: bool = False
    memory: str | None = None
    jobs: int = 1
    backend: str = "loky"
    share: bool = True

    def __post_init__(self) -> None:
        """Validate, and apply the preset where nothing else was asked for."""
        for key in ("preset", "policy", "accept", "main", "sub", "backend"):
            if not isinstance(getattr(self, key), str):
                raise ValueError(f"{key} = {getattr(self, key)!r} not understood; give a name.")
        if not isinstance(self.memory, str | PathLike | None):
            raise ValueError(f"memory = {self.memory!r} not understood; name a file.")
        if self.arms is not None and not (
            isinstance(self.arms, str | list | tuple)
            and all(isinstance(arm, str) for arm in self.arms)
        ):
            raise ValueError(f"arms = {self.arms!r} not understood; give names of operators.")
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} not understood; known: {', '.join(PRESETS)}.")
        given: frozenset[str] = self._given  # type: ignore[attr-defined]
        for key, value in PRESETS[self.preset].items():
            if key not in given:
                object.__setattr__(self, key, value)
        if "accept" in given and "cutoff" not in given and self.accept != "hill-climbing":
            # Where sub-solves must improve there is nothing worse to be accepted.
            object.__setattr__(self, "cutoff", False)
        if self.arms is not None:
            named = self.arms.split("+") if isinstance(self.arms, str) else self.arms
            object.__setattr__(self, "arms", tuple(named))
            if not self.arms:
                raise ValueError("arms = () not understood; name at least one operator.")
            if len(set(self.arms)) < len(self.arms):
                twice = next(arm for arm in self.arms if self.arms.count(arm) > 1)
                raise ValueError(f"arm {twice!r} comes twice; name it once.")
            for arm in self.arms:
                name, colon, size = arm.partition(":")
                operators.entry(name)
                try:
                    good = not colon or 0 < float(size) <= 1
                except ValueError:
                    good = False
                if not good:
                    raise ValueError(f"arm {arm!r} not understood; a size lies in (0, 1].")
        check_policy(self.policy, self.policy_parameter)
        if self.accept not in ACCEPTANCE:
            raise ValueError(
                f"accept = {self.accept!r} not understood; known: {', '.join(ACCEPTANCE)}."
            )
        subs = self.sub.split("+")
        for engine in (self.main, *subs):
            backends.entry(engine)
        if len(set(subs)) < len(subs):
            raise ValueError(f"sub = {self.sub!r} names an engine twice.")
        if not 0 <= self.main_share <= 1:
            raise ValueError(f"main_share = {self.main_share} outside of [0, 1].")
        if self.jobs < 1:
            raise ValueError(f"jobs = {self.jobs} < 1 not understood.")
        check_jobs(self.jobs, self.backend)
        if self.sub_seconds is not None and not self.sub_seconds > 0:
            raise ValueError(f"sub_seconds = {self.sub_seconds} not understood.")
        for name in ("sub_nodes", "sub_stall"):
            nodes = getattr(self, name)
            if nodes is not None and nodes < 1:
                raise ValueError(f"{name} = {nodes} < 1 not understood.")
        if self.memory:
            check_memory(self.memory)

    def supports(self, instance: Instance[Any]) -> str | None:
        """None, or why the instance cannot be solved."""
        return reason_without_mip(instance)

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
            When the instance has no MIP form.
        """
        if self.jobs > 1:
            result = self._portfolio(instance, budget, seed, start, on_event)
        else:
            result = self.search(instance, budget, seed=seed, start=start, on_event=on_event)
        if self.deterministic and result.stopped is Stop.TIME:
            logger.warning(
                "the time limit ended a deterministic search, so that it need not repeat; "
                "limit its iterations, or give it more time."
            )
        return result

    def configurations(self) -> list[dict[str, Any]]:
        """Parameters of each worker; the first one has this solver's own."""
        own = {f.name: getattr(self, f.name) for f in fields(self)} | {"jobs": 1, "backend": "loky"}
        other = {"highs": "scip", "scip": "highs"}
        subs = "+".join(other.get(name, name) for name in self.sub.split("+"))
        little = min(0.1, self.main_share)
        variants: list[dict[str, Any]] = [
            {},
            {"main": other.get(self.main, self.main), "sub": subs},
            {"policy": "thompson", "main_share": little},
            {"sub": subs, "policy": "ucb1", "main_share": little},
        ]
        out = []
        for number in range(self.jobs):
            variant = variants[number % len(variants)]
            # Another policy's parameter means something else.
            changed = own | ({"policy_parameter": None} if "policy" in variant else {}) | variant
            # One writer only.
            changed["memory"] = self.memory if number == 0 else None
            out.append(changed)
        return out

    def _portfolio(
        self,
        instance: Instance[Any],
        budget: Budget,
        seed: int,
        start: Any,
        on_event: Listener | None,
    ) -> Result:
        from nco.mip.portfolio import run_portfolio

        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        prepared = prepare(tracker, start, self.deterministic)
        if isinstance(prepared, Stop):
            return tracker.result(prepared, **self._about())
        form, view, _ = prepared
        known = tracker.solution if tracker.solution is not None else start
        heard: list[tuple[str, bytes, float, str]] = []

        def hear(kind: str, data: bytes, value: float, by: str) -> None:
            if kind == "solution":
                offer(tracker, form, view, np.frombuffer(data), by)
            else:
                offer_bound(tracker, form, view, value, by)

        with budget.catch_interrupt():
            results = run_portfolio(
                self.configurations(),
                instance,
                budget,
                seed=seed,
                start=known,
                share=self.share and not self.deterministic,
                on_event=(lambda *event: heard.append(event)) if self.deterministic else hear,
                backend=self.backend,
                all_of_them=self.deterministic,
            )
        if len(results) < self.jobs:
            # What a worker had told before it was lost counts, too.
            for told in heard:
                hear(*told)
        outcome = Outcome(stopped=tracker.done() or Stop.FINISHED)
        # In the order of their numbers: which of them was the first is chance.
        for number, result in results.items():
            if self.deterministic:
                for event in result.trajectory:
                    tracker.observe(replace(event, by=f"worker {number} {event.by}"))
            if result.solution is not None and not instance.violations(result.solution):
                tracker.offer(result.solution, by=f"worker {number}")
            if result.bound is not None:
                tracker.offer_bound(result.bound, by=f"worker {number}")
        for result in results.values():
            if result.status in (Status.OPTIMAL, Status.INFEASIBLE, Status.UNBOUNDED):
                outcome.status, outcome.stopped = result.status, Stop.PROVED
                if result.objective is not None:
                    outcome.objective = form.minimised(result.objective)
        if not results:
            outcome.stopped = tracker.done() or Stop.ERROR
        extra = {"workers": [dict(r.extra) for r in results.values()]}
        stops = {r.stopped for r in results.values()}
        if self.deterministic and outcome.stopped is not Stop.PROVED and len(stops) == 1:
            outcome.stopped = stops.pop()
        return conclude(tracker, form, view, outcome, extra=extra, **self._about())

    def search(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
        share: Share | None = None,
    ) -> Result:
        """As `solve`, beside other workers that share what they find."""
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        prepared = prepare(tracker, start, self.deterministic)
        if isinstance(prepared, Stop):
            return tracker.result(prepared, **self._about())
        form, view, hint = prepared
        with budget.catch_interrupt():
            try:
                outcome, extra = self._run(form, view, tracker, hint, seed, share)
            except OutOfTimeError:
                outcome, extra = Outcome(stopped=tracker.done() or Stop.TIME), {}
        return conclude(tracker, form, view, outcome, extra=extra, **self._about())

    def _about(self) -> Mapping[str, Any]:
        from importlib.metadata import version

        return {
            "params": {f.name: getattr(self, f.name) for f in fields(self)},
            "versions": {p: version(p) for p in ("highspy", "pyscipopt", "mabwiser", "alns")},
        }

    def _run(
        self,
        form: Form,
        view: MipView,
        tracker: Tracker[Any],
        hint: Vector | None,
        seed: int,
        share: Share | None,
    ) -> tuple[Outcome, Mapping[str, Any]]:
        settled = settle(form)
        if settled is not None:
            if settled.x is not None:
                offer(tracker, form, view, settled.x)
            return settled, {}
        reason = tracker.done()
        if reason is not None:
            return Outcome(stopped=reason), {}
        own = spawn_seed(seed, tracker.instance.digest)

        def engine(name: str, shift: int) -> Backend:
            made: Backend = backends.load(name)(
                form,
                seed=(own + shift) % 2**31,
                stop=lambda: tracker.done() is not None,
            )
            return made

        memory = load_memory(self.memory) if self.memory else {}
        arms = tuple(self.arms or ()) or (STRUCTURE_ARMS if len(view.groups) > 2 else ARMS)
        if not len(form.integers):
            # A linear program: the main solve is all there is to do.
            plain = engine(self.main, 0)
            watch = Watch(
                on_solution=lambda x: offer(tracker, form, view, x),
                stop=lambda: tracker.done() is not None,
            )
            outcome = plain.solve(Limits(tracker.budget.left()), None, hint, watch)
            return self._settled(outcome, plain, tracker, form, view), {}
        plan = Plan(
            arms=arms,
            accept=partial(_acceptance, self.accept),
            cutoff=self.cutoff,
            sub_seconds=self.sub_seconds,
            sub_nodes=self.sub_nodes,
            sub_stall=self.sub_stall,
            main_share=self.main_share,
            deterministic=self.deterministic,
        )
        bandit = Bandit(arms, self.policy, self.policy_parameter, seed=own, memory=memory)
        search = Search(
            form,
            view,
            tracker,
            plan,
            bandit,
            lambda number: engine(self.main, 2 * number),
            {name: partial(engine, name, 1) for name in self.sub.split("+")},
            own,
            share,
        )
        outcome = search.run(hint)
        if outcome.status is Status.UNBOUNDED:
            outcome = self._settled(outcome, engine(self.main, 0), tracker, form, view)
        elif outcome.x is not None:
            offer(tracker, form, view, outcome.x, self.main)
            offer_bound(tracker, form, view, outcome.bound, self.main)
        if self.memory:
            try:
                save_memory(self.memory, bandit.statistics)
            except (OSError, InputError) as error:
                logger.warning("the memory of arms is not kept: %s", error)
        return outcome, search.statistics()

    @staticmethod
    def _settled(
        outcome: Outcome, engine: Backend, tracker: Tracker[Any], form: Form, view: MipView
    ) -> Outcome:
        if outcome.status is Status.UNBOUNDED:
            watch = Watch(stop=lambda: tracker.done() is not None)
            outcome = confirm_unbounded(engine, tracker.budget, watch)
        if outcome.x is not None:
            offer(tracker, form, view, outcome.x)
        engine.close()
        return outcome
