"""Worst cases found by cuts."""

import highspy
import numpy as np

from nco.instances.two_stage_knapsack import TwoStageKnapsack
from nco.robust.evaluation import guaranteed


def test_highs_used_by_the_caller_with_other_threads_does_not_disturb():
    """HiGHS fixes the number of threads of a Python thread at the first run in it."""
    own = highspy.Highs()
    own.setOptionValue("output_flag", False)
    own.setOptionValue("threads", 2)
    own.addVar(0.0, 1.0)
    own.run()
    instance = TwoStageKnapsack.generate(5, seed=1)
    problem = instance.two_stage
    x, nothing = np.zeros(5), np.zeros((1, 10))
    assert guaranteed(problem, x, nothing) == 0.0
