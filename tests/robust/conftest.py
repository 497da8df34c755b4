"""Kernels compiled before the tests of two-stage methods, and optima of their masters."""

import numpy as np
import pytest

from nco.classical import compiling
from nco.instances.core import Budget, Status
from nco.instances.registry import problems
from nco.mip.backend import Form, Limits
from nco.mip.highs import HighsEngine
from nco.robust.baselines import Nominal


@pytest.fixture(scope="session", autouse=True)
def compiled_recourses():
    """Compile in one of the processes that test, and load in the others."""
    for module in compiling.MODULES:
        if module.startswith("nco.instances."):
            compiling.compile_alone(module, compiling.COMPILE, wait=True)
    for name in ("two-stage-knapsack", "capital-budgeting", "facility-location"):
        Nominal().solve(problems.load(name).generate(2, seed=0), Budget())


@pytest.fixture(scope="session")
def optimum_of():
    """A function: the optimum of a MIP over first stages, and its first stage."""

    def optimum(master):
        form = Form(master.mip)
        engine = HighsEngine(form)
        try:
            found = engine.solve(Limits(30.0, gap=1e-9))
        finally:
            engine.close()
        assert found.status is Status.OPTIMAL
        return form.original(form.value(found.x)), np.rint(found.x[master.x])

    return optimum
