"""The training loop, for every policy alike.

``python -m nco.training.train CONFIG.toml --out FOLDER --set lr=0.001 --minutes 9`` needs
torch, numpy and safetensors only. Run again with the same folder it goes on where it
stopped; under torchrun every process trains on its own examples.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from nco.bq.decoding import Model, construct, find_device, out_of_memory
from nco.bq.imitation import Examples
from nco.bq.network import Network, NetworkConfig
from nco.bq.policies import load_policy
from nco.bq.weights import bf16_pays, read_model
from nco.training import checkpoints
from nco.training.config import (
    TrainConfig,
    check_minutes,
    forget_later_rows,
    json_line,
    write_text,
)
from nco.training.labels import Labels, read_labels
from nco.training.muon import Muon
from nco.training.processes import end_with_parent, stop_on_signals

log = logging.getLogger("nco")


class TrainingError(RuntimeError):
    """Training cannot go on; the text is one line."""


@dataclass(frozen=True)
class Source:
    """Solved instances on the training device.

    Parameters
    ----------
    train, held_out
        Fields for training and for validation.
    """

    train: Mapping[str, Tensor]
    held_out: Mapping[str, Tensor]


def pick_device(name: str) -> torch.device:
    """As `nco.bq.decoding.find_device`; under torchrun, every process has its own CUDA device.

    Raises
    ------
    TrainingError
        When there is no such device.
    """
    try:
        device = find_device(name)
        own = device.type == "cuda" and device.index is None
        return find_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}") if own else device
    except ValueError as error:
        raise TrainingError(str(error)) from None


def made_with(kind: Callable[..., Any], options: Any, what: str) -> Any:
    """A policy or teacher with options as they come from settings.

    Raises
    ------
    ValueError
        When an option is not known, or of another type than its default.
    """
    known = {k: p.default for k, p in inspect.signature(kind).parameters.items()}
    if not isinstance(options, Mapping):
        raise ValueError(f"{what} = {options!r} not understood; write {what}.NAME=VALUE.")
    for name, value in options.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"setting {what}.{name} is not known; there are: {names}.")
        if type(value) is not type(known[name]):
            wanted = type(known[name]).__name__
            raise ValueError(f"{what}.{name} = {value!r} not understood; expected {wanted}.")
    return kind(**options)


def matmul_peak(device: torch.device, bf16: bool) -> float:
    """Measured rate of a large matrix product in FLOP/s, against which speed is stated."""
    n = 8192 if device.type == "cuda" else 768
    dtype = torch.bfloat16 if bf16 else torch.float32
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(4):
            a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 8.0 * n**3 / (time.perf_counter() - begin))
    return best


def example_loss(
    network: Network,
    policy: Any,
    examples: Examples,
    edges: float,
    encode: Callable[..., Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss to minimise, and the cross-entropy of the expert's next action in it.

    Parameters
    ----------
    network, policy
        The model.
    examples
        A batch.
    edges
        Weight of the mean cross-entropy of every node's neighbours in the label.
    encode
        The network's `encode`, compiled, or None.
    """
    state = examples.state
    filled = state.index >= 0
    encode = encode or network.encode
    pairs = network.embed_pairs(policy.edges(state))
    tokens = encode(policy.features(state), None if state.dense else filled, pairs)
    mask = policy.mask(state)
    known = examples.target.sum(1)
    links = network.links(tokens, pairs) if edges else None
    logits = (network.logits(tokens, pairs) if links is None else links[:, 0]).flatten(1)
    rates = F.log_softmax(logits.masked_fill(~mask, -torch.inf), 1).masked_fill(~mask, 0.0)
    action = -(rates * examples.target).sum() / known.sum().clamp_min(1.0)
    if links is None:
        return action, action
    place = examples.position
    assert place is not None
    # Row 0 is trained above. In every other row, all rows but itself and the current
    # node's (whose links belong to row 0 and to the past) may be a neighbour.
    ahead = place[:, None, :] - place[:, 1:, None]
    link = ((ahead == 1) if examples.directed else (ahead.abs() == 1)).float()
    allowed = (
        filled[:, None, :]
        & ~torch.eye(state.width, dtype=torch.bool, device=place.device)[None, 1:]
    )
    linked = link.sum(2)
    rates = F.log_softmax(links[:, 1:, :, 0].masked_fill(~allowed, -torch.inf), 2)
    rates = rates.masked_fill(~allowed, 0.0)
    wanted = -(rates * link).sum(2) / linked.clamp_min(1.0)
    seen = (linked > 0) & filled[:, 1:]
    return action + edges * (wanted * seen).sum() / seen.sum().clamp_min(1.0), action


def as_shown(tensor: Tensor | None, own: Tensor, name: str) -> Tensor | None:
    """A tensor for a network that is shown more or fewer features of the same problem.

    None of those that are new counts at first.
    """
    if tensor is None or name != "embed.weight" or len(tensor) != len(own):
        return tensor
    return F.pad(tensor, (0, own.shape[1] - tensor.shape[1]))


class Trainer:
    """A training run: model, optimisers, data, and the loop.

    Parameters
    ----------
    config
        Its settings.
    out
        Folder of checkpoints, metrics and weights. What is there already is resumed.
    on_row
        Called with every row of the metrics, as it is written.

    Raises
    ------
    ValueError
        When the folder belongs to a run with other settings or other labels.
    """

    #: What a batch is counted in.
    unit = "suffixes"
    #: Which of `modules` a run that is started from takes over from another one.
    transferred: tuple[str, ...] = ("model",)
    #: What needs less memory.
    smaller = "more micro_batches, a smaller batch, k or network"
    #: Smallest and largest n of the instances, where that is known.
    sizes: tuple[int, int] | None = None

    def __init__(
        self,
        config: TrainConfig,
        out: str | Path,
        on_row: Callable[[Mapping[str, Any]], object] | None = None,
    ):
        self.config = config
        self.on_row = on_row
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.device = pick_device(config.device)
        self.bf16 = config.bf16 and bf16_pays(self.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        module = load_policy(config.problem)
        self.policy = made_with(module.POLICY, config.policy, "policy")
        self.teacher = made_with(module.TEACHER, config.teacher, "teacher")
        if getattr(self.teacher, "regions", 0.0) and not getattr(self.policy, "ways", False):
            raise ValueError("teacher.regions needs policy.ways = true.")
        self.sources, self.data_digest = self._load(config)
        torch.manual_seed(config.seed)
        self._make_networks(config)
        self.optimizers = self._optimizers()
        self.step = 0
        self.seconds = 0.0
        self.stop = threading.Event()
        found = checkpoints.checkpoints(self.out)
        if found:
            self._resume(found[-1])
        elif config.init_from:
            self._transfer(Path(config.init_from))
        self.encode: Callable[..., Tensor] = self.network.encode
        if config.compile:
            self.encode = torch.compile(self.network.encode, dynamic=True)
        self.generator = torch.Generator(self.device)

    def _make_networks(self, config: TrainConfig) -> None:
        shape = NetworkConfig(
            node_dim=self.policy.node_dim,
            markers=self.policy.markers,
            actions_per_node=self.policy.actions_per_node,
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            ff=config.ff,
            norm=config.norm,
            head=config.head,
            edge_dim=self.policy.edge_dim,
            edge_width=config.edge_width,
        )
        self.network = Network(shape).to(self.device)

    def _load(self, config: TrainConfig) -> tuple[list[Source], str]:
        sources, digests, sizes = [], [], []
        for spec in config.data:
            labels: Labels = read_labels(spec)
            if labels.problem != config.problem:
                raise ValueError(f"{spec}: labels of {labels.problem}, not of {config.problem}.")
            if len(labels) <= config.held_out:
                raise ValueError(f"{spec}: {len(labels)} labels, held_out = {config.held_out}.")
            cut = len(labels) - config.held_out

            def move(fields: Mapping[str, Any]) -> dict[str, Tensor]:
                # Wide unsigned integers have no kernels on some devices.
                tensors = {
                    k: torch.as_tensor(v.astype(np.int32) if v.dtype == np.uint16 else v)
                    for k, v in fields.items()
                }
                tensors = {k: v.to(self.device) for k, v in tensors.items()}
                return dict(self.teacher.prepare(tensors))

            try:
                sources.append(Source(move(labels.part(0, cut)), move(labels.part(cut, None))))
            except ValueError as error:
                raise ValueError(f"{spec}: {error}") from None
            digests.append(labels.digest)
            sizes.append(int(labels.source["n"]))
        if not sources:
            raise ValueError("data is empty; name at least one label file.")
        self.sizes = min(sizes), max(sizes)
        return sources, "-".join(d[:16] for d in digests)

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        kinds: dict[str, list[torch.nn.Parameter]] = {
            "qkv": [],
            "matrix": [],
            "other": [],
            "vector": [],
        }
        for name, parameter in self.network.named_parameters():
            if parameter.ndim < 2:
                kinds["vector"].append(parameter)
            elif config.optimizer != "muon" or not name.startswith("blocks."):
                kinds["other"].append(parameter)
            else:
                kinds["qkv" if ".qkv." in name else "matrix"].append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": kinds["other"]},
            {"params": kinds["vector"], "weight_decay": 0.0},
        ]
        out: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                groups,
                lr=config.lr,
                betas=(config.beta1, config.beta2),
                weight_decay=config.weight_decay,
                fused=self.device.type == "cuda",
            )
        }
        if config.optimizer == "muon":
            matrices: list[dict[str, Any]] = [
                {"params": kinds["qkv"], "parts": 3},
                {"params": kinds["matrix"]},
            ]
            out["muon"] = Muon(matrices, lr=config.lr, weight_decay=config.weight_decay)
        return out

    def _resume(self, path: Path) -> None:
        tensors, meta = checkpoints.read_checkpoint(path)
        # Settings that did not exist yet had the effect of their defaults.
        now = self.config.to_dict()
        before = {**type(self.config)(problem=self.config.problem).to_dict(), **meta["config"]}
        free = ("steps", "device", "compile", "log_every", "checkpoint_every", "eval_every", "data")
        changed = [k for k in now if k not in free and before.get(k) != now[k]]
        if changed:
            k = changed[0]
            raise ValueError(
                f"{path}: trained with {k} = {before.get(k)!r}, not {now[k]!r}; "
                "use another folder, or the same settings."
            )
        if meta["data"] != self.data_digest:
            raise ValueError(f"{path}: trained on other labels; use another folder.")
        try:
            for name, module in self.modules().items():
                head = f"{name}."
                own = {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
                module.load_state_dict(own)
            for name, optimizer in self.optimizers.items():
                checkpoints.restore_optimizer(name, optimizer, tensors)
            self.step, self.seconds = meta["step"], meta["seconds"]
        except (KeyError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{path}: does not fit this version: {text}") from None
        if meta.get("world", self.world) != self.world:
            log.warning(
                "%d processes instead of %d: the batches are others from here on",
                self.world, meta["world"],
            )  # fmt: skip
        log.info("resumed %s", path)

    def _transfer(self, path: Path) -> None:
        if path.is_dir():
            found = checkpoints.checkpoints(path)
            tensors, meta = checkpoints.read_checkpoint(found[-1] if found else path)
            problem = meta["config"]["problem"]
        else:
            model = read_model(path)
            tensors = {f"model.{k}": v for k, v in model.network.state_dict().items()}
            problem = model.policy.name
        modules = self.modules()
        for name in self.transferred:
            own = modules[name].state_dict()
            known = {k: tensors.get(f"{name}.{k}") for k in own}
            if problem == self.config.problem:
                known = {k: as_shown(v, own[k], k) for k, v in known.items()}
            fit = {k: v for k, v in known.items() if v is not None and v.shape == own[k].shape}
            if not fit and name == "model":
                raise ValueError(f"{path}: no tensor fits this network.")
            modules[name].load_state_dict({**own, **fit})
            if fit:
                log.info("%s: %d of %d tensors from %s", name, len(fit), len(own), path)

    def _seed(self, step: int, rank: int | None = None) -> int:
        """Seed of a step and a rank, by default this one; there is no other randomness to keep."""
        own = self.rank if rank is None else rank
        return (self.config.seed * 1_000_003 + step) * 4096 + own

    def update(self) -> tuple[Tensor, float, float]:
        """One optimiser step.

        Returns
        -------
        Loss, action loss and gradient norm [3], still on the device; tokens per example;
        and floating-point operations of this process.
        """
        config = self.config
        self.generator.manual_seed(self._seed(self.step))
        host = torch.Generator().manual_seed(self._seed(self.step))
        parts = config.micro_batches
        factor = config.learning_rate(self.step)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = config.lr * factor
        total = torch.zeros(2, device=self.device)
        tokens = flops = 0.0
        share = torch.tensor(config.weights or [1.0] * len(self.sources))
        low = config.k_min or config.k
        for _ in range(parts):
            source = self.sources[int(torch.multinomial(share, 1, generator=host))]
            k = int(torch.randint(low, config.k + 1, (1,), generator=host))
            examples = self.teacher.examples(
                source.train, config.batch // parts, k, config.augment, self.generator, host
            )
            with self._autocast():
                loss, action = example_loss(
                    self.network, self.policy, examples, config.edges, self.encode
                )
            (loss / parts).backward()  # type: ignore[no-untyped-call]
            total += torch.stack([loss.detach(), action.detach()]).float() / parts
            tokens += examples.state.width / parts
            flops += 3.0 * self.network.config.flops(examples.state.width) / parts
        if self.world > 1:
            self._average(total)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return torch.cat([total, norm.detach().float()[None]]), tokens, flops * config.batch

    def _autocast(self) -> Any:
        if not self.bf16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _average(self, total: Tensor) -> None:
        grads = []
        for p in (p for module in self.modules().values() for p in module.parameters()):
            if p.requires_grad:
                # A process may have had nothing to learn from; all of them send as much. Where
                # none had, the optimiser still decays weights a little; one process would not.
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                grads.append(p.grad)
        flat = torch.cat([total, *(g.flatten() for g in grads)])
        dist.all_reduce(flat)
        flat /= self.world
        begin = len(total)
        total.copy_(flat[:begin])
        for g in grads:
            g.copy_(flat[begin : begin + g.numel()].view_as(g))
            begin += g.numel()

    def validate(self) -> float:
        """Mean greedy gap in per cent to the held-out labels of the first source."""
        fields = self.sources[0].held_out
        model = Model(self.network, self.policy, self.config.eval_k)
        actions = construct(model.on(self.device, bf16=self.bf16), fields)
        cost = self.policy.cost(fields, actions)
        expert = self.teacher.cost(fields)
        # Both cost nothing where there is nothing to gain.
        return float(((cost - expert) / expert.abs().clamp_min(1e-9)).mean()) * 100.0

    def modules(self) -> dict[str, torch.nn.Module]:
        """What is trained, by the prefix of its tensors in a checkpoint."""
        return {"model": self.network}

    def shapes(self) -> dict[str, Any]:
        """The shapes of the networks, for the checkpoint."""
        return {"network": self.network.config.to_dict()}

    def save(self) -> None:
        """Write a checkpoint; only rank 0 does."""
        if self.rank:
            return
        tensors = {
            f"{name}.{k}": v
            for name, module in self.modules().items()
            for k, v in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            tensors |= checkpoints.optimizer_tensors(name, optimizer)
        checkpoints.write_checkpoint(
            self.out,
            self.step,
            tensors,
            {
                "config": self.config.to_dict(),
                **self.shapes(),
                "data": self.data_digest,
                **({"sizes": list(self.sizes)} if self.sizes else {}),
                "seconds": self.seconds,
                "world": self.world,
                "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
            },
        )

    def record(self, row: Mapping[str, Any]) -> None:
        """Append a line to ``metrics.jsonl``, null for what is not finite."""
        if self.rank == 0:
            with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json_line(row))
            if self.on_row is not None:
                self.on_row(row)

    def run(self, minutes: float = math.inf) -> None:
        """Train until the last step, a stop request or the time is over; then checkpoint.

        Raises
        ------
        TrainingError
            When the loss is not finite, or memory does not suffice; the last good
            checkpoint stays.
        ValueError
            When the time makes no sense.
        """
        check_minutes(minutes)
        try:
            self._run(minutes)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory in step {self.step}: use {self.smaller}; {self._kept()}"
            ) from None

    def _run(self, minutes: float) -> None:
        config = self.config
        if self.rank == 0:
            forget_later_rows(self.out / "metrics.jsonl", self.step)
        peak = matmul_peak(self.device, self.bf16)
        count = sum(p.numel() for p in self.network.parameters())
        if self.rank == 0:
            write_text(self.out / "config.toml", config.toml())
            log.info(
                "%s: %.2f M parameters on %s x %d, matrix peak %.3g TFLOP/s",
                config.problem, count / 1e6, self.device, self.world, peak / 1e12,
            )  # fmt: skip
            if config.bf16 and not self.bf16:
                log.info("float32: this device has no instructions for bfloat16")
        begin = saved = mark = time.monotonic()
        before = self.seconds
        window: list[Tensor] = []
        tokens = flops = 0.0
        while self.step < config.steps and not (self.world == 1 and self.stop.is_set()):
            values, seen, spent = self.update()
            window.append(values)
            tokens, flops = tokens + seen, flops + spent
            now = time.monotonic()
            self.seconds = before + now - mark
            out_of_time = now - begin > minutes * 60
            if self.device.type == "cpu" or len(window) >= config.log_every or out_of_time:
                self._check_finite(window)
            if len(window) >= config.log_every:
                now = time.monotonic()
                self.seconds = before + now - mark
                self._report(window, tokens / len(window), flops, now - mark, peak)
                before, mark, window, tokens, flops = self.seconds, now, [], 0.0, 0.0
            if self.step % config.eval_every == 0 or self.step == config.steps:
                asked = time.monotonic()
                gap = self.validate()
                self.record({"step": self.step, "gap": gap})
                log.info("step %d: greedy gap %.3f %%", self.step, gap)
                mark += time.monotonic() - asked  # steps only
            if self._agree(out_of_time):
                break
            if now - saved > config.checkpoint_every * 60:
                if window:
                    self._check_finite(window)
                self.save()
                saved = now
        if window:
            self._check_finite(window)
        self.seconds = before + time.monotonic() - mark
        self.save()

    def _agree(self, out_of_time: bool) -> bool:
        """Whether any process is out of time; all of them stop at the same step."""
        if self.world == 1:
            return out_of_time
        flag = torch.tensor([float(out_of_time or self.stop.is_set())], device=self.device)
        dist.all_reduce(flag)
        return bool(flag.item())

    def _check_finite(self, window: Sequence[Tensor]) -> None:
        bad = ~torch.isfinite(torch.stack(list(window))).all(1)
        if bool(bad.any()):
            step = self.step - len(window) + int(bad.int().argmax())
            raise TrainingError(
                f"loss is not finite in the batch of step {step} (seed {self._seed(step)}); "
                f"{self._kept()}"
            )

    def _kept(self) -> str:
        found = checkpoints.checkpoints(self.out)
        return f"the last good checkpoint is {found[-1]}" if found else "nothing was saved yet"

    def _report(
        self, window: Sequence[Tensor], tokens: float, flops: float, seconds: float, peak: float
    ) -> None:
        mean = torch.stack(list(window)).mean(0).tolist()
        rate = self.config.batch * self.world * len(window) / seconds
        speed = flops * self.world / seconds
        self.record(
            {
                "step": self.step,
                "loss": mean[0],
                "action_loss": mean[1],
                "grad_norm": mean[2],
                "lr": self.config.lr * self.config.learning_rate(self.step),
                "seconds": self.seconds,
                f"{self.unit}_per_second": rate,
                "tflops": speed / 1e12,
                "peak_share": speed / peak / self.world,
            }
        )
        log.info(
            "step %d: loss %.4f (action %.4f), grad %.3f, %.3g %s/s of %.0f tokens, "
            "%.3g TFLOP/s (%.0f %% of peak)",
            self.step, mean[0], mean[1], mean[2], rate, self.unit, tokens, speed / 1e12,
            100.0 * speed / peak / self.world,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the loop."""
    parser = argparse.ArgumentParser(prog="python -m nco.training.train", description=__doc__)
    parser.add_argument("config", nargs="?", help="TOML file of settings")
    parser.add_argument("--out", required=True, help="folder of the run; resumed if it has one")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun, whose processes outlive it when killed
        end_with_parent(os.getppid())
    try:
        config = TrainConfig.read(options.config, options.set)
        trainer = Trainer(config, options.out)
        with stop_on_signals(trainer.stop):
            trainer.run(options.minutes)
    except (ValueError, TrainingError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
