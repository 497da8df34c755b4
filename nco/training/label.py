"""Making labels: resumable, in parallel.

``python -m nco.training.label tsp --n 100 --count 10000 --seed 7 --jobs 16 --out FILE.npz``.
Finished chunks stay in ``FILE.npz.parts`` until all are there; a run that was stopped or
killed goes on with the chunks that are missing.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nco.training.experts import EXPERTS, expert_for
from nco.training.labels import RECIPES, Arrays, write_labels

log = logging.getLogger("nco")

#: Labels in a chunk: what a kill can lose, per process.
CHUNK = 100


def make_chunk(
    name: str, recipe: str, n: int, seed: int, first: int, count: int, effort: float
) -> Arrays:
    """Labels of instances ``first..first+count-1``, stacked.

    Parameters
    ----------
    name
        The expert.
    recipe, n, seed
        Of the instances.
    first, count
        Which of them.
    effort
        The expert's effort.
    """
    expert = EXPERTS[name]
    fields = RECIPES[recipe][1](seed, first, count, n)
    rows = [
        expert.solve({k: v[i] for k, v in fields.items()}, effort, first + i) for i in range(count)
    ]
    out: Arrays = {}
    for key in rows[0]:
        stacked = np.stack([row[key] for row in rows])
        if key in expert.packed:
            stacked = np.packbits(stacked, axis=1)
        elif stacked.dtype.kind in "iu":
            stacked = stacked.astype(np.min_scalar_type(int(stacked.max(initial=0))))
        out[key] = stacked
    return out


def _write_part(
    path: Path, name: str, recipe: str, n: int, seed: int, first: int, count: int, effort: float
) -> None:
    arrays = make_chunk(name, recipe, n, seed, first, count, effort)
    write_labels(path, EXPERTS[name].problem, arrays, n=n)


def _worker() -> None:
    # The parent decides when to stop; one thread per process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"


def label(
    problem: str,
    out: str | Path,
    *,
    n: int,
    count: int,
    seed: int,
    expert: str = "",
    recipe: str = "",
    effort: float | None = None,
    first: int = 0,
    jobs: int = 1,
    minutes: float = math.inf,
) -> int:
    """Make labels and write them to one file; the number of labels in it.

    Parameters
    ----------
    problem
        The problem's name.
    out
        The label file.
    n, count, seed, first
        Size, number and seed of the instances, and the number of the first.
    expert, recipe, effort
        Who solves what, and how hard it tries; by default the problem's own.
    jobs
        Processes.
    minutes
        Stop after that time; labels up to the first missing one are written, and the same
        call goes on with the rest.

    Raises
    ------
    ValueError
        When the problem, the expert or the recipe is not known, or the folder of parts
        belongs to another call.
    """
    out = Path(out)
    name, maker = expert_for(problem, expert)
    recipe = recipe or maker.recipe
    if recipe not in RECIPES or RECIPES[recipe][0] != problem:
        raise ValueError(f"recipe {recipe!r} for {problem} is not known.")
    effort = maker.effort if effort is None else effort
    meta = {"recipe": recipe, "seed": seed, "first": first, "n": n, "expert": name,
            "effort": effort, "unit": maker.unit}  # fmt: skip
    parts = out.with_name(f"{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    stamp = parts / "meta.json"
    text = json.dumps({**meta, "count": count})
    if not stamp.is_file():
        stamp.write_text(text, encoding="utf-8")
    elif stamp.read_text(encoding="utf-8") != text:
        raise ValueError(f"{parts} belongs to a call with other arguments; remove it.")
    chunks = {begin: parts / f"{begin:09d}.npz" for begin in range(0, count, CHUNK)}
    todo = [begin for begin, path in chunks.items() if not path.is_file()]
    started, done = time.monotonic(), count - sum(min(CHUNK, count - b) for b in todo)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_worker) as pool:
        running: dict[Future[None], int] = {}
        try:
            while todo or running:
                late = time.monotonic() - started > minutes * 60
                while todo and not late and len(running) < 2 * jobs:
                    begin = todo.pop(0)
                    size = min(CHUNK, count - begin)
                    running[
                        pool.submit(
                            _write_part, chunks[begin], name, recipe, n, seed, first + begin,
                            size, effort,
                        )
                    ] = size  # fmt: skip
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done += running.pop(future)
                    future.result()
                    log.info("%d of %d labels", done, count)
        finally:
            pool.shutdown(cancel_futures=True)
    return _merge(out, problem, chunks, meta, remove=done == count)


def _merge(
    out: Path, problem: str, chunks: dict[int, Path], meta: dict[str, object], *, remove: bool
) -> int:
    whole: list[Arrays] = []
    for path in chunks.values():
        if not path.is_file():
            break
        with np.load(path, allow_pickle=False) as data:
            whole.append({k: data[k] for k in data.files if k != "meta"})
    if not whole:
        raise ValueError(f"{out}: not one label was finished; give it more time.")
    fields = {k: np.concatenate([part[k] for part in whole]) for k in whole[0]}
    write_labels(out, problem, fields, **meta)
    if remove:
        shutil.rmtree(out.with_name(f"{out.name}.parts"))
    return len(next(iter(fields.values())))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the label maker."""
    parser = argparse.ArgumentParser(prog="python -m nco.training.label", description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--expert", default="")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--effort", type=float)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = label(options.pop("problem"), options.pop("out"), **options)
    except (ValueError, ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
