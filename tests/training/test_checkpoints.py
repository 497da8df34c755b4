from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from nco.training.checkpoints import (
    SHARD_BYTES,
    CheckpointError,
    checkpoints,
    read_checkpoint,
    write_checkpoint,
)


def test_round_trip_in_shards(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.randn(700, 1000 + i) for i in range(12)}
    tensors["count"] = torch.tensor(7)
    path = write_checkpoint(tmp_path, 5, tensors, {"note": "x"})
    sizes = [p.stat().st_size for p in path.glob("*.safetensors")]
    assert len(sizes) > 1
    assert max(sizes) < 15 * 2**20
    assert SHARD_BYTES < 15 * 2**20
    back, meta = read_checkpoint(path)
    assert all(torch.equal(back[k], v) for k, v in tensors.items())
    assert (meta["step"], meta["note"]) == (5, "x")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        write_checkpoint(tmp_path, step, {"a": torch.zeros(1)}, {})
    assert [p.name for p in checkpoints(tmp_path)] == ["step-000000002", "step-000000030"]


def test_an_unfinished_checkpoint_is_none(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, {"a": torch.zeros(1)}, {})
    path.rename(tmp_path / ".step-000000002.part")
    assert checkpoints(tmp_path) == []
    assert checkpoints(tmp_path / "missing") == []


def test_damage_is_named_in_one_line(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, {"a": torch.zeros(9)}, {})
    shard = path / "shard-00.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"shard-00.safetensors is damaged \(sha256"):
        read_checkpoint(path)
    shard.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        read_checkpoint(path)
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(CheckpointError, match="checkpoint format 99, this version reads 1"):
        read_checkpoint(path)
    (path / "meta.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_checkpoint(path)


def test_only_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {
        who: f".step-000000001.{node}.{number}.part"
        for who, node, number in (
            ("dead", platform.node(), dead.pid),
            ("at work", platform.node(), os.getppid()),
            ("elsewhere", "another.machine", dead.pid),
        )
    }
    for name in names.values():
        (tmp_path / name).mkdir()
    write_checkpoint(tmp_path, 1, {"a": torch.zeros(1)}, {})
    left = {who for who, name in names.items() if (tmp_path / name).exists()}
    assert left == {"at work", "elsewhere"}
    assert len(checkpoints(tmp_path)) == 1


def test_a_checkpoint_goes_when_its_successor_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, 1, {"a": torch.zeros(1)}, {})
    remove, seen = shutil.rmtree, []

    def watched(path: Path) -> None:
        seen.append(float(read_checkpoint(tmp_path / "step-000000001")[0]["a"]))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", watched)
    write_checkpoint(tmp_path, 1, {"a": torch.ones(1)}, {})
    assert seen == [1.0]


def test_what_is_no_json_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_checkpoint(tmp_path, 1, {}, {"seconds": math.inf})
    assert checkpoints(tmp_path) == []


class Killed(BaseException):
    """What ends a write at once."""


def test_a_kill_anywhere_in_a_write_leaves_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, last = 0, -1

    def mortal(owner: object, name: str) -> None:
        whole = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == last:
                raise Killed
            return whole(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for name in ("unlink", "rmdir", "rename", "mkdir", "fsync"):
        mortal(os, name)
    for last in range(1, 60):
        folder = tmp_path / str(last)
        calls = 1000
        for step in (1, 2):
            write_checkpoint(folder, step, {"a": torch.full((3,), float(step))}, {})
        calls = 0
        try:
            # The first drops step 1; the second replaces what it wrote.
            for _ in range(2):
                write_checkpoint(folder, 3, {"a": torch.full((3,), 3.0)}, {})
            break
        except Killed:
            tensors, meta = read_checkpoint(checkpoints(folder)[-1])
            assert meta["step"] in (2, 3)
            assert bool((tensors["a"] == meta["step"]).all())
        calls = 1000
        write_checkpoint(folder, 4, {"a": torch.zeros(1)}, {})
        assert len(list(folder.iterdir())) == 2
    assert last > 15
