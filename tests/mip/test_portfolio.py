"""Workers in processes: results, sharing, limits, failures."""

import numpy as np
import pytest

from nco.instances.core import Budget, Status, Stop
from nco.instances.mip import MIP
from nco.mip.backend import Form
from nco.mip.balans import Balans
from nco.mip.portfolio import _Line


def test_configurations_differ():
    configurations = Balans(jobs=4, memory="arms.json").configurations()
    assert len(configurations) == 4
    assert all(c["jobs"] == 1 for c in configurations)
    assert [c["memory"] for c in configurations] == ["arms.json", None, None, None]
    assert len({(c["main"], c["sub"], c["policy"]) for c in configurations}) == 4
    for configuration in configurations:
        Balans(**configuration)
    with pytest.raises(ValueError, match="jobs"):
        Balans(jobs=0)


def test_a_line_passes_on_what_is_new():
    import queue

    up, down = queue.Queue(), queue.Queue()
    line = _Line(0, up, down)
    line.tell(np.array([1.0, 2.0]), 5.0)
    line.tell(np.array([1.0, 3.0]), 6.0)
    line.tell_bound(1.0)
    line.tell_bound(1.0)
    assert [m[0] for m in list(up.queue)] == ["solution", "bound"]
    down.put(("solution", np.array([0.0, 1.0]).tobytes(), 4.0))
    down.put(("solution", np.array([0.0, 9.0]).tobytes(), 4.5))
    down.put(("bound", b"", 2.0))
    found, bound = line.hear()
    assert [x.tolist() for x in found] == [[0.0, 1.0]]
    assert bound == 2.0
    assert line.hear() == ([], -np.inf)


def test_two_workers_solve_to_the_end():
    mip = MIP(c=[5, 4, 3], A=[[2, 3, 1], [4, 1, 2]], row_upper=[5, 11], upper=[3, 3, 3],
              integrality=[1, 1, 1], sense="maximize", offset=2)  # fmt: skip
    one = Balans().solve(mip, Budget(30))
    two = Balans(jobs=2).solve(mip, Budget(60))
    assert two.status is Status.OPTIMAL
    assert two.objective == one.objective
    assert len(two.extra["workers"]) >= 1


def test_infeasible_in_parallel():
    mip = MIP(c=[1.0], A=[[2.0]], row_lower=[1], row_upper=[1], upper=[5], integrality=[1])
    assert Balans(jobs=2).solve(mip, Budget(60)).status is Status.INFEASIBLE


def test_what_workers_find_is_heard_at_once(hard_mip):
    events = []
    start = {name: 0.0 for name in hard_mip.columns}
    budget = Budget(200, target=1.0)
    result = Balans(jobs=2).solve(hard_mip, budget, start=start, on_event=events.append)
    assert result.stopped is Stop.TARGET
    assert result.objective >= 1
    assert {e.by for e in events} & {"worker 0", "worker 1"}
    assert Form(hard_mip).feasible(hard_mip.vector(result.solution))


def test_an_interruption_ends_all_workers(hard_mip):
    budget = Budget(100)

    def listener(event):
        if event.by.startswith("worker"):
            budget.interrupt()

    result = Balans(jobs=2).solve(hard_mip, budget, on_event=listener)
    assert result.stopped is Stop.INTERRUPTED
    assert result.feasible
