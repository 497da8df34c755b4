"""The solver ``bq``: BQ policies, batched, and anytime by reconstruction."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nco import weights as cards
from nco.instances.core import Budget, InputError, Instance, Listener, Result, Stop, Tracker

if TYPE_CHECKING:
    import torch

    from nco.bq.decoding import Model

logger = logging.getLogger("nco")

#: Metrics that are the Euclidean one but for rounding and scale; great-circle distances
#: are near enough to it to be followed.
PLANAR = ("exact", "EUC_2D", "CEIL_2D", "ATT", "GEO")
#: What is returned when time ends before the first solution is decoded.
FALLBACK = {
    "tsp": "space-filling-curve",
    "atsp": "nearest-neighbor",
    "cvrp": "savings",
    "acvrp": "savings",
    "ovrp": "savings",
    "op": "insertion",
    "pctsp": "insertion",
    "spctsp": "insertion",
    "mtsp": "insertion",
    "knapsack": "greedy",
    "mis": "greedy",
}
#: Seconds after the limit in which those solvers may look for better than their first solution.
GRACE = 0.1
#: Problem -> policy for its instances with a cost matrix.
MATRIX_POLICIES = {"tsp": "atsp", "atsp": "atsp", "cvrp": "acvrp"}


def policy_of(instance: Instance[Any]) -> str:
    """Name of the policy for an instance; one with a cost matrix has its own."""
    matrix = getattr(instance, "matrix", None) is not None
    return MATRIX_POLICIES.get(instance.problem, "") if matrix else instance.problem


class BatchSolver:
    """What solvers share that solve many instances together."""

    name: ClassVar[str]

    def solve(
        self,
        instance: Instance[Any],
        budget: Budget,
        *,
        seed: int = 0,
        start: Any = None,
        on_event: Listener | None = None,
    ) -> Result:
        """Solve one instance."""
        starts = None if start is None else [start]
        return self.solve_batch([instance], budget, seed=seed, start=starts, on_event=on_event)[0]

    def solve_batch(
        self,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        *,
        seed: int = 0,
        start: Sequence[Any] | None = None,
        on_event: Listener | None = None,
    ) -> list[Result]:
        """Solve many instances; see the solver's own."""
        raise NotImplementedError

    def trackers(
        self,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        seed: int,
        start: Sequence[Any] | None,
        on_event: Listener | None,
    ) -> list[Tracker[Any]]:
        """Trackers that were offered the starts; only that of a single instance has a listener."""
        listener = on_event if len(instances) == 1 else None
        made: list[Tracker[Any]] = [
            Tracker(i, budget, solver=self.name, seed=seed, on_event=listener) for i in instances
        ]
        for tracker, given in zip(made, start or [None] * len(made), strict=True):
            if given is not None:
                tracker.offer(given, by="start")
        return made

    def changed(self) -> dict[str, Any]:
        """The parameters that are not as by default."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) != f.default
        }


def by_size(
    instances: Sequence[Instance[Any]], budget: Budget
) -> Iterator[tuple[str, list[int], Budget]]:
    """Policy, numbers and budget of the instances that fit into one batch.

    Every size has its share of the time, in proportion to its instances.
    """
    kinds: dict[tuple[str, int], list[int]] = {}
    for number, instance in enumerate(instances):
        kinds.setdefault((policy_of(instance), instance.n), []).append(number)
    left = len(instances)
    for (policy, _), numbers in kinds.items():
        share = (
            budget
            if len(numbers) == left
            else budget.share(len(numbers) / left, iterations=budget.iterations)
        )
        yield policy, numbers, share
        left -= len(numbers)


@dataclass(frozen=True)
class BQ(BatchSolver):
    """Decode with a trained policy, then reconstruct parts for as long as there is time.

    Parameters
    ----------
    weights
        A weights file, the folder of a training run, or the name of shipped weights; by
        default the problem's own.
    beam
        Beam width; 1 is greedy.
    views
        Number of ways to begin that are decoded; the best counts. Tours begin at other nodes,
        the plane is turned and flipped, and where that changes nothing, the next likeliest
        first decisions are taken.
    samples
        Number of solutions sampled in addition; the best counts.
    k
        Candidates looked at in every step; 0 for all, -1 for what the weights are for.
    leap
        Greedy decisions taken of one look at most, those after the first only where they are
        sure, see `nco.bq.decoding.leap`; 1 for a look per decision, 0 for what measured best: 4
        on a CPU where the network was taught links and each node is one action, else 1.
    reconstruct
        Whether time (or iterations, which are rounds) left over is used.
    part
        Largest number of nodes that are reconstructed together.
    part_beam
        The widest beam that reconstructs: each round takes the width that gained most for its
        work lately. 1, greedily always, is best while much is left to gain.
    device
        "auto", "cpu", "cuda", ...
    precision
        "auto", "bf16" or "fp32"; "auto" is bf16 where the hardware computes in it.
    compiled
        Whether `torch.compile` makes the network anew first, which takes half a minute.

    Raises
    ------
    ValueError
        When a parameter makes no sense.
    """

    name: ClassVar[str] = "bq"

    weights: str = ""
    beam: int = 1
    views: int = 1
    samples: int = 0
    k: int = -1
    leap: int = 1
    reconstruct: bool = True
    part: int = 100
    part_beam: int = 1
    device: str = "auto"
    precision: str = "auto"
    compiled: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        least = {
            "beam": 1, "views": 1, "samples": 0, "k": -1, "leap": 0, "part": 4, "part_beam": 1,
        }  # fmt: skip
        for field, low in least.items():
            if getattr(self, field) < low:
                raise ValueError(f"{field} = {getattr(self, field)} < {low} not understood.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"precision {self.precision!r} not understood; auto, bf16 or fp32.")

    def supports(self, instance: Instance[Any]) -> str | None:
        """None where there is a policy with weights for what the instance is given by."""
        if instance.problem not in FALLBACK:
            return f"there is no policy for {instance.problem}"
        policy = policy_of(instance)
        matrix = getattr(instance, "matrix", None) is not None
        if policy not in FALLBACK or (matrix and self._weights_for() == instance.problem != policy):
            return "its policy reads coordinates, not a cost matrix"
        metric = getattr(instance, "metric", "exact")
        if not matrix and metric not in PLANAR:
            return f"its policy reads points of the plane, not metric {metric}"
        if instance.problem == "op" and metric != "exact":
            return f"its policy keeps to exact lengths, not to metric {metric}"
        if getattr(instance, "restricted", False):
            return "its policy knows no fixed or missing edges"
        for field in ("max_distance", "vehicles"):
            if getattr(instance, field, None) is not None:
                return f"its policy knows no {field}"
        if instance.problem == "spctsp" and (self.beam, self.views, self.samples) != (1, 1, 0):
            return "prizes show at visits: it is decoded once, with beam=1 views=1 samples=0"
        if not self.weights:
            try:
                cards.default_weights(policy)
            except cards.WeightsError as error:
                return str(error)
        return None

    def solve_batch(
        self,
        instances: Sequence[Instance[Any]],
        budget: Budget,
        *,
        seed: int = 0,
        start: Sequence[Any] | None = None,
        on_event: Listener | None = None,
    ) -> list[Result]:
        """Solve many instances together; those of one size are decoded in one batch.

        Parameters
        ----------
        instances
            Of one problem.
        budget
            For all of them together.
        seed
            Seed of samples and of what is reconstructed.
        start
            A solution or None for each.
        on_event
            Hears of the improvements of a single instance only.

        Raises
        ------
        InputError
            When the weights or the device cannot be used, or memory does not suffice.
        """
        trackers = self.trackers(instances, budget, seed, start, on_event)
        sizes = {(policy_of(i), i.n) for i in instances}
        models = {name: self.model(name) for name in sorted({name for name, _ in sizes})}
        self._warn_of_sizes(models, sizes)
        stops: list[Stop] = [Stop.FINISHED] * len(instances)
        for name, numbers, share in by_size(instances, budget):
            alike = [trackers[i] for i in numbers]
            try:
                stopped = self.solve_size(models[name], alike, share, seed)
            except (MemoryError, RuntimeError) as error:
                stopped = stop_without_memory(error, alike)
            for i in numbers:
                stops[i] = stopped
        seconds = budget.elapsed() / len(instances)
        results = []
        for tracker, stopped in zip(trackers, stops, strict=True):
            model = models[policy_of(tracker.instance)]
            result = tracker.result(stopped, params=self.changed(), versions=model_versions(model))
            results.append(dataclasses.replace(result, batch=len(instances), seconds=seconds))
        return results

    def _path(self) -> Path:
        """The weights file that was named, by itself or as shipped weights."""
        path = Path(self.weights)
        if not path.suffix and not path.is_dir() and self.weights in cards.shipped():
            return cards.shipped_folder() / f"{self.weights}.safetensors"
        return path

    def _weights_for(self) -> str:
        """The policy that the named weights are for, or "" if that is not known."""
        try:
            return str(cards.read_card(self._path())["problem"]) if self.weights else ""
        except cards.WeightsError:
            return ""  # said when they are read

    def torch_device(self) -> torch.device:
        """The device that the parameters name.

        Raises
        ------
        InputError
            When there is none of that name.
        """
        from nco.bq.decoding import find_device

        try:
            return find_device(self.device)
        except ValueError as error:
            raise InputError(None, None, str(error)) from None

    def model(self, policy: str) -> Model:
        """The model of a policy on its device, as the parameters say.

        Raises
        ------
        InputError
            When the weights or the device cannot be used.
        """
        from nco.bq.decoding import LEAP
        from nco.bq.weights import bf16_pays
        from nco.training.checkpoints import CheckpointError
        from nco.training.export import read_trained

        device = self.torch_device()
        try:
            path = self._path() if self.weights else cards.default_weights(policy)
            model = read_trained(path, policy)
        except (cards.WeightsError, CheckpointError) as error:
            raise InputError(None, None, str(error)) from None
        able = model.linked and not self.compiled
        if self.leap > 1 and not able:
            raise InputError(
                None, None, f"leap = {self.leap}: these {policy} weights decide once a look"
                + (" when compiled" if model.linked else ""),
                "leave leap out",
            )  # fmt: skip
        bf16 = bf16_pays(device) if self.precision == "auto" else self.precision == "bf16"
        model = model.on(device, bf16=bf16, compiled=self.compiled)
        leap = self.leap or (LEAP if able and device.type == "cpu" else 1)
        return dataclasses.replace(model, leap=leap, k=model.k if self.k < 0 else self.k)

    def _warn_of_sizes(self, models: dict[str, Model], sizes: set[tuple[str, int]]) -> None:
        for name, n in sorted(sizes):
            low, high = models[name].card.get("sizes", (0, np.inf))
            if not low <= n <= high:
                logger.warning("n = %d is outside of what the policy was trained for: %s..%s",
                               n, low, high)  # fmt: skip

    def solve_size(
        self,
        model: Model,
        trackers: Sequence[Tracker[Any]],
        budget: Budget,
        seed: int,
        skip: int = 0,
    ) -> Stop:
        """Decode, and then reconstruct, instances of one size; the reason to stop.

        Parameters
        ----------
        model
            As `model` makes it.
        trackers
            Of the instances; one that has no solution is offered another start when time is
            up before it is decoded.
        budget, seed
            As for `solve_batch`.
        skip
            Views that were decoded before.

        Raises
        ------
        MemoryError, RuntimeError
            When memory does not suffice, see `nco.bq.decoding.out_of_memory`.
        """
        import torch

        from nco.bq.decoding import Stopped, beam_widths, chunk_size, construct, improve
        from nco.bq.regions import RegionPolicy, with_regions

        policy = model.policy
        fields = stack_fields(policy.fields, [t.instance for t in trackers])
        width = policy.start({k: v[:1] for k, v in fields.items()}).width
        size = chunk_size(model, width, 2 * self.beam if self.beam > 1 else 1)
        decoded = 0
        try:
            while decoded < len(trackers):
                part = slice(decoded, min(decoded + size, len(trackers)))
                new = construct(
                    model,
                    {k: v[part] for k, v in fields.items()},
                    beam=self.beam,
                    views=self.views,
                    skip=skip,
                    samples=self.samples,
                    seed=seed,
                    stop=budget.spent,
                )
                for tracker, row in zip(trackers[part], new.tolist(), strict=True):
                    tracker.offer(policy.solution(row), by="decoding")
                decoded = part.stop
        except Stopped:
            grace = Budget(time_limit=GRACE)
            for tracker in trackers[decoded:]:
                if tracker.solution is None:
                    self._fall_back(tracker, grace)
            return all_done(trackers, budget, 0) or Stop.TIME
        limited = budget.time_limit is not None or budget.iterations is not None
        if not (self.reconstruct and limited) or all_done(trackers, budget, 0):
            return all_done(trackers, budget, 0) or Stop.FINISHED
        # A given start may be better than what was decoded.
        rows = [policy.actions(one(fields, i), t.solution) for i, t in enumerate(trackers)]
        stacked = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        best_cost = policy.cost(fields, stacked)
        turn = 0

        def on_round(number: int, now: torch.Tensor) -> None:
            nonlocal best_cost, turn
            turn = number
            cost = policy.cost(fields, now.cpu())
            for i in (cost < best_cost).nonzero()[:, 0].tolist():
                trackers[i].offer(policy.solution(now[i].tolist()), by="reconstruction")
            best_cost = torch.minimum(cost, best_cost)

        regions = with_regions(model)
        # Regions of tours win more than short paths.
        low = 20 if isinstance(regions.policy, RegionPolicy) else 10
        improve(
            regions,
            fields,
            stacked,
            sizes=(min(low, self.part), self.part),
            beams=beam_widths(self.part_beam),
            rounds=budget.iterations,
            seed=seed,
            stop=lambda: budget.spent() or bool(all_done(trackers, budget, turn)),
            on_round=on_round,
        )
        return all_done(trackers, budget, turn) or Stop.FINISHED

    def _fall_back(self, tracker: Tracker[Any], budget: Budget) -> None:
        from nco.instances.registry import solvers

        name = FALLBACK[policy_of(tracker.instance)]
        result = solvers.load(name)().solve(tracker.instance, budget, seed=tracker.seed)
        tracker.offer(result.solution, by=name)


def stop_without_memory(error: Exception, trackers: Sequence[Tracker[Any]]) -> Stop:
    """The reason to stop after an error, if memory ran out but there are solutions.

    Raises
    ------
    InputError
        When memory ran out before there were.
    Exception
        The error, when it is another one.
    """
    from nco.bq.decoding import out_of_memory

    if not out_of_memory(error):
        raise error
    if any(tracker.solution is None for tracker in trackers):
        raise InputError(
            None, None, f"n = {trackers[0].instance.n} is beyond this machine's memory",
            "use a smaller k, beam or part, or another solver",
        ) from None  # fmt: skip
    logger.warning("out of memory: reconstruction ended early")
    return Stop.FINISHED


def all_done(trackers: Sequence[Tracker[Any]], budget: Budget, iteration: int) -> Stop | None:
    """The reason to stop all, or None while one of them may go on."""
    reasons = [t.done(iteration, budget) for t in trackers]
    return None if None in reasons else reasons[0]


def one(fields: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    """The arrays of one instance, as a batch of one."""
    return {k: v[i : i + 1] for k, v in fields.items()}


def stack_fields(
    names: Sequence[str], instances: Sequence[Instance[Any]]
) -> dict[str, torch.Tensor]:
    """Arrays of instances of one size as one batch, by field name."""
    import torch

    out = {}
    for name in names:
        arrays = [np.asarray(getattr(i, name)) for i in instances]
        if name == "edges":  # graphs of one size differ in them
            most = max(len(a) for a in arrays)
            arrays = [np.pad(a, ((0, most - len(a)), (0, 0)), constant_values=-1) for a in arrays]
        out[name] = torch.as_tensor(np.stack(arrays))
    return out


def model_versions(model: Model) -> dict[str, str]:
    """What a result says of the versions of a model."""
    import torch

    return {"torch": torch.__version__, "weights": str(model.card.get("name", ""))}
