"""Second stages of facility location against linear programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances.core import Budget
from nco.instances.facility_location import FacilityLocation
from nco.robust.evaluation import recourse_by_mip


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.5, 1.0, 3.0]))
def test_shipments_cost_what_the_linear_program_says(n, m, seed, ratio):
    instance = FacilityLocation.generate(n, seed=seed, customers=m, ratio=ratio, budget_factor=0.6)
    problem = instance.two_stage
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (3, n)).astype(float)
    x[0] *= 0.5
    xi = problem.uncertainty.sample(3, rng)
    values, y = problem.recourse_at(x, xi)
    expected, _ = recourse_by_mip(problem, x, xi, Budget(60.0))
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-6)
    for a, b in np.ndindex(3, 3):
        stage = problem.stage(xi[b])
        activity = stage.T @ x[a] + stage.W @ y[a, b]
        assert (y[a, b] >= 0).all()
        assert (activity >= stage.row_lower - 1e-7).all()
        assert (activity <= stage.row_upper + 1e-7).all()
        assert stage.q @ y[a, b] == pytest.approx(values[a, b])
