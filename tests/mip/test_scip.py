"""What only SCIP has: parameters, and its own LNS as a peer."""

import numpy as np
import pytest

from nco.instances.core import Budget, Status, Stop
from nco.instances.mip import MIP
from nco.mip.backend import Form, OutOfTimeError
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
