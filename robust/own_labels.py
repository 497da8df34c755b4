"""Labels for problems of one's own: where instances come from, and what is asked of them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from nco.instances.core import Budget, InputError, Sense
from nco.robust.masters import scenario_master
from nco.robust.model import Indices, Model
from nco.robust.own_encoding import OwnEncoder
from nco.robust.search import feasible_rows
from nco.robust.two_stage import FirstStage, TwoStageProblem

Vector = NDArray[np.float64]
#: Numbers of a perturbed problem are multiplied by at most this, or divided by it.
SPREAD = 1.3
#: Seconds for one first stage.
SECONDS = 5.0

#: A TOML file, a folder of them, a Python file, a problem, or ``seed -> problem``.
Source = str | Path | TwoStageProblem | Callable[[int], TwoStageProblem]


def _scaled(matrix: Any, rng: np.random.Generator, *, plain: bool) -> Any:
    """A matrix with other entries; where ``plain``, 1 and -1 stay."""
    out = sparse.csr_array(matrix, copy=True)
    factor = SPREAD ** rng.uniform(-1.0, 1.0, len(out.data))
    out.data = out.data * np.where(plain & (np.abs(out.data) == 1.0), 1.0, factor)
    return out


def perturbed(problem: TwoStageProblem, rng: np.random.Generator) -> TwoStageProblem:
    """The same problem with other numbers.

    Objectives, second-stage limits, what scenarios add to either, and matrix entries of the
    recourse but 1 and -1 are multiplied by factors between 1 / `SPREAD` and `SPREAD`. Rows and
    bounds of the first stage, bounds of the recourse, what scenarios add to matrices and the
    uncertainty set stay. Its second stages are a MIP engine's.

    Parameters
    ----------
    problem
        The problem.
    rng
        Draws the factors.
    """
    first, recourse = problem.first_stage, problem.recourse

    def factors(size: int) -> Vector:
        return SPREAD ** rng.uniform(-1.0, 1.0, size)

    limit = factors(len(recourse.row_lower))
    return TwoStageProblem(
        name=problem.name,
        sense=problem.sense,
        first_stage=dataclasses.replace(first, c=first.c * factors(len(first.c))),
        recourse=dataclasses.replace(
            recourse,
            q=recourse.q * factors(len(recourse.q)),
            p=recourse.p * factors(len(recourse.p)),
            row_lower=recourse.row_lower * limit,
            row_upper=recourse.row_upper * limit,
            T=_scaled(recourse.T, rng, plain=True),
            W=_scaled(recourse.W, rng, plain=True),
            q_xi=_scaled(recourse.q_xi, rng, plain=False),
            p_xi=_scaled(recourse.p_xi, rng, plain=False),
            h_xi=_scaled(recourse.h_xi, rng, plain=False),
        ),
        uncertainty=problem.uncertainty,
    )


@dataclass(frozen=True)
class Instances:
    """Instances of one's own to make labels of.

    Parameters
    ----------
    source
        A TOML file or a `TwoStageProblem`: perturbations of that one problem, see `perturbed`.
        A folder: its TOML files as they are. A Python file: what its ``generate(seed)`` gives,
        or perturbations of its ``problem``. A function ``seed -> TwoStageProblem``.

    Raises
    ------
    InputError
        When the source gives no two-stage problem.
    """

    source: Any

    @cached_property
    def _known(self) -> tuple[list[TwoStageProblem], Callable[[int], Any] | None]:
        source = self.source
        if isinstance(source, TwoStageProblem):
            return [source], None
        if callable(source):
            return [], source
        path = Path(source)
        if path.is_dir():
            files = sorted(path.glob("*.toml"))
            if not files:
                raise InputError(path, None, "holds no .toml files", "name another folder")
            return [_read(file) for file in files], None
        if path.suffix != ".py":
            return [_read(path)], None
        module = _module(path)
        if callable(getattr(module, "generate", None)):
            return [], module.generate
        if not isinstance(getattr(module, "problem", None), TwoStageProblem):
            raise InputError(
                path, None, "defines no two-stage problem",
                "define generate(seed) or problem, a TwoStageProblem",
            )  # fmt: skip
        return [module.problem], None

    def draw(self, n: int, seed: int, rng: np.random.Generator) -> TwoStageProblem:
        """One of them; n plays no part.

        Raises
        ------
        InputError
            When the generator gives something else.
        """
        known, make = self._known
        if make is not None:
            found = make(seed)
            if not isinstance(found, TwoStageProblem):
                raise InputError(
                    None, None, f"generate({seed}) gave {type(found).__name__}",
                    "return a TwoStageProblem",
                )  # fmt: skip
            return found
        if len(known) > 1 or (isinstance(self.source, (str, Path)) and Path(self.source).is_dir()):
            return known[int(rng.integers(len(known)))]
        return perturbed(known[0], rng)

    @property
    def stamp(self) -> str:
        """What tells sources apart in a label file."""
        if isinstance(self.source, (str, Path)):
            path = Path(self.source)
            if path.suffix == ".py" and path.is_file():
                return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
            name = path.name
        else:
            name = getattr(self.source, "name", "") or getattr(self.source, "__qualname__", "")
        known, _ = self._known
        return " ".join([str(name), *(p.digest[:16] for p in known)])


def _read(path: Path) -> TwoStageProblem:
    from nco.instances import io

    found = getattr(io.read(path), "two_stage", None)
    if not isinstance(found, TwoStageProblem):
        raise InputError(path, None, "is not a two-stage problem", "name a .toml or .py file")
    return found


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(path, None, "no such Python file", "check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(path, None, f"{type(error).__name__}: {text}", "mend the file") from None
    return module


def steps(first: FirstStage, x: Vector, columns: Indices, width: Vector) -> Vector:
    """First stages [k, p] that differ from x in one column, by a small or a larger step."""
    out = []
    for i in columns:
        small, large = (1.0, np.ceil(width[i] / 8)) if first.whole[i] else width[i] / [64.0, 8.0]
        for step in {-small, small, -large, large}:
            moved = x.copy()
            moved[i] = min(max(x[i] + step, first.lower[i]), first.upper[i])
            if moved[i] != x[i]:
                out.append(moved)
    return np.array(out).reshape(-1, len(x))


def _optimum(mip: Any, columns: Indices) -> Vector | None:
    from nco.mip.backend import Form, Limits
    from nco.mip.highs import HighsEngine

    engine = HighsEngine(Form(mip))
    try:
        outcome = engine.solve(Limits(SECONDS, gap=1e-2))
    finally:
        engine.close()
    return None if outcome.x is None else outcome.x[columns]


def _first_stages(
    problem: TwoStageProblem, low: Vector, width: Vector, xi: Vector, a: int,
    rng: np.random.Generator,
) -> Vector:  # fmt: skip
    """First stages [a, p]: best in a scenario or two, extreme in a direction, and near those."""
    first, out = problem.first, []
    for _ in range(max(1, a // 4)):
        some = xi[rng.choice(len(xi), size=int(rng.integers(1, 3)), replace=False)]
        master = scenario_master(problem, list(some))
        out.append(_optimum(master.mip, master.x))
    for _ in range(max(1, a // 4)):
        model = Model()
        x = problem.add_first_stage(model)
        model.set_cost(x, rng.normal(size=len(x)) / width)
        out.append(_optimum(model.mip(Sense.MAXIMIZE), x))
    known = [problem.whole_x(x) for x in out if x is not None]
    if not known:
        raise ValueError("the first stage has no solution that is found in a few seconds.")
    while len(known) < a:
        point = known[int(rng.integers(len(known)))]
        shape = (20, len(point))
        change = rng.random(shape) < rng.uniform(0.0, 0.6, (20, 1)) + 1.0 / len(point)
        options = np.where(change, low + width * rng.random(shape), point[None])
        options = np.where(first.whole, np.rint(options), options)
        good = options[feasible_rows(problem, options)]
        known.append(good[0] if len(good) else point)
    return np.array(known[:a])


def own_pairs(instance: Any, a: int, b: int, rng: np.random.Generator) -> dict[str, Any]:
    """Fields, first stages (from 0 to 1 within their bounds), scenarios and labels."""
    problem: TwoStageProblem = instance.two_stage
    fields = {k: v.astype(np.float32) for k, v in OwnEncoder().fields(problem).items()}
    uncertainty = problem.uncertainty
    worth = fields["entries"][0, :, :3].mean(1) / fields["half"][0]
    noise = rng.normal(size=(b // 2, len(worth)))
    directions = np.where(rng.random((b // 2, 1)) < 0.5, worth * np.exp(noise), noise)
    worst = [uncertainty.worst_case(np.asarray(d, dtype=float))[0] for d in directions]
    xi = np.concatenate([uncertainty.sample(b - b // 2, rng), np.array(worst)])
    low, width = (fields[k][0].astype(float) for k in ("low", "width"))
    x = _first_stages(problem, low, width, xi, a, rng)
    # Labels are those of the numbers that are stored.
    xi, z = xi.astype(np.float32), ((x - low) / width).astype(np.float32)
    x = problem.whole_x(low + width * z)
    values, _ = problem.recourse_at(x, xi.astype(float), Budget())
    return {**fields, "x": z, "xi": xi, "values": values}
