"""Arrays in ``.npz`` and JSON files: one instance, or a batch of equal size.

Keys are the field names of the instance classes. A file without a key ``problem`` is
the one problem whose required fields it has; ``coords`` alone is a TSP and ``matrix``
alone an ATSP, unless every matrix is symmetric.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from nco.instances.core import METADATA, Batch, InputError, Instance, plain
from nco.instances.io import Format, as_solution, parse_json, read_bytes
from nco.instances.registry import problems


def _required(cls: type[Instance[Any]]) -> set[str]:
    return {
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }


def _known(cls: type[Instance[Any]]) -> set[str]:
    return {f.name for f in dataclasses.fields(cls) if f.init}


def _ndim(cls: type[Instance[Any]], key: str) -> int:
    """Number of dimensions of a field in one instance."""
    return 2 if key in ("coords", "matrix", "edges") else (0 if _is_scalar(cls, key) else 1)


def _is_scalar(cls: type[Instance[Any]], key: str) -> bool:
    annotation = str(next(f.type for f in dataclasses.fields(cls) if f.name == key))
    return "NDArray" not in annotation


def infer(path: Path, keys: Mapping[str, Any], problem: str) -> type[Instance[Any]]:
    """The instance class that the keys of a file stand for.

    Raises
    ------
    InputError
        When no registered problem, or more than one, has these fields.
    """
    named = problem or str(keys.get("problem", ""))
    if named:
        if named not in problems:
            known = ", ".join(problems.names())
            raise InputError(path, None, f"unknown problem {named[:40]!r}", f"known: {known}")
        cls: type[Instance[Any]] = problems.load(named)
        missing = _required(cls) - set(keys)
        if missing:
            raise InputError(path, None, f"{named} needs {', '.join(sorted(missing))}", "add it")
        return cls
    given = set(keys) - set(METADATA)
    classes: list[type[Instance[Any]]] = [entry.load() for entry in problems]
    fitting = [c for c in classes if _required(c) <= given <= _known(c)]
    # The most demanding class wins: demands and capacity make it a CVRP, not a TSP.
    most = max((len(_required(c)) for c in fitting), default=0)
    fitting = [c for c in fitting if len(_required(c)) == most]
    if len(fitting) > 1 and {c.problem for c in fitting} == {"tsp", "atsp"}:
        matrix = keys.get("matrix")
        array = None if matrix is None else np.asarray(matrix)
        symmetric = array is None or (
            array.ndim >= 2
            and array.shape[-1] == array.shape[-2]
            and (array == np.swapaxes(array, -1, -2)).all()
        )
        fitting = [c for c in fitting if c.problem == ("tsp" if symmetric else "atsp")]
    if len(fitting) != 1:
        shown = ", ".join(sorted(given)) or "none"
        known = ", ".join(problems.names())
        raise InputError(
            path, None, f"keys {shown} are those of no one problem",
            f"add the key 'problem'; known: {known}",
        )  # fmt: skip
    return fitting[0]


def _build(path: Path, values: dict[str, Any], problem: str) -> Instance[Any] | Batch[Any]:
    cls = infer(path, values, problem)
    values = {k: v for k, v in values.items() if k != "problem"}
    unknown = set(values) - _known(cls)
    if unknown:
        known = ", ".join(sorted(_known(cls)))
        raise InputError(path, None, f"unknown key {min(unknown)!r} of {cls.problem}", known)
    metadata = {k: values.pop(k) for k in METADATA if k in values}
    name = str(metadata.get("name") or path.name.split(".")[0])
    batched = {
        k for k, v in values.items() if isinstance(v, np.ndarray) and v.ndim == _ndim(cls, k) + 1
    }
    method = str(metadata.get("ref_method", ""))
    reference = _solutions(path, metadata.get("ref_solution"))
    if not any(_ndim(cls, k) for k in batched):
        fields = {k: _scalar(path, cls, k, v) for k, v in values.items()}
        cost = metadata.get("ref_cost")
        instance = cls(name=name, **fields)
        if cost is None or not np.isfinite(float(np.asarray(cost).reshape(-1)[0])):
            return instance
        return instance.replace(
            ref_cost=float(np.asarray(cost).reshape(-1)[0]),
            ref_solution=None if reference is None else as_solution(reference, instance),
            ref_method=method,
        )
    arrays: dict[str, Any] = {}
    for key, value in values.items():
        arrays[key] = value if key in batched else _scalar(path, cls, key, value)
    cost = metadata.get("ref_cost")
    batch: Batch[Any] = Batch(
        cls,
        arrays,
        name=name,
        ref_cost=None if cost is None else np.asarray(cost, dtype=np.float64),
        ref_solution=reference,
        ref_method=method,
    )
    # One bad instance makes the file bad: say which before anything is solved.
    for index in range(len(batch)):
        try:
            item = batch[index]
            if item.ref_solution is not None:
                as_solution(item.ref_solution, item)
        except (ValueError, TypeError) as error:
            raise InputError(path, None, f"instance {index}: {error}", "mend the array") from None
    return batch


def _scalar(path: Path, cls: type[Instance[Any]], key: str, value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not _is_scalar(cls, key):
        return value
    if isinstance(value, np.ndarray):
        raise InputError(path, None, f"{key} has shape {value.shape}, expected a number", "mend it")
    if key == "metric":
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(path, None, f"{key} = {str(value)[:40]!r} is not a number", "mend it")
    return value


def _solutions(path: Path, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "US" and value.ndim == 0:
        try:
            return json.loads(str(value.item()))
        except (json.JSONDecodeError, RecursionError):
            raise InputError(path, None, "ref_solution is not JSON", "remove it") from None
    return value.tolist() if isinstance(value, np.ndarray) else value


def read_npz(path: Path, problem: str = "") -> Instance[Any] | Batch[Any]:
    """Read an ``.npz`` file; nothing is ever unpickled.

    Raises
    ------
    InputError
        When it is damaged, holds objects, or its keys are those of no problem.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(path, None, "is not an .npz archive", "save it with numpy.savez")
            values = {key: archive[key] for key in archive.files}
    except InputError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(path, None, f"not a valid .npz file: {error}", "save it again") from None
    except (MemoryError, NotImplementedError, RuntimeError, SyntaxError, TypeError) as error:
        # A damaged header can claim any shape, compression or type.
        raise InputError(path, None, f"not a valid .npz file: {error}", "save it again") from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "tokenize", "struct"):
            raise InputError(
                path, None, f"not a valid .npz file: {error}", "save it again"
            ) from None
        raise
    return _build(path, values, problem)


def write_npz(instance: Instance[Any] | Batch[Any], file: BinaryIO) -> None:
    """Write an instance or a batch; reading it back gives the same arrays.

    Raises
    ------
    ValueError
        When the problem is not made of arrays.
    """
    if isinstance(instance, Batch):
        values: dict[str, Any] = dict(instance.arrays)
        if instance.ref_cost is not None:
            values["ref_cost"] = instance.ref_cost
        if instance.ref_solution is not None:
            values["ref_solution"] = json.dumps(plain(list(instance.ref_solution)))
        problem, method = instance.cls.problem, instance.ref_method
    else:
        values = instance.data()
        if instance.ref_cost is not None:
            values["ref_cost"] = instance.ref_cost
        if instance.ref_solution is not None:
            values["ref_solution"] = json.dumps(plain(instance.ref_solution))
        problem, method = instance.problem, instance.ref_method
    cls = instance.cls if isinstance(instance, Batch) else type(instance)
    if not set(values) <= _known(cls):
        raise ValueError(f"a {problem} has no array form; use its own file format.")
    if instance.name:
        values["name"] = instance.name
    if method:
        values["ref_method"] = method
    np.savez_compressed(file, problem=problem, **values)


def read_json(path: Path, problem: str = "") -> Instance[Any] | Batch[Any]:
    """Read a JSON object of fields.

    Raises
    ------
    InputError
        When it is not JSON, or its keys are those of no problem.
    """
    path = Path(path)
    values = parse_json(path)
    if not isinstance(values, dict):
        raise InputError(path, None, "is not a JSON object", 'write {"problem": ..., ...}')
    converted: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list) and key != "ref_solution":
            try:
                converted[key] = np.array(value)
            except ValueError:
                raise InputError(
                    path, None, f"{key} has rows of unequal length", "mend it"
                ) from None
        elif value is not None:
            converted[key] = value
    return _build(path, converted, problem)


def write_json(instance: Instance[Any] | Batch[Any], file: TextIO) -> None:
    """Write one instance as a JSON object.

    Raises
    ------
    ValueError
        For a batch.
    """
    if isinstance(instance, Batch):
        raise ValueError("a batch cannot be written as JSON; use .npz.")
    if not set(instance.data()) <= _known(type(instance)):
        raise ValueError(f"a {instance.problem} has no array form; use its own file format.")
    values = {"problem": instance.problem, "name": instance.name, **instance.data()}
    for key in ("ref_cost", "ref_solution", "ref_method"):
        if getattr(instance, key):
            values[key] = getattr(instance, key)
    json.dump(plain(values), file, allow_nan=False)
    file.write("\n")


NPZ = Format(
    problem="",
    suffixes=(".npz",),
    sniff=lambda head: head.startswith("PK\x03\x04"),
    read=read_npz,
    write=write_npz,
    binary=True,
)
JSON = Format(
    problem="",
    suffixes=(".json",),
    sniff=lambda head: head.lstrip().startswith("{"),
    read=read_json,
    write=write_json,
)
