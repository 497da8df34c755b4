"""Generated families: shapes, repetition, and what makes each of them feasible."""

import numpy as np
import pytest

from nco.instances.core import Budget, InputError, Sense
from nco.instances.families import FAMILIES
from nco.instances.mip import MIP
from nco.mip.highs import HiGHS


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family(family):
    first = MIP.generate(30, seed=1, distribution=family)
    assert first.digest == MIP.generate(30, seed=1, distribution=family).digest
    assert first.digest != MIP.generate(30, seed=2, distribution=family).digest
    assert first.name == f"mip-{family}-n30-s1"
    assert first.integrality.all()
    assert (first.upper == 1).all()
    assert (np.diff(first.A.indptr) > 0).all()
    result = HiGHS().solve(first, Budget(20))
    assert result.feasible
    better = result.objective > 0 if first.sense is Sense.MAXIMIZE else True
    assert better


def test_set_cover():
    mip = MIP.generate(200, seed=3, distribution="set-cover", rows=100, density=0.1)
    assert mip.A.shape == (100, 200)
    assert (np.diff(mip.A.tocsc().indptr) >= 2).all()
    assert mip.A.nnz == pytest.approx(2000, rel=0.15)
    assert mip.violations(dict.fromkeys(mip.columns, 1.0)) == []


def test_auction():
    mip = MIP.generate(500, seed=3, distribution="auction", items=100)
    assert mip.n == 500
    assert 100 <= mip.m <= 300
    assert mip.sense is Sense.MAXIMIZE
    assert (mip.c > 0).all()
    # Bundles of more than one item are the rule.
    assert mip.A.nnz > 2 * mip.n


def test_gisp():
    mip = MIP.generate(40, seed=3, distribution="gisp", p=0.5, alpha=0.5)
    assert set(mip.c.tolist()) == {-100.0, 1.0}
    removable = mip.n - 40
    assert 0.35 < removable / mip.m < 0.65
    assert mip.A.nnz == 2 * mip.m + removable


def test_multiple_knapsack():
    mip = MIP.generate(40, seed=3, distribution="multiple-knapsack", knapsacks=4)
    assert mip.A.shape == (44, 160)
    weights = mip.A[40:].tocsr().data.reshape(4, 40)[0]
    assert mip.row_upper[40:].sum() == pytest.approx(weights.sum() / 2, abs=1)


def test_cover_and_independent_set_belong_together():
    cover = MIP.generate(50, seed=3, distribution="vertex-cover")
    assert (np.diff(cover.A.indptr) == 2).all()
    assert ((cover.c > 0) & (cover.c < 1)).all()


def test_bad_options():
    with pytest.raises(InputError, match="set-cover"):
        MIP.generate(10, seed=0, distribution="sett-cover")
    with pytest.raises(InputError, match="option"):
        MIP.generate(10, seed=0, distribution="set-cover", color=3)
    with pytest.raises(ValueError, match="density"):
        MIP.generate(10, seed=0, distribution="set-cover", density=0.0)
    with pytest.raises(ValueError, match="alpha"):
        MIP.generate(10, seed=0, distribution="gisp", alpha=5.0)
