"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder ``step-N`` with safetensors shards and ``meta.json``. It is
written under a hidden name of its process and renamed when complete, so that a kill at any
moment leaves the previous ones. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

#: Largest size of a shard in bytes.
SHARD_BYTES = 14 * 2**20
FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text is one line."""


def shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Split tensors into groups of at most `SHARD_BYTES`; larger ones stand alone."""
    out: list[dict[str, Tensor]] = [{}]
    room = SHARD_BYTES
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > room and out[-1]:
            out.append({})
            room = SHARD_BYTES
        out[-1][name] = tensor
        room -= size
    return out


def flush(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], keep: int = 2
) -> Path:
    """Write ``folder/step-N`` and drop all but the newest ``keep``.

    Parameters
    ----------
    folder
        The run's folder.
    step
        Optimiser steps done.
    tensors
        All state that is tensors.
    meta
        All state that is plain values.
    keep
        Number of checkpoints that stay.
    """
    target = folder / f"step-{step:09d}"
    temporary = _hidden(target, "part")
    for left in folder.glob(".step-*"):
        if _is_left(left):
            shutil.rmtree(left)
    temporary.mkdir(parents=True)
    sums = {}
    for number, shard in enumerate(shards(tensors)):
        data = save({k: v.detach().cpu().contiguous() for k, v in shard.items()})
        name = f"shard-{number:02d}.safetensors"
        (temporary / name).write_bytes(data)
        flush(temporary / name)
        sums[name] = hashlib.sha256(data).hexdigest()
    full = {"format": FORMAT, "step": step, **meta, "sha256": sums}
    text = json.dumps(full, indent=1, allow_nan=False)
    (temporary / "meta.json").write_text(text, encoding="utf-8")
    flush(temporary / "meta.json")
    flush(temporary)
    replaced = _hide(target) if target.exists() else None
    temporary.rename(target)
    flush(folder)
    if replaced is not None:
        shutil.rmtree(replaced)
    for old in checkpoints(folder)[:-keep]:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            shutil.rmtree(_hide(old))
    return target


def _hidden(checkpoint: Path, kind: str) -> Path:
    """A name beside a checkpoint that tells which process uses it."""
    return checkpoint.with_name(f".{checkpoint.name}.{platform.node()}.{os.getpid()}.{kind}")


def _hide(checkpoint: Path) -> Path:
    """Rename a checkpoint that is to be removed; half removed, it would pass for a damaged one."""
    return checkpoint.rename(_hidden(checkpoint, "old"))


def _is_left(hidden: Path) -> bool:
    """Whether the process that used a hidden name was killed; only known on its own machine."""
    found = re.fullmatch(r"\.step-\d{9}\.(.*)\.(\d+)\.(?:part|old)", hidden.name)
    if found is None or found[1] != platform.node():
        return False
    number = int(found[2])
    if number == os.getpid():
        return True  # it writes one at a time
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        pass
    return False


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if re.fullmatch(r"step-\d{9}", p.name)]
    return sorted(p for p in found if (p / "meta.json").is_file())


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and plain values of one checkpoint.

    Raises
    ------
    CheckpointError
        When it is damaged or of another format.
    """
    try:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a checkpoint: {error}") from None
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {meta.get('format')}, this version reads {FORMAT}"
        )
    absent = [key for key in ("step", "sha256") if key not in meta]
    if absent:
        raise CheckpointError(f"{path}: not a checkpoint of a training run: no {absent[0]}")
    tensors: dict[str, Tensor] = {}
    for name, sha in meta["sha256"].items():
        try:
            data = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: shard {name} is missing: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != sha:
            raise CheckpointError(f"{path}: shard {name} is damaged (sha256 differs)")
        try:
            tensors |= load(data)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: shard {name}: {error}") from None
    return tensors, meta


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{name}.{i}.{key}": torch.as_tensor(value)
        for i, values in state.items()
        for key, value in values.items()
    }


def restore_optimizer(
    name: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        prefix, _, rest = key.partition(".")
        if prefix == name:
            number, _, entry = rest.partition(".")
            state.setdefault(int(number), {})[entry] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
