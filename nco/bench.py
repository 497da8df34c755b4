"""Benchmarks: one JSON line per result, resumable, and the table made of them.

Every run is a fresh process, so that a solver's library start-up counts and one run
cannot disturb the next. A row is known by its key (instance digest, solver and its
parameters, limits, seed, versions); a row that is already in the file is not run again.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fnmatch
import glob
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any

from nco.api import parse_solver
from nco.instances import io
from nco.instances.core import (
    Batch,
    InputError,
    Instance,
    Sense,
    Stop,
    check_seed,
    is_whole,
    primal_gap,
    reference_gap,
)
from nco.instances.registry import solvers as solver_registry
from nco.machine import processor

Row = dict[str, Any]

#: What every row has, also one of a run that failed.
ROW_KEYS = frozenset({"key", "spec", "instance", "n", "time_limit", "seed"})


@dataclass(frozen=True)
class Plan:
    """What a benchmark runs: every file with every solver, time limit and seed.

    Parameters
    ----------
    files
        Paths or glob patterns of instance files.
    solvers
        Solver specifications, ``name`` or ``name:key=value,key=value``.
    time_limits
        Seconds for each instance.
    seeds
        One run each.
    references
        CSV files with columns ``name`` and ``best_known`` (or ``best_objective``).
    first
        Only the first so many instances of a batch file, or None for all.
    per_node
        Time limits are seconds per node (2.4 is the CVRPLIB X protocol's 240 n / 100).
    problems
        Read files as these problems, by glob pattern; the rest say it themselves.

    Raises
    ------
    ValueError
        When a list is none or empty, a limit is not a positive number, or a seed is none.
    """

    files: tuple[str, ...]
    solvers: tuple[str, ...] = ("auto",)
    time_limits: tuple[float, ...] = (10.0,)
    seeds: tuple[int, ...] = (0,)
    references: tuple[str, ...] = ()
    first: int | None = None
    per_node: bool = False
    problems: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("files", "solvers", "references", "time_limits", "seeds"):
            value = getattr(self, name)
            kind, what = (Real, "numbers") if name in ("time_limits", "seeds") else (str, "texts")
            listed = isinstance(value, Iterable) and not isinstance(value, str)
            items = tuple(value) if listed else ()
            if not listed or not all(isinstance(item, kind) for item in items):
                raise ValueError(f"{name} = {value!r} not understood; give a list of {what}.")
            if not items and name != "references":
                raise ValueError(f"{name} is empty; nothing to run.")
            object.__setattr__(self, name, items)
        if not isinstance(self.problems, Mapping) or not all(
            isinstance(problem, str) for problem in self.problems.values()
        ):
            raise ValueError(f"problems = {self.problems!r} not understood; give names by pattern.")
        for limit in self.time_limits:
            if not (limit > 0 and math.isfinite(limit)):
                raise ValueError(f"time limit {limit} not understood; give seconds > 0.")
        for seed in self.seeds:
            check_seed(seed)
        if self.first is not None and not (is_whole(self.first) and self.first >= 1):
            raise ValueError(f"first = {self.first} not understood; give a whole number >= 1.")

    @classmethod
    def from_toml(
        cls, path: str | os.PathLike[str], section: str = "", root: str | os.PathLike[str] = "."
    ) -> Plan:
        """Read a plan from a TOML file, or from one table of it.

        Parameters
        ----------
        path
            The TOML file: keys as in the class, or tables of such keys.
        section
            Name of the table.
        root
            Folder that relative patterns start from.

        Raises
        ------
        InputError
            When the file is not TOML, has unknown keys or sections, or is no plan.
        """
        try:
            values = tomllib.loads(Path(path).read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(path, None, f"not a benchmark plan: {error}") from None
        tables = {k: v for k, v in values.items() if isinstance(v, dict) and k != "problems"}
        if tables or section:
            if section not in tables:
                known = f"plans: {', '.join(tables)}" if tables else "it has no tables"
                raise InputError(path, None, f"no plan {section!r}", known)
            values = tables[section]
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise InputError(path, None, f"unknown key {min(unknown)!r}", f"known: {known}")
        try:
            plan = cls(**{"files": (), **values})
        except (TypeError, ValueError) as error:
            raise InputError(path, None, str(error)) from None
        files = tuple(str(Path(root) / file) for file in plan.files)
        references = tuple(str(Path(root) / file) for file in plan.references)
        return dataclasses.replace(plan, files=files, references=references)


def environment() -> dict[str, str]:
    """Where and with what rows are measured."""
    return {
        "cpu": processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def versions(name: str) -> dict[str, str]:
    """Versions of nco and of the package a solver needs."""
    out = {"nco": importlib.metadata.version("nco")}
    package = solver_registry.entry(name).requires
    if package:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            out[package] = importlib.metadata.version(package)
    return out


def read_references(paths: Iterable[str]) -> dict[str, float]:
    """Best known objectives by instance name.

    Raises
    ------
    InputError
        When a file is no text, lacks the columns, or holds what is no finite number.
    """
    out: dict[str, float] = {}
    for path in paths:
        rows = csv.DictReader(io.read_text(path).splitlines(keepends=True))
        try:
            for row in rows:
                value = row.get("best_known") or row.get("best_objective")
                if "name" not in row or not row.keys() & {"best_known", "best_objective"}:
                    what, hint = "no name and best_known", "add these columns"
                    raise InputError(path, rows.line_num, what, hint)
                if not value:
                    continue  # none is known
                try:
                    number = float(value)
                except ValueError:
                    number = math.nan
                if not math.isfinite(number):
                    what, hint = f"{value!r} is not a number", "give a finite one"
                    raise InputError(path, rows.line_num, what, hint)
                out[row["name"]] = number
        except csv.Error as error:
            begin = rows.line_num + 1
            raise InputError(path, begin, f"not CSV: {error}", "close the quote") from None
    return out


@dataclass(frozen=True)
class _Task:
    key: str
    file: str
    read_as: str  # a problem, or "" where the file says it itself
    problem: str
    index: int | None
    name: str
    n: int
    solver: str
    time_limit: float
    seed: int
    reference: float | None


def _instances(plan: Plan) -> Iterable[tuple[str, str, int | None, Instance[Any]]]:
    for pattern in plan.files:
        paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        if not paths:
            raise InputError(pattern, None, "matches no file", "check the pattern")
        for path in paths:
            read_as = next((p for g, p in plan.problems.items() if fnmatch.fnmatch(path, g)), "")
            content = io.read(path, read_as)
            if isinstance(content, Batch):
                size = len(content) if plan.first is None else min(plan.first, len(content))
                for index in range(size):
                    yield path, read_as, index, content[index]
            else:
                yield path, read_as, None, content


def _parsed(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a solver that can be made of them.

    Raises
    ------
    InputError
        As `api.make_solver`, which also refuses arguments of `api.solve`: limits and seeds are
        the plan's.
    """
    from nco.api import make_solver

    name, params = parse_solver(spec)
    # A solver that cannot be imported here is a row that says so.
    with contextlib.suppress(ImportError):
        make_solver(name, params)
    return name, params


def _tasks(plan: Plan) -> list[_Task]:
    references = read_references(plan.references)
    parsed = {spec: _parsed(spec) for spec in plan.solvers}
    tasks = []
    for path, read_as, index, instance in _instances(plan):
        reference = references.get(instance.name, references.get(Path(path).name.split(".")[0]))
        for spec in plan.solvers:
            name, params = parsed[spec]
            for limit in plan.time_limits:
                seconds = limit * instance.n if plan.per_node else limit
                for seed in plan.seeds:
                    key = json.dumps(
                        [instance.digest, name, params, seconds, seed, versions(name)],
                        sort_keys=True,
                    )
                    tasks.append(
                        _Task(
                            key=hashlib.sha256(key.encode()).hexdigest()[:24],
                            file=path,
                            read_as=read_as,
                            problem=instance.problem,
                            index=index,
                            name=instance.name,
                            n=instance.n,
                            solver=spec,
                            time_limit=seconds,
                            seed=seed,
                            reference=instance.ref_cost if reference is None else reference,
                        )
                    )
    return tasks


def _child() -> None:
    """Run one task: JSON in on stdin, one row out on stdout."""
    # As Ctrl-C, so that a solver's own processes end, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    task = json.loads(sys.stdin.read())
    if task["core"] is not None:
        os.sched_setaffinity(0, {task["core"]})
    from nco import api
    from nco.instances.core import UnsupportedError

    instance = io.read(task["file"], task["read_as"])
    if isinstance(instance, Batch):
        instance = instance[task["index"]]
    name, params = parse_solver(task["solver"])
    try:
        result = api.solve(
            instance, solver=name, time_limit=task["time_limit"], seed=task["seed"], **params
        )
    except (UnsupportedError, ImportError) as error:
        print(json.dumps({"unsupported": str(error)}))
        return
    if not task["solutions"]:
        result = dataclasses.replace(result, solution=None)
    print(result.to_json())


class _Children:
    """The processes of the runs under way; they can be ended all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def call(self, request: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run a request of `_child` in a process of its own to its end."""
        with subprocess.Popen(
            [sys.executable, "-c", "from nco.bench import _child; _child()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child:
            with self._lock:
                self._running.add(child)
                if self._ended:
                    child.terminate()
            try:
                out, err = child.communicate(json.dumps(request))
            finally:
                with self._lock:
                    self._running.discard(child)
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def end(self) -> None:
        """Interrupt what is running, and what might still begin."""
        with self._lock:
            self._ended = True
            for child in self._running:
                child.terminate()


def _run_task(task: _Task, core: int | None, solutions: bool, children: _Children) -> Row:
    request = {
        "file": task.file,
        "read_as": task.read_as,
        "index": task.index,
        "solver": task.solver,
        "time_limit": task.time_limit,
        "seed": task.seed,
        "core": core,
        "solutions": solutions,
    }
    done = children.call(request)
    row: Row = {"problem": task.problem, "instance": task.name}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        row |= json.loads(lines[-1])
    else:
        tail = done.stderr.strip().splitlines()
        row["error"] = tail[-1] if tail else f"exit code {done.returncode}"
        if done.returncode in (-signal.SIGINT, -signal.SIGTERM):
            row["stopped"] = Stop.INTERRUPTED
    row |= {
        "key": task.key,
        "file": Path(task.file).name,
        "n": task.n,
        "spec": task.solver,
        "time_limit": task.time_limit,
        "seed": task.seed,
        "reference": task.reference,
    }
    return stamped(row, versions(task.solver.partition(":")[0]))


def stamped(row: Row, used: Mapping[str, str] | None = None) -> Row:
    """A row with where it was measured and the versions of nco and of what else was used."""
    used = used or {"nco": importlib.metadata.version("nco")}
    return row | {
        "environment": environment(),
        "versions": {**row.get("versions", {}), **used},
    }


def load_rows(path: str | os.PathLike[str], keys: Iterable[str] = ROW_KEYS) -> list[Row]:
    """The rows of a result file; a torn last line is left out.

    Parameters
    ----------
    path
        The file; none is no rows.
    keys
        What every row must have; scripts that measure something else have other rows.

    Raises
    ------
    InputError
        When the file is no text, or anything else in it is not a row.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    text = io.read_text(path) if path.stat().st_size else ""
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            if number == len(lines) and line.startswith("{") and not text.endswith("\n"):
                break
            raise InputError(path, number, "not a result line", "remove the line") from None
        if not isinstance(row, dict) or not row.keys() >= {*keys}:
            raise InputError(path, number, "not a result line", "remove the line")
        rows.append(row)
    return rows


class RowFile:
    """A result file of a script that measures something else than a plan.

    Parameters
    ----------
    path
        JSON-lines file; rows are appended as they come. Its folder is made.

    Raises
    ------
    InputError
        When the file holds something else than rows with keys.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._known = {row["key"] for row in load_rows(self.path, {"key"})}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _repair(self.path)

    def __contains__(self, key: str) -> bool:
        """Whether there is a row with this key, which need not be measured again."""
        return key in self._known

    def add(self, key: str, row: Row) -> Row:
        """Append a row, with its key, where it was measured and the version of nco."""
        row = stamped({"key": key} | row)
        _append(self.path, row)
        self._known.add(key)
        return row


def run(
    plan: Plan,
    out: str | os.PathLike[str],
    *,
    jobs: int = 1,
    pin: bool = True,
    solutions: bool = False,
    on_row: Callable[[Row, int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Row]:
    """Run what a plan asks for and ``out`` does not hold yet.

    Parameters
    ----------
    plan
        What to run.
    out
        JSON-lines file; rows are appended as they come.
    jobs
        Runs at the same time.
    pin
        Bind every run to a core of its own, unless there are more jobs than cores.
    solutions
        Keep the solutions in the rows.
    on_row
        Called with every new row, the number done and the number in all.
    stop
        Set it to stop after the runs in flight.

    Returns
    -------
    All rows of the plan, old and new.

    Raises
    ------
    InputError
        When a file, solver or reference list cannot be understood.
    """
    tasks = _tasks(plan)
    known = {
        row["key"]: row
        for row in load_rows(out)
        if "error" not in row and row.get("stopped") != Stop.INTERRUPTED
    }
    todo = [task for task in tasks if task.key not in known]
    stop = stop or threading.Event()
    # Without affinity calls (macOS) runs are simply not pinned.
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    free: queue.Queue[int | None] = queue.Queue()
    for job in range(jobs):
        free.put(cores[job] if pin and jobs <= len(cores) else None)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    _repair(path)
    lock = threading.Lock()
    children = _Children()
    count = len(tasks) - len(todo)

    def work(task: _Task) -> None:
        nonlocal count
        if stop.is_set():
            return
        core = free.get()
        try:
            row = _run_task(task, core, solutions, children)
        finally:
            free.put(core)
        if row.get("stopped") == Stop.INTERRUPTED:
            stop.set()  # Ctrl-C reaches the runs, too; they are not done
            return
        with lock:
            count += 1
            known[task.key] = row
            _append(path, row)
            if on_row is not None:
                on_row(row, count, len(tasks))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(work, todo))
        except BaseException:
            stop.set()
            children.end()
            raise
    return [known[task.key] for task in tasks if task.key in known]


def _append(path: Path, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def _repair(path: Path) -> None:
    """End the last line of rows that `load_rows` has read, or cut it off where it is torn."""
    # A killed run may leave half a line; what follows must not be glued to it.
    text = path.read_bytes() if path.is_file() else b""
    begin = text.rfind(b"\n") + 1
    if begin == len(text):
        return
    with path.open("rb+") as file:
        try:
            json.loads(text[begin:])
        except ValueError:
            file.truncate(begin)
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Parameters
    ----------
    group, solver, time_limit
        What the line is about.
    runs, solved
        Number of runs, and of those with a solution.
    gap, worst
        Mean and largest per cent above the reference, of the solved runs.
    seconds
        Mean seconds.
    overshoot
        Largest excess over the time limit, in seconds.
    """

    group: str
    solver: str
    time_limit: float
    runs: int
    solved: int
    gap: float | None
    worst: float | None
    seconds: float
    overshoot: float


def row_gaps(rows: Sequence[Row]) -> dict[str, float]:
    """Per cent by which each solved row (by key) is worse than its reference.

    Without a stored reference it is the best objective among the rows themselves.
    """
    best: dict[str, float] = {}
    for row in rows:
        if row.get("objective") is None:
            continue
        sense = Sense(row["sense"])
        value, digest = row["objective"], row["digest"]
        if digest not in best or (
            value < best[digest] if sense is Sense.MINIMIZE else value > best[digest]
        ):
            best[digest] = value
    gaps = {}
    for row in rows:
        if row.get("objective") is None:
            continue
        reference = row.get("reference")
        if reference is None:
            reference = best[row["digest"]]
        gap = reference_gap(row["objective"], reference, Sense(row["sense"]))
        if gap is None:
            gap = 100.0 * primal_gap(row["objective"], reference)
        gaps[row["key"]] = gap
    return gaps


def summarize(rows: Sequence[Row], by: str = "problem") -> list[Cell]:
    """The table of a set of rows.

    Parameters
    ----------
    rows
        Rows of `run` or `load_rows`.
    by
        Row key to group by: ``problem``, ``file``, ``instance`` or ``n``.
    """
    gaps = row_gaps(rows)
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        if "unsupported" in row:
            continue
        key = (str(row.get(by, "")), row["spec"], row["time_limit"])
        groups.setdefault(key, []).append(row)
    cells = []
    for (group, solver, limit), members in groups.items():
        solved = [gaps[r["key"]] for r in members if r["key"] in gaps]
        seconds = [r["seconds"] for r in members if "seconds" in r]
        cells.append(
            Cell(
                group=group,
                solver=solver,
                time_limit=limit,
                runs=len(members),
                solved=len(solved),
                gap=math.fsum(solved) / len(solved) if solved else None,
                worst=max(solved, default=None),
                seconds=math.fsum(seconds) / max(1, len(seconds)),
                overshoot=max((s - limit for s in seconds), default=0.0),
            )
        )
    return sorted(cells, key=lambda c: (*_natural(c.group), c.time_limit, _rank(c)))


def _natural(group: str) -> tuple[float, str]:
    """Numbers by their size, then texts."""
    return (int(group) if group.isdecimal() else math.inf, group)


def _rank(cell: Cell) -> tuple[int, float, float]:
    return (-cell.solved, math.inf if cell.gap is None else cell.gap, cell.seconds)


def choices(rows: Sequence[Row]) -> list[Row]:
    """The rows of the table by which ``auto`` chooses.

    For every problem, size and time limit measured: the mean gap, the runs and the seconds
    of every solver that solved all of them. Sizes are grouped by half decades; rows of
    ``auto`` itself do not count.
    """
    sized = [
        {**row, "bucket": f"{row['problem']} {size_bucket(row['n'])}"}
        for row in rows
        if row["spec"] != "auto"
    ]
    table: dict[tuple[str, float], Row] = {}
    for cell in summarize(sized, by="bucket"):
        problem, bucket = cell.group.rsplit(" ", 1)
        entry = table.setdefault(
            (cell.group, cell.time_limit),
            {"problem": problem, "n": int(bucket), "time_limit": cell.time_limit, "solvers": []},
        )
        if cell.solved == cell.runs and cell.gap is not None:
            spec = cell.solver
            entry["solvers"].append([spec, round(cell.gap, 4), cell.runs, round(cell.seconds, 3)])
    return sorted(table.values(), key=lambda e: (e["problem"], e["n"], e["time_limit"]))


def size_bucket(n: int) -> int:
    """The half decade (10, 32, 100, 316, ...) nearest to ``n`` on a log scale."""
    return round(10 ** (round(2 * math.log10(max(1, n))) / 2))
