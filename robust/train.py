"""Training the value network.

``python -m nco.robust.train two-stage-knapsack --labels FILE.npz --out RUN``. One loop on one
device: whole instances are drawn, with some of their first stages and scenarios. The run's
folder holds checkpoints, from which it goes on by itself, and ``metrics.jsonl``.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nco.bq.decoding import find_device
from nco.robust.encoding import Encoder, encoder_of
from nco.robust.labels import described, read_labels
from nco.robust.network import Stream, ValueConfig, ValueNetwork
from nco.robust.own_encoding import ENTRY, ITEM, MOVED
from nco.robust.weights import write_value_weights
from nco.training.checkpoints import (
    checkpoints,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from nco.training.config import (
    check_finite,
    check_least,
    forget_later_rows,
    json_line,
    linear_rate,
    settings,
    toml,
    write_text,
)
from nco.training.processes import stop_on_signals

log = logging.getLogger("nco")

_OWN = ValueConfig(
    streams=(
        Stream(features=ITEM, scenario=MOVED, choice="gate", hidden=(48,), embedding=24),
        Stream(elements="entries", features=ENTRY, scenario=1, embedding=16),
    ),
    head=(32,),
    concave=True,
)

#: Problem -> shapes of its networks by name; the first is the default.
SHAPES: dict[str, dict[str, ValueConfig]] = {
    "two-stage": {
        "concave": _OWN,
        "relu": dataclasses.replace(_OWN, concave=False),
        "paper": ValueConfig.paper(features=ITEM, scenario=MOVED),
    },
    "two-stage-knapsack": {
        "concave": ValueConfig(
            streams=(Stream(features=8, scenario=1, choice="gate", hidden=(64,), embedding=24),),
            head=(24,),
            concave=True,
        ),
        "relu": ValueConfig(
            streams=(Stream(features=8, scenario=1, choice="gate", hidden=(64,), embedding=24),),
            head=(24,),
        ),
        "paper": ValueConfig.paper(features=8, scenario=1),
    },
    "capital-budgeting-loans": {
        "concave": ValueConfig(
            streams=(Stream(features=7, scenario=1, choice="gate", hidden=(48,), embedding=24),),
            head=(24,),
            concave=True,
        ),
        "relu": ValueConfig(
            streams=(Stream(features=7, scenario=1, choice="gate", hidden=(48,), embedding=24),),
            head=(24,),
        ),
        "paper": ValueConfig.paper(features=7, scenario=1),
    },
    "capital-budgeting": {
        "concave": ValueConfig(
            streams=(Stream(features=5, scenario=2, choice="gate", hidden=(48,), embedding=24),),
            head=(24,),
            concave=True,
        ),
        "relu": ValueConfig(
            streams=(Stream(features=5, scenario=2, choice="gate", hidden=(48,), embedding=24),),
            head=(24,),
        ),
        "paper": ValueConfig(
            streams=(
                Stream(features=5, choice="input", hidden=(16,), embedding=4, post=(32, 8),
                       bias=False),
                Stream(features=5, scenario=2, hidden=(16,), embedding=4, post=(32, 8),
                       bias=False),
            ),
            head=(8,),
        ),
    },
    "facility-location": {
        "concave": ValueConfig(
            streams=(Stream(features=14, scenario=5, choice="gate", hidden=(64,), embedding=32),),
            head=(32,),
            concave=True,
        ),
        "relu": ValueConfig(
            streams=(Stream(features=14, scenario=5, choice="gate", hidden=(48,), embedding=24),),
            head=(24,),
        ),
        "paper": ValueConfig.paper(features=14, scenario=5),
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ValueTraining:
    """Settings of a training run.

    Parameters
    ----------
    problem
        The problem's name.
    labels
        The label file.
    shape
        Name of the network's shape, a key of `SHAPES` of the problem; "" for its first.
    held_out
        Share of the instances kept for validation; whole instances, which no step sees.
    steps
        Optimiser steps at which the learning rate reaches zero and training ends.
    groups, pairs
        Instances in a step, all of one size, and how many first stages, and as many
        scenarios, of each.
    lr, warmup, weight_decay, clip
        AdamW: peak rate, steps of linear warm-up, decay, largest gradient norm.
    average
        Decay of the exponential moving average of the weights; 0 for none.
    score
        Weight of the loss of the feasibility score.
    seed
        Everything random is a function of (seed, step).
    device
        "auto", "cpu", "cuda", ...
    eval_every, log_every, checkpoint_every
        Steps between validations and log lines; minutes between checkpoints.

    Raises
    ------
    ValueError
        When a setting makes no sense.
    """

    problem: str
    labels: str = ""
    shape: str = ""
    held_out: float = 0.05
    steps: int = 40_000
    groups: int = 16
    pairs: int = 8
    lr: float = 3e-3
    warmup: int = 500
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    score: float = 0.01
    seed: int = 0
    device: str = "cpu"
    eval_every: int = 2000
    log_every: int = 200
    checkpoint_every: float = 3.0

    def __post_init__(self) -> None:
        """Validate."""
        check_least(self, dict.fromkeys(("steps", "groups", "pairs", "eval_every", "log_every"), 1))
        if not 0.0 < self.held_out < 1.0:
            raise ValueError(f"held_out = {self.held_out} not understood; between 0 and 1.")
        if self.problem not in SHAPES:
            raise ValueError(f"no value network for {self.problem}; known: {', '.join(SHAPES)}.")
        if self.shape and self.shape not in SHAPES[self.problem]:
            known = ", ".join(SHAPES[self.problem])
            raise ValueError(f"shape {self.shape!r} not understood; known: {known}.")
        check_finite(self)

    @property
    def network(self) -> ValueConfig:
        """Shape of the network."""
        shapes = SHAPES[self.problem]
        return shapes[self.shape] if self.shape else next(iter(shapes.values()))

    def rate(self, step: int) -> float:
        """Factor of the peak rate: linear warm-up, then linear decay to zero."""
        return linear_rate(step, self.steps, self.warmup)

    @classmethod
    def read(
        cls, values: Mapping[str, Any], path: str | Path | None, changes: Iterable[str]
    ) -> Self:
        """From a TOML file, given values over it, and ``name=value`` changes over both.

        Raises
        ------
        ValueError
            When the file is no TOML or for another problem, or a name or a value is not
            understood.
        """
        told = settings(path, ())
        if told.get("problem", values["problem"]) != values["problem"]:
            raise ValueError(f"{path}: settings for {told['problem']}, not for {values['problem']}")
        merged = {**told, **values, **settings(None, changes)}
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for name, value in merged.items():
            if name not in fields:
                raise ValueError(f"setting {name!r} not known; known: {', '.join(fields)}.")
            kind = {"int": int, "float": (int, float), "str": str}[str(fields[name].type)]
            if not isinstance(value, kind) or isinstance(value, bool):  # type: ignore[arg-type]
                raise ValueError(f"{name} = {value!r} not understood; give a {fields[name].type}.")
        return cls(**merged)


@dataclass(frozen=True)
class Group:
    """Encoded labels of instances of one size, as tensors.

    Parameters
    ----------
    features, u
        Per stream of the network [g, n, k] and [g, b, n, m] or None.
    x
        First stages [g, a, n].
    values
        Values by scale [g, a, b]; NaN where infeasible.
    scale
        Scales [g].
    """

    features: tuple[Tensor, ...]
    u: tuple[Tensor | None, ...]
    x: Tensor
    values: Tensor
    scale: Tensor

    def some(self, g: Tensor, a: Tensor, b: Tensor) -> Group:
        """Some of the instances [i], and of the first stages [i, j] and scenarios [i, k]."""
        row = g[:, None]
        return Group(
            tuple(f[g] for f in self.features),
            tuple(None if v is None else v[row, b] for v in self.u),
            self.x[row, a],
            self.values[row[:, :, None], a[:, :, None], b[:, None]],
            self.scale[g],
        )


def group_of(encoder: Encoder, network: ValueConfig, arrays: Mapping[str, Any]) -> Group:
    """Encode label arrays of one size."""
    fields = {name: np.asarray(arrays[name], dtype=np.float64) for name in encoder.names}
    features = encoder.features(fields)
    u = encoder.scenario(fields, np.asarray(arrays["xi"], dtype=np.float64))
    scale = encoder.scale(fields)

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    return Group(
        tuple(tensor(features[s.elements]) for s in network.streams),
        tuple(tensor(u[s.elements]) if s.scenario else None for s in network.streams),
        tensor(arrays["x"]),
        tensor(np.asarray(arrays["values"]) / scale[:, None, None]),
        tensor(scale),
    )


def entries_of(xi: Any) -> tuple[int, int]:
    """Smallest and largest number of entries of scenarios [g, b, q], which are filled up by 0."""
    met = (np.asarray(xi) != 0.0).any(1)
    count = met.shape[1] - met[:, ::-1].argmax(1)
    count[~met.any(1)] = 0
    return int(count.min()), int(count.max())


def ranges(
    groups: Mapping[tuple[int, ...], Group], network: ValueConfig, entries: tuple[int, int]
) -> dict[str, Any]:
    """Smallest and largest network inputs; what the weights' card says they were trained on.

    Parameters
    ----------
    groups
        The training instances.
    network
        Its streams see them.
    entries
        Smallest and largest number of entries of a scenario.
    """
    out: dict[str, Any] = {"n": [min(groups)[0], max(groups)[0]], "entries": list(entries)}
    for k, stream in enumerate(network.streams):
        flat = torch.cat([g.features[k].flatten(0, 1) for g in groups.values()])
        out[f"{k}:{stream.elements}"] = [flat.amin(0).tolist(), flat.amax(0).tolist()]
        moved = [v.flatten(0, 2) for g in groups.values() if (v := g.u[k]) is not None]
        if moved:
            low = torch.stack([m.amin(0) for m in moved]).amin(0)
            high = torch.stack([m.amax(0) for m in moved]).amax(0)
            out[f"{k}:{stream.elements} in scenarios"] = [low.tolist(), high.tolist()]
    return out


@torch.no_grad()
def validate(network: ValueNetwork, groups: Mapping[Any, Group]) -> dict[str, float]:
    """Errors on held-out instances.

    Returns
    -------
    ``mae`` after the paper's scaling, by the range of the labels of a size; ``mae_scale``,
    by the instance's scale; ``accuracy`` of the score.
    """
    total = own = right = 0.0
    count = pairs = 0
    for group in groups.values():
        value, score = network(group.features, group.x, group.u)
        feasible = ~group.values.isnan()
        scale = group.scale[:, None, None].expand_as(value)[feasible]
        truth = group.values[feasible] * scale
        error = (value[feasible] * scale - truth).abs()
        spread = float(truth.max() - truth.min()) or 1.0
        total += float(error.sum()) / spread
        own += float((error / scale).sum())
        count += len(error)
        right += float(((score > 0) == feasible).sum())
        pairs += feasible.numel()
    return {"mae": total / count, "mae_scale": own / count, "accuracy": right / pairs}


class ValueTrainer:
    """A training run in a folder.

    Parameters
    ----------
    config
        The settings.
    out
        The run's folder; a checkpoint in it is gone on from.
    on_row
        Called with every row of the metrics, as it is written.

    Raises
    ------
    ValueError
        When labels or checkpoint do not fit the settings.
    """

    def __init__(
        self,
        config: ValueTraining,
        out: str | Path,
        on_row: Callable[[Mapping[str, Any]], object] | None = None,
    ):
        self.config, self.out, self.on_row = config, Path(out), on_row
        self.out.mkdir(parents=True, exist_ok=True)
        self.stop = threading.Event()
        self.device = find_device(config.device)
        arrays, meta = read_labels(config.labels)
        if meta["problem"] != config.problem:
            raise ValueError(f"{config.labels}: labels for {meta['problem']}.")
        self.meta = meta
        self.digest = hashlib.sha256(Path(config.labels).read_bytes()).hexdigest()
        encoder = encoder_of(config.problem)
        counts = np.array([entries_of(group["xi"]) for group in arrays.values()])
        self.entries = (int(counts[:, 0].min()), int(counts[:, 1].max()))
        self.train: dict[tuple[int, ...], Group] = {}
        self.held_out: dict[tuple[int, ...], Group] = {}
        for n, group in sorted(arrays.items()):
            whole = group_of(encoder, config.network, group)
            total = len(whole.x)
            kept = max(1, round(config.held_out * total))
            if kept >= total:
                raise ValueError(f"{config.labels}: too few instances of size {n[0]}.")
            for target, part in ((self.train, slice(0, total - kept)),
                                 (self.held_out, slice(total - kept, total))):  # fmt: skip
                target[n] = Group(
                    tuple(f[part].to(self.device) for f in whole.features),
                    tuple(None if v is None else v[part].to(self.device) for v in whole.u),
                    whole.x[part].to(self.device),
                    whole.values[part].to(self.device),
                    whole.scale[part].to(self.device),
                )
        torch.manual_seed(config.seed)
        self.network = ValueNetwork(config.network).to(self.device)
        self.average = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.step, self.seconds = 0, 0.0
        self.last: dict[str, float] = {}
        found = checkpoints(self.out)
        if found:
            self._resume(found[-1])

    def _resume(self, path: Path) -> None:
        tensors, meta = read_checkpoint(path)
        own = {**dataclasses.asdict(self.config), "labels": self.digest}
        for name, value in own.items():
            if (
                name not in ("device", "log_every", "checkpoint_every")
                and meta["config"][name] != value
            ):
                raise ValueError(f"{path}: made with another {name}; use another folder.")
        cut = len("model.")
        self.network.load_state_dict(
            {k[cut:]: v for k, v in tensors.items() if k[:cut] == "model."}
        )
        self.average = {k[4:]: v for k, v in tensors.items() if k[:4] == "ema."}
        restore_optimizer("adamw", self.optimizer, tensors)
        self.step, self.seconds, self.last = meta["step"], meta["seconds"], meta["last"]
        log.info("resumed %s", path)

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"model.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.average.items()}
        tensors |= optimizer_tensors("adamw", self.optimizer)
        config = {**dataclasses.asdict(self.config), "labels": self.digest}
        meta = {"config": config, "seconds": self.seconds, "last": self.last}
        write_checkpoint(self.out, self.step, tensors, meta)

    def update(self) -> float:
        """One optimiser step; its loss."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        sizes = list(self.train)
        amounts = torch.tensor([float(len(g.x)) for g in self.train.values()])
        group = self.train[sizes[int(torch.multinomial(amounts, 1, generator=generator))]]
        g = torch.randint(len(group.x), (config.groups,), generator=generator)
        a = torch.rand(config.groups, group.x.shape[1], generator=generator).argsort(1)
        b = torch.rand(config.groups, group.values.shape[2], generator=generator).argsort(1)
        batch = group.some(
            *(v.to(self.device) for v in (g, a[:, : config.pairs], b[:, : config.pairs]))
        )
        for part in self.optimizer.param_groups:
            part["lr"] = config.lr * config.rate(self.step)
        value, score = self.network(batch.features, batch.x, batch.u)
        feasible = ~batch.values.isnan()
        # A small knee: near the end the mean absolute error is what counts.
        loss = functional.smooth_l1_loss(value[feasible], batch.values[feasible], beta=0.003)
        if config.score:
            loss = loss + config.score * functional.binary_cross_entropy_with_logits(
                score, feasible.float()
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(config.average, self.step / (self.step + 10.0)) if config.average else 0.0
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                self.average[name].lerp_(tensor, 1.0 - decay)
        return float(loss.detach())

    def averaged(self) -> ValueNetwork:
        """The network with the moving average of the weights."""
        network = ValueNetwork(self.config.network).to(self.device)
        network.load_state_dict(self.average)
        return network

    def run(self, minutes: float = math.inf) -> None:
        """Train until the last step, a stop request or the time is over; then checkpoint.

        Raises
        ------
        ValueError
            When the loss is not finite; the last good checkpoint stays.
        """
        write_text(self.out / "config.toml", toml(dataclasses.asdict(self.config)))
        forget_later_rows(self.out / "metrics.jsonl", self.step)
        begin = saved = mark = time.monotonic()
        losses: list[float] = []
        while self.step < self.config.steps and not self.stop.is_set():
            losses.append(self.update())
            if not math.isfinite(losses[-1]):
                raise ValueError(f"loss is not finite at step {self.step}; lower lr.")
            now = time.monotonic()
            self.seconds, mark = self.seconds + now - mark, now
            if self.step % self.config.log_every == 0:
                self.record({"step": self.step, "loss": sum(losses) / len(losses),
                             "seconds": self.seconds})  # fmt: skip
                losses = []
            if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                self.last = validate(self.averaged(), self.held_out)
                self.record({"step": self.step, **self.last})
                log.info("step %d: %s", self.step,
                         ", ".join(f"{k} {v:.5f}" for k, v in self.last.items()))  # fmt: skip
                mark = time.monotonic()
            if now - begin > minutes * 60:
                break
            if now - saved > self.config.checkpoint_every * 60:
                self.save()
                saved = now
        self.save()

    def record(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``, null for what is not finite."""
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json_line(row))
        if self.on_row is not None:
            self.on_row(row)

    def export(self, folder: str | Path, name: str) -> Path:
        """Write the averaged weights with their card."""
        measured = validate(self.averaged(), self.held_out)
        return write_value_weights(
            folder,
            name,
            self.averaged(),
            self.config.problem,
            ranges=ranges(self.train, self.config.network, self.entries),
            training={
                "labels": self.meta,
                "settings": {**dataclasses.asdict(self.config), "labels": self.digest},
                "steps": self.step,
                "seconds": round(self.seconds),
                "device": self.config.device,
            },
            labels=described(self.meta),
            measured={**measured, "instances": sum(len(g.x) for g in self.held_out.values())},
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the training."""
    parser = argparse.ArgumentParser(prog="python -m nco.robust.train", description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("--labels", required=True, help="label file")
    parser.add_argument("--out", required=True, help="folder of the run; resumed if it has one")
    parser.add_argument("--config", help="TOML file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--export", metavar="FOLDER/NAME", help="write weights when done")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        given = {"problem": options.problem, "labels": options.labels}
        trainer = ValueTrainer(ValueTraining.read(given, options.config, options.set), options.out)
        with stop_on_signals(trainer.stop):
            trainer.run(options.minutes)
            if options.export:
                target = Path(options.export)
                log.info("%s", trainer.export(target.parent, target.name))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
