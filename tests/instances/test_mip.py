"""The MIP instance: validation, tolerances, messages, identity."""

import math

import numpy as np
import pytest
from scipy import sparse

from nco.instances.core import Sense
from nco.instances.mip import MIP


def model(**changes):
    data = {
        "c": [1.0, 2.0, 3.0],
        "A": [[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]],
        "row_lower": [1.0, -math.inf],
        "row_upper": [1000.0, 2.0],
        "upper": [10.0, 10.0, math.inf],
        "integrality": [True, False, False],
        "columns": ["x", "y", "z"],
        "rows": ["cover", "pack"],
    }
    return MIP(**{**data, **changes})


def test_objective_and_constant():
    assert model(offset=5.0).objective({"x": 1.0, "z": 2.0}) == 12.0
    whole = model(integrality=[1, 1, 1], offset=5)
    assert isinstance(whole.objective({"x": 1.0}), int)


@pytest.mark.parametrize(
    ("solution", "message"),
    [
        ({"x": 1.0}, None),
        ({"x": 1.0 + 5e-7}, None),
        ({"x": 1.5}, "column x: 1.5 is not whole"),
        ({"x": 11.0}, "column x: 11.0 beyond upper bound 10.0"),
        ({"x": 1.0, "z": -1.0}, "column z: -1.0 beyond lower bound 0.0"),
        ({"y": 0.5}, "row cover: 0.5 must be >= 1.0"),
        ({"x": 1.0, "y": 3.0}, "row pack: 3.0 must be <= 2.0"),
        ({"q": 1.0}, "column 'q' does not exist"),
        ({"x": math.nan}, "column 'x' is not finite"),
    ],
)
def test_violations(solution, message):
    found = model().violations(solution)
    assert found == ([] if message is None else [message])


def test_an_activity_that_overflows_is_not_feasible():
    mip = MIP(c=[0.0, 0.0], A=[[10.0, -10.0]], row_lower=[1.0])
    assert mip.violations({"x0": 1.7e308, "x1": 1.7e308}) == ["row r0: nan must be >= 1.0"]
    assert mip.replace(row_lower=None).violations({"x0": 1.7e308, "x1": 1.7e308}) == []


def test_row_tolerance_is_relative_to_the_limit():
    mip = model(upper=[1e4, 1e4, math.inf], integrality=[0, 0, 0])
    assert mip.violations({"x": 1000.0005}) == []
    assert mip.violations({"x": 1000.002}) != []
    assert mip.violations({"x": 1.0 - 2e-6}) != []


def test_canonical_drops_zeros_and_rounds():
    mip = model()
    assert mip.canonical({"z": 0.0, "y": 0.25, "x": 1.0000001}) == {"x": 1.0, "y": 0.25}


def test_digest_covers_everything_but_the_name():
    base = model()
    assert base.digest == model(name="other").digest
    assert base.digest == model(A=sparse.csc_array(np.array(base.A.todense()))).digest
    for changes in (
        {"c": [1.0, 2.0, 4.0]}, {"A": [[1.0, 1.0, 0.0], [0.0, 1.0, -2.0]]}, {"offset": 1.0},
        {"row_lower": [1.0, 0.0]}, {"row_upper": [1000.0, 3.0]}, {"lower": [0, 0, 1]},
        {"upper": [10, 10, 10]}, {"integrality": [0, 0, 0]}, {"sense": Sense.MAXIMIZE},
        {"columns": ["x", "y", "zz"]}, {"rows": ["a", "b"]},
    ):  # fmt: skip
        assert model(**changes).digest != base.digest


def test_arrays_are_read_only_and_the_callers_stay_writable():
    A = sparse.csr_array(np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]]))
    mip = model(A=A)
    A.data[0] = 7.0
    assert mip.A.data[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        mip.A.data[0] = 2.0
    with pytest.raises(ValueError, match="read-only"):
        mip.c[0] = 2.0


def test_zeros_are_not_stored():
    A = sparse.csr_array((np.array([1.0, 0.0]), ([0, 1], [0, 1])), shape=(2, 3))
    assert model(A=A).A.nnz == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"A": [[1.0]]}, "A has 1 columns, c has 3"),
        ({"c": [1.0, math.inf, 0.0]}, "not a finite number"),
        ({"A": [[1.0, math.nan, 0.0], [0, 0, 0]]}, "not finite"),
        ({"lower": [0.0]}, "lower has shape"),
        ({"upper": [math.nan, 1, 1]}, "is not a number"),
        ({"integrality": [1]}, "integrality has shape"),
        ({"columns": ["x", "x", "z"]}, "column name 'x' is used twice"),
        ({"rows": ["a"]}, "1 row names for 2 rows"),
        ({"offset": math.inf}, "offset"),
        ({"offset": "a"}, "offset = 'a' is not a finite number"),
        ({"sense": "up"}, "up"),
        ({"A": [1.0, 2.0, 3.0]}, "A has 1 dimensions, expected 2"),
        # Semi-continuous in scipy's words; letters are others'.
        ({"integrality": [0, 2, 1]}, "integrality 2 not understood; give 0 or 1"),
        ({"integrality": ["C", "I", "B"]}, "integrality 'C' not understood"),
    ],
)
def test_bad_arguments(changes, what):
    with pytest.raises(ValueError, match=what):
        model(**changes)
