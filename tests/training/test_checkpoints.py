from __future__ import annotations

import json
from pathlib import Path

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
