"""Workers in processes and on a cluster: results, sharing, limits, failures."""

import os
import pickle
import queue

import numpy as np
import pytest

from nco.cli import main
from nco.instances import io
from nco.instances.core import Budget, InputError, Status, Stop
from nco.instances.cvrp import CVRP
from nco.instances.mip import MIP
from nco.mip.backend import Form
from nco.mip.balans import Balans
from nco.mip.portfolio import _Line, _Processes, _Ray, run_portfolio


def test_configurations_differ():
    configurations = Balans(jobs=4, memory="arms.json").configurations()
    assert len(configurations) == 4
    assert all(c["jobs"] == 1 for c in configurations)
    assert [c["memory"] for c in configurations] == ["arms.json", None, None, None]
    assert len({(c["main"], c["sub"], c["policy"]) for c in configurations}) == 4
    for configuration in configurations:
        Balans(**configuration)
    none = Balans(jobs=4, main_share=0.0).configurations()
    assert all(c["main_share"] == 0.0 for c in none)
    # A parameter belongs to its policy.
    own = Balans(jobs=4, policy="softmax", policy_parameter=2.0).configurations()
    assert [c["policy_parameter"] for c in own] == [2.0, 2.0, None, None]
    with pytest.raises(ValueError, match="jobs"):
        Balans(jobs=0)


def test_a_line_passes_on_what_is_new():
    up, down = queue.Queue(), queue.Queue()
    line = _Line(0, up, down)
    line.tell(np.array([1.0, 2.0]), 5.0, "rins")
    line.tell(np.array([1.0, 3.0]), 6.0, "rens")
    line.tell_bound(1.0)
    line.tell_bound(1.0)
    assert [(m[0], m[4]) for m in list(up.queue)] == [("solution", "rins"), ("bound", "")]
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


def test_counting_nodes_repeats_with_workers(hard_mip):
    solver = Balans(jobs=2, deterministic=True, sub_nodes=5)
    runs = [solver.solve(hard_mip, Budget(200, iterations=2), seed=3) for _ in range(2)]
    assert runs[0].solution == runs[1].solution
    assert runs[0].stopped is runs[1].stopped is Stop.ITERATIONS
    found = [[(e.objective, e.bound, e.by) for e in run.trajectory] for run in runs]
    assert found[0] == found[1]
    # Which of their arms, starters or engines it was, too.
    assert all(len(by.split()) > 2 for objective, _, by in found[0] if objective is not None)
    for run in runs:
        assert [worker["iterations"] for worker in run.extra["workers"]] == [2, 2]
    assert runs[0].extra["workers"] == [
        worker | {key: ours[key] for key in ours if key.endswith("_seconds")}
        for worker, ours in zip(runs[1].extra["workers"], runs[0].extra["workers"], strict=True)
    ]


def test_instances_with_a_named_metric_reach_the_workers():
    rng = np.random.default_rng(0)
    instance = CVRP(coords=rng.uniform(0, 100, (7, 2)), demands=[0, 1, 1, 1, 1, 1, 1], capacity=3,
                    metric="EUC_2D")  # fmt: skip
    result = Balans(jobs=2).solve(instance, Budget(60))
    assert (result.status, result.stopped) == (Status.OPTIMAL, Stop.PROVED)


def test_what_cannot_be_sent_to_workers_is_an_error_at_once(hard_mip):
    configurations = Balans(jobs=2).configurations()
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        run_portfolio(configurations, hard_mip, Budget(60), seed=0, start=lambda: None,
                      share=False, on_event=print)  # fmt: skip


def test_the_first_worker_waits_for_no_process(hard_mip, monkeypatch):
    searches = []

    def search(self, *args, original=Balans.search, **kwargs):
        searches.append(os.getpid())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Balans, "search", search)
    result = Balans(jobs=2).solve(hard_mip, Budget(100, target=1.0))
    assert result.stopped is Stop.TARGET
    assert searches == [os.getpid()]


def test_a_worker_that_fails_costs_no_result(hard_mip, monkeypatch, caplog):
    def search(self, *args, **kwargs):
        raise RuntimeError("no luck")

    # Of the first worker only: others import it anew.
    monkeypatch.setattr(Balans, "search", search)
    result = Balans(jobs=2).solve(hard_mip, Budget(100, target=1.0))
    assert result.stopped is Stop.TARGET
    assert {e.by[:8] for e in result.trajectory} == {"worker 1"}
    assert "a worker failed: RuntimeError: no luck" in caplog.text


def test_without_any_worker_a_start_is_no_end(hard_mip, monkeypatch):
    monkeypatch.setattr("nco.mip.portfolio.run_portfolio", lambda *_, **__: {})
    start = {name: 0.0 for name in hard_mip.columns}
    result = Balans(jobs=2).solve(hard_mip, Budget(60), start=start)
    assert (result.status, result.stopped) == (Status.FEASIBLE, Stop.ERROR)


def test_a_worker_that_dies_in_the_middle_of_a_message_silences_no_other():
    place = _Processes(3)
    dying, other = (sender.connection for sender in place.ups[1:])
    os.write(dying.fileno(), (1000).to_bytes(4, "big") + b"some")
    dying.close()
    other.send(("bound", 2, b"", 1.0, ""))
    place.ups[0].put(("bound", 0, b"", 2.0, ""))
    assert {place.get(1.0)[1] for _ in range(2)} == {0, 2}
    with pytest.raises(queue.Empty):
        place.get(0.0)
    assert [place.alive(number) for number in range(3)] == [True, False, True]


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
    assert {e.by[:8] for e in events} & {"worker 0", "worker 1"}
    # Which of its arms, starters or engines it was, too.
    assert any(len(e.by) > 8 for e in events)
    assert Form(hard_mip).feasible(hard_mip.vector(result.solution))


def test_an_interruption_ends_all_workers(hard_mip):
    budget = Budget(100)

    def listener(event):
        if event.by.startswith("worker"):
            budget.interrupt()

    result = Balans(jobs=2).solve(hard_mip, budget, on_event=listener)
    assert result.stopped is Stop.INTERRUPTED
    assert result.feasible


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
@pytest.mark.parametrize("share", [True, False])
def test_workers_share_what_they_find(hard_mip, backend, share):
    if backend == "ray":
        pytest.importorskip("ray")
    events = []
    solver = Balans(jobs=2, backend=backend, share=share)
    result = solver.solve(hard_mip, Budget(40), on_event=events.append)
    assert result.feasible
    assert len(result.extra["workers"]) == 2
    assert {e.by[:8] for e in events} >= {"worker 0", "worker 1"}
    heard = sum(worker["heard"] for worker in result.extra["workers"])
    assert heard > 0 if share else heard == 0


@pytest.mark.slow
class TestRay:
    @pytest.fixture
    def one_place(self):
        ray = pytest.importorskip("ray")
        ray.shutdown()
        _Ray.own = False
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
        yield ray
        ray.shutdown()

    def test_infeasible(self):
        pytest.importorskip("ray")
        mip = MIP(c=[1.0], A=[[2.0]], row_lower=[1], row_upper=[1], upper=[5], integrality=[1])
        solver = Balans(jobs=2, backend="ray")
        assert solver.solve(mip, Budget(100)).status is Status.INFEASIBLE

    def test_a_cluster_with_too_few_places(self, one_place, hard_mip):
        with pytest.raises(InputError, match="2 workers on a Ray cluster with 1 CPUs"):
            Balans(jobs=2, backend="ray").solve(hard_mip, Budget(10))
        # A cluster of others goes on.
        assert one_place.is_initialized()

    def test_a_larger_cluster_is_begun(self):
        ray = pytest.importorskip("ray")
        mip = MIP(c=[1.0], A=[[2.0]], row_lower=[2], upper=[5], integrality=[1])
        for jobs in (2, 3):
            assert Balans(jobs=jobs, backend="ray").solve(mip, Budget(100)).objective == 1
            assert ray.cluster_resources()["CPU"] == jobs

    def test_from_the_command_line(self, hard_mip, tmp_path, capsys):
        pytest.importorskip("ray")
        path = tmp_path / "hard.mps"
        io.write(hard_mip, path)
        arguments = ["--jobs", "2", "--backend", "ray", "--target", "1", "-t", "100", "--json"]
        assert main(["solve", str(path), "-s", "balans", *arguments]) == 0
        out, err = capsys.readouterr()
        assert '"backend": "ray"' in out
        assert err == ""


def test_an_unknown_backend():
    with pytest.raises(InputError, match="unknown backend 'slurm'"):
        Balans(jobs=2, backend="slurm")
