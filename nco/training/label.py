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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.training.config import check_minutes, write_text
from nco.training.experts import EXPERTS, expert_for
from nco.training.labels import RECIPES, Arrays, draw, same_labels, write_labels
from nco.training.processes import end_with_parent

log = logging.getLogger("nco")

#: Labels in a chunk: what a kill can lose, per process.
CHUNK = 100


def pack(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Solutions as a label file holds them: bits for truth values, the least integer type."""
    out: Arrays = {}
    for key, array in arrays.items():
        if array.dtype == bool:
            array = np.packbits(array, axis=1)
        elif array.dtype.kind in "iu":
            array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
        out[key] = array
    return out


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
    rows = []
    for i in range(first, first + count):
        fields = {k: v[0] for k, v in draw(recipe, seed, i, 1, n).items()}
        rows.append(EXPERTS[RECIPES[recipe][0], name].solve(fields, effort, i))
    return pack({key: np.stack([row[key] for row in rows]) for key in rows[0]})


def _write_part(
    path: Path, name: str, recipe: str, n: int, seed: int, first: int, count: int, effort: float
) -> None:
    arrays = make_chunk(name, recipe, n, seed, first, count, effort)
    write_labels(path, RECIPES[recipe][0], arrays, n=n)


def _worker(parent: int) -> None:
    # The parent decides when to stop; one thread per process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent(parent)


def parts_of(out: Path) -> Path:
    """The folder of the finished chunks of a label file."""
    return out.with_name(f"{out.name}.parts")


class Parts:
    """The finished chunks of a label file that is being made, in a folder beside it.

    Parameters
    ----------
    out
        The label file.
    count
        Labels that it will hold.
    stamp
        What the labels depend on.
    chunk
        Labels in a chunk.

    Raises
    ------
    ValueError
        When the folder belongs to a call with other arguments.
    """

    def __init__(self, out: Path, count: int, stamp: Mapping[str, Any], chunk: int):
        self.out, self.count, self.chunk = out, count, chunk
        self.folder = parts_of(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**stamp, "count": count})
        path = self.folder / "meta.json"
        if not path.is_file():
            write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise ValueError(f"{self.folder} belongs to a call with other arguments; remove it.")

    def path(self, begin: int) -> Path:
        """Where the chunk from that label on is."""
        return self.folder / f"{begin:09d}.npz"

    def size(self, begin: int) -> int:
        """Labels in that chunk."""
        return min(self.chunk, self.count - begin)

    def missing(self) -> list[int]:
        """First labels of the chunks that are not there."""
        return [b for b in range(0, self.count, self.chunk) if not self.path(b).is_file()]

    def merge(self, problem: str, fields: Mapping[str, NDArray[Any]], **meta: Any) -> int:
        """Write the chunks up to the first missing one as one file; the number of labels.

        Parameters
        ----------
        problem
            The problem's name.
        fields
            Arrays of the instances that the file holds.
        meta
            What else it says.

        Raises
        ------
        ValueError
            When there is no chunk.
        """
        whole: list[Arrays] = []
        for begin in range(0, self.count, self.chunk):
            if not self.path(begin).is_file():
                break
            with np.load(self.path(begin), allow_pickle=False) as data:
                whole.append({k: data[k] for k in data.files if k != "meta"})
        if not whole:
            raise ValueError(f"{self.out}: not one label was finished; give it more time.")
        labels = {k: np.concatenate([part[k] for part in whole]) for k in whole[0]}
        made = len(next(iter(labels.values())))
        stored = {k: v[:made] for k, v in fields.items()}
        write_labels(self.out, problem, {**stored, **labels}, **meta)
        if not self.missing():
            shutil.rmtree(self.folder)
        return made


def make_parts(
    parts: Parts,
    write: Callable[..., None],
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    jobs: int,
    minutes: float,
    told: Callable[[int], object],
) -> None:
    """Make the missing chunks, several at a time in processes of their own.

    Parameters
    ----------
    parts
        The chunks.
    write
        Makes and writes one.
    arguments
        What ``write`` is given for the chunk from that label on.
    jobs
        Processes. One is this one: others import the script that calls, which then has to
        keep its calls under ``if __name__ == "__main__"``.
    minutes
        None begins after that time.
    told
        Called with the number of labels of every chunk that is finished.

    Raises
    ------
    RuntimeError
        When one of the processes is killed, or cannot begin.
    """
    todo, started = parts.missing(), time.monotonic()
    if jobs == 1:
        for begin in todo:
            if time.monotonic() - started > minutes * 60:
                break
            write(*arguments(begin))
            told(parts.size(begin))
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_worker, initargs=(os.getpid(),)
    ) as pool:
        running: dict[Future[None], int] = {}
        try:
            while todo or running:
                late = time.monotonic() - started > minutes * 60
                while todo and not late and len(running) < 2 * jobs:
                    begin = todo.pop(0)
                    running[pool.submit(write, *arguments(begin))] = parts.size(begin)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    size = running.pop(future)
                    try:
                        future.result()
                    except BrokenProcessPool:
                        raise RuntimeError(
                            "a process that made labels ended early: memory ran out, it was "
                            'killed, or a script calls this outside of if __name__ == "__main__"'
                        ) from None
                    told(size)
        finally:
            pool.shutdown(cancel_futures=True)


def finished(out: Path, problem: str, count: int, **meta: Any) -> bool:
    """Whether the same call made the file before, and nothing is left to do; then logs so.

    Parameters
    ----------
    out
        The label file.
    problem, count, meta
        The problem's name, how many labels there are to be, and what else the file says.
    """
    # With parts beside it, it is partial or its call was killed at the very end.
    if parts_of(out).exists() or not same_labels(str(out), problem, count, **meta):
        return False
    log.warning("%s holds these %d labels already; remove it to make them again", out, count)
    return True


Progress = Callable[[int, int], object]


def log_progress(done: int, count: int) -> None:
    """Log how far one is."""
    log.info("%d of %d labels", done, count)


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
    progress: Progress = log_progress,
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
    progress
        Called with the numbers of labels that are done and wanted.

    Raises
    ------
    ValueError
        When the problem, the expert or the recipe is not known, or the folder of parts
        belongs to another call.
    """
    out = Path(out)
    name, maker = expert_for(problem, expert)
    recipe = find_recipe(problem, recipe or maker.recipe)
    if min(n, count, jobs) < 1:
        raise ValueError(f"n = {n}, count = {count}, jobs = {jobs} not understood; at least 1.")
    check_minutes(minutes)
    draw(recipe, seed, first, 1, n)
    if n < maker.least:
        raise ValueError(f"n = {n}: {name} needs at least {maker.least}.")
    effort = maker.effort if effort is None else effort
    if effort != maker.effort and not 0.0 < effort < math.inf:
        raise ValueError(f"effort {effort} not understood; more than 0 {maker.unit}.")
    meta = {"recipe": recipe, "seed": seed, "first": first, "n": n, "expert": name,
            "effort": effort, "unit": maker.unit}  # fmt: skip
    if finished(out, problem, count, **meta):
        return count
    parts = Parts(out, count, meta, CHUNK)
    done = count - sum(map(parts.size, parts.missing()))

    def arguments(begin: int) -> tuple[Any, ...]:
        size = parts.size(begin)
        return parts.path(begin), name, recipe, n, seed, first + begin, size, effort

    def told(size: int) -> None:
        nonlocal done
        done += size
        progress(done, count)

    make_parts(parts, _write_part, arguments, jobs=jobs, minutes=minutes, told=told)
    return parts.merge(problem, {}, **meta)


def find_recipe(problem: str, recipe: str) -> str:
    """The recipe, if it makes instances of the problem.

    Raises
    ------
    ValueError
        When it does not.
    """
    if recipe not in RECIPES or RECIPES[recipe][0] != problem:
        raise ValueError(f"recipe {recipe!r} for {problem} is not known.")
    return recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the label maker."""
    parser = argparse.ArgumentParser(prog="python -m nco.training.label", description=__doc__)
    parser.add_argument("problem")
    parser.add_argument("--n", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    parser.add_argument("--expert", default="")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--effort", type=float)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--weights", default="", help="of the expert bq: weights file or run")
    parser.add_argument("--from", dest="old", default="", help="labels that bq improves")
    parser.add_argument("--views", type=int, default=1, help="of the expert bq")
    parser.add_argument("--device", default="auto", help="of the expert bq")
    options = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = make(**options)
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    print(made)
    return 0


def make(
    problem: str,
    out: str | Path,
    *,
    expert: str = "",
    effort: float | None = None,
    jobs: int = 1,
    weights: str = "",
    old: str = "",
    views: int = 1,
    device: str = "auto",
    **options: Any,
) -> int:
    """Labels by any expert: `label`'s, or ``bq``, a policy itself; the number made.

    Parameters
    ----------
    problem, out, expert, effort, jobs
        As for `label`; for ``bq`` the effort is rounds of reconstruction.
    weights, old, views, device
        Of ``bq``: a weights file or a run's folder, labels to improve, views, and device.
    options
        What `label` and `nco.training.relabel.relabel` share.

    Raises
    ------
    ValueError
        As they, when the weights cannot be used, and when an option of ``bq`` is given for
        another expert.
    """
    if old and expert not in ("", "bq"):
        raise ValueError(f"labels are improved by bq only, not by {expert}.")
    if expert != "bq" and not old:
        if weights:
            raise ValueError(f"weights are for the expert bq, not for {expert or 'the default'}.")
        return label(problem, out, expert=expert, effort=effort, jobs=jobs, **options)
    from nco.training.relabel import find_model, relabel

    model = find_model(weights, problem, device)
    rounds = 100.0 if effort is None else effort
    if not 0.0 <= rounds < math.inf:
        raise ValueError(f"effort {effort} not understood; rounds of reconstruction.")
    return relabel(model, problem, out, old=old, views=views, rounds=int(rounds), **options)


if __name__ == "__main__":
    sys.exit(main())
