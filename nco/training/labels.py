"""Solved instances on disk: solutions, and the recipe or the data of their instances.

Instances that were drawn from a seed are stored as a recipe and redrawn when read, so a
label costs about as many bytes as its solution has nodes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from nco.training.config import replacing


class LabelError(ValueError):
    """Labels that cannot be read or contradict their instances; the text is one line."""


Arrays = dict[str, NDArray[Any]]


def _rng(seed: int, i: int) -> np.random.Generator:
    return np.random.default_rng([seed, i])


def uniform_tsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: n points of ``default_rng([seed, i])`` in the unit square, float32."""
    coords = np.empty((count, n, 2), dtype=np.float32)
    for i in range(count):
        _rng(seed, first + i).random(out=coords[i], dtype=np.float32)
    return {"coords": coords}


def uniform_cvrp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: depot and n customers as `uniform_tsp`, then demands 1..9."""
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    demands = np.zeros((count, n + 1), dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        demands[i, 1:] = rng.integers(1, 10, n)
    return {"coords": coords, "demands": demands}


def mixed_cvrp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: as `uniform_cvrp`, then a capacity: 50 for even i, else 30..250, log-uniform.

    Policies then see short and long routes.
    """
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    demands = np.zeros((count, n + 1), dtype=np.int64)
    capacity = np.empty(count, dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        demands[i, 1:] = rng.integers(1, 10, n)
        log = rng.uniform(math.log(30), math.log(250))
        capacity[i] = 50 if (first + i) % 2 == 0 else round(math.exp(log))
    return {"coords": coords, "demands": demands, "capacity": capacity}


def route_parts(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: what a few neighbouring routes of a large instance of `uniform_cvrp` serve.

    Of 2 n to 20 n customers, log-uniform, the n nearest to one of them by a distance that
    stretches or shrinks what points away from the depot, by up to a factor of 3. Routes have 6
    to 50 customers on average, log-uniform, and leave 0 to 12 % of their capacity, mostly little.
    """
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    demands = np.zeros((count, n + 1), dtype=np.int64)
    capacity = np.empty(count, dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        whole = round(n * 2.0 * 10.0 ** rng.random())
        points = rng.random((whole + 1, 2), dtype=np.float32)
        out = points[1:] - points[0]
        away = np.linalg.norm(out, axis=1)
        here = int(rng.integers(whole))
        axis = out[here] / max(float(away[here]), 1e-9)
        gap = out - out[here]
        along = gap @ axis
        across = gap @ np.array([-axis[1], axis[0]])
        near = np.argsort(np.hypot(along * 3.0 ** rng.uniform(-1.0, 1.0), across))[:n]
        coords[i] = points[np.r_[0, 1 + near]]
        demands[i, 1:] = rng.integers(1, 10, n)
        routes = max(1, round(n / math.exp(rng.uniform(math.log(6), math.log(50)))))
        slack = 1.0 + 0.12 * rng.random() ** 2
        capacity[i] = max(9, math.ceil(slack * demands[i].sum() / routes))
    return {"coords": coords, "demands": demands, "capacity": capacity}


def mixed_knapsack(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: Pisinger's classes in turn, numbers up to 999, capacity 5..75 % of the weight.

    D. Pisinger, Where are the hard knapsack problems? (2005): uncorrelated, strongly
    correlated and inverse strongly correlated; every second instance is uncorrelated.
    """
    values = np.empty((count, n), dtype=np.int64)
    weights = np.empty((count, n), dtype=np.int64)
    capacity = np.empty(count, dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        a, b = rng.integers(1, 1000, (2, n))
        kind = (first + i) % 4
        values[i] = (a, a + 100, a, a)[kind]
        weights[i] = (b, a, b, a + 100)[kind]
        capacity[i] = max(1, int(rng.uniform(0.05, 0.75) * weights[i].sum()))
    return {"values": values, "weights": weights, "capacity": capacity}


def rest_knapsack(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: the end of a greedy packing of instance i of `mixed_knapsack` with 4 n items.

    Items are packed by value per weight, with noise; the last 1..16 are taken out again, and
    the n best of those that fit are kept. Whoever packs greedily comes to such states, where
    often nothing fills the capacity, unlike in what remains of an optimal selection.
    """
    whole = mixed_knapsack(seed, first, count, 4 * n)
    values = np.ones((count, n), dtype=np.int64)
    weights = np.empty((count, n), dtype=np.int64)
    capacity = whole["capacity"].copy()
    for i in range(count):
        rng = np.random.default_rng([seed, first + i, 1])
        value, weight = whole["values"][i], whole["weights"][i]
        ratio = np.log(value / weight)
        packed = []
        for item in np.argsort(-ratio - 0.2 * rng.random() ** 3 * rng.standard_normal(4 * n)):
            if weight[item] <= capacity[i]:
                capacity[i] -= weight[item]
                packed.append(item)
        again = packed[-int(min(16, len(packed)) ** rng.random()) :]
        capacity[i] += weight[again].sum()
        free = np.setdiff1d(np.flatnonzero(weight <= capacity[i]), packed[: -len(again)])
        best = free[np.argsort(-ratio[free], kind="stable")[:n]]
        values[i, : len(best)] = value[best]
        # Rows that are left over hold items that do not fit.
        weights[i] = capacity[i] + 1
        weights[i, : len(best)] = weight[best]
    return {"values": values, "weights": weights, "capacity": capacity}


def closure(costs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Shortest path lengths [n, n] between all nodes (Floyd, 1962), in place."""
    through = np.empty_like(costs)
    for k in range(len(costs)):
        np.add(costs[:, k, None], costs[k], out=through)
        np.minimum(costs, through, out=costs)
    return costs


def tmat_atsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: shortest path closure of integers below 10^6, zero from a node to itself.

    The class of Y.-D. Kwon et al., Matrix encoding networks (NeurIPS 2021).
    """
    matrix = np.empty((count, n, n), dtype=np.int32)
    for i in range(count):
        matrix[i] = _rng(seed, first + i).integers(0, 10**6, (n, n))
        np.fill_diagonal(matrix[i], 0)
        closure(matrix[i])
    return {"matrix": matrix}


def tmat_acvrp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: costs of n + 1 nodes as `tmat_atsp`, demands and capacity as `mixed_cvrp`."""
    loads = mixed_cvrp(seed, first, count, n)
    del loads["coords"]
    return {**tmat_atsp(seed, first, count, n + 1), **loads}


def plane_acvrp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: as `mixed_cvrp`, with the distances times 10^4, rounded, as costs.

    Solutions of `mixed_cvrp` for the same seed are solutions of these, as good but for rounding.
    """
    loads = mixed_cvrp(seed, first, count, n)
    matrix = np.empty((count, n + 1, n + 1), dtype=np.int32)
    for i, points in enumerate(loads.pop("coords").astype(np.float64)):
        matrix[i] = np.rint(1e4 * np.linalg.norm(points[:, None] - points, axis=2))
    return {"matrix": matrix, **loads}


def mixed_op(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: points as `uniform_cvrp`, prizes by distance, and a length limit.

    A prize is 1 + int(99 d / max d) with the distance d from the depot (Fischetti et al.,
    1998). The limit is 4 for even i, else 1.5..5; for odd i not divisible by 3 prizes are
    uniform in 1..100 instead.
    """
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    prizes = np.zeros((count, n + 1), dtype=np.int64)
    limit = np.full(count, 4.0)
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        other, drawn = rng.uniform(1.5, 5.0), rng.integers(1, 101, n)
        away = np.linalg.norm(coords[i, 1:].astype(np.float64) - coords[i, 0], axis=1)
        prizes[i, 1:] = 1 + (99 * away / max(float(away.max()), 1e-300)).astype(np.int64)
        if (first + i) % 2:
            limit[i] = other
            if (first + i) % 3:
                prizes[i, 1:] = drawn
    return {"coords": coords, "prizes": prizes, "max_length": limit}


def mixed_pctsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: points as `uniform_cvrp`, prizes, penalties, and the minimum prize 1.

    Prizes are uniform in (0, 4 / n), penalties in (0, 1.2 / sqrt(n)), which is 3 K / n with
    about the K of the literature (W. Kool et al., 2019); for odd i the penalties' scale is
    log-uniform around that, by up to a factor of 2.
    """
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    prizes, penalties = np.zeros((2, count, n + 1))
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        prizes[i, 1:], penalties[i, 1:] = rng.random((2, n))
        scale = 2.0 ** rng.uniform(-1.0, 1.0) if (first + i) % 2 else 1.0
        prizes[i] *= 4.0 / n
        penalties[i] *= 1.2 * scale / math.sqrt(n)
    least = np.minimum(1.0, prizes.sum(1))
    return {"coords": coords, "prizes": prizes, "penalties": penalties, "min_prize": least}


def mixed_spctsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """As `mixed_pctsp`; real prizes are uniform in (0, 2 x the expected one)."""
    fields = mixed_pctsp(seed, first, count, n)
    real = [np.random.default_rng([seed, first + i, 1]).uniform(0, 2, n + 1) for i in range(count)]
    return {**fields, "real_prizes": fields["prizes"] * np.stack(real)}


def mixed_mtsp(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: points as `uniform_cvrp`; 2..n / 8 salesmen, log-uniform."""
    coords = np.empty((count, n + 1, 2), dtype=np.float32)
    salesmen = np.empty(count, dtype=np.int64)
    for i in range(count):
        rng = _rng(seed, first + i)
        rng.random(out=coords[i], dtype=np.float32)
        salesmen[i] = round(math.exp(rng.uniform(math.log(2), math.log(max(2.0, n / 8)))))
    return {"coords": coords, "salesmen": salesmen}


def random_graphs(seed: int, first: int, count: int, n: int) -> Arrays:
    """Instance i: every edge with probability 0.15 for even i, else one of 0.02..0.3."""
    graphs = []
    for i in range(count):
        rng = _rng(seed, first + i)
        p = rng.uniform(0.02, 0.3) if (first + i) % 2 else 0.15
        graphs.append(np.argwhere(np.triu(rng.random((n, n)) < p, 1)).astype(np.int32))
    most = max(map(len, graphs))
    edges = [np.pad(g, ((0, most - len(g)), (0, 0)), constant_values=-1) for g in graphs]
    return {"edges": np.stack(edges), "weights": np.ones((count, n), dtype=np.int64)}


#: Recipe name -> (problem, function of seed, first instance, count and size).
RECIPES: dict[str, tuple[str, Callable[[int, int, int, int], Arrays]]] = {
    "tsp-uniform": ("tsp", uniform_tsp),
    "atsp-tmat": ("atsp", tmat_atsp),
    "cvrp-uniform": ("cvrp", uniform_cvrp),
    "cvrp-mixed": ("cvrp", mixed_cvrp),
    "cvrp-parts": ("cvrp", route_parts),
    "acvrp-tmat": ("acvrp", tmat_acvrp),
    "acvrp-plane": ("acvrp", plane_acvrp),
    "knapsack-mixed": ("knapsack", mixed_knapsack),
    "knapsack-rest": ("knapsack", rest_knapsack),
    "op-mixed": ("op", mixed_op),
    "ovrp-mixed": ("ovrp", mixed_cvrp),
    "ovrp-parts": ("ovrp", route_parts),
    "pctsp-mixed": ("pctsp", mixed_pctsp),
    "spctsp-mixed": ("spctsp", mixed_spctsp),
    "mtsp-mixed": ("mtsp", mixed_mtsp),
    "mis-er": ("mis", random_graphs),
}
#: The names of arrays that are solutions; all others belong to the instances.
SOLUTIONS = ("tour", "start", "chosen")


def find_recipe(problem: str, recipe: str) -> str:
    """The recipe, if it makes instances of the problem.

    Raises
    ------
    ValueError
        When it does not.
    """
    known = [name for name, (what, _) in RECIPES.items() if what == problem]
    if recipe not in known:
        names = ", ".join(known) or "none"
        raise ValueError(f"recipe {recipe!r} for {problem} is not known; there are: {names}.")
    return recipe


def draw(recipe: str, seed: int, first: int, count: int, n: int) -> Arrays:
    """Instances ``first..first+count-1`` of a recipe.

    Raises
    ------
    LabelError
        When they do not fit this machine's memory.
    """
    each = 4.0 * n * n if RECIPES[recipe][0] in ("atsp", "acvrp") else 24.0 * n
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if count * each > 0.8 * memory:
        raise LabelError(
            f"{count} instances of n = {n} need {count * each / 2**30:.3g} GiB, this machine "
            f"has {memory / 2**30:.3g} GiB; take fewer or smaller ones"
        )
    return RECIPES[recipe][1](seed, first, count, n)


def instances_of(kind: Callable[..., Any], arrays: Arrays) -> list[Any]:
    """The instances of arrays whose first axis counts them; solutions are left out.

    Parameters
    ----------
    kind
        The class of the instances.
    arrays
        Their fields, as `draw` gives them; one without axes is common to all.
    """
    fields = {k: v for k, v in arrays.items() if k not in SOLUTIONS}
    count = max(len(v) for v in fields.values() if np.ndim(v))
    made = []
    for i in range(count):
        own = {k: v[i] if np.ndim(v) else v for k, v in fields.items()}
        if "edges" in own:
            # Filled up with -1 to the most edges of all.
            own["edges"] = own["edges"][own["edges"][:, 0] >= 0]
        made.append(kind(**own))
    return made


@dataclass(frozen=True)
class Labels:
    """Solved instances of one size.

    Parameters
    ----------
    problem
        The problem's name.
    fields
        Arrays of the instances and their solutions, the instance axis first.
    digest
        sha256 of problem and fields, to tie a training run to its data.
    source
        The size ``n``, and ``recipe``, ``seed`` and ``first`` where they redraw the instances.
    stored
        Names of the instances' arrays that the file holds.
    """

    problem: str
    fields: Arrays
    digest: str
    source: Mapping[str, Any] = field(default_factory=dict)
    stored: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def part(self, begin: int, end: int | None) -> Arrays:
        """The fields of instances ``begin..end-1``."""
        return {k: v[begin:end] for k, v in self.fields.items()}


def digest(problem: str, fields: Arrays) -> str:
    """sha256 of a set of labels."""
    sha = hashlib.sha256(problem.encode())
    for name, array in sorted(fields.items()):
        sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def read_labels(spec: str) -> Labels:
    """Read labels from ``PATH`` or ``PATH:RECIPE:SEED``.

    Parameters
    ----------
    spec
        A ``.npz`` written by `write_labels`; or any array file together with the recipe
        of its instances: ``.npy`` with one tour per row, or ``.npz`` whose arrays are
        completed by the recipe's.

    Raises
    ------
    LabelError
        When the file or the recipe is not understood, or a label is no solution of its
        instance.
    """
    whole = spec.count(":") < 2 or Path(spec).is_file()
    path, *recipe = [spec] if whole else spec.rsplit(":", 2)
    fields = load_arrays(path)
    first, meta_n = 0, None
    if "meta" in fields:
        meta = _meta(path, fields.pop("meta"))
        problem, first, meta_n = meta["problem"], meta.get("first", 0), meta.get("n")
        own = [meta["recipe"], str(meta["seed"])] if "recipe" in meta else []
        if own and recipe not in ([], own):
            raise LabelError(f"{path}: its instances are {':'.join(own)}, not {':'.join(recipe)}")
        recipe = recipe or own
    elif recipe and recipe[0] in RECIPES:
        problem = RECIPES[recipe[0]][0]
    else:
        raise LabelError(
            f"{path}: neither a label file nor given a recipe; write {path}:RECIPE:SEED with "
            f"one of {', '.join(RECIPES)}"
        )
    try:
        count, n = unpack(fields, meta_n)
    except (KeyError, IndexError, TypeError):
        raise LabelError(f"{path}: holds no solutions (tour or chosen)") from None
    stored = tuple(name for name in fields if name not in SOLUTIONS)
    source: dict[str, Any] = {"n": n}
    if recipe:
        if recipe[0] not in RECIPES or RECIPES[recipe[0]][0] != problem:
            raise LabelError(f"{path}: recipe {recipe[0]!r} for {problem} is not known")
        if not recipe[1].isdecimal():
            raise LabelError(f"{path}: seed {recipe[1]!r} is not a whole number")
        source = {"recipe": recipe[0], "seed": int(recipe[1]), "first": first, "n": n}
        fields = {**draw(recipe[0], int(recipe[1]), first, count, n), **fields}
    check_arrays(path, problem, fields, count, n)
    check_labels(path, problem, fields)
    return Labels(problem, fields, digest(problem, fields), source, stored)


def same_labels(path: str, problem: str, count: int, **meta: Any) -> bool:
    """Whether a file holds so many labels of the problem, and says just this of itself.

    Parameters
    ----------
    path
        A file that need not be there.
    problem, count
        The problem's name, and the number of labels.
    meta
        As for `write_labels`.
    """
    try:
        fields = load_arrays(path)
        said = _meta(path, fields.pop("meta"))
        made, _ = unpack(fields, said.get("n"))
    except (LabelError, KeyError, IndexError, TypeError):
        return False
    # Numbers and lists as JSON has them.
    wanted = json.loads(json.dumps({"format": 1, "problem": problem, **meta}))
    return made == count and said == wanted


def load_arrays(path: str) -> Arrays:
    """All arrays of a ``.npz``; of a ``.npy``, its own as ``tour``.

    Raises
    ------
    LabelError
        When the file is missing or damaged.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"tour": loaded}
        with loaded:
            return {k: loaded[k] for k in loaded.files}
    except OSError as error:
        raise LabelError(f"{path}: no labels: {error.strerror or error}") from None
    except ValueError:
        # NumPy's words are about pickles, which nobody asked for.
        raise LabelError(f"{path}: no labels: damaged, or neither .npz nor .npy") from None
    except (EOFError, BadZipFile, ZlibError) as error:
        raise LabelError(f"{path}: no labels: {' '.join(str(error).split())}") from None


def _meta(path: str, text: NDArray[Any]) -> dict[str, Any]:
    """What a label file says of itself."""
    try:
        meta = dict(json.loads(str(text)))
        if meta["format"] != 1:
            raise LabelError(f"{path}: label format {meta['format']} is not known; update nco")
        _ = meta["problem"] + meta.get("recipe", "")
        numbers = [meta.get("first", 0), meta.get("n", 1), meta["seed"] if "recipe" in meta else 0]
    except LabelError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{path}: its meta data is not a label file's: {error!r}") from None
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise LabelError(f"{path}: first, n and seed in its meta data are not whole numbers")
    return meta


def check_arrays(path: str, problem: str, fields: Arrays, count: int, n: int) -> None:
    """Refuse arrays that are not those of so many instances of size n with solutions.

    What arrays a problem has is known by its recipes.

    Raises
    ------
    LabelError
        Naming the array.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for recipe, (what, _) in RECIPES.items():
        if what == problem:
            shapes |= {k: v.shape[1:] for k, v in draw(recipe, 0, 0, 1, n).items()}
    every = "tour" if "tour" in fields else "chosen"
    shapes |= {name: (n,) for name in {every, *fields} if name in SOLUTIONS}
    if problem in ("op", "pctsp", "spctsp"):  # tours through some customers
        shapes["tour"] = fields["tour"].shape[1:] if every == "tour" else (n,)
    for name, shape in shapes.items():
        if name not in fields:
            raise LabelError(f"{path}: has no {name}, which labels of {problem} need")
        array = fields[name]
        # Lists of edges have any length.
        wanted = (array.shape[1], *shape[1:]) if name == "edges" and array.ndim > 1 else shape
        if array.shape != (count, *wanted):
            raise LabelError(f"{path}: {name} has the shape {array.shape}, not {(count, *wanted)}")
        if array.dtype.kind not in ("biu" if name in SOLUTIONS else "iuf"):
            raise LabelError(f"{path}: {name} holds no numbers that are understood: {array.dtype}")
        if not np.isfinite(array).all():
            bad = int(np.argmin(np.isfinite(array).reshape(count, -1).all(1)))
            raise LabelError(f"{path}: {name} of label {bad} is not finite")
        if name in ("start", "chosen") and not np.isin(array, (0, 1)).all():
            raise LabelError(f"{path}: {name} is not made of truth values")


def unpack(fields: Arrays, n: int | None) -> tuple[int, int]:
    """Unpack rows of bits in place; number and size of the instances.

    Parameters
    ----------
    fields
        Arrays of a label file. ``start`` and ``chosen`` may be packed as by
        ``np.packbits(..., axis=1)``.
    n
        Size, where packed bits do not tell it.
    """
    main = "tour" if "tour" in fields else "chosen"
    size = n or fields[main].shape[1]
    if fields[main].ndim != 2:
        raise IndexError(main)
    for name in ("start", "chosen"):
        bits = fields.get(name)
        if bits is not None and bits.dtype == np.uint8 and bits.shape[1] == -(-size // 8):
            fields[name] = np.unpackbits(bits, axis=1)[:, :size].astype(bool)
    return len(fields[main]), size


def check_labels(path: str, problem: str, fields: Arrays) -> None:
    """Refuse labels that are no solutions of their instances.

    Raises
    ------
    LabelError
        Naming the first bad instance.
    """
    for good, what in _checks(problem, fields):
        if not good.all():
            raise LabelError(f"{path}: label {int(np.argmin(good))} {what}")


def _checks(problem: str, fields: Arrays) -> Iterator[tuple[NDArray[np.bool_], str]]:
    """Truth values [N] that must hold, and what is wrong where one does not."""
    if problem in ("op", "pctsp", "spctsp"):
        yield from _subset_checks(problem, fields)
    elif "tour" in fields:
        tour = fields["tour"]
        shift = 1 if "start" in fields else 0
        good = np.sort(tour, 1) == np.arange(shift, tour.shape[1] + shift)
        yield good.all(1), "is no permutation of its nodes"
    if "start" in fields:
        start = fields["start"].astype(bool)
        yield start[:, 0], "does not begin with a route"
    if problem == "mtsp":
        yield start.sum(1) <= fields["salesmen"], "has more routes than salesmen"
    if problem in ("cvrp", "acvrp", "ovrp"):
        demand = np.take_along_axis(fields["demands"], fields["tour"].astype(np.int64), 1)
        route = start.cumsum(1) - 1
        load = np.zeros(demand.shape)
        np.add.at(load, (np.arange(len(load))[:, None], route), demand)
        yield np.asarray((load <= fields["capacity"][:, None]).all(1)), "overloads a route"
    if problem == "knapsack":
        weight = (fields["weights"] * fields["chosen"]).sum(1)
        yield weight <= fields["capacity"], "exceeds the capacity"
    if problem == "mis":
        edges = fields["edges"]
        ends = np.take_along_axis(
            fields["chosen"].astype(bool), np.maximum(edges, 0).reshape(len(edges), -1), 1
        ).reshape(edges.shape)
        adjacent: NDArray[np.bool_] = ends.all(2) & (edges[..., 0] >= 0)
        yield np.logical_not(adjacent.any(1)), "chooses adjacent nodes"


def _subset_checks(problem: str, fields: Arrays) -> Iterator[tuple[NDArray[np.bool_], str]]:
    tour = fields["tour"].astype(np.int64)
    known = tour > 0
    yield (known == (np.cumsum(~known, 1) == 0)).all(1), "has a gap in its tour"
    order = np.sort(tour, 1)
    repeated = (order[:, 1:] == order[:, :-1]) & (order[:, 1:] > 0)
    n = fields["prizes"].shape[1]
    yield ~repeated.any(1) & (tour < n).all(1), "visits a customer twice or one that is not there"
    path = np.pad(np.minimum(tour, n - 1), ((0, 0), (1, 1)))
    if problem != "op":
        prizes = fields["prizes" if problem == "pctsp" else "real_prizes"]
        found = (np.take_along_axis(prizes, path, 1) * (path > 0)).sum(1)
        least, every = fields["min_prize"], known.sum(1) == n - 1
        enough = found >= least - 1e-9 * np.maximum(1, least)
        yield np.logical_or(enough, every), "collects too little"
        return
    points = np.take_along_axis(fields["coords"].astype(np.float64), path[..., None], 1)
    length = np.linalg.norm(np.diff(points, axis=1), axis=2).sum(1)
    yield length <= fields["max_length"] * (1 + 1e-9), "is longer than its limit"


def write_labels(path: str | Path, problem: str, fields: Arrays, **meta: Any) -> None:
    """Write labels as one compressed ``.npz``, atomically.

    Parameters
    ----------
    path
        Target file.
    problem
        The problem's name.
    fields
        Solutions, and the instances' arrays where no recipe is given.
    meta
        ``recipe``, ``seed`` and ``first`` of instances that a recipe redraws; ``n`` where
        packed bits do not tell it; anything else worth keeping (expert, command).
    """
    text = json.dumps({"format": 1, "problem": problem, **meta}, allow_nan=False)
    save_arrays(path, {"meta": np.array(text), **fields})


def save_arrays(path: str | Path, arrays: Arrays) -> None:
    """Write a compressed ``.npz`` that appears whole or not at all."""
    with replacing(Path(path)) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
