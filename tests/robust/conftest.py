"""Kernels are compiled before the tests of two-stage methods, as their limits expect."""

import pytest

from nco.classical import compiling
from nco.instances.core import Budget
from nco.instances.registry import problems
from nco.robust.baselines import Nominal


@pytest.fixture(scope="session", autouse=True)
def compiled_recourses():
    """Compile in one of the processes that test, and load in the others."""
    for module in compiling.MODULES:
        if module.startswith("nco.instances."):
            compiling.compile_alone(module, compiling.COMPILE, wait=True)
    for name in ("two-stage-knapsack", "capital-budgeting", "facility-location"):
        Nominal().solve(problems.load(name).generate(2, seed=0), Budget())
