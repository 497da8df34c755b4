"""What only SCIP has: parameters, and its own LNS as a peer."""

from nco.instances.core import Budget, Status
from nco.instances.mip import MIP
from nco.mip.backend import Form
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
