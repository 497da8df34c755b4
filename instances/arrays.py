"""Arrays in ``.npz`` and JSON files: one instance, or a batch of equal size.

Keys are the field names of the instance classes, plus ``problem``, ``name`` and the
references ``ref_cost``, ``ref_solution`` (in ``.npz`` a JSON text) and ``ref_method``. In
a batch every array has one more dimension in front, and a number may be given once for
all. A file without a key ``problem`` is the one problem whose class claims its keys,
see `Instance.claims`.
"""

from __future__ import annotations

import dataclasses
import json
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from nco.instances.core import METADATA, Batch, InputError, Instance, plain
from nco.instances.io import MAX_BYTES, Format, as_solution, parse_json, read_bytes
from nco.instances.registry import problems


def infer(path: Path, keys: Mapping[str, Any], problem: str = "") -> type[Instance[Any]]:
    """The instance class that the keys of a file stand for.

    Parameters
    ----------
    path
        For error texts.
    keys
        Key -> value, the metadata included.
    problem
        The caller's wish; else the key ``problem`` counts, else the fields.

    Raises
    ------
    InputError
        When no registered problem, or more than one, has these fields.
    """
    known = f"known problems: {', '.join(problems.names())}"
    named = problem or str(keys.get("problem", ""))
    fields = {k: v for k, v in keys.items() if k not in METADATA and k != "problem"}
    if "solution" in fields and "objective" in fields:
        raise InputError(path, None, "is a result, not an instance", "name the instance")
    if named:
        if named not in problems:
            raise InputError(path, None, f"unknown problem {named[:40]!r}", known)
        cls: type[Instance[Any]] = problems.load(named)
        if not cls.required() <= cls.schema().keys():
            raise InputError(path, None, f"{named} is not stored as arrays", "use its own format")
        missing = sorted(cls.required() - fields.keys())
        if missing:
            raise InputError(path, None, f"{named} needs {', '.join(missing)}", "add the key")
        unknown = sorted(fields.keys() - cls.schema().keys())
        if unknown:
            raise InputError(
                path, None, f"unknown key {unknown[0][:40]!r} of {named}",
                f"known: {', '.join(sorted(cls.schema()))}",
            )  # fmt: skip
        return cls
    classes: list[type[Instance[Any]]] = [cls for _, cls in problems.loaded()]
    fitting = [c for c in classes if c.claims(fields)]
    # The most demanding class wins: demands and capacity make it a CVRP, not a TSP.
    most = max((len(c.required()) for c in fitting), default=0)
    fitting = [c for c in fitting if len(c.required()) == most]
    if len(fitting) == 1 and fields:
        return fitting[0]
    shown = ", ".join(sorted(k[:40] for k in fields)) or "none"
    if len(fitting) > 1:
        known = f"add the key problem: {' or '.join(c.problem for c in fitting)}"
    raise InputError(path, None, f"the keys ({shown}) are not those of one known problem", known)


def _array(path: Path, key: str, value: Any, ndim: int) -> NDArray[Any]:
    """A field of an instance [ndim dimensions] or a batch [one more] as a numeric array."""
    array = np.asarray(value)
    if ndim == 2 and array.ndim and array.shape[-1] == 0:
        # JSON cannot tell that nothing is nothing by two: a graph without edges.
        array = array.reshape(*array.shape[:-1], 0, 2)
    if array.dtype.kind not in "iuf":
        raise InputError(path, None, f"{key} is not an array of numbers", "mend it")
    if array.ndim not in (ndim, ndim + 1):
        raise InputError(
            path, None, f"{key} has {array.ndim} dimensions, expected {ndim}",
            f"or {ndim + 1} in a batch",
        )  # fmt: skip
    return array


def _scalar(path: Path, cls: type[Instance[Any]], key: str, value: Any) -> Any:
    """A number or word of an instance, or an array [batch] of them."""
    array = np.asarray(value)
    kinds = {f.name: f.type for f in dataclasses.fields(cls)}
    word = kinds[key] is str or str(kinds[key]).startswith("str")
    if array.ndim > 1 or array.dtype.kind not in ("U" if word else "iuf"):
        what = "a word" if word else "a number"
        raise InputError(path, None, f"{key} is not {what}", "mend it, or give one per instance")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(path, None, f"{key} is not a finite number", "mend it")
    return array if array.ndim else array.item()


def build(path: Path, values: Mapping[str, Any], problem: str) -> Instance[Any] | Batch[Any]:
    """The instance or batch that the keys and values of a file describe.

    Parameters
    ----------
    path
        For error texts and the default name.
    values
        Key -> array, number, word or nested lists; None counts as absent.
    problem
        The caller's wish, or "".

    Raises
    ------
    InputError
        When a key is unknown or missing, or a value does not fit.
    """
    values = {k: v for k, v in values.items() if v is not None}
    for key in values.keys() - METADATA:
        if isinstance(values[key], list):
            try:
                values[key] = np.asarray(values[key])
            except ValueError:
                what = f"{key[:40]} has rows of unequal length"
                raise InputError(path, None, what, "mend it") from None
    cls = infer(path, values, problem)
    schema = cls.schema()
    fields: dict[str, Any] = {
        key: _array(path, key, values[key], ndim) if ndim else _scalar(path, cls, key, values[key])
        for key, ndim in schema.items()
        if key in values
    }
    extra = {key: np.ndim(value) - schema[key] for key, value in fields.items() if schema[key]}
    if len(set(extra.values())) > 1:
        single = next(key for key, more in extra.items() if not more)
        raise InputError(
            path, None, f"{single} has {schema[single]} dimensions in a batch",
            f"give {schema[single] + 1}: one {single} per instance",
        )  # fmt: skip
    name = str(values.get("name", "")) or path.name.split(".")[0]
    method = str(values.get("ref_method", ""))
    solution = _solution(path, values.get("ref_solution"))
    if 1 not in extra.values():
        several = next((key for key in fields if not schema[key] and np.ndim(fields[key])), None)
        if several is not None:
            what = f"{several} is an array, but there is one instance"
            raise InputError(path, None, what, f"give one {several}")
        instance = cls(name=name, **fields)
        cost = _costs(path, values.get("ref_cost"), 0)
        if cost is not None and math.isfinite(cost):
            instance = instance.replace(ref_cost=cost.item(), ref_method=method)
        if solution is not None:
            instance = instance.replace(ref_solution=as_solution(solution, instance))
        return instance
    size = len(next(v for k, v in fields.items() if schema[k]))
    if not size:
        raise InputError(path, None, "holds no instances", "check how it was made")
    if solution is not None and (not isinstance(solution, list) or len(solution) != size):
        raise InputError(path, None, "ref_solution is not a list, one per instance", "mend it")
    batch: Batch[Any] = Batch(
        cls,
        fields,
        name=name,
        ref_cost=_costs(path, values.get("ref_cost"), 1),
        ref_solution=solution,
        ref_method=method,
    )
    # One bad instance makes the file bad: say which before anything is solved.
    for index in range(size):
        try:
            item = batch[index]
            if item.ref_solution is not None:
                as_solution(item.ref_solution, item)
        except (ValueError, OverflowError) as error:
            raise InputError(path, None, f"instance {index}: {error}", "mend the array") from None
    return batch


def _costs(path: Path, value: Any, ndim: int) -> Any:
    """``ref_cost``, NaN (in JSON null) where there is none."""
    if value is None:
        return None
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty((0, 0, 0))
    if array.ndim != ndim or np.isinf(array).any():
        what = "a number per instance" if ndim else "a number"
        raise InputError(path, None, f"ref_cost is not {what}", "mend it or leave it out")
    return array


def _solution(path: Path, value: Any) -> Any:
    """``ref_solution``: a JSON text, an array, or what JSON already gave."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "US" or value.ndim:
            return value.tolist()
        value = str(value)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise InputError(path, None, "ref_solution is not JSON", "mend or remove it") from None
    return value


def _members(instance: Instance[Any] | Batch[Any]) -> dict[str, Any]:
    """Everything that a file holds about an instance or a batch."""
    if isinstance(instance, Batch):
        cls, data = instance.cls, dict(instance.arrays)
    else:
        cls, data = type(instance), instance.data()
    unable = sorted(data.keys() - cls.schema().keys())
    if unable:
        raise ValueError(f"{unable[0]} of {cls.problem} is not an array; use its own format.")
    data = {"problem": cls.problem, "name": instance.name, **data}
    for key in ("ref_cost", "ref_solution", "ref_method"):
        value = getattr(instance, key)
        if value is not None and not (isinstance(value, str) and not value):
            data[key] = value
    return data


#: What a damaged archive raises, depending on where the damage is.
_DAMAGE = (
    ValueError, OSError, EOFError, KeyError, IndexError, TypeError, SyntaxError, RuntimeError,
    NotImplementedError, AttributeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
    struct.error, tokenize.TokenError,
)  # fmt: skip


def read_npz(path: Path, problem: str = "") -> Instance[Any] | Batch[Any]:
    """Read an ``.npz`` file; nothing is ever unpickled.

    Parameters
    ----------
    path
        The file.
    problem
        Read it as this problem, or "".

    Raises
    ------
    InputError
        When it is damaged, holds objects, or its keys are those of no problem.
    """
    path = Path(path)
    data = read_bytes(path)
    values: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise InputError(path, None, "is larger than 4 GiB", "split it")
            for member in archive.infolist():
                with archive.open(member) as file:
                    key = member.filename.removesuffix(".npy")
                    values[key] = np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except (*_DAMAGE, MemoryError) as error:
        what = f"not a valid .npz file: {error}"
        raise InputError(path, None, what[:200], "save it again with numpy.savez") from None
    return build(path, values, problem)


def write_npz(instance: Instance[Any] | Batch[Any], file: BinaryIO) -> None:
    """Write an instance or a batch; reading it back gives the same arrays.

    Raises
    ------
    ValueError
        When a field is not an array, a number or a word.
    """
    values = _members(instance)
    if "ref_solution" in values:
        values["ref_solution"] = json.dumps(plain(values["ref_solution"]))
    for key, value in values.items():
        if np.asarray(value).dtype.hasobject:
            raise ValueError(f"{key} is not an array of numbers; use another format.")
    np.savez_compressed(file, **values)


def read_json(path: Path, problem: str = "") -> Instance[Any] | Batch[Any]:
    """Read a JSON object of fields.

    Parameters
    ----------
    path
        The file.
    problem
        Read it as this problem, or "".

    Raises
    ------
    InputError
        When it is not JSON, or its keys are those of no problem.
    """
    path = Path(path)
    values = parse_json(path)
    if not isinstance(values, dict):
        raise InputError(path, None, "is not a JSON object", 'write {"problem": ..., ...}')
    return build(path, values, problem)


def write_json(instance: Instance[Any] | Batch[Any], file: TextIO) -> None:
    """Write an instance or a batch as a JSON object.

    Raises
    ------
    ValueError
        When a field is not an array, a number or a word.
    """
    json.dump(plain(_members(instance)), file, allow_nan=False)
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
