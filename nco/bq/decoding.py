"""Decoding: from instances to solutions, for every policy alike.

Greedy decoding is a beam of width one. All instances of a batch take their steps
together, and nothing is done per node or per instance in Python. `improve` takes parts
out of solutions and decides them again, for as long as one likes.
"""

from __future__ import annotations

import copy
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nco.bq.network import Network
from nco.bq.state import Cut, Fields, Policy, Solutions, State, packed

log = logging.getLogger("nco")

#: Tokens per chunk on a CPU: larger batches leave the caches, and the kernel hands their
#: memory out anew for every layer.
CPU_TOKENS = 4_096
#: Pairs of tokens per chunk on a CPU, where the network looks at pairs.
CPU_PAIRS = 1_048_576
#: Where fewer than this share of a batch are left, those that are finished leave it.
GOING = 0.85
#: Decisions at most that a look of a network that was taught links is worth on a CPU, and how
#: likely those after the first one must be. With four and 0.8 greedy tours of 100 nodes are as
#: long as with one, and take half as many looks; eight are worth little more.
LEAP, SURE = 4, 0.8
#: Rows of the first step that is timed, beside the markers.
FEW = 8
#: Share of the free GPU memory, and of the free main memory, that a chunk may take.
GPU_SHARE = CPU_SHARE = 0.5
#: Where control groups of versions 2 and 1 say their limit, use and file cache.
CGROUPS = (
    ("sys/fs/cgroup/memory.", "max", "current", "inactive_file"),
    ("sys/fs/cgroup/memory/memory.", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
)
#: What errors say where memory runs out, but not of an "illegal memory access".
NO_MEMORY = re.compile("out of memory|allocate memory|not enough memory|insufficient memory")


class Stopped(Exception):
    """Decoding was asked to stop before it had whole solutions.

    Parameters
    ----------
    parts
        New parts [m, steps] of the first m that were cut out, or None.
    """

    def __init__(self, parts: Tensor | None = None):
        super().__init__("asked to stop.")
        self.parts = parts


def never() -> bool:
    """The stop callback that never stops."""
    return False


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises
    ------
    ValueError
        When CUDA is asked for but absent, or the name is not that of a device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name}: no CUDA device here; use device cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # what has a name need not be there
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ValueError(
            f"device {name!r} not understood, or not there; use auto, cpu or cuda"
        ) from None
    return device


class Chunks:
    """How much of the size that chunks should have fits into the memory.

    Where it runs out once, chunks stay smaller from then on, and the log says so once.
    """

    def __init__(self) -> None:
        self.share = 1.0

    def halve(self, size: int, tried: int) -> int:
        """The next size after one, of which so many were tried, ran out of memory."""
        half = tried // 2
        level = logging.WARNING if self.share == 1.0 else logging.DEBUG
        log.log(level, "out of memory: going on with %d instances at a time, or fewer", half)
        self.share *= half / size
        return half


class Failures:
    """Whether a network gave what is no number where it decides; the log says so once.

    It is asked after decoding, so that no step waits for the device.
    """

    def __init__(self) -> None:
        self._seen: Tensor | None = None
        self._told = False

    def look(self, logits: Tensor, mask: Tensor) -> None:
        """Look at one step's logits and which of them are allowed, both [b, actions]."""
        if not self._told:
            wrong = (mask & ~logits.isfinite()).any()
            self._seen = wrong if self._seen is None else self._seen | wrong

    def tell(self) -> None:
        """Say what was seen."""
        if self._seen is not None and bool(self._seen):
            log.warning("the network gave infinite or no numbers; what it decided is arbitrary")
            self._told = True
        self._seen = None


@dataclass(frozen=True)
class Links:
    """What one look says of decisions after the next one, of greedy ones only.

    Parameters
    ----------
    rows, index
        Rows of the state that were looked at, and their nodes [b, m].
    score
        Logits [b, m, m] of what is next, row by row.
    """

    rows: Tensor
    index: Tensor
    score: Tensor


@dataclass(frozen=True)
class Model:
    """A policy with its network.

    Parameters
    ----------
    network, policy
        The two halves.
    k
        Candidates looked at in every step, the nearest first; 0 for all.
    card
        What is known of its origin.
    chunks
        What is known of the memory that it takes.
    compiled
        The network compiled for the one shape that steps with k candidates have, or None.
    leap
        Decisions taken of one look at most, see `leap`.

    Raises
    ------
    ValueError
        When the network is not made for what the policy shows, or for leaps.
    """

    network: Network
    policy: Policy
    k: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)
    chunks: Chunks = field(default_factory=Chunks, compare=False, repr=False)
    failures: Failures = field(default_factory=Failures, compare=False, repr=False)
    compiled: Callable[..., Tensor] | None = field(default=None, compare=False, repr=False)
    leap: int = 1

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("node_dim", "markers", "actions_per_node", "edge_dim"):
            has, shown = getattr(self.network.config, name), getattr(self.policy, name)
            if has != shown:
                raise ValueError(
                    f"the network has {name} {has}, the {self.policy.name} policy {shown}"
                )
        if self.leap > 1 and self.network.config.head != "pointer":
            raise ValueError(f"leap = {self.leap} needs a pointer head.")

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.embed.weight.device

    @property
    def linked(self) -> bool:
        """Whether one look says more than the next decision.

        The card must say that links of all nodes were taught, and there must be but one kind
        of them; online policies see with every step what was not known before.
        """
        # Of a run's folder and of a weights file.
        config = self.card.get("config") or self.card.get("training", {}).get("config", {})
        single = self.policy.actions_per_node == 1 and not self.policy.online
        return single and config.get("edges", 0.0) > 0.0

    def on(
        self, device: torch.device | str, *, bf16: bool = False, compiled: bool = False
    ) -> Model:
        """A copy for inference on a device.

        Parameters
        ----------
        device
            Where it computes.
        bf16
            Whether its layers compute in bfloat16.
        compiled
            Whether `torch.compile` makes the network anew for each of the few shapes that steps
            with k candidates have; CUDA replays it as a graph, without a launch per kernel.
        """
        network = copy.deepcopy(self.network).to(device).eval().requires_grad_(False)
        network.fold()
        if bf16:
            for name, module in network.named_modules():
                if isinstance(module, torch.nn.Linear) and name != "embed":
                    module.bfloat16()
        run = None
        if compiled:
            mode = "reduce-overhead" if network.embed.weight.is_cuda else "default"
            run = torch.compile(network, dynamic=False, mode=mode)
        return replace(self, network=network, chunks=Chunks(), failures=Failures(), compiled=run)

    def rates(self, state: State) -> tuple[Tensor | None, Tensor]:
        """Log-probabilities of the actions.

        Parameters
        ----------
        state
            Where to decide.

        Returns
        -------
        The rows looked at [b, m], or None for all, and the log-probabilities
        [b, m * actions_per_node]; a sub-instance that is finished has zero for its first
        action.
        """
        return self.look(state)[:2]

    def looks_at_all(self, state: State) -> bool:
        """Whether no row of the state is left aside."""
        return not 0 < self.k < state.width - self.policy.markers

    def look(self, state: State, links: bool = False) -> tuple[Tensor | None, Tensor, Links | None]:
        """What `rates` gives, and what there is to leap with if ``links`` says so."""
        rows, view = None, state
        network: Callable[..., Tensor] = self.network
        if not self.looks_at_all(state):
            rows = nearest_rows(self.policy, state, self.k)
            view = state.rows(rows)
            network = network if self.compiled is None else self.compiled
        filled = None if view.dense else view.index >= 0
        seen = self.policy.features(view), filled, self.policy.edges(view)
        known: Links | None = None
        if links:
            score = self.network(*seen, True)
            every = torch.arange(view.width, device=view.index.device).expand_as(view.index)
            known = Links(every if rows is None else rows, view.index, score[..., 0])
            logits = score[:, 0].flatten(1)
        else:
            logits = network(*seen)
        mask = self.policy.mask(view)
        if not torch.is_grad_enabled():
            # Where a network fails, any decision is as good; none that is not allowed is taken.
            self.failures.look(logits, mask)
            logits = logits.nan_to_num(-1e9, 1e9, -1e9)
        rates = logits.masked_fill(~mask, -torch.inf)
        if not view.dense:
            finished = torch.isneginf(rates).all(1)
            rates[:, 0].masked_fill_(finished, 0.0)
        return rows, rates.log_softmax(1), known

    @property
    def once(self) -> bool:
        """As `Conqueror.once`, where the policy says so."""
        return bool(getattr(self.policy, "once", False))

    def conquer(self, cut: Cut, stop: Callable[[], bool] = never, beam: int = 1) -> Tensor:
        """New parts [parts, steps] for those cut out, decoded greedily or by a beam."""
        state = cut.state
        done: list[Tensor] = []

        def run(part: slice) -> Tensor:
            done.append(decode(self, state.take(part), beam=beam, stop=stop))
            return done[-1]

        size = chunk_size(self, state.width, 2 * beam if beam > 1 else 1)
        try:
            return in_chunks(state.batch, size, run, self.chunks)
        except Stopped:
            raise Stopped(stacked(done) if done else None) from None


class Conqueror(Protocol):
    """What decides parts of solutions again; a `Model` is one."""

    @property
    def policy(self) -> Solutions:
        """Cuts parts out, measures them and puts them back."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it wants the solutions."""
        ...

    @property
    def once(self) -> bool:
        """Whether parts that come again are left out: they would be decided as before."""
        ...

    def conquer(self, cut: Cut, stop: Callable[[], bool] = never, beam: int = 1) -> Tensor:
        """New parts [parts, steps] for those cut out, by a beam of that width if it has any.

        Raises
        ------
        Stopped
            When ``stop`` says so; with the parts that are whole by then.
        """
        ...


def nearest_rows(policy: Policy, state: State, k: int) -> Tensor:
    """Rows [b, markers + k] of the markers and the k best candidates of each state."""
    score = policy.nearness(state)[:, policy.markers :]
    if not state.dense:
        score = score.masked_fill(state.index[:, policy.markers :] < 0, -torch.inf)
    near = score.topk(k, dim=1, sorted=False).indices + policy.markers
    fixed = torch.arange(policy.markers, device=near.device).expand(len(near), -1)
    return torch.cat([fixed, near], 1)


def finished(policy: Policy, state: State) -> bool:
    """Whether nothing is left to decide in the whole batch."""
    if state.dense:
        return state.width <= policy.markers
    return not bool(policy.mask(state).any())


def apply(
    policy: Policy, state: State, rows: Tensor | None, action: Tensor
) -> tuple[State, Tensor, Tensor]:
    """Take actions [b] on the rows looked at; states, recorded actions and prices."""
    kinds = policy.actions_per_node
    row, kind = action // kinds, action % kinds
    if rows is not None:
        row = rows.gather(1, row[:, None])[:, 0]
    action = row * kinds + kind
    record = state.index.gather(1, row[:, None])[:, 0] * kinds + kind
    price = policy.price(state, action)
    after = policy.step(state, action)
    if not state.dense:
        going = policy.mask(state).any(1)
        after = after.where(going, state)
        record = record.masked_fill(~going, -1)
        price = price.masked_fill(~going, 0.0)
    return after, record, price


def leap(policy: Policy, state: State, links: Links, most: int) -> tuple[State, list[Tensor]]:
    """Take more decisions of the same look, for as long as they are sure.

    A look shows where the solution goes on from every node, not from the current one alone,
    as the network was taught that of all nodes. What was looked at a few steps ago is not
    what there is now; so only a few steps are taken, and only those that hardly have an
    alternative.

    Parameters
    ----------
    policy
        Of one action per node.
    state
        After the decision that the look was for; not dense.
    links
        What it showed.
    most
        Decisions at most.

    Returns
    -------
    The states, and for each step recorded actions [b], -1 where none was taken.
    """
    b, markers = state.batch, policy.markers
    every = torch.arange(b, device=state.index.device)
    going = torch.ones_like(every, dtype=torch.bool)
    records: list[Tensor] = []
    for _ in range(most):
        here = links.index[:, markers:] == state.index[:, :1]
        allowed = policy.mask(state).gather(1, links.rows)
        row = here.to(torch.int8).argmax(1) + markers
        # That the destination is next must be unlikely, too, while others are left.
        asked = allowed.clone()
        asked[:, 1:markers] = True
        chance = links.score[every, row].masked_fill(~asked, -torch.inf).softmax(1)
        top, best = chance.masked_fill(~allowed, 0.0).max(1)
        going = going & here.any(1) & (top > SURE)
        if not bool(going.any()):
            break
        action = links.rows.gather(1, best[:, None])[:, 0]
        after, record, _ = apply(policy, state, None, action)
        state = after.where(going, state)
        records.append(record.masked_fill(~going, -1))
    return state, records


@torch.inference_mode()
def decode(
    model: Model,
    state: State,
    *,
    beam: int = 1,
    sample: torch.Generator | None = None,
    first: int = 0,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Recorded actions [b, steps] of the likeliest, or of sampled, decisions.

    Parameters
    ----------
    model
        The policy; only greedy decisions leap, as partial solutions of a beam are compared
        after equally many.
    state
        Where to start.
    beam
        Partial solutions kept per instance. Of two that leave the same state, only the
        cheaper one is kept.
    sample
        Draw actions instead of taking the likeliest (beam 1 only).
    first
        How many likelier ones the first action leaves aside.
    stop
        Asked before every step.

    Raises
    ------
    Stopped
        When ``stop`` says so.
    """
    policy, b = model.policy, state.batch
    score = torch.zeros(b, 1, device=state.index.device)
    price = torch.zeros(b, 1, device=state.index.device)
    records: list[Tensor] = []
    parents: list[Tensor] = []
    line = torch.arange(b, device=state.index.device)
    leaps = model.leap > 1 and beam == 1 and sample is None
    if leaps and state.dense:
        # Sub-instances go at paces of their own.
        loose = getattr(policy, "loose", None)
        state = replace(state, dense=False) if loose is None else loose(state)
    looks = 0
    while not finished(policy, state):
        if stop():
            raise Stopped
        if not state.dense and (looks % 8 == 0 or (leaps and model.looks_at_all(state))):
            state = state.compact(policy.markers)
            if beam == 1 and sample is None and model.compiled is None:
                # Those that are finished leave; compiled networks want batches of one size.
                going = policy.mask(state).any(1)
                if int(going.sum()) < GOING * state.batch:
                    which = going.nonzero()[:, 0]
                    state, line = state.take(which), line[which]
        rows, rates, links = model.look(state, leaps)
        if first and not looks:
            rates = only(rates, first)
        looks += 1
        if beam == 1:
            if sample is not None:
                noise = torch.empty_like(rates).exponential_(generator=sample)
                rates = rates - noise.log()
            state, record, _ = apply(policy, state, rows, rates.argmax(1))
            more: list[Tensor] = []
            if links is not None:
                state, more = leap(policy, state, links, model.leap - 1)
            block = torch.stack([record, *more], 1)
            if len(line) < b:
                block = block.new_full((b, block.shape[1]), -1).index_put_((line,), block)
            records.append(block)
            continue
        # Twice the beam is stepped, so that merging equal states leaves enough.
        width, actions = score.shape[1], rates.shape[1]
        total = (score.flatten()[:, None] + rates).view(b, width * actions)
        score, best = total.topk(min(2 * beam, width * actions), dim=1)
        # Where fewer actions are allowed, the best one again: forbidden ones lead nowhere.
        best = torch.where(torch.isneginf(score), best[:, :1], best)
        parent = best // actions
        which = (torch.arange(b, device=parent.device)[:, None] * width + parent).flatten()
        state, record, cost = apply(
            policy,
            state.take(which),
            None if rows is None else rows[which],
            (best % actions).flatten(),
        )
        price = price.gather(1, parent) + cost.view_as(parent)
        keep, score = merge(state.key(policy.markers).view_as(parent), price, score, beam)
        which = (torch.arange(b, device=keep.device)[:, None] * best.shape[1] + keep).flatten()
        state, price = state.take(which), price.gather(1, keep)
        parents.append(parent.gather(1, keep))
        records.append(record.view_as(parent).gather(1, keep))
    model.failures.tell()
    if not records:
        return state.index[:, :0]
    if beam == 1:
        steps = torch.cat(records, 1)
        return packed(steps) if leaps else steps
    price = price.masked_fill(torch.isneginf(score), torch.inf)
    line = price.argmin(1, keepdim=True)
    out = []
    for record, parent in zip(reversed(records), reversed(parents), strict=True):
        out.append(record.gather(1, line)[:, 0])
        line = parent.gather(1, line)
    return torch.stack(out[::-1], 1)


@torch.inference_mode()
def seconds_to_decode(model: Model, state: State, most: float = math.inf) -> float:
    """About how long `decode` takes greedily, by the time of single steps; less if it leaps.

    Parameters
    ----------
    model, state
        As for `decode`.
    most
        As soon as it is certain to take longer, no more steps are timed: what is returned is
        too little then, but above this.
    """
    total = before = 0.0
    done, width = 0, min(state.width, model.policy.markers + FEW)
    while True:
        rows = torch.arange(width, device=state.index.device).expand(state.batch, -1)
        took = []
        # The first step of a width takes longer: partly for ever, partly as nothing is warm yet.
        for _ in range(2):
            begin = time.perf_counter()
            model.rates(state.rows(rows))[1].sum().item()  # which waits for the device
            took.append(time.perf_counter() - begin)
        now = sum(took) / len(took)
        total += (width - done) * (before + now if done else 2.0 * now) / 2.0
        # That all steps left take too long is believed if both do.
        rest = (state.width - width) * min(took)
        if not rest or total + rest > most:
            return total + rest
        before, done, width = now, width, min(2 * width, state.width)


def only(rates: Tensor, rank: int) -> Tensor:
    """Log-probabilities [b, m] of the action of that rank alone, or of the last one allowed."""
    top = rates.topk(min(rank + 1, rates.shape[1]), dim=1)
    allowed = (~torch.isneginf(top.values)).sum(1, keepdim=True)
    at = (allowed - 1).clamp_min(0)
    out = torch.full_like(rates, -torch.inf)
    return out.scatter_(1, top.indices.gather(1, at), top.values.gather(1, at))


def merge(key: Tensor, price: Tensor, score: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Which partial solutions to keep, and their scores.

    Parameters
    ----------
    key, price, score
        Hash of the state reached, cost so far and log-probability [b, m].
    beam
        Number to keep.

    Returns
    -------
    Indices and scores [b, min(beam, m)]; those beyond the number of different states have
    score ``-inf``.
    """
    m = key.shape[1]
    # What was reached by a forbidden action must not stand for anything.
    price = price.masked_fill(torch.isneginf(score), torch.inf)
    same = key[:, :, None] == key[:, None, :]
    order = torch.arange(m, device=key.device)
    cheaper = price[:, None, :] < price[:, :, None]
    tie = (price[:, None, :] == price[:, :, None]) & (order[None, :] < order[:, None])
    beaten = (same & (cheaper | tie)).any(2)
    # A merged state is as likely as its likeliest history.
    score = score[:, None, :].expand(-1, m, -1).masked_fill(~same, -torch.inf).amax(2)
    score = score.masked_fill(beaten, -torch.inf)
    score, keep = score.topk(min(beam, m), dim=1)
    return keep, score


def chunk_size(model: Model, width: int, copies: int = 1) -> int:
    """Instances of ``width`` rows, ``copies`` states each, that are decoded at a time.

    Raises
    ------
    MemoryError
        When one alone surely needs more than the free main memory. Linux grants more than
        there is, and kills the process that uses it.
    """
    config = model.network.config
    looked_at = min(width, model.k + model.policy.markers) if model.k else width
    pairs = looked_at**2 if config.edge_dim else 0
    size = model.network.key.weight.element_size() if config.head == "pointer" else 4
    token = size * (8 * config.width + 2 * config.ff)
    row = 8 * 12
    pair = size * (2 * config.edge_width + 2 * config.heads) + 4 * (2 * config.edge_dim + 4)
    matrix = 4 * width**2 if "matrix" in model.policy.fields else 0
    links = 8 * looked_at**2 if model.leap > 1 else 0
    one = copies * (looked_at * token + width * row + pairs * pair + links) + matrix
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        # What the allocator keeps for itself is free, too.
        free += torch.cuda.memory_reserved(model.device)
        free -= torch.cuda.memory_allocated(model.device)
        return max(1, int(GPU_SHARE * free / one))
    most = CPU_TOKENS // (looked_at * copies)
    if pairs:
        most = min(most, CPU_PAIRS // (pairs * copies))
    left = free_memory()
    if one > left:
        raise MemoryError(
            f"{width} nodes need {one / 2**30:.3g} GiB of memory, and {left / 2**30:.3g} GiB are "
            "free; use a smaller k, beam or leap"
        )
    return max(1, min(most, int(CPU_SHARE * left / one)) if math.isfinite(left) else most)


def free_memory(root: str = "/") -> float:
    """Bytes of main memory that are still to be had, or infinity where nobody says.

    Parameters
    ----------
    root
        Where the kernel's files are: what it says of the machine, and of the control group,
        whose file cache makes room when it must.
    """

    def read(name: str) -> dict[str, str]:
        try:
            lines = (Path(root) / name).read_text(encoding="ascii").splitlines()
        except OSError:
            return {}
        return {words[0].rstrip(":"): words[-1 if len(words) < 3 else 1]
                for words in map(str.split, lines) if words}  # fmt: skip

    known = [1024.0 * int(v) for k, v in read("proc/meminfo").items() if k == "MemAvailable"]
    for group, limit, usage, cache in CGROUPS:
        most, now = (next(iter(read(group + name)), "") for name in (limit, usage))
        if most.isdecimal() and now.isdecimal():
            cached = int(read(f"{group}stat").get(cache, 0))
            known.append(max(0.0, float(int(most) - int(now) + cached)))
    return min(known, default=math.inf)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says so; PyTorch has an exception of its own for CUDA only."""
    if isinstance(error, RuntimeError):
        return isinstance(error, torch.OutOfMemoryError) or NO_MEMORY.search(str(error)) is not None
    return isinstance(error, MemoryError)


def in_chunks(
    total: int, size: int, run: Callable[[slice], Tensor], chunks: Chunks | None = None
) -> Tensor:
    """Run slices of a batch one after the other; one that runs out of memory is halved.

    Parameters
    ----------
    total
        Size of the batch.
    size
        Size of a slice to begin with.
    run
        Gives the rows of one slice; rows of slices may differ in length and are filled
        up with -1.
    chunks
        What is known of the memory from earlier calls.

    Raises
    ------
    MemoryError, RuntimeError
        When even a single instance does not fit, see `out_of_memory`.
    """
    chunks = Chunks() if chunks is None else chunks
    size = max(1, int(size * chunks.share))
    out: list[Tensor] = []
    begin = 0
    while begin < total:
        part = slice(begin, min(begin + size, total))
        try:
            out.append(run(part))
        except (MemoryError, RuntimeError) as error:
            if part.stop - begin == 1 or not out_of_memory(error):
                raise
            size = chunks.halve(size, part.stop - begin)
            torch.cuda.empty_cache()
            continue
        begin = part.stop
    if not out:
        raise ValueError("the batch is empty.")
    return stacked(out)


def stacked(rows: list[Tensor]) -> Tensor:
    """Recorded actions of several batches as one, filled up with -1."""
    width = max(part.shape[1] for part in rows)
    return torch.cat(
        [torch.nn.functional.pad(part, (0, width - part.shape[1]), value=-1) for part in rows]
    )


def construct(
    model: Model,
    fields: Fields,
    *,
    beam: int = 1,
    views: int = 1,
    skip: int = 0,
    samples: int = 0,
    seed: int = 0,
    stop: Callable[[], bool] = never,
) -> Tensor:
    """Recorded actions [b, steps] of whole solutions, decoded from scratch.

    Parameters
    ----------
    model
        The policy.
    fields
        Arrays of the instances, all of one size.
    beam
        Beam width; 1 is greedy.
    views
        Number of views that are decoded; the best solution counts. Beyond those that the
        network can tell apart, each takes the next likeliest action first.
    skip
        How many of them, from the first on, are left out: at least one remains.
    samples
        Number of solutions sampled in addition; the best counts.
    seed
        Seed of the samples.
    stop
        Asked before every step; views and samples that are not whole by then do not count.

    Raises
    ------
    Stopped
        When ``stop`` says so before every instance has a solution.
    ValueError
        When an online policy is asked for more than one solution.
    """
    policy = model.policy
    if policy.online and (beam, views, samples) != (1, 1, 0):
        raise ValueError(
            f"{policy.name} shows prizes at visits, so it is decoded once: beam 1, views 1, "
            "samples 0."
        )
    fields = {k: v.to(model.device) for k, v in fields.items()}
    total = len(next(iter(fields.values())))
    width = policy.start({k: v[:1] for k, v in fields.items()}).width
    generator = torch.Generator(model.device).manual_seed(seed)

    def run(part: slice) -> Tensor:
        some = {k: v[part] for k, v in fields.items()}
        best: Tensor | None = None
        for turn in range(skip, views + samples):
            # Samples are drawn from view 0.
            number = turn if turn < views else 0
            first, view = divmod(number, policy.views) if policy.views else (0, number)
            start = policy.start(some, view)
            try:
                decoded = decode(
                    model,
                    start,
                    beam=beam if turn < views else 1,
                    sample=generator if turn >= views else None,
                    first=first,
                    stop=stop,
                )
            except Stopped:
                if best is None:
                    raise
                break
            new = policy.record(start, decoded)
            best = new if best is None else choose(policy, some, best, new)
        assert best is not None
        return best

    size = chunk_size(model, width, copies=2 * beam if beam > 1 else 1)
    return in_chunks(total, size, run, model.chunks)


def choose(policy: Policy, fields: Fields, a: Tensor, b: Tensor) -> Tensor:
    """The better of two solutions of every instance; ``a`` where they are equal."""
    width = max(a.shape[1], b.shape[1])
    a, b = (torch.nn.functional.pad(x, (0, width - x.shape[1]), value=-1) for x in (a, b))
    better = policy.cost(fields, b) < policy.cost(fields, a)
    return torch.where(better[:, None], b, a)


class Beams:
    """Which beam width decides the next round: what gained most for its work lately.

    A wide beam is slow, but finds what a greedy one no longer does. Every width has its
    share of the work, so that none is judged by what it gained long ago.

    Parameters
    ----------
    widths
        The choices, the narrowest first.
    leaps
        Whether greedy rounds leap, which takes half as long.
    """

    #: Least share of the work of each width, and how fast old gains are forgotten.
    SHARE, FADE = 0.25, 0.3

    def __init__(self, widths: Sequence[int], leaps: bool = False):
        self.widths = tuple(widths)
        self.leaps = leaps
        self._work = [0.0] * len(self.widths)
        self._rate = [0.0] * len(self.widths)

    def work(self, width: int) -> float:
        """What a round takes, in greedy ones: a beam of four takes three, or six that leap."""
        return (1.0 + 2.0 * width) / 3.0 * (1.0 + (self.leaps and width > 1))

    def choose(self) -> int:
        """The width of the next round."""
        total = sum(self._work)
        for number, width in enumerate(self.widths):
            own = self.work(width)
            if self._work[number] + own <= self.SHARE * (total + own):
                return width
        return self.widths[max(range(len(self.widths)), key=self._rate.__getitem__)]

    def learn(self, width: int, gain: float, share: float = 1.0) -> None:
        """Take in what a round of that width gained with so much of a whole round's work."""
        number, own = self.widths.index(width), self.work(width) * share
        fade = self.FADE if self._work[number] else 1.0
        self._rate[number] += fade * (gain / own - self._rate[number])
        self._work[number] += own


class Tried:
    """Which parts were decided, and how wide the beam was.

    Groups of whole routes come again and again. What was decided as wide before, from the
    same place and through the same nodes, would be decided alike.
    """

    #: So many parts are kept in mind.
    MOST = 1_000_000

    def __init__(self) -> None:
        self._beam: dict[int, int] = {}

    def fresh(self, keys: Sequence[int], beams: Sequence[int]) -> tuple[int, list[int]]:
        """The first of the beam widths that decides a part as none did before, and which parts.

        They count as decided from now on. Where there are none, the width is the first.
        """
        for beam in beams:
            which = [i for i, key in enumerate(keys) if self._beam.get(key, 0) < beam]
            if which:
                if len(self._beam) + len(which) > self.MOST:
                    self._beam.clear()
                self._beam.update((keys[i], beam) for i in which)
                return beam, which
        return beams[0], []


def beam_widths(widest: int) -> tuple[int, ...]:
    """Widths to choose from up to the widest, each four times the one before."""
    return (*(4**i for i in range(16) if 4**i < widest), widest)


def improve(
    conqueror: Conqueror,
    fields: Fields,
    actions: Tensor,
    *,
    sizes: tuple[int, int] = (10, 100),
    beams: Sequence[int] = (1,),
    rounds: int | None = None,
    seed: int = 0,
    stop: Callable[[], bool] = never,
    on_round: Callable[[int, Tensor], Any] | None = None,
) -> Tensor:
    """Reconstruct parts of solutions until told to stop; costs never rise.

    Random re-construction after Luo et al., Neural Combinatorial Optimization with Heavy
    Decoder (NeurIPS 2023), in parallel over all parts of all solutions. Of parts that came
    before, none is decided again that would be decided alike, see `Tried`. Of new parts of
    tours and routes, and of tours through some customers, only the changes that pay are made,
    see `nco.bq.recombine`.

    Parameters
    ----------
    conqueror
        What decides the parts: a model, or anything else that can.
    fields
        Arrays of the instances, all of one size.
    actions
        Recorded actions [b, steps] of solutions.
    sizes
        Smallest and largest number of nodes in a part; each round draws one.
    beams
        Beam widths that parts are decided with, see `Beams`.
    rounds
        Largest number of rounds.
    seed
        Seed of everything random.
    stop
        Asked before every step; parts that are not whole by then stay as they were.
    on_round
        Called after every round with its number and the solutions.
    """
    fields = {k: v.to(conqueror.device) for k, v in fields.items()}
    actions = actions.to(conqueror.device)
    generator = torch.Generator(conqueror.device).manual_seed(seed)
    number = 0
    low, high = sizes
    widths, tried = Beams(beams, getattr(conqueror, "leap", 1) > 1), Tried()
    while (rounds is None or number < rounds) and not stop():
        # Short parts are cheap and often improved; log-uniform sizes balance both.
        share = float(torch.rand((), generator=generator, device=conqueror.device))
        size = round(low * (high / low) ** share)
        cut = conqueror.policy.cut(fields, actions, size, generator)
        if cut is None:
            break
        whole, beam, share = True, widths.choose(), 1.0
        if conqueror.once:
            keys = cut.key().tolist()
            beam, which = tried.fresh(keys, [w for w in widths.widths if w >= beam])
            share = len(which) / len(keys)
            if not which:
                number += 1
                if on_round is not None:
                    on_round(number, actions)
                continue
            if share < 1.0:
                cut = cut.take(torch.as_tensor(which, device=conqueror.device))
        try:
            new = conqueror.conquer(cut, stop, beam)
        except Stopped as stopped:
            if stopped.parts is None:
                break
            whole, new = False, stopped.parts
            cut = cut.take(slice(len(new)))
        recombine = getattr(conqueror.policy, "recombine", None)
        if recombine is not None:
            new = recombine(fields, cut, new)
        gain = cut.cost - conqueror.policy.part_cost(fields, cut, new)
        better = gain >= 0.0
        actions = conqueror.policy.paste(fields, actions, cut, new, better)
        widths.learn(beam, float(gain[better].sum()), share)
        number += whole
        if on_round is not None:
            on_round(number, actions)
        if not whole:
            break
    return actions


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with that many torch threads, 0 for as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
