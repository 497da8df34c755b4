"""What only HiGHS needs: its two clocks, and models it refuses."""

import numpy as np
import pytest

from nco.instances.core import Status, Stop
from nco.instances.mip import MIP
from nco.mip.backend import Form, Limits, Watch
from nco.mip.highs import HighsEngine
from nco.mip.main_solve import MainSolve


def test_later_linear_programs_have_time_left():
    rng = np.random.default_rng(0)
    mip = MIP(c=rng.random(60), A=rng.random((40, 60)), row_lower=np.full(40, 5.0))
    engine = HighsEngine(Form(mip))
    values = [engine.solve(Limits(60)).objective for _ in range(4)]
    assert values == pytest.approx([values[0]] * 4)
    # Each solve has its own limit, whatever the ones before have used.
    assert engine._highs.getRunTime() > 0
    assert engine.solve(Limits(60)).status is Status.OPTIMAL


def test_a_main_solve_pauses_and_goes_on(hard_mip):
    form = Form(hard_mip)
    engine = HighsEngine(form)
    found, bounds = [], []
    watch = Watch(on_solution=found.append, on_bound=bounds.append)
    main = MainSolve(engine, Limits(120, nodes=300), watch)
    main.start(None)
    while not found and not main.finished:
        main.run(0.2, lambda: bool(found))
    assert found
    while not main.finished:
        main.run(1.0, lambda: False)
    assert main.error is None
    assert main.outcome.stopped in (Stop.ITERATIONS, Stop.PROVED)
    plain = HighsEngine(form).solve(Limits(120, nodes=300))
    # Pauses change nothing of the search.
    assert main.outcome.bound == pytest.approx(plain.bound)
    assert main.outcome.objective == pytest.approx(plain.objective)


def test_suggestions_reach_the_engine(hard_mip):
    form = Form(hard_mip)
    best = HighsEngine(form).solve(Limits(120, nodes=200))
    handed = []

    def suggest():
        if handed:
            return None
        handed.append(1)
        return best.x

    watch = Watch(suggest=suggest)
    outcome = HighsEngine(form, seed=1).solve(Limits(60, nodes=5), watch=watch)
    assert handed
    assert outcome.objective <= best.objective + 1e-6


def test_a_main_solve_can_be_stopped_in_a_pause(hard_mip):
    main = MainSolve(HighsEngine(Form(hard_mip)), Limits(600), Watch())
    main.start(None)
    main.run(0.2, lambda: False)
    assert main.stop(patience=60)
    assert main.finished
