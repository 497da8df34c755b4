"""Labels for the value network: second-stage values of drawn pairs.

``python -m nco.robust.labels two-stage-knapsack --instances 8000 --seed 1 --out FILE.npz``.
Values are exact, but with fractional weights to a relative `NEAR`. Each instance gets ``a``
first stages and ``b`` scenarios, and all ``a b`` pairs a label. Part of either is drawn blindly;
the rest is like what the learned solver will ask about: greedy first stages, and scenarios
that hurt them. Finished chunks stay beside the file until all
are there; a run that was stopped goes on with the missing ones.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.robust import OWN
from nco.robust.encoding import ENCODERS, encoder_of
from nco.robust.recourse import budget_recourse, knapsack_recourse
from nco.training.label import Parts, Progress, log_progress, make_parts, parts_of
from nco.training.labels import LabelError, load_arrays, save_arrays

log = logging.getLogger("nco")

Vector = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
FORMAT = 1
#: Relative tolerance of labels where weights are not whole: costs and revenues that are nearly
#: proportional have no end of values that are nearly the best.
NEAR = 1e-4
#: Instances in a chunk: what a kill can lose, per process.
CHUNK = 100


def _rounded(xi: Vector) -> Vector:
    # Stored in half precision; the labels are those of the stored numbers.
    return xi.astype(np.float16).astype(np.float64)


# --------------------------------------------------------------------------- knapsack


def _knapsack_instance(n: int, seed: int, rng: np.random.Generator) -> Any:
    from nco.instances.two_stage_knapsack import TwoStageKnapsack

    return TwoStageKnapsack.generate(
        n,
        seed=seed,
        distribution=str(rng.choice(["UN", "WC", "ASC", "SC"])),
        h=int(rng.integers(30, 90)),
        budget_factor=float(rng.uniform(0.05, 0.3)),
        delta=float(rng.choice([0.1, 0.5, 1.0])),
    )


def _greedy_first_stages(
    p: Vector, d: Vector, c: Vector, capacity: float, count: int, rng: np.random.Generator
) -> Vector:
    """Accepted orders by noisy efficiency until a random multiple of the capacity."""
    theta = rng.uniform(0.0, 1.0, (count, 1))
    noise = np.exp(rng.normal(0.0, rng.uniform(0.0, 0.5, (count, 1)), (count, len(p))))
    score = (p - theta * d) / c * noise
    order = np.argsort(-score, axis=1)
    filled = np.cumsum(c[order], axis=1) <= capacity * rng.uniform(0.7, 1.5, (count, 1))
    x = np.zeros((count, len(p)))
    np.put_along_axis(x, order, filled.astype(float), axis=1)
    return x


def knapsack_pairs(instance: Any, a: int, b: int, rng: np.random.Generator) -> Arrays:
    """Fields, first stages, scenarios and labels of one two-stage knapsack."""
    fields = ENCODERS["two-stage-knapsack"].fields(instance)
    project = instance.two_stage.uncertainty.project
    f, d, c, t = (fields[k][0] for k in "fdct")
    capacity, gamma = float(fields["capacity"][0]), float(instance.gamma)
    p, n = np.asarray(instance.profits, dtype=float), len(f)
    blind = a // 4
    x = np.concatenate([
        (rng.random((blind, n)) < rng.uniform(0.1, 1.0, (blind, 1))).astype(float),
        _greedy_first_stages(p, d, c, capacity, a - blind, rng),
    ])  # fmt: skip
    quarter = b // 4
    drawn = rng.exponential(size=(quarter, n)) ** rng.uniform(0.5, 3.0, (quarter, 1))
    drawn *= gamma * rng.uniform(0.3, 1.0, (quarter, 1)) / drawn.sum(1, keepdims=True)
    # Vertices: the budget on items of large loss, mostly in the given x.
    base = x[rng.integers(a, size=quarter)]
    weight = d * np.maximum(base, 0.1) * np.exp(rng.normal(0.0, 0.5, (quarter, n)))
    rank = np.argsort(np.argsort(-weight, axis=1), axis=1)
    vertices = np.clip(gamma - rank, 0.0, 1.0)
    # Subgradient descent of the exact value; its running mean is near the worst case.
    count = b - 2 * quarter - 2
    own = x[blind + rng.integers(a - blind, size=count)]
    hurt = project(gamma * own / np.maximum(1.0, own.sum(1, keepdims=True)))
    mean = np.zeros_like(hurt)
    steps = int(rng.integers(3, 20))
    for step in range(steps):
        for k in range(count):
            _, y, r = knapsack_recourse(f, d, c, t, capacity, own[k], hurt[k])
            hurt[k] += d * (y[0, 0] & ~r[0, 0]) / d.max() * (0.6 / math.sqrt(1.0 + step))
        hurt = project(hurt)
        mean += hurt
    keep = rng.random((count, 1)) < 0.7
    chosen = np.where(keep, mean / steps, hurt)
    even = np.full((1, n), min(1.0, gamma / n))
    xi = _rounded(np.concatenate([np.zeros((1, n)), even, np.clip(drawn, 0, 1), vertices, chosen]))
    values, _, _ = knapsack_recourse(f, d, c, t, capacity, x, xi)
    return {**fields, "x": x, "xi": xi, "values": values}


# ------------------------------------------------------------------- capital budgeting


def _capital_instance(n: int, seed: int, rng: np.random.Generator) -> Any:
    from nco.instances.capital_budgeting import CapitalBudgeting

    return CapitalBudgeting.generate(n, seed=seed)


def _affordable(
    c: Vector, worth: Vector, limit: Vector, count: int, rng: np.random.Generator
) -> Vector:
    """Projects [count, n] in a random order that prefers worth, up to a limit [count, 1]."""
    score = rng.random((count, len(c))) - rng.uniform(0, 0.5, (count, 1)) * worth / worth.max()
    order = np.argsort(score, axis=1)
    x = np.zeros((count, len(c)))
    filled = np.cumsum(c[order], axis=1) <= limit
    np.put_along_axis(x, order, filled.astype(float), axis=1)
    return x


def _box_scenarios(b: int, q: int, rng: np.random.Generator) -> Vector:
    """Uniform scenarios of [-1, 1]^q, and corners and edges, where most worst cases are."""
    xi = rng.uniform(-1.0, 1.0, (b, q))
    corner = rng.random((b, q)) < rng.choice([0.0, 0.5, 1.0], (b, 1))
    xi = np.where(corner, np.sign(xi), xi)
    xi[0] = -1.0
    return _rounded(xi)


def capital_pairs(instance: Any, a: int, b: int, rng: np.random.Generator) -> Arrays:
    """Fields, first stages, scenarios and labels of one capital budgeting problem."""
    from nco.instances.capital_budgeting import LATE_SHARE

    fields = ENCODERS["capital-budgeting"].fields(instance)
    c, r = fields["cost"][0], fields["revenue"][0]
    # Up to what is affordable in every scenario, and some beyond it.
    share = rng.choice([0.2, 0.4, 0.55, 0.667, 0.667, 0.667, 0.75, 0.9], (a, 1))
    x = _affordable(c, r / c, share * float(instance.budget), a, rng)
    x[0] = 0.0
    xi = _box_scenarios(b, instance.phi.shape[1], rng)
    cost, revenue = instance.factors(xi)
    late, _ = budget_recourse(LATE_SHARE * revenue, cost, instance.budget, x, NEAR)
    return {**fields, "x": x, "xi": xi, "values": late + x @ revenue.T}


def _loans_instance(n: int, seed: int, rng: np.random.Generator) -> Any:
    from nco.instances.capital_budgeting import CapitalBudgetingLoans

    return CapitalBudgetingLoans.generate(
        n, seed=seed, h=int(rng.integers(20, 80)), factors=int(rng.choice([4, 6, 8]))
    )


def loans_pairs(instance: Any, a: int, b: int, rng: np.random.Generator) -> Arrays:
    """Fields, first stages, scenarios and labels of one capital budgeting with loans."""
    fields = ENCODERS["capital-budgeting-loans"].fields(instance)
    c, p = np.asarray(instance.costs, dtype=float), np.asarray(instance.profits, dtype=float)
    loan = (rng.random((a, 1)) < 0.4).astype(float)
    room = instance.budget + instance.early_loan * loan
    x = _affordable(c, p / c, room * rng.uniform(0.0, 1.0, (a, 1)) ** 0.5, a, rng)
    xi = _box_scenarios(b, instance.loadings.shape[1], rng)
    x = np.hstack([x, loan])
    values, _ = instance.two_stage.recourse_at(x, xi)
    # Scenarios of instances with fewer factors are filled up, so that they stack.
    wide = np.zeros((b, fields["loadings"].shape[2]))
    wide[:, : xi.shape[1]] = xi
    return {**fields, "x": x, "xi": wide, "values": values}


def _facility_instance(n: int, seed: int, rng: np.random.Generator) -> Any:
    from nco.instances.facility_location import FacilityLocation

    return FacilityLocation.generate(
        n,
        seed=seed,
        ratio=float(rng.uniform(2.5, 3.5)),
        deviation=float(rng.uniform(0.3, 0.7)),
        budget_factor=float(rng.uniform(0.05, 0.2)),
        penalty=float(rng.uniform(4.0, 6.0)),
    )


def _better_sites(
    instance: Any, x: Vector, xi: Vector, rounds: int, rng: np.random.Generator
) -> Vector:
    """First stages [k, n] on the way from x to a local optimum in a scenario."""
    f = np.asarray(instance.fixed_costs, dtype=float)
    out = [x]
    for _ in range(rounds):
        one, zero = np.flatnonzero(x > 0.5), np.flatnonzero(x < 0.5)
        around = np.concatenate([np.abs(x - np.eye(len(x))), np.repeat(x[None], len(x), axis=0)])
        if len(one) and len(zero):
            rows = np.arange(len(x), 2 * len(x))
            around[rows, rng.choice(one, len(x))] = 0.0
            around[rows, rng.choice(zero, len(x))] = 1.0
        values, _ = instance.two_stage.recourse_at(around, xi)
        total = values[:, 0] - around @ f
        x = around[int(total.argmax())]
        out.append(x)
    return np.array(out)


def facility_pairs(instance: Any, a: int, b: int, rng: np.random.Generator) -> Arrays:
    """Fields, first stages, scenarios and labels of one facility location problem."""
    fields = ENCODERS["facility-location"].fields(instance)
    d, e, s = (fields[k][0] for k in ("demands", "deviations", "capacities"))
    uncertainty, n = instance.two_stage.uncertainty, instance.n
    most = d.sum() + np.sort(e)[::-1][: int(np.ceil(instance.gamma))].sum()
    # Sites in a random order until they can serve a multiple of all demands.
    order = np.argsort(rng.random((a, n)), axis=1)
    filled = np.cumsum(s[order], axis=1) - s[order] < most * rng.uniform(0.7, 2.0, (a, 1))
    x = np.zeros((a, n))
    np.put_along_axis(x, order, filled.astype(float), axis=1)
    quarter = b // 4
    drawn = uncertainty.sample(b - 2 * quarter - 2, rng)
    # Those that raise large demands, and demands that are far from open sites.
    costs = np.where(x[rng.integers(a, size=2 * quarter)][:, :, None] > 0.5, fields["costs"], 1e3)
    away = np.minimum(costs.min(1), instance.penalties)
    weight = e * away ** rng.uniform(0.0, 1.0, (2 * quarter, 1))
    weight *= np.exp(rng.normal(0.0, 0.5, weight.shape))
    worst = np.array([uncertainty.worst_case(-w)[0] for w in weight])
    even = np.full((1, len(d)), min(1.0, float(instance.gamma) / len(d)))
    xi = _rounded(np.concatenate([np.zeros((1, len(d))), even, drawn, worst]))
    # Half of the first stages are those on the way to good ones.
    half = a // 2
    k = 0
    while k < half:
        start, hurt = x[half + int(rng.integers(a - half))], xi[int(rng.integers(b))]
        path = _better_sites(instance, start, hurt, 6, rng)[2:]
        x[k : min(half, k + len(path))] = path[: half - k]
        k += len(path)
    values, _ = instance.two_stage.recourse_at(x, xi)
    return {**fields, "x": x, "xi": xi, "values": values}


@dataclass(frozen=True)
class LabelMaker:
    """How labels of one problem are made.

    Parameters
    ----------
    instance
        ``instance(n, seed, rng)`` draws an instance.
    pairs
        ``pairs(instance, a, b, rng)`` gives the fields [1, ...] of the encoder, x [a, p], xi
        [b, q] and values [a, b], NaN where the second stage is infeasible.
    sizes
        Sizes n of the instances, in turn.
    """

    instance: Callable[[int, int, np.random.Generator], Any]
    pairs: Callable[[Any, int, int, np.random.Generator], Arrays]
    sizes: tuple[int, ...] = (20, 30, 40, 50, 60, 70, 80, 90, 100)


#: Problem -> how its labels are made.
MAKERS: dict[str, LabelMaker] = {
    "two-stage-knapsack": LabelMaker(_knapsack_instance, knapsack_pairs),
    "capital-budgeting": LabelMaker(
        _capital_instance, capital_pairs, (10, 15, 20, 30, 40, 50, 60, 80, 100)
    ),
    "capital-budgeting-loans": LabelMaker(
        _loans_instance, loans_pairs, (10, 15, 20, 30, 40, 50, 70, 100)
    ),
    "facility-location": LabelMaker(
        _facility_instance, facility_pairs, (5, 8, 10, 12, 15, 20, 25, 30)
    ),
}


def maker_of(problem: str, source: Any = "") -> LabelMaker:
    """How labels of a problem are made; those of one's own need a source of instances.

    Raises
    ------
    ValueError
        When the problem has no labels, or the source does not fit.
    """
    from nco.robust.own_labels import Instances, own_pairs

    if problem == OWN:
        if isinstance(source, str) and not source:
            raise ValueError(
                "labels of a problem of one's own need its instances: name a .toml file, a folder "
                "of them or a .py file with --from."
            )
        return LabelMaker(Instances(source).draw, own_pairs, (0,))
    if isinstance(source, str) and not source and problem in MAKERS:
        return MAKERS[problem]
    raise ValueError(
        f"labels of {problem} are of instances that are drawn; leave out --from."
        if problem in MAKERS
        else f"no labels for {problem}; known: {', '.join([*MAKERS, OWN])}."
    )


def make_chunk(
    problem: str,
    seed: int,
    first: int,
    count: int,
    a: int,
    b: int,
    source: Any = "",
    deadline: float = math.inf,
) -> Arrays:
    """Labels of instances ``first..first+count-1``; keys ``FIELD/p``, p the length of x.

    For problems of one's own, ``FIELD/p.k``, k the length of a scenario.

    Parameters
    ----------
    problem
        The problem's name.
    seed, first, count
        Of the instances; each has its own random numbers.
    a, b
        First stages and scenarios of each.
    source
        For problems of one's own, see `nco.robust.own_labels.Instances`.
    deadline
        What `time.monotonic` says when no further instance is begun; one is in any case.
    """
    maker = maker_of(problem, source)
    rows: dict[str, list[Arrays]] = {}
    for index in range(first, first + count):
        if rows and time.monotonic() > deadline:
            break
        rng = np.random.default_rng([seed, index])
        n = maker.sizes[index % len(maker.sizes)]
        instance = maker.instance(n, int(rng.integers(2**31)), rng)
        made = maker.pairs(instance, a, b, rng)
        size = str(made["x"].shape[1])
        if problem == OWN:
            size += f".{made['xi'].shape[1]}"
        rows.setdefault(size, []).append(made)
    out: Arrays = {}
    for p, group in rows.items():
        for key in group[0]:
            if key in ("x", "xi") and problem == OWN:
                stacked = np.stack([g[key] for g in group])
            elif key == "x":
                stacked = np.packbits(np.stack([g["x"] for g in group]) > 0.5, axis=-1)
            elif key == "xi":
                stacked = np.stack([g["xi"] for g in group]).astype(np.float16)
            elif key == "values":
                stacked = np.stack([g["values"] for g in group])
            else:
                stacked = np.concatenate([g[key] for g in group])
            out[f"{key}/{p}"] = stacked
    return out


def write_labels(path: Path, arrays: Arrays, meta: Mapping[str, Any]) -> None:
    """Write a label file, whole or not at all."""
    text = json.dumps({"format": FORMAT, **meta}, allow_nan=False)
    save_arrays(path, {"meta": np.frombuffer(text.encode(), dtype=np.uint8), **arrays})


def read_labels(path: str | Path) -> tuple[dict[tuple[int, ...], Arrays], dict[str, Any]]:
    """Arrays of a label file by length of x, and of xi where that matters; how it was made.

    Raises
    ------
    ValueError
        When it is no label file of this version.
    """
    try:
        arrays = load_arrays(str(path))
        meta = dict(json.loads(bytes(arrays.pop("meta")).decode()))
    except LabelError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a label file: {' '.join(str(error).split())}") from None
    if meta.get("format") != FORMAT:
        raise ValueError(f"{path}: label format {meta.get('format')}, expected {FORMAT}.")
    groups: dict[tuple[int, ...], Arrays] = {}
    for key, value in arrays.items():
        name, _, size = key.partition("/")
        groups.setdefault(tuple(map(int, size.split("."))), {})[name] = value
    for size_, group in groups.items():
        if group["x"].dtype == np.uint8:
            group["x"] = np.unpackbits(group["x"], axis=-1, count=size_[0]).astype(np.float32)
    return groups, meta


def described(meta: Mapping[str, Any]) -> str:
    """How labels were made, in words, for a model card."""
    instances, a, b = (int(meta[key]) for key in ("instances", "a", "b"))
    whose = "own" if "source" in meta else "random"
    return (
        f"{instances * a * b:,} second stages by this package ({a} first stages and {b} scenarios "
        f"of {instances:,} {whose} instances), redrawn from seed {meta['seed']}"
    )


def _made(arrays: Mapping[str, NDArray[Any]]) -> int:
    """Number of instances in arrays as `make_chunk` gives them."""
    return sum(len(v) for k, v in arrays.items() if k.startswith("values/"))


def _write_part(
    parts: Parts, problem: str, seed: int, a: int, b: int, source: Any,
    begin: int, size: int, deadline: float,
) -> int:  # fmt: skip
    arrays = make_chunk(problem, seed, begin, size, a, b, source, deadline)
    made = _made(arrays)
    parts.write(begin, made, arrays)
    return made


def _made_before(out: Path, meta: Mapping[str, Any]) -> bool:
    """Whether the same call finished the file."""
    # With parts beside it, a call goes on.
    if parts_of(out).exists():
        return False
    try:
        return read_labels(out)[1] == {"format": FORMAT, **meta}
    except ValueError:
        return False


def label(
    problem: str,
    out: str | Path,
    *,
    instances: int,
    seed: int,
    a: int = 16,
    b: int = 16,
    jobs: int = 1,
    minutes: float = math.inf,
    source: Any = "",
    progress: Progress = log_progress,
) -> int:
    """Make labels and write them to one file; the number of labels in it.

    Parameters
    ----------
    problem
        The problem's name.
    out
        The label file.
    instances, seed
        Number and seed of the instances.
    a, b
        First stages and scenarios of each; every pair is labelled.
    jobs
        Processes.
    minutes
        Begin no instance after that time; labels of those up to the first missing one are
        written, and the same call goes on with the rest.
    source
        For problems of one's own, "two-stage": `nco.robust.own_labels.Instances`.
    progress
        Called with how many labels there are and are to be, after every chunk.

    Raises
    ------
    ValueError
        When the problem has no labels, a number makes no sense, or the folder of parts
        belongs to another call; when no second stage at all has a solution, or not one
        instance was finished in time.
    """
    from nco.robust.own_labels import Instances

    out = Path(out)
    encoder_of(problem)
    maker_of(problem, source)
    if min(instances, jobs) < 1 or a < 4 or b < 8:
        raise ValueError("give instances and jobs >= 1, a >= 4 and b >= 8.")
    meta = {"problem": problem, "instances": instances, "seed": seed, "a": a, "b": b}
    if problem == OWN:
        meta["source"] = Instances(source).stamp
    if _made_before(out, meta):
        log.warning(
            "%s holds these %d labels already; remove it to make them again",
            out, instances * a * b,
        )  # fmt: skip
        return instances * a * b
    parts = Parts(out, instances, meta, CHUNK)
    done = instances - sum(size for _, size in parts.missing())

    def tell(size: int) -> None:
        nonlocal done
        done += size
        progress(done * a * b, instances * a * b)

    write = partial(_write_part, parts, problem, seed, a, b, source)
    make_parts(parts, write, jobs=jobs, minutes=minutes, told=tell)
    merged: dict[str, list[NDArray[Any]]] = {}
    for part in parts.whole():
        for key, value in part.items():
            merged.setdefault(key, []).append(value)
    arrays = {k: np.concatenate(v) for k, v in merged.items()}
    if all(np.isnan(v).all() for k, v in arrays.items() if k.startswith("values/")):
        raise ValueError(f"{out}: no second stage has a solution; mend the instances.")
    made = _made(arrays)
    write_labels(out, arrays, {**meta, "instances": made})
    if made == instances:
        shutil.rmtree(parts.folder)
    return made * a * b


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the label maker."""
    parser = argparse.ArgumentParser(prog="python -m nco.robust.labels", description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("--instances", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--a", type=int, default=16, help="first stages of an instance")
    parser.add_argument("--b", type=int, default=16, help="scenarios of an instance")
    parser.add_argument("--from", dest="source", default="", help="instances of one's own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = label(options.pop("problem"), options.pop("out"), **options)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
