"""The settings of a training run: one flat frozen record, read from and written to TOML."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

OPTIMIZERS = ("adamw", "muon")


def settings(path: str | Path | None, changes: Iterable[str]) -> dict[str, Any]:
    """Plain values of a TOML file and of ``name=value`` changes (TOML values, or bare words).

    A change ``table.name=value`` is one inside a table.

    Raises
    ------
    ValueError
        When the file is no TOML, or a change has no value.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
    for change in changes:
        name, sign, text = change.partition("=")
        if not sign:
            raise ValueError(f"{change!r} not understood; write name=value.")
        try:
            value = tomllib.loads(f"x = {text}")["x"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        group, dot, key = name.strip().partition(".")
        if dot:
            values[group] = {**values.get(group, {}), key: value}
        else:
            values[group] = value
    return values


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole: who is killed here leaves the old text or the new one."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file to write, of this call only, that takes the place of ``path`` then."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def json_line(row: Mapping[str, Any]) -> str:
    """A row of metrics as a line of JSON, null for what is not finite."""
    finite = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def forget_later_rows(metrics: Path, step: int) -> None:
    """Drop rows of metrics beyond a step, if there are any, and lines that are none.

    After a kill they may be ahead of the checkpoint: those steps come again.

    Parameters
    ----------
    metrics
        A run's ``metrics.jsonl``, which need not be there.
    step
        The last step that stays.
    """
    if not metrics.is_file():
        return
    rows = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("step", 0) <= step:
            rows.append(line)
    write_text(metrics, "".join(f"{row}\n" for row in rows))


def check_least(config: Any, least: Mapping[str, int]) -> None:
    """Refuse settings below their smallest values, given by name.

    Raises
    ------
    ValueError
        Naming the first of them.
    """
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name} = {getattr(config, name)} not understood; at least {value}.")


def check_finite(config: Any) -> None:
    """Refuse settings that are infinite or no numbers: what is written of a run is JSON.

    Raises
    ------
    ValueError
        Naming the first of them.
    """
    for name, value in vars(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} = {value} not understood; a finite number.")


def check_minutes(minutes: float) -> None:
    """Refuse a time limit that is none.

    Raises
    ------
    ValueError
        When it is negative or not a number.
    """
    if not minutes >= 0.0:
        raise ValueError(f"minutes = {minutes:g} not understood; at least 0.")


def linear_rate(step: int, steps: int, warmup: int) -> float:
    """Factor of a peak rate: linear warm-up, then linear decay to zero at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training run.

    Parameters
    ----------
    problem
        Name of the policy.
    policy
        Options of the policy, such as ``rotate = false``.
    teacher
        Options of the policy's teacher, such as ``order = "sweep"``.
    data
        Label sources, ``PATH`` or ``PATH:RECIPE:SEED`` each.
    weights
        Share of each source in the micro-batches; empty for equal shares.
    held_out
        Instances kept from the end of every source for validation.
    layers, width, heads, ff, norm, head, edge_width
        The network, see `nco.bq.network.NetworkConfig`.
    edges
        Weight of the loss on the label's edges (pointer head only).
    k
        Largest number of candidates in an example; the nearest are kept.
    k_min
        Smallest such number: each micro-batch draws its own between the two, so that one
        network serves any k. 0 stands for ``k``.
    augment
        Turn and flip the plane at random.
    batch, micro_batches
        Examples in an optimiser step per process, and into how many parts of one shape
        each they are split.
    steps
        Optimiser steps at which the learning rate reaches zero and training ends.
    lr, warmup, weight_decay, beta1, beta2, clip
        AdamW: peak rate, steps of linear warm-up, decay, moments; largest gradient norm.
    optimizer
        "adamw", or "muon": Muon for the matrices of the layers, its updates scaled to
        AdamW's size so that both share one rate, and AdamW for the rest.
    init_from
        A run's folder, a checkpoint or a weights file whose matching tensors are the start,
        or "".
    seed
        Everything random is a function of (seed, step, rank).
    bf16, compile
        bfloat16 autocast, on devices with instructions for it; `torch.compile`.
    device
        "auto", "cpu", "cuda", ...
    eval_every, eval_k
        Steps between validations; candidates of the greedy decoding there (0: all).
    log_every, checkpoint_every
        Steps between log lines; minutes between checkpoints.

    Raises
    ------
    ValueError
        When a setting makes no sense.
    """

    #: Smallest k that makes sense.
    least_k: ClassVar[int] = 1

    problem: str
    policy: Mapping[str, Any] = field(default_factory=dict)
    teacher: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    held_out: int = 256
    layers: int = 9
    width: int = 192
    heads: int = 12
    ff: int = 512
    norm: str = "none"
    head: str = "linear"
    edge_width: int = 16
    edges: float = 0.0
    k: int = 100
    k_min: int = 0
    augment: bool = True
    batch: int = 1024
    micro_batches: int = 1
    steps: int = 100_000
    lr: float = 7.5e-4
    warmup: int = 500
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    optimizer: str = "adamw"
    init_from: str = ""
    seed: int = 0
    bf16: bool = True
    compile: bool = False
    device: str = "auto"
    eval_every: int = 2000
    eval_k: int = 0
    log_every: int = 50
    checkpoint_every: float = 3.0

    def __post_init__(self) -> None:
        """Validate."""
        check_least(self, {"batch": 1, "micro_batches": 1, "steps": 1, "log_every": 1,
                           "eval_every": 1, "held_out": 1, "warmup": 0, "eval_k": 0})  # fmt: skip
        if self.batch % self.micro_batches:
            raise ValueError(f"batch {self.batch} does not split into {self.micro_batches} parts.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer {self.optimizer!r} not understood; {' or '.join(OPTIMIZERS)}."
            )
        if self.edges and self.head != "pointer":
            raise ValueError('edges > 0 needs head = "pointer".')
        if self.weights and len(self.weights) != len(self.data):
            raise ValueError(f"{len(self.weights)} weights for {len(self.data)} label sources.")
        if not 0 <= self.k_min <= self.k or self.k < self.least_k:
            raise ValueError(
                f"k_min = {self.k_min} and k = {self.k} not understood; k at least "
                f"{self.least_k}, k_min between 0 and k."
            )
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed = {self.seed} not understood; between 0 and 2^31 - 1.")
        if not (math.isfinite(self.lr) and self.lr > 0.0 and self.clip > 0.0):
            raise ValueError(f"lr = {self.lr}, clip = {self.clip} not understood; above 0.")
        if any(not 0.0 <= w < math.inf for w in self.weights) or sum(self.weights or (1,)) <= 0:
            raise ValueError(f"weights = {[*self.weights]} not understood; shares at least 0.")
        check_finite(self)

    def learning_rate(self, step: int) -> float:
        """Factor of the peak rates: linear warm-up, then linear decay to zero."""
        return linear_rate(step, self.steps, self.warmup)

    @classmethod
    def read(cls, path: str | Path | None = None, changes: Iterable[str] = ()) -> Self:
        """From a TOML file and ``name=value`` changes (TOML values, or bare words).

        Raises
        ------
        ValueError
            When the file is no TOML, or a name or a value's type is not known.
        """
        return cls.of(settings(path, changes))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From plain values.

        Raises
        ------
        ValueError
            When a name or a value's type is not known.
        """
        known = {f.name: f for f in dataclasses.fields(cls)}
        out: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"setting {name!r} is not known.")
            if name in ("data", "weights"):
                kind = str if name == "data" else float
                given = value if isinstance(value, (list, tuple)) else (value,)
                value = tuple(_typed(name, v, kind) for v in given)
            else:
                value = _typed(name, value, str if name == "problem" else type(known[name].default))
            out[name] = value
        if "problem" not in out:
            raise ValueError("problem is not set.")
        return cls(**out)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, lists for tuples."""
        out = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}

    def toml(self) -> str:
        """The settings as TOML; `read` gives them back."""
        return toml(self.to_dict())


def _typed(name: str, value: Any, kind: type) -> Any:
    """A setting's value, whole numbers as floats where those are wanted."""
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            value = float(value)
    if kind in (bool, int, float, str) and type(value) is not kind:
        text = repr(value)[:40]
        raise ValueError(f"{name} = {text} not understood; expected {kind.__name__}.")
    return value


def toml(values: Mapping[str, Any]) -> str:
    """Plain values as TOML, mappings as tables; `settings` gives them back."""
    lines, tables = [], []
    for name, value in values.items():
        if isinstance(value, Mapping):
            tables += ["", f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in value.items())]
        else:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines + tables) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(_toml(v) for v in value)}]"
    return repr(value)
