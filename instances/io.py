"""Reading and writing files: which format a file has, and one way in and out.

What a file holds is decided by, in this order, the caller's ``problem``, the TYPE or
keys inside the file, its suffix, and the formats' ``sniff``.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nco.instances.core import Batch, InputError, Instance, atomic_write, plain
from nco.instances.registry import formats

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
        When the file is missing, a folder, unreadable, too large or not valid gzip.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(path, None, "is a folder", "name a file")
        if limit is None and path.stat().st_size > MAX_BYTES:
            raise InputError(path, None, "is larger than 4 GiB", "split it")
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return file.read(-1 if limit is None else limit)
    except FileNotFoundError:
        raise InputError(path, None, "no such file", "check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(path, None, "is not valid gzip", "copy it again") from None
    except OSError as error:
        raise InputError(
            path, None, f"cannot be read: {error.strerror or error}", "check its rights"
        ) from None


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


def suffix(path: str | os.PathLike[str]) -> str:
    """The file name ending, lower case, without ``.gz``."""
    name = Path(path).name.lower().removesuffix(".gz")
    return Path(name).suffix


def _pick(path: Path, problem: str) -> Format:
    head = read_bytes(path, HEAD)
    if not head.strip():
        raise InputError(path, None, "is empty", "check how it was made")
    text = head.decode("latin-1").replace("\r\n", "\n")
    named: list[tuple[str, Format]] = [(entry.name, entry.load()) for entry in formats]
    if problem:
        fitting = [(k, f) for k, f in named if f.problem in (problem, "")]
        if not fitting:
            raise InputError(path, None, f"no file format holds {problem}", "use .npz or .json")
        chosen = [(k, f) for k, f in fitting if f.sniff(text)] or [
            (k, f) for k, f in fitting if suffix(path) in f.suffixes
        ]
        # A plain routing file can be read as another routing problem: x.vrp as ovrp.
        if not chosen:
            chosen = [(k, f) for k, f in named if suffix(path) in f.suffixes]
    else:
        chosen = [(k, f) for k, f in named if f.sniff(text)] or [
            (k, f) for k, f in named if suffix(path) in f.suffixes
        ]
    if not chosen:
        known = sorted({s for _, f in named for s in f.suffixes})
        raise InputError(
            path, None, "unknown file type", f"known suffixes: {' '.join(known)}; or --problem"
        )
    if len(chosen) > 1:
        names = " and ".join(name for name, _ in chosen)
        raise InputError(path, None, f"could be {names}", "say which with --problem")
    return chosen[0][1]


def read(
    path: str | os.PathLike[str], problem: str = "", metric: str | None = None
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
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        # Instances validate themselves; here their text gets the file's name.
        raise InputError(path, None, str(error)) from None
    except MemoryError:
        raise InputError(path, None, "does not fit into memory", "use a smaller file") from None
    return instance


def with_metric(instance: Instance[Any] | Batch[Any], metric: str) -> Instance[Any] | Batch[Any]:
    """A copy that measures its coordinates in another metric.

    Raises
    ------
    ValueError
        When the instance has no coordinates to measure.
    """
    if isinstance(instance, Batch):
        if "coords" not in instance.arrays or "matrix" in instance.arrays:
            raise ValueError("has no coordinates to apply a metric to.")
        arrays = {**instance.arrays, "metric": metric}
        return Batch(instance.cls, arrays, name=instance.name)
    data = instance.data()
    if "coords" not in data or "matrix" in data:
        raise ValueError("has no coordinates to apply a metric to.")
    # Stored references are costs under the file's own metric.
    return instance.replace(metric=metric, ref_cost=None, ref_solution=None, ref_method="")


def write(instance: Instance[Any] | Batch[Any], path: str | os.PathLike[str]) -> None:
    """Write an instance or a batch; the suffix chooses the format. Atomic.

    Raises
    ------
    InputError
        When no format of that suffix can hold it, or the file cannot be written.
    """
    path = Path(path)
    problem = instance.cls.problem if isinstance(instance, Batch) else instance.problem
    candidates: list[Format] = [entry.load() for entry in formats]
    fitting = [f for f in candidates if f.problem in (problem, "") and f.write is not None]
    for candidate in fitting:
        if suffix(path) in candidate.suffixes:
            assert candidate.write is not None
            packed = path.name.lower().endswith(".gz")
            try:
                if packed:
                    _write_packed(candidate, instance, path)
                else:
                    with atomic_write(path, "wb" if candidate.binary else "w") as file:
                        candidate.write(instance, file)
            except (ValueError, TypeError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(path, None, str(error)) from None
            return
    known = sorted({s for f in fitting for s in f.suffixes})
    raise InputError(
        path,
        None,
        f"no {problem} format has the suffix {suffix(path) or '(none)'}",
        f"use one of {' '.join(known)}",
    )


def _write_packed(candidate: Format, instance: Any, path: Path) -> None:
    import io as _io

    assert candidate.write is not None
    with atomic_write(path, "wb") as file:
        if candidate.binary:
            data = _io.BytesIO()
            candidate.write(instance, data)
            file.write(gzip.compress(data.getvalue(), mtime=0))
        else:
            text = _io.StringIO()
            candidate.write(instance, text)
            file.write(gzip.compress(text.getvalue().encode(), mtime=0))


def _solution_format(path: Path, problem: str, attribute: str) -> Format | None:
    candidates: list[Format] = [entry.load() for entry in formats]
    fitting = [f for f in candidates if f.problem == problem and getattr(f, attribute) is not None]
    for candidate in fitting:
        if suffix(path) in candidate.solution_suffixes:
            return candidate
    return fitting[0] if fitting and suffix(path) != ".json" else None


def read_solution(path: str | os.PathLike[str], instance: Instance[Any]) -> Any:
    """Read a solution of ``instance``: its format's own form, or JSON.

    JSON is the plain solution, or an object with the key ``solution`` (a result).
    Nothing is checked beyond the form: see `Instance.violations`.

    Raises
    ------
    InputError
        When the file cannot be understood.
    """
    path = Path(path)
    chosen = _solution_format(path, instance.problem, "read_solution")
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


def parse_json(path: str | os.PathLike[str]) -> Any:
    """The JSON value in a file.

    Raises
    ------
    InputError
        When it is not valid JSON, with the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(path, error.lineno, f"not valid JSON: {error.msg}", "mend it") from None
    except RecursionError:
        raise InputError(path, None, "not valid JSON: nested too deeply", "mend it") from None


def as_solution(value: Any, instance: Instance[Any]) -> Any:
    """A JSON value as a solution of ``instance``: indices as int, checked for form only.

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
    if not isinstance(value, list):
        raise ValueError(f"a solution is a list of {shape}.")
    if shape == "routes":
        if not all(isinstance(route, list) for route in value):
            raise ValueError("a solution is a list of routes, each a list of customers.")
        return [_indices(route) for route in value]
    return _indices(value)


def _indices(values: Sequence[Any]) -> list[int]:
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise ValueError("a solution holds whole numbers only.")
    return [int(v) for v in values]


def write_solution(instance: Instance[Any], solution: Any, path: str | os.PathLike[str]) -> None:
    """Write a solution in its problem's own form (``.json``: JSON). Atomic."""
    path = Path(path)
    chosen = _solution_format(path, instance.problem, "write_solution")
    with atomic_write(path) as file:
        if chosen is not None:
            assert chosen.write_solution is not None
            chosen.write_solution(instance, solution, file)
        else:
            json.dump(plain(solution), file)
            file.write("\n")
