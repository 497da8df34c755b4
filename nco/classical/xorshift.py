"""Random numbers for compiled kernels, from a state that the caller holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nco.classical.compiling import kernel


def random_state(seed: int) -> NDArray[np.uint64]:
    """The state [1] of a generator; the same seed gives the same numbers."""
    return np.random.SeedSequence(seed).generate_state(1, np.uint64) | np.uint64(1)


@kernel()
def uniform(state: Any) -> float:
    """A uniform number in [0, 1) from xorshift64*; the state moves on."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0
