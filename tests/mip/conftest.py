import numpy as np
import pytest

from nco.instances.core import Sense
from nco.instances.mip import MIP


@pytest.fixture
def hard_mip():
    """A multi-dimensional knapsack that takes engines more than a moment."""
    rng = np.random.default_rng(5)
    n, m = 150, 12
    A = rng.integers(1, 1000, (m, n)).astype(float)
    return MIP(
        c=np.round(A.mean(0) + rng.integers(0, 300, n)),
        A=A,
        row_upper=np.floor(A.sum(1) / 2),
        upper=np.ones(n),
        integrality=np.ones(n, dtype=bool),
        sense=Sense.MAXIMIZE,
    )
