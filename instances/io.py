"""Reading and writing files: which format a file has, and one way in and out.

What a file holds is decided by, in this order, the caller's ``problem``, the TYPE or
keys inside the file, its suffix, and the formats' ``sniff``.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from nco.instances.core import (
    METRICS,
    Batch,
    InputError,
    Instance,
    atomic_write,
    is_special,
    plain,
)
from nco.instances.registry import formats, problems

#: Bytes of a file that ``sniff`` sees.
HEAD = 8192
#: Files larger than this are refused before they are read.
MAX_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format for one problem.

    Parameters
    ----------
    problem
        Problem name, or "" for a container that may hold any problem.
    suffixes
        File name endings, lower case with the dot, without ``.gz``.
    sniff
        Tells from the first `HEAD` bytes as text whether the file is surely of this
        format and problem.
    read
        ``read(path, problem) -> Instance | Batch``; problem is the caller's wish, or "".
    write
        ``write(instance, file)`` writes text (bytes where ``binary``) into an open
        file; None for a read-only format.
    read_solution
        ``read_solution(path, instance) -> solution``; None if the format has none.
    write_solution
        ``write_solution(instance, solution, file)``; None if the format has none.
    solution_suffixes
        File name endings of solution files.
    binary
        Whether ``write`` wants a binary file.
    stated_cost
        ``stated_cost(path) -> float | None``: the objective that a solution file claims;
        None if the format has no place for it.
    """

    problem: str
    suffixes: tuple[str, ...]
    sniff: Callable[[str], bool]
    read: Callable[[Path, str], Any]
    write: Callable[[Any, Any], None] | None = None
    read_solution: Callable[[Path, Any], Any] | None = None
    write_solution: Callable[[Any, Any, Any], None] | None = None
    solution_suffixes: tuple[str, ...] = ()
    binary: bool = False
    stated_cost: Callable[[Path], float | None] | None = None


def read_bytes(path: str | os.PathLike[str], limit: int | None = None) -> bytes:
    """The bytes of a file, unpacked if it is gzipped.

    Parameters
    ----------
    path
        The file.
    limit
        Read at most this many (unpacked) bytes.

    Raises
    ------
    InputError
        When the file is missing, a folder, a device, unreadable, too large or not valid gzip.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(path, None, "is a folder", "name a file")
        if is_special(path):
            raise InputError(path, None, "is a device or a pipe", "name a file")
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            data = _take(file, MAX_BYTES + 1 if limit is None else limit)
        if len(data) > MAX_BYTES:
            raise InputError(path, None, "is larger than 4 GiB", "split it")
        return data
    except MemoryError:
        raise InputError(path, None, "does not fit into memory", "use a smaller file") from None
    except FileNotFoundError:
        raise InputError(path, None, "no such file", "check the path") from None
    except ValueError:
        # InputErrors and a null character in the path are ValueErrors.
        if "\0" not in str(path):
            raise
        raise InputError(repr(str(path)), None, "no such file", "check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(path, None, "is not valid gzip", "copy it again") from None
    except OSError as error:
        raise InputError(
            path, None, f"cannot be read: {error.strerror or error}", "check its rights"
        ) from None


def _take(file: Any, most: int) -> bytes:
    # Unpacked, a small file may be huge, so never without a limit; and in blocks, because
    # one read of the limit would allocate it.
    parts = []
    while most > 0 and (part := file.read(min(most, 1 << 24))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file, with unified line ends.

    Raises
    ------
    InputError
        As `read_bytes`, and when the file is empty or not text.
    """
    data = read_bytes(path)
    if not data.strip():
        raise InputError(path, None, "is empty", "check how it was made")
    if b"\0" in data:
        raise InputError(path, None, "is not a text file", "check its format")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decimal(word: str) -> float:
    """The number, perhaps infinite, that a word of a file is; NaN where it is none.

    Python takes more than files mean: digits of other scripts, and ``1_0`` for ten.
    """
    try:
        return float(word) if word.isascii() and "_" not in word else math.nan
    except ValueError:
        return math.nan


def suffix(path: str | os.PathLike[str]) -> str:
    """The file name ending, lower case, without ``.gz``."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


def _pick(path: Path, problem: str) -> Format:
    head = read_bytes(path, HEAD)
    if not head.strip():
        raise InputError(path, None, "is empty", "check how it was made")
    text = head.decode("latin-1").replace("\r\n", "\n")
    named: list[tuple[str, Format]] = list(formats.loaded())
    if problem:
        problems.entry(problem)
    fitting = [(k, f) for k, f in named if not problem or f.problem in (problem, "")]
    by_suffix = [(k, f) for k, f in named if suffix(path) in f.suffixes]
    chosen = [(k, f) for k, f in fitting if f.sniff(text)]
    if len(chosen) != 1:
        chosen = [c for c in chosen if c in by_suffix] or chosen
    if not chosen:
        # A plain routing file can be read as another routing problem: x.vrp as ovrp.
        chosen = [c for c in by_suffix if c in fitting] or by_suffix
    if not chosen and problem:
        chosen = [(k, f) for k, f in fitting if f.problem]
    if not chosen:
        known = sorted({s for _, f in fitting for s in f.suffixes})
        raise InputError(
            path, None, "unknown file type", f"known suffixes: {' '.join(known)}; or --problem"
        )
    if len(chosen) > 1:
        names = " or ".join(f"{name} ({' '.join(f.suffixes)})" for name, f in chosen)
        hint = "say which with --problem"
        if len({f.problem for _, f in chosen}) == 1:
            hint = "say which by its suffix"
        raise InputError(path, None, f"could be {names}", hint)
    return chosen[0][1]


def read(
    path: str | os.PathLike[str],
    problem: str = "",
    metric: str | None = None,
    truncate_budget: bool = False,
) -> Instance[Any] | Batch[Any]:
    """Read an instance, or a batch of instances.

    Parameters
    ----------
    path
        The file; may be gzipped.
    problem
        Read it as this problem; by default what the file says.
    metric
        Override the metric, "exact" for unrounded Euclidean lengths.
    truncate_budget
        Round the budget of capital budgeting down, as its published results have it.

    Raises
    ------
    InputError
        When the file cannot be understood.
    """
    path = Path(path)
    chosen = _pick(path, problem)
    try:
        instance: Instance[Any] | Batch[Any] = chosen.read(path, problem)
        if metric is not None:
            instance = with_metric(instance, metric)
        if truncate_budget:
            instance = with_truncated_budget(instance)
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        # Instances validate themselves; here their text gets the file's name.
        raise InputError(path, None, str(error)) from None
    except MemoryError:
        raise InputError(path, None, "does not fit into memory", "use a smaller file") from None
    found = instance.cls.problem if isinstance(instance, Batch) else instance.problem
    if problem and found != problem:
        raise InputError(path, None, f"holds a {found}, not a {problem}", f"--problem {found}")
    return instance


def with_metric(instance: Instance[Any] | Batch[Any], metric: str) -> Instance[Any] | Batch[Any]:
    """A copy that measures its coordinates in another metric, without the references.

    Parameters
    ----------
    instance
        An instance or a batch with coordinates.
    metric
        A key of `METRICS`.

    Raises
    ------
    ValueError
        When there are no coordinates to measure, or the metric is unknown or unfit for them.
    """
    data = instance.arrays if isinstance(instance, Batch) else instance.data()
    if "coords" not in data or "matrix" in data:
        raise ValueError("has no coordinates to apply a metric to.")
    # Stored references are costs under the file's own metric.
    if isinstance(instance, Batch):
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r} not understood; known: {', '.join(METRICS)}.")
        batch = Batch(instance.cls, {**data, "metric": metric}, name=instance.name)
        _ = batch[0]  # instances validate themselves, when they are taken out
        return batch
    return instance.replace(metric=metric, ref_cost=None, ref_solution=None, ref_method="")


def with_truncated_budget(instance: Instance[Any] | Batch[Any]) -> Instance[Any]:
    """A copy whose budget is rounded down, without the references.

    Raises
    ------
    ValueError
        When it has none, or is a batch.
    """
    truncated = getattr(instance, "truncated", None)
    if truncated is None:
        raise ValueError("has no budget to truncate.")
    out: Instance[Any] = truncated()
    return out


def write(instance: Instance[Any] | Batch[Any], path: str | os.PathLike[str]) -> None:
    """Write an instance or a batch; the suffix chooses the format. Atomic.

    Parameters
    ----------
    instance
        What to write.
    path
        The file; ``.gz`` after the suffix packs it.

    Raises
    ------
    InputError
        When no format of that suffix can hold it, or the file cannot be written.
    """
    path = Path(path)
    problem = instance.cls.problem if isinstance(instance, Batch) else instance.problem
    candidates: list[Format] = [form for _, form in formats.loaded()]
    fitting = [f for f in candidates if f.problem in (problem, "") and f.write is not None]
    chosen = next((f for f in fitting if suffix(path) in f.suffixes), None)
    if chosen is None:
        raise InputError(
            path,
            None,
            f"no {problem} format has the suffix {suffix(path) or '(none)'}",
            f"use one of {' '.join(sorted({s for f in fitting for s in f.suffixes}))}",
        )
    assert chosen.write is not None
    if isinstance(instance, Batch) and chosen.problem:
        if len(instance) != 1:
            raise InputError(
                path, None, f"{suffix(path)} holds one instance, not {len(instance)}", "use .npz"
            )
        instance = instance[0]
    # Into memory first: what cannot be written leaves no trace on the disk.
    try:
        if chosen.binary:
            data = BytesIO()
            chosen.write(instance, data)
            content = data.getvalue()
        else:
            text = StringIO()
            chosen.write(instance, text)
            content = text.getvalue().encode()
    except InputError:
        raise
    except ValueError as error:
        raise InputError(path, None, str(error)) from None
    write_bytes(path, content)


def _solution_format(path: Path, problem: str, attribute: str) -> Format | None:
    candidates: list[Format] = [form for _, form in formats.loaded()]
    fitting = [f for f in candidates if f.problem == problem and getattr(f, attribute) is not None]
    for candidate in fitting:
        if suffix(path) in candidate.solution_suffixes:
            return candidate
    return fitting[0] if fitting and suffix(path) != ".json" else None


def read_solution(path: str | os.PathLike[str], instance: Instance[Any]) -> Any:
    """Read a solution of ``instance``: its problem's own form, or JSON.

    JSON is the plain solution, or an object with the key ``solution`` (a result). Nothing
    is checked beyond the form: see `Instance.violations`.

    Parameters
    ----------
    path
        The file; may be gzipped.
    instance
        What it solves.

    Raises
    ------
    InputError
        When the file cannot be understood.
    """
    path = Path(path)
    chosen = _solution_format(path, instance.problem, "read_solution")
    if read_bytes(path, HEAD).lstrip()[:1] in (b"[", b"{"):
        chosen = None
    try:
        if chosen is not None:
            assert chosen.read_solution is not None
            return chosen.read_solution(path, instance)
        value = parse_json(path)
        if isinstance(value, dict) and "solution" in value:
            value = value["solution"]
        return as_solution(value, instance)
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        raise InputError(path, None, str(error)) from None


def stated_cost(path: str | os.PathLike[str], instance: Instance[Any]) -> float | None:
    """The objective that a solution file claims for itself, or None if it claims none.

    Parameters
    ----------
    path
        A file that `read_solution` understands.
    instance
        What it solves.
    """
    path = Path(path)
    chosen = _solution_format(path, instance.problem, "stated_cost")
    if read_bytes(path, HEAD).lstrip()[:1] in (b"[", b"{"):
        return stated_objective(parse_json(path))
    if chosen is None or chosen.stated_cost is None:
        return None
    return chosen.stated_cost(path)


def stated_objective(value: Any) -> float | None:
    """The objective that a JSON value claims for itself, or None if it is no result."""
    cost = value.get("objective") if isinstance(value, dict) else None
    return cost if isinstance(cost, (int, float)) and not isinstance(cost, bool) else None


_NOT_JSON = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')


def parse_json(path: str | os.PathLike[str]) -> Any:
    """The JSON value in a file.

    Raises
    ------
    InputError
        When it is not valid JSON, holds NaN or Infinity, or repeats a key.
    """
    text = read_text(path)

    def refuse(word: str) -> Any:
        at = next((m.start(1) for m in _NOT_JSON.finditer(text) if m[1]), 0)
        line = text.count("\n", 0, at) + 1
        raise InputError(path, line, f"{word} is not a JSON number", "use null or leave it out")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise InputError(path, None, f"the key {twice[:40]!r} comes twice", "remove one")
        return out

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(
            path, error.lineno, f"not valid JSON: {error.msg}", "is it truncated?"
        ) from None
    except InputError:
        raise
    except ValueError:
        # Python converts whole numbers of so many digits only.
        raise InputError(path, None, "a whole number has too many digits", "mend it") from None
    except RecursionError:
        raise InputError(path, None, "not valid JSON: nested too deeply", "mend it") from None


def as_solution(value: Any, instance: Instance[Any]) -> Any:
    """A JSON value as a solution of ``instance``: checked for its form only.

    Parameters
    ----------
    value
        Lists of indices, or an object of column names and numbers.
    instance
        What it solves.

    Raises
    ------
    ValueError
        When the form is not that of the problem's solutions.
    """
    shape = instance.solution_form
    if shape == "columns":
        if not isinstance(value, dict) or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in value.values()
        ):
            raise ValueError("a solution is an object of column names and numbers.")
        return {str(k): float(v) for k, v in value.items()}
    if shape == "two-stage":
        from nco.instances.two_stage import parse_solution

        return parse_solution(value)
    if not isinstance(value, list):
        raise ValueError(f"a solution is a list of {shape}.")
    if shape == "routes":
        if not all(isinstance(route, list) for route in value):
            raise ValueError("a solution is a list of routes, each a list of customers.")
        return [_indices(route) for route in value]
    return _indices(value)


def _indices(values: Sequence[Any]) -> list[int]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"a solution holds whole numbers only, not {str(value)[:40]!r}.")
        if abs(value) >= 2**63:
            raise ValueError("a solution holds indices, not numbers beyond 2^63.")
    return list(values)


def write_solution(instance: Instance[Any], solution: Any, path: str | os.PathLike[str]) -> None:
    """Write a solution in its problem's own form (``.json``: JSON). Atomic.

    Parameters
    ----------
    instance
        What it solves.
    solution
        The solution.
    path
        The file; the suffix chooses the form.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    path = Path(path)
    chosen = _solution_format(path, instance.problem, "write_solution")
    text = StringIO()
    if chosen is not None:
        assert chosen.write_solution is not None
        chosen.write_solution(instance, solution, text)
    else:
        json.dump(plain(solution), text, allow_nan=False)
        text.write("\n")
    write_bytes(path, text.getvalue().encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, gzipped where its name ends with ``.gz``.

    Raises
    ------
    InputError
        When it cannot be written.
    """
    with atomic_write(path, "wb") as file:
        packed = path.name.lower().endswith(".gz")
        file.write(gzip.compress(data, mtime=0) if packed else data)


#: Of two threads that redirect at once, the second would keep, and bring back, the first's.
_REDIRECTING = threading.RLock()


@contextlib.contextmanager
def redirected(sink: int) -> Iterator[None]:
    """Send what C libraries print to a file handle for a while, one thread at a time."""
    with _REDIRECTING:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for handle in kept:
                os.close(handle)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Send what C libraries print to nowhere for a while, one thread at a time."""
    with open(os.devnull, "wb") as nowhere, redirected(nowhere.fileno()):
        yield
