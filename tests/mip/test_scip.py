"""What only SCIP has: parameters, and its own LNS as a peer."""

import numpy as np
import pytest

from nco.instances.core import Budget, Status, Stop
from nco.instances.mip import MIP
from nco.mip.alns import Search
from nco.mip.backend import Form, Limits, OutOfTimeError, Watch
from nco.mip.balans import Balans
from nco.mip.highs import HighsEngine
from nco.mip.scip import LNS, SCIP, ScipEngine


def test_lns_parameters_are_set():
    mip = MIP(c=[-1.0, -2.0], A=[[2.0, 3.0]], row_upper=[7], upper=[3, 3], integrality=[1, 1])
    engine = ScipEngine(Form(mip), params=LNS)
    for name, value in LNS.items():
        assert engine._model.getParam(name) == value
    result = SCIP(lns=True, params={"heuristics/rins/freq": 3}).solve(mip, Budget(10))
    assert (result.status, result.objective) == (Status.OPTIMAL, -4.0)
    assert result.params["lns"] is True
    assert result.params["heuristics/rins/freq"] == 3


def test_writing_a_model_stops_with_the_time():
    mip = MIP(c=np.ones(1000), A=np.ones((1, 1000)), row_lower=[1], upper=np.ones(1000))
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(OutOfTimeError):
        ScipEngine(Form(mip), stop=stop)
    assert len(asked) == 3
    # As a solver that is no error.
    assert SCIP().solve(mip, Budget(0.0)).stopped is Stop.TIME


class TestSuggestions:
    @staticmethod
    def run(form, suggestion, when, **options):
        asked, seen = [], []

        def suggest():
            asked.append(1)
            return suggestion if len(asked) == when else None

        watch = Watch(suggest=suggest, on_solution=lambda x: seen.append(form.value(x)))
        engine = ScipEngine(form, **options)
        outcome = engine.solve(Limits(60, nodes=8), None, None, watch)
        return engine, outcome, asked, seen

    def is_taken(self, mip, nodes, when):
        form = Form(mip)
        best = HighsEngine(form).solve(Limits(60, nodes=nodes)).x
        engine, outcome, _, _ = self.run(form, best, when)
        assert engine._heuristic.taken == 1
        assert outcome.objective <= form.value(best) + 1e-6

    @pytest.mark.parametrize("when", [1, 5])
    def test_a_better_solution_is_taken(self, hard_mip, when):
        form = Form(hard_mip)
        best = HighsEngine(form).solve(Limits(60, nodes=100)).x
        _, alone, asked, _ = self.run(form, None, 1)
        assert len(asked) > 5
        assert alone.objective > form.value(best)
        engine, helped, _, seen = self.run(form, best, when)
        assert engine._heuristic.taken == 1
        assert helped.objective <= form.value(best) + 1e-6
        assert min(seen) <= form.value(best) + 1e-6
        # The next call does not know of it, and is not asked.
        again = engine.solve(Limits(60, nodes=8))
        assert again.objective == pytest.approx(alone.objective)

    def test_an_infeasible_one_is_refused(self, hard_mip):
        form = Form(hard_mip)
        engine, outcome, _, _ = self.run(form, np.ones(form.n), 2)
        assert engine._heuristic.taken == 0
        assert form.feasible(form.rounded(outcome.x))

    def test_variables_that_presolve_replaces_follow(self):
        # x0 is fixed, x1 and x2 are one, x3 is a sum of others.
        rng = np.random.default_rng(3)
        n, m = 60, 8
        A = np.vstack([np.eye(n)[1] - np.eye(n)[2], np.eye(n)[3] - np.eye(n)[5] - np.eye(n)[6],
                       rng.integers(1, 999, (m, n))])  # fmt: skip
        right = np.concatenate([[0, 0], np.floor(A[2:].sum(1) / 2)])
        mip = MIP(
            c=-rng.integers(100, 900, n).astype(float),
            A=A,
            row_lower=np.concatenate([[0, 0], np.full(m, -np.inf)]),
            row_upper=right,
            lower=np.eye(n)[0],
            upper=np.where(np.arange(n) == 3, 2, 1),
            integrality=np.ones(n),
        )
        self.is_taken(mip, nodes=100, when=1)

    def test_columns_with_two_values_become_binary_ones(self):
        rng = np.random.default_rng(0)
        n, m = 60, 20
        A = rng.integers(1, 30, (m, n)).astype(float)
        lower = rng.integers(-3, 4, n).astype(float)
        mip = MIP(
            c=-rng.integers(10, 30, n).astype(float),
            A=A,
            row_upper=np.floor(A @ (lower + 0.5)),
            lower=lower,
            # Some have three values, and stay as they are.
            upper=lower + 1 + (np.arange(n) % 4 == 0),
            integrality=np.ones(n),
        )
        self.is_taken(mip, nodes=50, when=2)

    def test_an_exception_reaches_the_caller(self, hard_mip):
        def suggest():
            raise RuntimeError("no advice")

        with pytest.raises(RuntimeError, match="no advice"):
            ScipEngine(Form(hard_mip)).solve(Limits(60, nodes=8), watch=Watch(suggest=suggest))

    def test_the_main_solve_asks(self, hard_mip, monkeypatch):
        budget, given = Budget(60), []
        plain = Search._suggest

        def suggest(search, role):
            # As if a sub-solve had found it just now.
            search._news[role] = search.pool[0].x
            given.append(plain(search, role))
            assert plain(search, role) is None
            budget.interrupt()
            return given[-1]

        monkeypatch.setattr(Search, "_suggest", suggest)
        start = {name: 0.0 for name in hard_mip.columns}
        result = Balans(main="scip").solve(hard_mip, budget, start=start)
        assert result.stopped is Stop.INTERRUPTED
        assert Form(hard_mip).feasible(given[0])
        assert result.extra["suggested"] >= 1
