"""Self-improvement of a conqueror on parts of large instances, without labels.

F. Luo et al., Self-improved learning for scalable neural combinatorial optimization (2024):
whole solutions of large instances begin as cheap starts; the conqueror improves their parts,
learns by imitation from parts of what came of it, improves them further, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nco.bq.decoding import Model, improve
from nco.bq.regions import with_regions
from nco.bq.solver import stack_fields
from nco.bq.state import Fields
from nco.instances.core import Budget
from nco.instances.registry import problems
from nco.training.config import TrainConfig, check_least
from nco.training.experts import expert_for
from nco.training.labels import draw, find_recipe, instances_of
from nco.training.train import Source, Trainer
from nco.udc.dividers import load_divider


@dataclass(frozen=True, kw_only=True)
class SelfConfig(TrainConfig):
    """Settings of a training run; `TrainConfig`'s, and these.

    Parameters
    ----------
    recipe
        Recipe of the instances, "" for the problem's default; see `nco.training.labels`.
    n, pool
        Size and number of the instances whose solutions are improved.
    every, rounds
        Optimiser steps between improvements of the pool, and rounds of each.
    part
        Largest number of nodes in a part that is improved.
    regions
        Share of the rounds whose parts are regions; -1 for what suits the policy.
    held_out
        Instances for validation.

    Raises
    ------
    ValueError
        When a setting makes no sense.
    """

    recipe: str = ""
    n: int = 1000
    pool: int = 64
    every: int = 100
    rounds: int = 20
    part: int = 100
    regions: float = -1.0
    held_out: int = 8

    def __post_init__(self) -> None:
        """Validate."""
        super().__post_init__()
        check_least(self, {"n": 8, "pool": 1, "every": 1, "rounds": 1, "part": 4})
        if not 0.0 <= self.regions <= 1.0 and self.regions != -1.0:
            raise ValueError(f"regions = {self.regions} not understood; between 0 and 1, or -1.")


class Pool(nn.Module):
    """Recorded actions of the solutions so far [pool, steps], kept in checkpoints.

    Parameters
    ----------
    actions
        Of the starts.
    """

    actions: Tensor

    def __init__(self, actions: Tensor):
        super().__init__()
        self.register_buffer("actions", actions)


class SelfTrainer(Trainer):
    """A training run on a pool of solutions that its own policy improves; the loop is `Trainer`'s.

    Parameters
    ----------
    config
        Its settings.
    out, on_row
        As for `Trainer`.

    Raises
    ------
    ValueError
        Also when the problem has no divider, or prizes show at visits only.
    """

    config: SelfConfig
    smaller = "more micro_batches, a smaller batch, k, n, pool or network"

    def _load(self, config: TrainConfig) -> tuple[list[Source], str]:
        assert isinstance(config, SelfConfig)
        side = load_divider(config.problem)
        if side is None:
            raise ValueError(f"there is no divider for {config.problem}.")
        if self.policy.online:
            raise ValueError(f"{config.problem} shows prizes at visits: train a plan's policy.")
        if config.data:
            raise ValueError("data is for labels; self-improvement needs none.")
        asked = config.recipe or expert_for(config.problem)[1].recipe
        recipe = find_recipe(config.problem, asked)
        count = config.pool + config.held_out
        arrays = draw(recipe, config.seed, 0, count, config.n)
        made = instances_of(problems.load(config.problem), arrays)
        start = side.starts[side.first(config.n)]
        fields = stack_fields(self.policy.fields, made)
        rows = []
        for i, instance in enumerate(made):
            solution = start(instance, config.seed + i, Budget())
            if solution is None:
                raise ValueError(f"{recipe}: instance {i} has no start.")
            rows.append(self.policy.actions({k: v[i : i + 1] for k, v in fields.items()}, solution))
        actions = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        # Solutions may grow to all nodes.
        room = max(config.n - actions.shape[1], 0)
        actions = nn.functional.pad(actions, (0, room), value=-1).to(self.device)
        given = {k: torch.as_tensor(v) for k, v in arrays.items()}
        self.given = {k: v.to(self.device) for k, v in {**given, **fields}.items()}
        self.sizes = config.n, config.n
        self.pool = Pool(actions[: config.pool])
        self.held_out = actions[config.pool :]
        return [self._source()], f"{recipe}:{config.seed}:{config.n}:{count}"

    def _part(self, part: slice) -> dict[str, Tensor]:
        return {k: v[part] for k, v in self.given.items()}

    @staticmethod
    def _short(actions: Tensor) -> Tensor:
        """Without the columns that no solution fills."""
        return actions[:, : int((actions >= 0).sum(1).max())]

    def _source(self) -> Source:
        """The pool as labels."""
        some = self._part(slice(self.config.pool))
        host = {k: v.cpu() for k, v in some.items()}
        labels = self.teacher.labels(host, self._short(self.pool.actions).cpu())
        fields = {**some, **{k: v.to(self.device) for k, v in labels.items()}}
        return Source(dict(self.teacher.prepare(fields)), {})

    def _resume(self, path: Any) -> None:
        super()._resume(path)
        self.sources = [self._source()]

    def modules(self) -> dict[str, nn.Module]:
        """The policy and the pool."""
        return {"model": self.network, "pool": self.pool}

    def _improved(self, fields: Fields, actions: Tensor, seed: int) -> Tensor:
        config = self.config
        model = Model(self.network, self.policy, config.eval_k)
        model = with_regions(model.on(self.device, bf16=self.bf16), config.regions)
        low = min(10, config.part)
        return improve(
            model, fields, self._short(actions), sizes=(low, config.part),
            rounds=config.rounds, seed=seed,
        )  # fmt: skip

    def renew(self) -> None:
        """Improve the pool's solutions by the policy as it is; what is not better stays."""
        fields = {k: self.given[k][: self.config.pool] for k in self.policy.fields}
        # All processes improve one pool, which only the first one saves.
        new = self._improved(fields, self.pool.actions, self._seed(self.step, rank=0))
        room = self.pool.actions.shape[1] - new.shape[1]
        self.pool.actions.copy_(nn.functional.pad(new, (0, room), value=-1))
        self.sources = [self._source()]

    def update(self) -> tuple[Tensor, float, float]:
        """As `Trainer.update`, from a pool that is improved every so many steps."""
        if self.step % self.config.every == 0:
            self.renew()
        return super().update()

    def validate(self) -> float:
        """Change of the held-out starts' cost by as many rounds, in per cent; less is better."""
        fields = {k: self.given[k][self.config.pool :] for k in self.policy.fields}
        before = self.policy.cost(fields, self._short(self.held_out))
        after = self.policy.cost(fields, self._improved(fields, self.held_out, self.config.seed))
        return float(((after - before) / before.abs()).mean()) * 100.0
