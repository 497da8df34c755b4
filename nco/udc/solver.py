"""The solver ``udc``: divide, conquer and reunite in stages, anytime."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nco.bq.solver import (
    BQ,
    MATRIX_POLICIES,
    BatchSolver,
    all_done,
    by_size,
    model_versions,
    one,
    stack_fields,
)
from nco.instances.core import Budget, InputError, Instance, Listener, Result, Stop, Tracker
from nco.instances.registry import solvers
from nco.udc.dividers import Divider, load_divider

if TYPE_CHECKING:
    import torch

    from nco.bq.decoding import Conqueror, Model
    from nco.udc.divide import Graph, Heat

logger = logging.getLogger("nco")

#: Conquerors of their own; all solvers of the registry but these two conquer, too.
CONQUERORS = ("bq", "or-opt")
NO_CONQUERORS = ("auto", "udc")
#: Stages when nothing limits them.
STAGES = 50
#: Told where nothing smaller can be tried.
KEPT = "out of memory: what there is by now is kept"
#: Starts that are drawn from heat on a sparse graph, all samples of an instance at a time.
HEATS = ("network", "distance", "uniform")
#: The start that the problem's policy decodes from scratch.
DECODED = "bq"
#: Seconds within which a library is not imported for the first time, as nothing can interrupt
#: that: torch takes more than one, that of a learned divider's layers two more.
LOADING = {"torch": 2.0, "torch_geometric": 5.0}
#: Share of the time left that starts beyond the first one leave to stages.
STAGED = 0.5
#: Whole instances are decoded from so many views, as far as such a share of the time left suffices
#: for more than the first: what one view leaves may be far from all good solutions.
VIEWS, DECODING = 4, 0.2
#: Share of the time left that heat leaves to another start, should it not suffice to draw one.
SPARED = 0.1
#: Iterations per node of a part that suit a classical conqueror, and kicks of or-opt.
EFFORT, KICKS = 10.0, 3.0


def loads(library: str, budget: Budget) -> bool:
    """Whether a library of `LOADING` is there, or time suffices to import it."""
    return library in sys.modules or budget.left() >= LOADING[library]


class TellsOnce:
    """Warns of everything once, whatever the values in a text are."""

    @functools.cached_property
    def _told(self) -> set[str]:
        return set()

    def _tell(self, text: str, *values: Any) -> None:
        """Warn, unless that text was told before; the values are put into it."""
        if text not in self._told:
            self._told.add(text)
            logger.warning(text, *values)


@dataclass(frozen=True)
class UDC(TellsOnce, BatchSolver):
    """Improve parts of whole solutions, all parts of all solutions at a time.

    A start divides the instance: it is cut into parts of equal size, every part is solved
    again with its ends fixed, and the parts are put together again; a part that became
    worse stays as it was. The next stage cuts elsewhere. Budgets' iterations are stages.

    Parameters
    ----------
    divide
        The start, such as "insertion", "space-filling-curve" or "greedy"; "auto" is what
        measured best for the problem. "bq" decodes the whole instance by the problem's policy,
        from four views, or as many as there are samples if those are more, fewer in a short
        time; where the problem's first start is better, or time does not suffice, that one
        stays. "network" draws tours from the heat of a trained divider, "distance" and
        "uniform" from heat without learning.
    conquer
        Who solves parts: "bq", the problem's policy; "or-opt", local search on parts of
        tours; or any solver by name, for which parts are instances of their own.
    effort
        Iterations per node of a part of a classical conqueror (kicks of or-opt); 0 for what
        suits it.
    stages
        Largest number of stages; 0 for as many as time allows, 50 without any limit.
    samples
        Starts that are improved together; the best counts. Fewer where they would take more
        than half of the time.
    size
        Nodes in a part; 0 for what suits the problem.
    regions
        Share of the stages whose parts are regions around a place of the plane, of tours in
        place of consecutive nodes where there is room for such, of routes in place of whole
        ones where the policy is shown fixed ways; -1 for what suits the policy. Of stages
        that are not within routes.
    within
        With conquer = "bq" and routes: share of the stages whose parts are paths within
        single routes, decided by the shipped policy of tours.
    beam
        With conquer = "bq": the widest beam that decides parts; 1 for greedily always. Each
        stage takes the width that gained most for its work lately.
    divider
        For divide = "network": folder of a run of `nco.udc.train`, or a weights file; by
        default the divider that is shipped for the problem.
    neighbors
        Candidates per node of the graph that heat without learning is on; a trained divider
        has those that it was trained with.
    weights, k, leap, device, precision
        The policy, as for `nco.bq.solver.BQ`.

    Raises
    ------
    ValueError
        When a parameter makes no sense.
    """

    name: ClassVar[str] = "udc"

    divide: str = "auto"
    conquer: str = "bq"
    effort: float = 0.0
    stages: int = 0
    samples: int = 1
    size: int = 0
    regions: float = -1.0
    within: float = 0.25
    beam: int = 4
    divider: str = ""
    neighbors: int = 50
    weights: str = ""
    k: int = -1
    leap: int = 0
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Validate."""
        for field, least in (("stages", 0), ("samples", 1), ("neighbors", 1), ("beam", 1)):
            if getattr(self, field) < least:
                raise ValueError(f"{field} = {getattr(self, field)} < {least} not understood.")
        if self.size and self.size < 4:
            raise ValueError(f"size = {self.size} < 4 not understood.")
        if not 0.0 <= self.regions <= 1.0 and self.regions != -1.0:
            raise ValueError(f"regions = {self.regions} not understood; between 0 and 1, or -1.")
        if not 0.0 <= self.within <= 1.0:
            raise ValueError(f"within = {self.within} not understood; between 0 and 1.")
        if not 0.0 <= self.effort < np.inf:
            raise ValueError(f"effort = {self.effort} not understood; at least 0.")
        known = [name for name in solvers.names() if name not in NO_CONQUERORS]
        if self.conquer not in known:
            text = ", ".join(known)
            raise ValueError(f"conquer {self.conquer!r} not understood; known: {text}.")
        if self.divider and self.divide != "network":
            raise ValueError('divider = FOLDER needs divide = "network".')
        _ = self._bq  # which checks its own parameters

    @functools.cached_property
    def _bq(self) -> BQ:
        return BQ(
            weights=self.weights,
            k=self.k,
            leap=self.leap,
            device=self.device,
            precision=self.precision,
        )

    @property
    def _effort(self) -> float:
        """Iterations per node of a part of a classical conqueror."""
        return self.effort or (KICKS if self.conquer == "or-opt" else EFFORT)

    def _stages(self, budget: Budget) -> int | None:
        """Largest number of stages, or None for as many as time allows."""
        unlimited = budget.time_limit is None and budget.iterations is None
        stages = self.stages or (STAGES if unlimited else None)
        return min((s for s in (stages, budget.iterations) if s is not None), default=None)

    def supports(self, instance: Instance[Any]) -> str | None:
        """None where there are a divider and a conqueror for the instance."""
        divider = load_divider(instance.problem)
        if divider is None:
            return f"there is no divider for {instance.problem}"
        if "bq" in (self.conquer, self.divide):
            reason = self._bq.supports(divider.plan(instance) if divider.plan else instance)
            if reason or self.conquer == "bq":
                return reason
        if getattr(instance, "restricted", False):
            return "knows no fixed or missing edges"
        if divider.piece is None:
            return None if self.conquer == "or-opt" else self._knows(instance)
        if self.conquer == "or-opt":
            return f"or-opt conquers tsp and atsp, not {instance.problem}"
        planned = divider.plan(instance) if divider.plan else instance
        # Cuts and costs are the policy's, whatever its weights.
        reason = dataclasses.replace(self._bq, weights="any").supports(planned)
        return reason or self._knows(planned)

    def _knows(self, instance: Instance[Any]) -> str | None:
        """None where the conqueror solves instances of the kind, of a part's size."""
        part = type(instance).generate(10, seed=0)
        reason: str | None = solvers.load(self.conquer)().supports(part)
        return reason

    def solve_batch(
        self,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        *,
        seed: int = 0,
        start: Sequence[Any] | None = None,
        on_event: Listener | None = None,
    ) -> list[Result]:
        """Solve many instances together; those of one size take their stages together.

        Parameters
        ----------
        instances
            Of one problem.
        budget
            For all of them together.
        seed
            Seed of starts and cuts.
        start
            A solution or None for each; it takes the place of one of the samples.
        on_event
            Hears of the improvements of a single instance only.

        Raises
        ------
        InputError
            When the weights, the device or the start's name cannot be used.
        """
        divider = load_divider(instances[0].problem)
        assert divider is not None
        solve = self._solve_batch if divider.plan is None else self._solve_plans
        return solve(divider, instances, budget, seed, start, on_event)

    def _solve_plans(
        self,
        divider: Divider,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
        start: Sequence[Any] | None,
        on_event: Listener | None,
    ) -> list[Result]:
        """Improve plans, and follow the best of each once."""
        assert divider.plan is not None
        assert divider.follow is not None
        trackers = self.trackers(instances, budget, seed, start, on_event)
        # A target is for what comes of a plan, not for what the plan expects.
        known = [divider.plan(i) for i in instances]
        share = budget.child(budget.left(), budget.iterations)
        plans = self._solve_batch(divider, known, share, seed, None, None)
        results = []
        for tracker, plan in zip(trackers, plans, strict=True):
            if plan.solution is not None:
                tracker.offer(divider.follow(tracker.instance, plan.solution), by="plan")
            extra = {**plan.extra, "expected": plan.objective}
            result = tracker.result(
                tracker.done() or plan.stopped,
                params=self.changed(), versions=plan.versions, extra=extra,
            )  # fmt: skip
            results.append(dataclasses.replace(result, batch=len(instances)))
        seconds = budget.elapsed() / len(instances)
        return [dataclasses.replace(r, seconds=seconds) for r in results]

    def _solve_batch(
        self,
        divider: Divider,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
        start: Sequence[Any] | None,
        on_event: Listener | None,
    ) -> list[Result]:
        known = ["auto", *divider.starts, DECODED, *(HEATS if divider.graph else ())]
        if self.divide not in known:
            raise InputError(
                None, None, f"divide {self.divide!r} not understood for {divider.name}",
                f"known: {', '.join(known)}",
            )  # fmt: skip
        size = self.size or divider.size
        results: dict[int, Result] = {}
        listener = on_event if len(instances) == 1 else None
        for policy, numbers, share in by_size(instances, budget):
            group = [instances[i] for i in numbers]
            starts = [None if start is None else start[i] for i in numbers]
            small = group[0].n <= size and (self.conquer != "bq" or loads("torch", share))
            solve = self._small if small else functools.partial(self._large, divider, size, policy)
            for i, result in zip(numbers, solve(group, share, seed, starts, listener), strict=True):
                results[i] = dataclasses.replace(result, batch=len(instances))
        seconds = budget.elapsed() / len(instances)
        return [dataclasses.replace(results[i], seconds=seconds) for i in range(len(instances))]

    def _small(
        self,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
        starts: Sequence[Any],
        on_event: Listener | None,
    ) -> list[Result]:
        """What is no larger than a part is conquered whole."""
        logger.warning(
            "n = %d is within one part: solved by %s alone", instances[0].n, self.conquer
        )
        stages = self._stages(budget)
        if self.conquer == "bq":
            share = budget
            if stages != budget.iterations:
                share = budget.share(1.0, iterations=stages)
            results = self._bq.solve_batch(
                instances, share, seed=seed, start=starts, on_event=on_event
            )
        else:
            other, results = solvers.load(self.conquer)(), []
            for i, (instance, given) in enumerate(zip(instances, starts, strict=True)):
                limit = budget.iterations
                if stages is not None:
                    most = max(1, round(stages * self._effort * instance.n))
                    limit = most if limit is None else min(limit, most)
                share = budget.share(1.0 / (len(instances) - i), iterations=limit)
                results.append(
                    other.solve(instance, share, seed=seed, start=given, on_event=on_event)
                )
        params = self.changed()
        return [
            dataclasses.replace(r, solver=self.name, params=params, extra={"by": self.conquer})
            for r in results
        ]

    def _conqueror(
        self,
        divider: Divider,
        policy: str,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
    ) -> Callable[[Sequence[int]], Conqueror]:
        """What conquers parts of solutions of the instances with these numbers."""
        from nco.bq.policies import load_policy
        from nco.bq.regions import with_regions
        from nco.udc.conquer import CostPolicy, OrOptConqueror, SolverConqueror
        from nco.udc.within import WithinRoutes

        def regional(conqueror: Any) -> Any:
            made = with_regions(conqueror, self.regions)
            if self.regions > 0.0 and made is conqueror:
                self._tell("regions are for tours, and for routes of policies that are shown ways")
            return made

        if self.conquer == "bq":
            model: Conqueror = regional(self._bq.model(policy))
            matrix = getattr(instances[0], "matrix", None) is not None
            tours = MATRIX_POLICIES.get(divider.within, "") if matrix else divider.within
            if tours and self.within:
                own = dataclasses.replace(self._bq, weights="")
                model = WithinRoutes(model, own.model(tours), self.within)
            return lambda numbers: model
        side = CostPolicy(instances) if divider.piece is None else load_policy(policy).POLICY()
        if self.conquer == "or-opt":
            search = regional(OrOptConqueror(side, self._effort, seed=seed))
            return lambda numbers: search
        solver = solvers.load(self.conquer)()

        def of(numbers: Sequence[int]) -> Conqueror:
            wholes = [instances[i] for i in numbers]
            made = SolverConqueror(
                side, wholes, solver, divider.piece, budget, self._effort, seed=seed
            )
            return regional(made)

        return of

    def _large(
        self,
        divider: Divider,
        size: int,
        policy: str,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
        starts: Sequence[Any],
        on_event: Listener | None,
    ) -> list[Result]:
        trackers = self.trackers(instances, budget, seed, starts, on_event)
        versions: dict[str, str] = {}

        def results(stopped: Stop) -> list[Result]:
            return [t.result(stopped, params=self.changed(), versions=versions) for t in trackers]

        early = budget.reserve(STAGED * budget.left())
        solutions = [
            self._divide(divider, tracker, given, seed, early)
            for tracker, given in zip(trackers, starts, strict=True)
        ]
        decoded = "auto" if divider.decoded and self.conquer == "bq" else ""
        if self.divide in (DECODED, decoded):
            solutions = self._decode(policy, trackers, solutions, starts, budget, seed)
        stopped = all_done(trackers, budget, 0)
        if stopped is None and not all(solutions):
            logger.warning("no start was found: parts of nothing cannot be improved")
            stopped = Stop.FINISHED
        if stopped is None and not self._ready(budget):
            stopped = all_done(trackers, budget, 0) or Stop.TIME
        if stopped is not None:
            return results(stopped)
        import torch

        from nco.bq.decoding import Model, beam_widths, improve, out_of_memory
        from nco.udc.within import WithinRoutes

        try:
            conqueror_of = self._conqueror(divider, policy, instances, budget, seed)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self._tell(KEPT)
            return results(Stop.FINISHED)

        def copied() -> tuple[Any, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
            # Copies of an instance are neighbours in the batch.
            conqueror = conqueror_of(owners)
            side = conqueror.policy
            names = [name for name in side.fields if name != "owner"]
            fields = stack_fields(names, [instances[i] for i in owners])
            fields["owner"] = torch.as_tensor(owner)
            everything = [solution for own in solutions for solution in own]
            rows = [side.actions(one(fields, i), s) for i, s in enumerate(everything)]
            actions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
            return conqueror, fields, actions, side.cost(fields, actions)

        while True:
            owner = np.repeat(np.arange(len(instances)), [len(own) for own in solutions])
            owners: list[int] = owner.tolist()
            try:
                conqueror, fields, latest, best = copied()
                break
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            solutions = [own[: -(-len(own) // 2)] for own in solutions]
            if not self._fewer(len(owners), sum(map(len, solutions))):
                return results(Stop.FINISHED)
        model = conqueror.routes if isinstance(conqueror, WithinRoutes) else conqueror
        versions = model_versions(model) if isinstance(model, Model) else {}
        side = conqueror.policy
        turn = done = 0

        def on_stage(number: int, now: torch.Tensor) -> None:
            nonlocal best, latest, turn
            turn = done + number
            latest = now = now.cpu()
            cost = side.cost(fields, now)
            # Of an instance's samples, only the best of this stage is looked at.
            order = np.lexsort((cost.numpy(), owner))
            for row in order[np.r_[True, np.diff(owner[order]) > 0]].tolist():
                if cost[row] < best[row]:
                    trackers[owners[row]].offer(side.solution(now[row].tolist()), by="reunion")
            best = torch.minimum(cost, best)

        rounds = self._stages(budget)
        while rounds is None or done < rounds:
            try:
                improve(
                    conqueror,
                    fields,
                    latest,
                    sizes=(size, size),
                    beams=beam_widths(self.beam if self.conquer == "bq" else 1),
                    rounds=None if rounds is None else rounds - done,
                    seed=seed + done,
                    stop=lambda: budget.spent() or bool(all_done(trackers, budget, turn)),
                    on_round=on_stage,
                )
                break
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            # The better half of every instance's samples goes on.
            order = np.lexsort((best.numpy(), owner))
            place = np.arange(len(owner)) - np.searchsorted(owner, owner)
            keep = np.sort(order[place < -(-np.bincount(owner)[owner] // 2)])
            if not self._fewer(len(owner), len(keep)):
                break
            done, owner = turn, owner[keep]
            owners = owner.tolist()
            which = torch.as_tensor(keep)
            fields = {k: v[which] for k, v in fields.items()}
            latest, best = latest[which], best[which]
            conqueror = conqueror_of(owners)
        return results(all_done(trackers, budget, turn) or Stop.FINISHED)

    def _divide(
        self, divider: Divider, tracker: Tracker[Any], given: Any, seed: int, early: Budget
    ) -> list[Any]:
        """Starts of one instance, only the first of them when it is no longer early.

        When time is up, one that takes none.
        """
        budget, instance = tracker.budget, tracker.instance
        # What is decoded has a start to fall back on.
        first = divider.first(instance.n)
        name = first if self.divide in ("auto", DECODED) else self.divide
        made = [] if given is None else [given]
        if name in HEATS and len(made) < self.samples and not tracker.done(-1):
            drawn = self._draw(divider, instance, budget, seed, self.samples - len(made))
            for solution in drawn:
                tracker.offer(solution, by=name)
            made += drawn
            if not drawn:
                name = first
        while name not in HEATS and len(made) < self.samples:
            # Iterations are those of stages.
            if made and tracker.done(-1):
                break
            if made and early.spent():
                self._tell("starts take long: going on with fewer samples")
                break
            try:
                solution = divider.starts[name](instance, seed + len(made), budget)
            except TimeoutError:
                break
            except MemoryError:
                self._tell("out of memory: %s makes no start", name)
                break
            if solution is None:
                break
            tracker.offer(solution, by=name)
            if len(made) > (given is not None) and solution == made[-1]:
                # Seeds change nothing.
                made += [solution] * (self.samples - len(made))
            else:
                made.append(solution)
        if not made:
            plain = divider.plain(instance)
            if plain is None or instance.violations(plain):
                return []
            tracker.offer(plain, by="plain start")
            made.append(plain)
        return made

    def _decode(
        self,
        policy: str,
        trackers: Sequence[Tracker[Any]],
        solutions: Sequence[list[Any]],
        starts: Sequence[Any],
        budget: Budget,
        seed: int,
    ) -> list[list[Any]]:
        """Decode whole instances; all samples but a given one begin with the best so far."""
        made = [
            len(own) - (given is not None) for own, given in zip(solutions, starts, strict=True)
        ]
        todo = [tracker for tracker, count in zip(trackers, made, strict=True) if count > 0]
        # Iterations are those of stages.
        if not todo or all_done(todo, budget, -1) or not loads("torch", budget):
            return list(solutions)
        from nco.bq.decoding import out_of_memory

        try:
            model = self._bq.model(policy)
            views = self._views(model, todo, budget)
            if not views:
                return list(solutions)
            begin = budget.elapsed()
            bq = dataclasses.replace(self._bq, views=views, reconstruct=False)
            bq.solve_size(model, todo, budget, seed)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            self._tell("out of memory: the start is not decoded")
            return list(solutions)
        # What it took says more than what was expected, which is without leaps.
        each = max((budget.elapsed() - begin) / views, 1e-9)
        most = int(min(VIEWS, views + DECODING * budget.left() / each))
        if most > views and not all_done(todo, budget, -1):
            early = budget.reserve((1.0 - DECODING) * budget.left())
            try:
                bq = dataclasses.replace(bq, views=most)
                bq.solve_size(model, todo, early, seed, skip=views)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self._tell("out of memory: the start is decoded from %d views alone", views)
        return [
            own[: len(own) - count] + [tracker.solution] * count
            for own, count, tracker in zip(solutions, made, trackers, strict=True)
        ]

    def _views(self, model: Model, trackers: Sequence[Tracker[Any]], budget: Budget) -> int:
        """From how many views, at most as many as samples, there is time to decode."""
        from nco.bq.decoding import chunk_size, seconds_to_decode

        if budget.time_limit is None:
            return self.samples
        instances = [tracker.instance for tracker in trackers]
        first = stack_fields(model.policy.fields, instances[:1])
        size = chunk_size(model, model.policy.start(first).width)
        fields = stack_fields(model.policy.fields, instances[:size])
        state = model.policy.start({k: v.to(model.device) for k, v in fields.items()})
        chunks = -(-len(instances) // size)
        seconds = chunks * seconds_to_decode(model, state, budget.left() / chunks)
        # Steps are a little more than what is timed.
        views = min(self.samples, int(0.95 * budget.left() / seconds))
        if not views:
            tell = self._tell if self.divide == DECODED else logger.info
            tell("%.1f s are too few to decode the whole: the start stays", budget.left())
        return views

    def _ready(self, budget: Budget) -> bool:
        """Whether what improves starts is loaded, or compiled, before time is up."""
        if not loads("torch", budget):
            self._tell("%.1f s are too few to load what improves the start", budget.left())
            return False
        if self.conquer != "or-opt":
            return True
        from nco.classical.compiling import compiled_before
        from nco.classical.local_search import compile_kernels

        if compiled_before(compile_kernels, budget.spent):
            return True
        self._tell("the start stays as it is: kernels are still being compiled, once per machine")
        return False

    def _fewer(self, before: int, after: int) -> bool:
        """Tell what comes of samples when memory does not suffice: whether fewer go on."""
        self._tell("out of memory: going on with fewer samples" if after < before else KEPT)
        return after < before

    def _draw(
        self, divider: Divider, instance: Instance[Any], budget: Budget, seed: int, samples: int
    ) -> list[Any]:
        """Starts from heat, fewer where memory does not suffice."""
        assert divider.graph is not None
        assert divider.of_tour is not None
        if not loads("torch_geometric" if self.divide == "network" else "torch", budget):
            self._tell(
                "heat is not loaded within %.1f s: the start is %s",
                budget.left(),
                divider.first(instance.n),
            )
            return []

        from nco.bq.decoding import Stopped, out_of_memory
        from nco.udc.divide import draw_tours, heat_of

        device, asked = self._bq.torch_device(), samples
        stop = budget.reserve(SPARED * budget.left()).spent
        seen: tuple[Heat, Graph] | None = None
        while True:
            try:
                seen = seen or heat_of(
                    functools.partial(divider.graph, instance, stop=stop),
                    kind=self.divide,
                    folder=self.divider,
                    problem=instance.problem,
                    neighbors=self.neighbors,
                    device=device,
                    stop=stop,
                )
                size = self.size or divider.size
                tours = draw_tours(*seen, samples=samples, size=size, seed=seed, stop=stop)
                break
            except Stopped:
                self._tell("time was up before a start was drawn from heat: another one instead")
                return []
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            if samples == 1 or seen is None:
                self._tell("out of memory: no start is drawn from heat, but another one")
                return []
            samples //= 2
        if samples < asked:
            self._tell("out of memory: going on with %d samples", samples)
        found: list[Any] = []
        for tour in tours.tolist():
            if found and budget.spent():
                break
            solution = divider.of_tour(instance, tour)
            if solution is not None:
                found.append(solution)
        return found
