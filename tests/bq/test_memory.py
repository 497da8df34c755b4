"""What happens when memory runs out in the middle of decoding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nco.bq import decoding
from nco.bq.decoding import Model
from nco.bq.solver import BQ
from nco.bq.weights import read_model
from nco.instances.atsp import ATSP
from nco.instances.core import Budget, InputError
from nco.instances.tsp import TSP

from .test_weights import small


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return str(small("tsp", tmp_path))


ALLOCATOR = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), MemoryError(), RuntimeError(ALLOCATOR)], ids=repr
)
def test_n_beyond_memory_is_one_line(
    error: Exception, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(self: Model, state: Any, *links: bool) -> Any:
        raise error

    monkeypatch.setattr(Model, "look", no_memory)
    bq = BQ(weights=weights)
    with pytest.raises(
        InputError, match=r"n = 10 is beyond this machine's memory \(use a smaller k"
    ):
        bq.solve(TSP.generate(10, seed=0), Budget())
    # What there was before is kept.
    result = bq.solve(TSP.generate(10, seed=0), Budget(), start=[*range(10)])
    assert result.feasible


@pytest.mark.parametrize(
    "what", ["sizes do not match", "CUDA error: an illegal memory access was encountered"]
)
def test_errors_that_are_not_of_memory_are_not_hidden(
    what: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Model, state: Any, *links: bool) -> Any:
        raise RuntimeError(what)

    monkeypatch.setattr(Model, "look", broken)
    with pytest.raises(RuntimeError, match=what):
        BQ(weights=weights).solve(TSP.generate(10, seed=0), Budget())


def test_chunks_that_were_too_large_stay_smaller_and_the_log_says_so_once(
    weights: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, tried = Model.look, []

    def small_memory(self: Model, state: Any, *links: bool) -> Any:
        tried.append(state.batch)
        if state.batch > 4:
            raise torch.OutOfMemoryError
        return look(self, state, *links)

    monkeypatch.setattr(Model, "look", small_memory)
    monkeypatch.setattr(decoding, "CPU_TOKENS", 8 * 7)  # eight instances of seven rows
    batch = [TSP.generate(40, seed=seed) for seed in range(20)]
    BQ(weights=weights, k=5, part=10).solve_batch(batch, Budget(iterations=4))
    assert sum(count > 4 for count in tried) == 1
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert [text for text in said if "memory" in text] == [
        "out of memory: going on with 4 instances at a time, or fewer"
    ]


@pytest.fixture
def matrix_weights(tmp_path: Path) -> str:
    return str(small("atsp", tmp_path))


def test_more_than_the_free_memory_is_refused_before_it_is_taken(
    matrix_weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_model(matrix_weights)
    need = 30**2 * 4
    monkeypatch.setattr(decoding, "free_memory", lambda: 40.0 * need)
    monkeypatch.setattr(Model, "look", lambda *_: pytest.fail("it was begun"))
    with pytest.raises(MemoryError, match="GiB are free; use a smaller k, beam or leap"):
        decoding.chunk_size(replace(model, k=0), 31)
    assert decoding.chunk_size(replace(model, k=2), 31) >= 1  # few pairs are looked at
    with pytest.raises(InputError, match="n = 30 is beyond this machine's memory"):
        BQ(weights=matrix_weights, k=0).solve(ATSP.generate(30, seed=0), Budget())


def test_a_graph_takes_no_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(read_model(str(small("mis", tmp_path))), k=20)
    monkeypatch.setattr(decoding, "free_memory", lambda: 2.0**30)
    assert decoding.chunk_size(model, 100_000) >= 1


def test_chunks_suit_the_free_memory(matrix_weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(read_model(matrix_weights), k=0)
    usual = decoding.chunk_size(model, 21)
    sizes = []
    for free in (1e6, 1e7, 1e8, 1e15):
        monkeypatch.setattr(decoding, "free_memory", lambda free=free: free)
        sizes.append(decoding.chunk_size(model, 21))
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]
    assert sizes[-1] == usual


def test_the_least_of_what_machine_and_control_group_leave_is_free(tmp_path: Path) -> None:
    assert decoding.free_memory(str(tmp_path)) == float("inf")
    group = tmp_path / "sys" / "fs" / "cgroup"
    for folder in (group, tmp_path / "proc"):
        folder.mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  90 kB\nMemAvailable:   50 kB\n")
    assert decoding.free_memory(str(tmp_path)) == 50 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("9000\n")
    assert decoding.free_memory(str(tmp_path)) == 50 * 1024
    (group / "memory.max").write_text("20000\n")
    assert decoding.free_memory(str(tmp_path)) == 11000
    (group / "memory.stat").write_text("anon 5000\ninactive_file 3000\n")
    assert decoding.free_memory(str(tmp_path)) == 14000
