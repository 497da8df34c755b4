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
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.training.config import check_minutes, write_text
from nco.training.experts import EXPERTS, expert_for
from nco.training.labels import (
    RECIPES,
    Arrays,
    LabelError,
    draw,
    find_recipe,
    load_arrays,
    same_labels,
    save_arrays,
    write_labels,
)
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
    name: str,
    recipe: str,
    n: int,
    seed: int,
    first: int,
    count: int,
    effort: float,
    deadline: float = math.inf,
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
    deadline
        What `time.monotonic` says when no further one is begun; one is made in any case.
    """
    rows: list[Any] = []
    for i in range(first, first + count):
        if rows and time.monotonic() > deadline:
            break
        fields = {k: v[0] for k, v in draw(recipe, seed, i, 1, n).items()}
        rows.append(EXPERTS[RECIPES[recipe][0], name].solve(fields, effort, i))
    return pack({key: np.stack([row[key] for row in rows]) for key in rows[0]})


def _write_part(
    parts: Parts, name: str, recipe: str, n: int, seed: int, first: int, effort: float,
    begin: int, size: int, deadline: float,
) -> int:  # fmt: skip
    arrays = make_chunk(name, recipe, n, seed, first + begin, size, effort, deadline)
    made = len(next(iter(arrays.values())))
    parts.write(begin, made, arrays)
    return made


def _worker(parent: int) -> None:
    # The parent decides when to stop; one thread per process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent(parent)


def parts_of(out: Path) -> Path:
    """The folder of the finished chunks of a label file."""
    return out.with_name(f"{out.name}.parts")


class Parts:
    """The finished parts of a label file that is being made, in a folder beside it.

    A part is a chunk, or what was made of one before the time was over.

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
        text = json.dumps({**stamp, "count": count}, allow_nan=False)
        path = self.folder / "meta.json"
        if not path.is_file():
            write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise ValueError(f"{self.folder} belongs to a call with other arguments; remove it.")

    def path(self, begin: int, size: int) -> Path:
        """Where so many labels from that one on are."""
        return self.folder / f"{begin:09d}-{size}.npz"

    def write(self, begin: int, size: int, arrays: Arrays) -> None:
        """Keep so many labels from that one on."""
        save_arrays(self.path(begin, size), arrays)

    def found(self) -> dict[int, int]:
        """First label of every part that is there -> how many it has."""
        out: dict[int, int] = {}
        for path in self.folder.glob("*.npz"):
            if name := re.fullmatch(r"(\d+)-(\d+)", path.stem):
                begin, size = int(name[1]), int(name[2])
                out[begin] = max(size, out.get(begin, 0))
        return out

    def missing(self) -> list[tuple[int, int]]:
        """First label and number of labels of what is not there, for every chunk."""
        found, out = self.found(), []
        for begin in range(0, self.count, self.chunk):
            at, end = begin, min(begin + self.chunk, self.count)
            while at < end and at in found:
                at += found[at]
            if at < end:
                out.append((at, end - at))
        return out

    def whole(self) -> list[Arrays]:
        """The parts up to the first label that is missing.

        Raises
        ------
        ValueError
            When there is none, or one is damaged.
        """
        found, at, out = self.found(), 0, []
        while at in found:
            path = self.path(at, found[at])
            try:
                out.append(load_arrays(str(path)))
            except LabelError as error:
                raise ValueError(f"{error}; remove {path.name}: the same call goes on.") from None
            at += found[at]
        if not out:
            raise ValueError(f"{self.out}: not one label was finished; give it more time.")
        return out

    def merge(self, problem: str, fields: Mapping[str, NDArray[Any]], **meta: Any) -> int:
        """Write the parts up to the first missing label as one file; the number of labels.

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
            As `whole`.
        """
        whole = self.whole()
        labels = {k: np.concatenate([part[k] for part in whole]) for k in whole[0]}
        made = len(next(iter(labels.values())))
        stored = {k: v[:made] for k, v in fields.items()}
        write_labels(self.out, problem, {**stored, **labels}, **meta)
        if made == self.count:
            shutil.rmtree(self.folder)
        return made


#: Makes and keeps the labels from one on, so many at most, until a time of `time.monotonic`;
#: how many it made.
Write = Callable[[int, int, float], int]


def _in_time(write: Write, begin: int, size: int, deadline: float) -> int:
    """The same; nothing is begun when it is late."""
    return 0 if time.monotonic() > deadline else write(begin, size, deadline)


def make_parts(
    parts: Parts, write: Write, *, jobs: int, minutes: float, told: Callable[[int], object]
) -> None:
    """Make what is missing, several chunks at a time in processes of their own.

    Parameters
    ----------
    parts
        What there is.
    write
        Makes and keeps some labels.
    jobs
        Processes. One is this one: others import the script that calls, which then has to
        keep its calls under ``if __name__ == "__main__"``.
    minutes
        No label is begun after that time.
    told
        Called with the number of labels that were made.

    Raises
    ------
    RuntimeError
        When one of the processes is killed, or cannot begin.
    """
    todo, deadline = parts.missing(), time.monotonic() + minutes * 60
    if jobs == 1:
        for begin, size in todo:
            made = _in_time(write, begin, size, deadline)
            if not made:
                break
            told(made)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_worker, initargs=(os.getpid(),)
    ) as pool:
        running: set[Future[int]] = set()
        try:
            while todo or running:
                if time.monotonic() > deadline:
                    todo.clear()
                while todo and len(running) < 2 * jobs:
                    running.add(pool.submit(_in_time, write, *todo.pop(0), deadline))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        made = future.result()
                    except BrokenProcessPool:
                        raise RuntimeError(
                            "a process that made labels ended early: memory ran out, it was "
                            'killed, or a script calls this outside of if __name__ == "__main__"'
                        ) from None
                    if made:
                        told(made)
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
        Begin no label after that time; those up to the first missing one are written, and
        the same call goes on with the rest.
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
    done = count - sum(size for _, size in parts.missing())

    def told(size: int) -> None:
        nonlocal done
        done += size
        progress(done, count)

    write = partial(_write_part, parts, name, recipe, n, seed, first, effort)
    make_parts(parts, write, jobs=jobs, minutes=minutes, told=told)
    return parts.merge(problem, {}, **meta)


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
    parser.add_argument("--jobs", type=int, help="by default one per core, and one for bq")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--weights", default="", help="of the expert bq: weights file or run")
    parser.add_argument("--from", dest="old", default="", help="labels that bq improves")
    parser.add_argument("--views", type=int, default=1, help="of the expert bq")
    parser.add_argument("--device", default="auto", help="of the expert bq")
    options = vars(parser.parse_args(arguments))
    if options["jobs"] is None:
        own = options["expert"] == "bq" or options["old"]
        options["jobs"] = 1 if own else os.cpu_count() or 1
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
        As they, when the weights cannot be used, and when an option is given that does
        nothing for the expert.
    """
    if old and expert not in ("", "bq"):
        raise ValueError(f"labels are improved by bq only, not by {expert}.")
    if expert != "bq" and not old:
        idle = {"weights are": weights, "views are": views != 1, "device is": device != "auto"}
        for what, given in idle.items():
            if given:
                whom = expert or "the default"
                raise ValueError(f"{what} for the expert bq, not for {whom}; leave it out.")
        return label(problem, out, expert=expert, effort=effort, jobs=jobs, **options)
    from nco.training.relabel import find_model, relabel

    if jobs != 1:
        raise ValueError(f"jobs = {jobs} not understood; bq makes labels in one process.")
    rounds = 100.0 if effort is None else effort
    if not 0.0 <= rounds < math.inf or rounds % 1.0:
        raise ValueError(f"effort {effort} not understood; whole rounds of reconstruction.")
    model = find_model(weights, problem, device)
    return relabel(model, problem, out, old=old, views=views, rounds=int(rounds), **options)


if __name__ == "__main__":
    sys.exit(main())
