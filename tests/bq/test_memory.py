"""What happens when memory runs out in the middle of decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nco.bq.decoding import Model
from nco.bq.solver import BQ
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
    def no_memory(self: Model, state: Any) -> Any:
        raise error

    monkeypatch.setattr(Model, "rates", no_memory)
    bq = BQ(weights=weights)
    with pytest.raises(
        InputError, match=r"n = 10 is beyond this machine's memory \(use a smaller k"
    ):
        bq.solve(TSP.generate(10, seed=0), Budget())
    # What there was before is kept.
    result = bq.solve(TSP.generate(10, seed=0), Budget(), start=[*range(10)])
    assert result.feasible


def test_errors_that_are_not_of_memory_are_not_hidden(
    weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Model, state: Any) -> Any:
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(Model, "rates", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        BQ(weights=weights).solve(TSP.generate(10, seed=0), Budget())
