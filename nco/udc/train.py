"""Training of a divider and its conqueror together, without labels.

Divide-conquer-reunion (Zheng et al., UDC, NeurIPS 2024, section 4.3): several solutions of
every instance are drawn from the divider's heat, their parts are solved several times each,
put together, cut elsewhere and solved again. Both policies learn by REINFORCE: the conqueror
from the costs of a part's solutions against their mean, in both rounds; the divider from the
costs after the reunion against their mean over an instance's draws.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from nco.bq.decoding import CPU_TOKENS, Model, apply, finished, stacked
from nco.bq.policies import load_policy
from nco.bq.solver import stack_fields
from nco.bq.state import Cut, Fields, Policy, State
from nco.instances.core import Budget, Instance
from nco.instances.registry import problems
from nco.training.config import TrainConfig, check_least
from nco.training.experts import expert_for
from nco.training.labels import RECIPES, draw, find_recipe, instances_of
from nco.training.train import Source, Trainer
from nco.udc.divide import (
    DividerConfig,
    Graph,
    Heat,
    HeatNetwork,
    NetworkHeat,
    order_rates,
    plain_heat,
    revisits_of,
    sample,
    tour_rates,
)
from nco.udc.dividers import load_divider
from nco.udc.solver import HEATS
from nco.weights import read_card

DECISIONS = ("some", "all")
#: Not the prefix of the divider's own tensors in a checkpoint.
DIVIDER_OPTIMIZER = "adamw-divider"
#: What of a policy's frame is left out without normalisation.
FRAME = ("shift", "scale", "rotate", "reflect")
#: Settings of a training on labels that do nothing here.
IDLE = ("teacher", "edges", "k_min", "augment", "micro_batches", "compile")
#: What of a weights file's network is the conqueror's that begins with it.
SHAPE = ("layers", "width", "heads", "ff", "norm", "head", "edge_width")
#: Costs of one part's draws that spread by no more than this share of them are the same.
FLAT = 1e-9
#: Steps between two droppings of rows that are empty everywhere.
COMPACT = 4


@dataclass(frozen=True, kw_only=True)
class UDCConfig(TrainConfig):
    """Settings of a training run; `TrainConfig`'s of the conqueror, and these.

    A weights file as ``init_from`` gives the conqueror its shape, too.

    Parameters
    ----------
    recipe
        Recipe of the instances, "" for the problem's default; see `nco.training.labels`.
    n
        Size of the instances.
    batch
        Instances in an optimiser step per process.
    held_out
        Instances for validation.
    divider_layers, divider_width, neighbors
        The divider's network, and its candidates per node.
    samples
        Solutions drawn of an instance (the paper's alpha).
    copies
        Solutions drawn of a part (the paper's beta).
    part
        Nodes in a part.
    divider_lr
        Peak rate of the divider.
    reunion
        Whether parts are cut and solved a second time; without, the divider learns from the
        first.
    normalise
        Whether the policy sees parts in its frame, or in their own coordinates.
    decisions
        Which decisions of a draw the conqueror's gradient is taken of: "all" or "some", see
        `draw_parts`.
    frozen
        Whether the conqueror stays as it is.
    heat
        "network", or "distance" and "uniform": nothing is learned of dividing.

    Raises
    ------
    ValueError
        When a setting makes no sense.
    """

    recipe: str = ""
    n: int = 500
    batch: int = 1
    held_out: int = 8
    least_k: ClassVar[int] = 0  # all candidates

    divider_layers: int = 12
    divider_width: int = 64
    neighbors: int = 50
    samples: int = 40
    copies: int = 50
    part: int = 100
    divider_lr: float = 1e-4
    lr: float = 1e-4
    k: int = 0
    reunion: bool = True
    normalise: bool = True
    decisions: str = "some"
    frozen: bool = False
    heat: str = "network"
    policy: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate."""
        super().__post_init__()
        plain = TrainConfig(problem=self.problem)
        idle = [name for name in IDLE if getattr(self, name) != getattr(plain, name)]
        if idle:
            raise ValueError(f"{idle[0]} is for training on labels only; leave it out.")
        path = Path(self.init_from)
        # A run that is resumed has the shape in its own settings.
        if path.suffix == ".safetensors" and path.is_file():
            for name, value in read_card(path)["network"].items():
                if name in SHAPE:
                    object.__setattr__(self, name, value)
        side = load_divider(self.problem)
        if side is not None and side.plan is not None:
            # What is divided and conquered is the plan.
            recipe = self.recipe or expert_for(self.problem)[1].recipe
            object.__setattr__(self, "recipe", recipe)
            object.__setattr__(self, "problem", side.planned)
        check_least(self, {"n": 8, "samples": 2, "copies": 2, "part": 4, "neighbors": 1,
                           "divider_layers": 1, "divider_width": 1})  # fmt: skip
        if self.decisions not in DECISIONS:
            text = ", ".join(DECISIONS)
            raise ValueError(f"decisions {self.decisions!r} not understood; {text}.")
        if self.heat not in HEATS:
            raise ValueError(f"heat {self.heat!r} not understood; {', '.join(HEATS)}.")
        if self.frozen and self.heat != "network":
            raise ValueError("frozen = true with heat that is not learned: nothing to train.")
        if not self.normalise:
            known = inspect.signature(load_policy(self.problem).POLICY).parameters
            if not set(FRAME) <= known.keys():
                raise ValueError(f"normalise = false: {self.problem} has no frame to leave out.")
            bare = {**self.policy, **dict.fromkeys(FRAME, False)}
            object.__setattr__(self, "policy", bare)


@dataclass(frozen=True)
class Decisions:
    """Decisions of one step that a gradient is taken of.

    Parameters
    ----------
    state
        Where they were taken [m].
    action
        What was taken, among the rows looked at [m].
    draw
        Number of the draw that each belongs to [m].
    share
        How many decisions each stands for [m].
    """

    state: State
    action: Tensor
    draw: Tensor
    share: Tensor


@dataclass(frozen=True)
class Draws:
    """Solutions of parts that were drawn, with the decisions that led there.

    Parameters
    ----------
    records
        The recorded actions [parts * copies, steps], filled up with -1.
    decisions
        Those that a gradient is taken of.
    """

    records: Tensor
    decisions: list[Decisions]


def narrowed(policy: Policy, state: State, step: int) -> State:
    """The same without rows that are empty everywhere, in some of the steps."""
    return state if state.dense or step % COMPACT else state.compact(policy.markers)


def pieces(device: torch.device, total: int, width: int) -> list[slice]:
    """A batch in pieces: on a CPU of as many states of that width as the caches hold."""
    size = max(1, CPU_TOKENS // width) if device.type == "cpu" else max(1, total)
    return [slice(i, i + size) for i in range(0, total, size)]


@torch.no_grad()
def draw_parts(
    model: Model, state: State, generator: torch.Generator, decisions: str = "some"
) -> Draws:
    """Draw a solution of every sub-instance.

    Parameters
    ----------
    model
        The policy.
    state
        The sub-instances, every one as often as it is drawn.
    generator
        Source of randomness.
    decisions
        Which are kept for the gradient: "all", "none", or "some", each with the probability
        that it might have been another. Those stand for its inverse: the gradient is the same
        in the mean, and as a decision's own gradient is at most about as large as that
        probability, hardly noisier.
    """
    records: list[Tensor] = []
    kept: list[Decisions] = []
    for piece in pieces(model.device, state.batch, state.width):
        now = state.take(piece)
        rows_of: list[Tensor] = []
        draw = torch.arange(piece.start, piece.start + now.batch, device=now.index.device)
        while not finished(model.policy, now):
            now = narrowed(model.policy, now, len(rows_of))
            rows, rates = model.rates(now)
            noise = torch.empty_like(rates).exponential_(generator=generator)
            action = (rates - noise.log()).argmax(1)
            if decisions != "none":
                # What is finished decides nothing.
                share = model.policy.mask(now).any(1).to(rates.dtype)
                if decisions == "some":
                    other = -rates.gather(1, action[:, None])[:, 0].expm1()
                    chance = torch.empty_like(other).uniform_(generator=generator)
                    share = share * (chance < other) / other.clamp_min(1e-6)
                which = share.nonzero()[:, 0]
                kept.append(Decisions(now.take(which), action[which], draw[which], share[which]))
            now, record, _ = apply(model.policy, now, rows, action)
            rows_of.append(record)
        records.append(torch.stack(rows_of, 1) if rows_of else now.index[:, :0])
    return Draws(stacked(records), kept)


def advantages(cost: Tensor) -> Tensor:
    """How much dearer each draw of a part is than their mean, in standard deviations.

    A part's cost may be a difference, as of ways and penalties, and near zero: relative to
    it, few parts would count for all. Draws that cost the same, but for rounding and what
    breaks ties, teach nothing.

    Parameters
    ----------
    cost
        Of every part's draws [parts, copies].
    """
    over = cost - cost.mean(1, keepdim=True)
    scale = over.square().mean(1, keepdim=True).sqrt()
    flat = scale <= FLAT * cost.abs().amax(1, keepdim=True)
    return torch.where(flat, 0.0, over / scale.clamp_min(1e-300))


def push(model: Model, draws: Draws, weight: Tensor) -> float:
    """Add the gradient of weighted log-probabilities of draws; their sum.

    One step is in memory at a time.

    Parameters
    ----------
    model
        The policy that made the draws.
    draws
        What it drew.
    weight
        Weight of every draw [parts * copies].
    """
    total = 0.0
    for some in draws.decisions:
        own = weight[some.draw] * some.share
        # Draws of no weight have no gradient.
        which = own.nonzero()[:, 0]
        for piece in pieces(model.device, len(which), some.state.width):
            at = which[piece]
            _, rates = model.rates(some.state.take(at))
            loss = (rates.gather(1, some.action[at, None])[:, 0] * own[at]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
    return total


class UDCTrainer(Trainer):
    """A training run of a divider and its conqueror; the loop is `Trainer`'s.

    Parameters
    ----------
    config
        Its settings.
    out, on_row
        As for `Trainer`.

    Raises
    ------
    ValueError
        Also when the problem has no divider that heat can train.
    """

    config: UDCConfig
    unit = "instances"
    transferred = ("model", "divider")
    smaller = "a smaller batch, samples, copies, part, n or network"

    def _load(self, config: TrainConfig) -> tuple[list[Source], str]:
        assert isinstance(config, UDCConfig)
        side = load_divider(config.problem)
        if side is None or side.graph is None or side.of_tour is None:
            raise ValueError(f"the divider of {config.problem} draws nothing from heat.")
        if config.data:
            raise ValueError("data is for labels; a divider and its conqueror need none.")
        self.side = side
        recipe = config.recipe or expert_for(config.problem)[1].recipe
        drawn = RECIPES[recipe][0] if recipe in RECIPES else config.problem
        known = load_divider(drawn)
        planned = known is not None and known.planned == config.problem
        self.recipe = find_recipe(drawn if planned else config.problem, recipe)
        self.sizes = config.n, config.n
        return [], f"{self.recipe}:{config.seed}:{config.n}"

    def _make_networks(self, config: TrainConfig) -> None:
        assert isinstance(config, UDCConfig)
        super()._make_networks(config)
        self.network.requires_grad_(not config.frozen)
        graph = self.graphs(self.instances(0, 1))
        shape = DividerConfig(
            graph.nodes.shape[2], graph.edges.shape[3],
            layers=config.divider_layers, width=config.divider_width,
        )  # fmt: skip
        self.divider = HeatNetwork(shape).to(self.device)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        out = {} if self.config.frozen else super()._optimizers()
        if self.config.heat == "network":
            out[DIVIDER_OPTIMIZER] = torch.optim.AdamW(
                self.divider.parameters(), lr=self.config.divider_lr, weight_decay=0.0
            )
        return out

    def modules(self) -> dict[str, torch.nn.Module]:
        """The conqueror and the divider."""
        return {"model": self.network, "divider": self.divider}

    def shapes(self) -> dict[str, Any]:
        """The shapes of both networks."""
        return {**super().shapes(), "divider": vars(self.divider.config)}

    def instances(self, first: int, count: int) -> list[Instance[Any]]:
        """Instances ``first..first+count-1`` of the recipe, or what is known of them."""
        kind = RECIPES[self.recipe][0]
        seed, n = self.config.seed, self.config.n
        made = instances_of(problems.load(kind), draw(self.recipe, seed, first, count, n))
        side = load_divider(kind)
        return made if side is None or side.plan is None else [side.plan(i) for i in made]

    def graphs(self, instances: list[Instance[Any]]) -> Graph:
        """Their graphs as one batch."""
        assert self.side.graph is not None
        graphs = [self.side.graph(i, self.config.neighbors) for i in instances]
        return Graph.stack(graphs).to(self.device)

    def actions(self, instance: Instance[Any], fields: Fields, tours: Tensor) -> list[Tensor]:
        """Recorded actions of what tours stand for, one for every tour."""
        assert self.side.of_tour is not None
        out = []
        for tour in tours.tolist():
            solution = self.side.of_tour(instance, tour)
            if solution is None:
                raise ValueError(f"{self.recipe}: a tour of {instance.name} has no solution.")
            out.append(self.policy.actions(fields, solution))
        return out

    def divide(
        self, instances: list[Instance[Any]], samples: int, generator: torch.Generator
    ) -> tuple[Graph, tuple[Tensor, Tensor] | None, Tensor, Tensor]:
        """Graphs, what the network made of them, tours [b, samples, n], and actions."""
        config = self.config
        graph = self.graphs(instances)
        seen = self.divider(graph) if config.heat == "network" else None
        heat: Heat
        if seen is None:
            heat = plain_heat(graph, config.heat)
        else:
            heat = NetworkHeat(self.divider, seen[0].detach(), seen[1].detach())
        tours = sample(heat, graph, samples, self._revisits(graph), generator)
        rows = []
        fields = stack_fields(self.policy.fields, instances)
        for i, (instance, drawn) in enumerate(zip(instances, tours, strict=True)):
            rows += self.actions(instance, {k: v[i : i + 1] for k, v in fields.items()}, drawn)
        actions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        return graph, seen, tours, actions.to(self.device)

    def _revisits(self, graph: Graph) -> int:
        return revisits_of(graph.near.shape[1], self.config.part)

    def conquer(
        self, model: Model, fast: Model, fields: Fields, actions: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """Draw parts anew, learn from the draws, and keep each part's best if not worse.

        Parameters
        ----------
        model, fast
            The policy that learns, and its copy for drawing.
        fields, actions
            Instances, and solutions of them.
        generator
            Source of randomness.

        Returns
        -------
        The solutions after that, and the loss.
        """
        policy, copies = model.policy, self.config.copies
        cut = policy.cut(fields, actions, self.config.part, generator)
        if cut is None:
            return actions, 0.0
        parts = len(cut.owner)
        repeat = torch.arange(parts, device=self.device).repeat_interleave(copies)
        state, owner = cut.state.take(repeat), cut.owner[repeat]
        many = Cut(state, owner, cut.cost[repeat], cut.place[repeat])
        which = "none" if self.config.frozen else self.config.decisions
        draws = draw_parts(fast, state, generator, which)
        cost = policy.part_cost(fields, many, draws.records).view(parts, copies)
        loss = 0.0
        if not self.config.frozen:
            gain = advantages(cost).flatten().float()
            with self._autocast():
                loss = push(model, draws, gain / gain.count_nonzero().clamp_min(1))
        least = cost.argmin(1)
        pick = torch.arange(parts, device=self.device) * copies + least
        new, now = draws.records[pick], cost.gather(1, least[:, None])[:, 0]
        return policy.paste(fields, actions, cut, new, now <= cut.cost), loss

    def update(self) -> tuple[Tensor, float, float]:
        """One optimiser step; as `Trainer.update`, the two losses are the divider's and both's."""
        config = self.config
        self.generator.manual_seed(self._seed(self.step))
        factor = config.learning_rate(self.step)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = (
                    config.divider_lr if name == DIVIDER_OPTIMIZER else config.lr
                ) * factor
        first = config.held_out + (self.step * self.world + self.rank) * config.batch
        instances = self.instances(first, config.batch)
        self.network.train()
        self.divider.train()
        samples = config.samples
        graph, seen, tours, actions = self.divide(instances, samples, self.generator)
        fields = {
            k: v.to(self.device).repeat_interleave(samples, 0)
            for k, v in stack_fields(self.policy.fields, instances).items()
        }
        model = Model(self.network, self.policy, config.k)
        total = 0.0
        fast = model.on(self.device, bf16=self.bf16)
        for _ in range(2 if config.reunion else 1):
            actions, loss = self.conquer(model, fast, fields, actions, self.generator)
            total += loss
        cost = self.policy.cost(fields, actions).view(len(instances), samples)
        own = torch.zeros((), device=self.device)
        if seen is not None:
            # Where all draws cost nothing there is nothing to learn.
            scale = cost.abs().mean(1, keepdim=True).clamp_min(1e-30)
            gain = (cost - cost.mean(1, keepdim=True)) / scale
            revisits = self._revisits(graph)
            if graph.priority is None:
                rates = tour_rates(self.divider, *seen, graph.near, tours, revisits)
            else:
                rates = order_rates(self.divider, seen[0], tours, revisits)
            own = (rates * gain.float()).mean()
            own.backward()
        if self.world > 1:
            self._average(torch.zeros(1, device=self.device))
        norm = torch.zeros((), device=self.device)
        for module in self.modules().values():
            parameters = [p for p in module.parameters() if p.grad is not None]
            norm = norm + torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        steps = 2.0 * (1 + config.reunion) * config.samples * config.copies * config.n
        width = min(config.part + 2, config.k + 2) if config.k else config.part / 2
        flops = steps * self.network.config.flops(int(width)) * config.batch
        losses = torch.tensor([total + float(own.detach()), float(own.detach())])
        return torch.cat([losses.to(self.device), norm.detach()[None]]), float(width), flops

    @torch.no_grad()
    def validate(self) -> float:
        """How much dearer the held-out instances end than the start of that size, in per cent.

        One solution of each is drawn and conquered twice, greedily; less is better, and below
        zero is better than that start.
        """
        instances = self.instances(0, self.config.held_out)
        self.divider.eval()
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        _, _, _, actions = self.divide(instances, 1, generator)
        fields = stack_fields(self.policy.fields, instances)
        fields = {k: v.to(self.device) for k, v in fields.items()}
        model = Model(self.network, self.policy, self.config.eval_k)
        model = model.on(self.device, bf16=self.bf16)
        for _ in range(2):
            cut = self.policy.cut(fields, actions, self.config.part, generator)
            if cut is not None:
                new = model.conquer(cut)
                better = self.policy.part_cost(fields, cut, new) <= cut.cost
                actions = self.policy.paste(fields, actions, cut, new, better)
        cost = self.policy.cost(fields, actions)
        start = self.side.starts[self.side.first(self.config.n)]
        known = torch.tensor([i.objective(start(i, 0, Budget())) for i in instances])
        known = known.to(cost) * cost.sign()
        gap = float(((cost - known) / known.abs()).mean()) * 100.0
        return gap if math.isfinite(gap) else math.inf
