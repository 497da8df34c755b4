"""The public calls: budgets, bounds, starts, batches, seeds, interruption."""

import contextlib
import importlib.util
import signal
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import nco
from nco import api, parallel
from nco.instances import io, registry
from nco.instances.core import InputError, Stop, Tracker, spawn_seed


@dataclass
class Probe:
    """A solver that takes all knapsack items in order that fit, and remembers its calls."""

    name = "probe"

    calls: list[dict[str, Any]] = field(default_factory=list)
    proves: bool = False

    def supports(self, instance):
        return None if instance.problem == "knapsack" else "solves knapsack only"

    def solve(self, instance, budget, *, seed=0, start=None, on_event=None):
        self.calls.append(
            {
                "time_limit": budget.time_limit, "iterations": budget.iterations,
                "target": budget.target, "gap": budget.gap, "seed": seed, "start": start,
                "elapsed": budget.elapsed(), "instance": instance,
            }
        )  # fmt: skip
        tracker = Tracker(instance, budget, solver=self.name, seed=seed, on_event=on_event)
        chosen, left = [], instance.capacity
        for item in range(instance.n):
            if instance.weights[item] <= left:
                chosen.append(item)
                left -= instance.weights[item]
        tracker.offer(chosen if start is None else start)
        return tracker.result(tracker.done() or Stop.FINISHED)


class BatchProbe(Probe):
    def solve_batch(self, instances, budget, *, seed=0, start=None, on_event=None):
        self.calls.append({"batch": len(instances), "time_limit": budget.time_limit, "seed": seed})
        return [Probe().solve(i, budget, seed=seed) for i in instances]


@pytest.fixture
def knapsack():
    return nco.Knapsack(values=[6, 5, 4, 3], weights=[4, 3, 2, 1], capacity=5, name="small")


# -------------------------------------------------------------------------------- solve


def test_exports():
    assert {"TSP", "CVRP", "solve", "Result", "plot", "examples"} <= set(dir(nco))
    for name in dir(nco):
        assert getattr(nco, name) is not None
    with pytest.raises(AttributeError, match="Tsp"):
        nco.Tsp  # noqa: B018


def test_limits_reach_the_solver(knapsack):
    probe = Probe()
    nco.solve(knapsack, probe, 7.0, 3, bound=False, iterations=9, target=2.0)
    (call,) = probe.calls
    assert (call["time_limit"], call["iterations"], call["target"]) == (7.0, 9, 2.0)
    assert call["seed"] == 3


def test_clock_starts_before_the_file_is_read(knapsack, tmp_path, monkeypatch):
    nco.write(knapsack, tmp_path / "k.json")
    original = io.read

    def slow(*args):
        time.sleep(0.1)
        return original(*args)

    monkeypatch.setattr(io, "read", slow)
    probe = Probe()
    result = nco.solve(tmp_path / "k.json", probe)
    assert probe.calls[0]["elapsed"] >= 0.1
    assert result.seconds >= 0.1


@pytest.mark.parametrize(("limit", "left"), [(100.0, 99.0), (6.0, 5.4), (1.0, 1.0), (None, None)])
def test_time_is_kept_for_the_bound(knapsack, limit, left):
    probe = Probe()
    result = nco.solve(knapsack, probe, limit)
    assert probe.calls[0]["time_limit"] == (None if left is None else pytest.approx(left))
    assert result.bound is not None
    proving = Probe(proves=True)
    nco.solve(knapsack, proving, limit)
    assert proving.calls[0]["time_limit"] == limit


def test_bound_makes_a_gap_and_can_prove(knapsack):
    result = nco.solve(knapsack, Probe())
    # Items 0 and 3 have value 9; Dantzig takes 3, 2 and two thirds of 1: 10.
    assert (result.objective, result.bound) == (9, 10)
    assert result.status == "feasible"
    assert result.gap == pytest.approx(1 / 9)
    assert result.trajectory[-1].by == "bound"
    best = nco.solve(knapsack.replace(capacity=10), Probe())
    assert (best.status, best.objective, best.bound) == ("optimal", 18, 18)
    assert nco.solve(knapsack, Probe(), bound=False).bound is None


def test_gap_becomes_a_target_for_solvers_without_bounds(knapsack):
    probe = Probe()
    result = nco.solve(knapsack, probe, gap=0.12)
    assert probe.calls[0]["target"] == pytest.approx(10 / 1.12)
    assert result.stopped == "gap"
    assert result.gap <= 0.12
    result = nco.solve(knapsack, Probe(), gap=0.05)
    assert result.stopped == "finished"
    easy = nco.solve(knapsack, Probe(), gap=0.05, target=8)
    assert easy.stopped == "target"


def test_start_may_be_a_solution_a_result_or_a_file(knapsack, tmp_path):
    nco.write_solution(knapsack, [2, 3], tmp_path / "s.json")
    first = nco.solve(knapsack, Probe(), start=[1, 2])
    for start, expected in (([1, 2], [1, 2]), (first, [1, 2]), (tmp_path / "s.json", [2, 3])):
        probe = Probe()
        nco.solve(knapsack, probe, start=start)
        assert probe.calls[0]["start"] == expected
    with pytest.raises(nco.InputError, match=r"start is infeasible: weight 7 > capacity 5"):
        nco.solve(knapsack, Probe(), start=[0, 1])
    with pytest.raises(nco.InputError, match=r"none\.json"):
        nco.solve(knapsack, Probe(), start=tmp_path / "none.json")


def test_unsupported_says_why_and_who_can():
    tsp = nco.generate("tsp", 5)
    with pytest.raises(nco.UnsupportedError, match=r"solves knapsack only .*greedy"):
        nco.solve(tsp, Probe())


def test_names_and_parameters_are_checked(knapsack):
    with pytest.raises(nco.InputError, match=r"did you mean greedy\?"):
        nco.solve(knapsack, solver="gredy")
    with pytest.raises(nco.InputError, match="no parameter 'plam'"):
        nco.solve(knapsack, solver="auto", plam="greedy")
    with pytest.raises(nco.InputError, match="neighbors < 1"):
        nco.solve(knapsack, solver="pyvrp", neighbors=0)
    with pytest.raises(nco.InputError, match="constructor"):
        nco.solve(knapsack, Probe(), calls=[])
    with pytest.raises(nco.InputError, match="time_limit"):
        nco.solve(knapsack, Probe(), -1)
    with pytest.raises(nco.InputError, match="no instance"):
        nco.solve([1, 2, 3], Probe())


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "a", None])
def test_seeds_are_checked(knapsack, batch, seed):
    for solve in (nco.solve, nco.solve_batch):
        with pytest.raises(InputError, match=r"seed = .* not understood"):
            solve(knapsack if solve is nco.solve else batch, seed=seed)
    with pytest.raises(InputError, match=r"seed = .* not understood"):
        nco.generate("tsp", 5, seed=seed)


@pytest.mark.parametrize("solver", [None, 5, object(), Probe])
def test_what_is_no_solver_is_refused(knapsack, solver):
    with pytest.raises(InputError, match="is no solver"):
        nco.solve(knapsack, solver)


@pytest.mark.parametrize("value", ["a", float("nan"), [1]])
@pytest.mark.parametrize("limit", ["time_limit", "iterations", "target", "gap"])
def test_limits_are_numbers(knapsack, limit, value):
    with pytest.raises(InputError, match=f"{limit} = .* not understood; give a (whole )?number"):
        nco.solve(knapsack, Probe(), **{limit: value})


@pytest.mark.parametrize(
    ("solver", "name"), [("auto", "plan"), ("bq", "weights"), ("bq", "device")]
)
def test_words_are_words(knapsack, solver, name):
    with pytest.raises(InputError, match=rf"{name} = 3 not understood \(give a word\)"):
        nco.solve(knapsack, solver, time_limit=1, **{name: 3})


@pytest.mark.parametrize("value", [1.5, 2.0, True, "3"])
def test_whole_numbers_are_whole(knapsack, batch, value):
    """Limits, parameters of solvers by name and of solver objects, options, counts."""
    with pytest.raises(InputError, match=r"iterations = .* not understood; give a whole number"):
        nco.solve(knapsack, Probe(), iterations=value)
    with pytest.raises(InputError, match=r"jobs = "):
        nco.solve_batch(batch, Probe(), jobs=value)
    with pytest.raises(InputError, match=r"solver pyvrp: neighbors = .* \(give a whole number\)"):
        nco.solve(knapsack, "pyvrp", neighbors=value)
    for options in ({"n": value}, {"count": value}, {"clusters": value}):
        with pytest.raises(InputError, match=r" = .* not understood"):
            nco.generate("tsp", distribution="clustered", **{"n": 9} | options)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("cutoff", "False", "true or false"), ("cutoff", 1, "true or false"),
        ("main_share", "abc", "a number"), ("main_share", None, "a number"),
        ("main_share", True, "a number"), ("sub_seconds", "nan", "a number"),
    ],
)  # fmt: skip
def test_numbers_and_truth_values_of_solvers(knapsack, name, value, what):
    with pytest.raises(InputError, match=rf"balans: {name} = .* not understood \(give {what}\)"):
        nco.solve(knapsack, "balans", **{name: value})


@pytest.mark.parametrize(("value", "fine"), [(2, True), (None, True), (2.5, False)])
def test_whole_numbers_of_solver_objects(knapsack, value, fine):
    @dataclass
    class Deep(Probe):
        depth: int | None = None

    expected = (
        contextlib.nullcontext() if fine else pytest.raises(InputError, match=r"depth = 2\.5")
    )
    with expected:
        assert nco.solve(knapsack, Deep(depth=value)).feasible


@pytest.mark.parametrize("value", [5, "print", [print]])
def test_listeners_are_functions(knapsack, batch, value):
    calls = []
    with pytest.raises(InputError, match=r"on_event: a .* cannot be called \(give a function\)"):
        nco.solve(knapsack, Probe(calls), on_event=value)
    for name in ("on_event", "on_result"):
        with pytest.raises(InputError, match=f"{name}: a .* cannot be called"):
            nco.solve_batch(batch, Probe(calls), **{name: value})
    assert not calls


@pytest.mark.parametrize("instance", [None, "knapsack", "tsp"])
def test_metrics_are_checked(knapsack, instance):
    values = {None: None, "knapsack": knapsack, "tsp": nco.generate("tsp", 5)}
    with pytest.raises(InputError, match="metric"):
        nco.solve(values[instance], Probe(), metric="nonsense")


def test_missing_package_names_the_extra(knapsack):
    misspelt = registry.Entry("test-misspelt", "nco.classical.constructive:Greeedy")
    with pytest.raises(ImportError, match=r"nco\.classical\.constructive has no Greeedy"):
        misspelt.load()
    registry.solvers.add(registry.Entry("test-missing", "x:Y", "", "no_such_package", "ray"))
    try:
        with pytest.raises(nco.MissingExtraError, match=r"nco\[ray\]"):
            nco.solve(knapsack, solver="test-missing")
    finally:
        del registry.solvers._entries["test-missing"]


def test_broken_plugins_take_nothing_with_them(monkeypatch, tmp_path, caplog):
    """One warning for each; files are read, kinds recognised, solvers chosen without them."""
    instance = nco.generate("tsp", 8, seed=1)
    for kind in (registry.formats, registry.problems, registry.solvers):
        broken = registry.Entry("broken", "no.such:THING")
        monkeypatch.setattr(kind, "_entries", {**{e.name: e for e in kind}, "broken": broken})
        monkeypatch.setattr(kind, "_broken", set())
    monkeypatch.setattr("nco.auto.table", list)
    nco.write(instance, tmp_path / "a.tsp")
    np.savez(tmp_path / "a.npz", coords=instance.coords)
    for name in ("a.tsp", "a.npz"):
        assert nco.read(tmp_path / name).problem == "tsp"
    assert "broken" not in api.supporting(instance)
    assert nco.solve(instance, time_limit=0.1).solver == "auto"
    texts = [r.getMessage() for r in caplog.records if "cannot be imported" in r.getMessage()]
    assert sorted(text.split()[0] for text in texts) == ["format", "problem", "solver"]


def test_events_are_heard(knapsack):
    events = []
    nco.solve(knapsack, Probe(), on_event=events.append)
    assert [(e.objective, e.bound) for e in events] == [(9, None), (9, 10)]


# -------------------------------------------------------------------------------- batch


@pytest.fixture
def batch():
    return nco.generate("knapsack", 12, count=4, seed=1)


def test_batch_gives_one_result_for_each_with_its_own_seed(batch):
    probe, seen = Probe(), []
    results = nco.solve(batch, probe, seed=5, on_result=lambda k, r: seen.append((k, r)))
    assert [r.digest for r in results] == [i.digest for i in batch]
    assert [r.seed for r in results] == [spawn_seed(5, i.digest) for i in batch]
    assert [k for k, _ in seen] == [0, 1, 2, 3]
    assert [r.seed for r in nco.solve_batch(batch[::-1], Probe(), seed=5)] == [
        r.seed for r in results
    ][::-1]


def test_path_of_a_batch_gives_a_list(batch, tmp_path):
    nco.write(batch, tmp_path / "b.npz")
    assert len(nco.solve(tmp_path / "b.npz", Probe())) == 4


def test_batched_solver_is_called_once_with_the_time_of_all(batch):
    probe = BatchProbe()
    results = nco.solve_batch(batch, probe, 10.0, seed=5)
    assert probe.calls == [{"batch": 4, "time_limit": 36.0, "seed": 5}]
    assert all(r.bound is not None for r in results)


def test_batched_solver_is_called_for_each_under_a_gap_of_its_own_bound(batch):
    probe = BatchProbe()
    results = nco.solve_batch(batch, probe, 10.0, gap=0.5)
    assert [call["target"] for call in probe.calls] == [
        pytest.approx(r.bound / 1.5) for r in results
    ]
    probe = BatchProbe()
    nco.solve_batch(batch, probe, 10.0, gap=0.5, bound=False)
    assert len(probe.calls) == 1


def test_jobs_of_a_batched_solver_change_nothing_and_it_says_so(batch, caplog):
    probe = BatchProbe()
    nco.solve_batch(batch, probe, jobs=2)
    assert [call["batch"] for call in probe.calls] == [4]
    assert "jobs change nothing" in caplog.text


@pytest.mark.parametrize("value", ["b.npz", [1], lambda: nco.generate("tsp", 5)])
def test_what_is_no_batch_is_refused(value):
    with pytest.raises(nco.InputError, match=r"is no (batch|instance)"):
        nco.solve_batch(value() if callable(value) else value, Probe())


def test_error_of_one_is_raised_but_only_its_own_outcome(batch, knapsack):
    tsp = nco.generate("tsp", 5)
    probe = Probe()
    with pytest.raises(nco.UnsupportedError):
        nco.solve_batch([knapsack, tsp], probe)
    assert probe.calls == []
    outcomes = parallel.run_many(
        [tsp, knapsack], Probe(), api.Limits(1.0), nco.Budget(), seeds=[0, 0]
    )
    assert isinstance(outcomes[0], nco.UnsupportedError)
    assert outcomes[1].objective == 9


def test_one_start_for_each(batch):
    probe = Probe()
    nco.solve_batch(batch, probe, start=[[0], None, [1], None])
    assert [call["start"] for call in probe.calls] == [[0], None, [1], None]
    with pytest.raises(nco.InputError, match="1 starts for 4 instances"):
        nco.solve_batch(batch, Probe(), start=[[0]])


def test_interruption_leaves_the_rest_unsolved(batch):
    before = signal.getsignal(signal.SIGINT)

    def interrupt(index, result):
        if index == 1:
            signal.raise_signal(signal.SIGINT)

    results = nco.solve_batch(batch, Probe(), on_result=interrupt)
    assert [r.feasible for r in results] == [True, True, False, False]
    assert [r.stopped for r in results[2:]] == ["interrupted", "interrupted"]
    assert signal.getsignal(signal.SIGINT) is before


def test_jobs_change_no_result(batch):
    one = nco.solve_batch(batch, "greedy", seed=3)
    two = nco.solve_batch(batch, "greedy", seed=3, jobs=2)
    assert [r.solution for r in one] == [r.solution for r in two]
    assert [r.seed for r in one] == [r.seed for r in two]


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_ray_is_an_extra(batch):
    with pytest.raises(nco.MissingExtraError, match=r"nco\[ray\]"):
        nco.solve_batch(batch, "greedy", jobs=2, backend="ray")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.slow
def test_ray_changes_no_result(batch):
    one = nco.solve_batch(batch, "greedy", seed=3)
    two = nco.solve_batch(batch, "greedy", seed=3, jobs=2, backend="ray")
    assert [r.solution for r in one] == [r.solution for r in two]


def test_jobs_are_checked(batch):
    with pytest.raises(nco.InputError, match="jobs"):
        nco.solve_batch(batch, Probe(), jobs=0)
    with pytest.raises(nco.InputError, match="backend"):
        nco.solve_batch(batch, "greedy", jobs=2, backend="cloud")


# ------------------------------------------------------- check, generate, convert, info


def test_check(knapsack):
    good = nco.check(knapsack, [0, 3])
    assert (good.objective, good.feasible, good.violations) == (9, True, [])
    bad = nco.check(knapsack, [0, 1])
    assert (bad.objective, bad.feasible) == (None, False)
    assert nco.check(knapsack.replace(ref_cost=12.0), [0, 3]).ref_gap == 25.0


def test_check_compares_what_a_file_states():
    path = nco.examples.path("X-n101-k25.vrp")
    report = nco.check(path, nco.examples.path("X-n101-k25.sol"))
    assert (report.objective, report.stated, report.truthful) == (27591, 27591, True)
    assert report.to_dict()["truthful"] is True


@pytest.mark.parametrize("entry", list(registry.problems), ids=lambda e: e.name)
def test_generate_repeats_from_its_seed(entry):
    one, again = (nco.generate(entry.name, 8, seed=4) for _ in range(2))
    assert one.digest == again.digest
    assert one.digest != nco.generate(entry.name, 8, seed=5).digest
    many = nco.generate(entry.name, 8, seed=4, count=3)
    assert len({i.digest for i in many}) == len(many) == 3
    assert [i.digest for i in many] == [
        i.digest for i in nco.generate(entry.name, 8, seed=4, count=3)
    ]


def test_metric_and_problem_count_for_instances_too(tmp_path):
    tsp = nco.read(nco.examples.path("berlin52.tsp"))
    tour = list(range(tsp.n))
    exact = nco.check(nco.examples.path("berlin52.tsp"), tour, metric="exact").objective
    assert nco.check(tsp, tour, metric="exact").objective == exact != tsp.objective(tour)
    assert nco.info(tsp, metric="exact")["metric"] == "exact"
    for call in (
        lambda **how: nco.check(tsp, tour, **how),
        lambda **how: nco.info(tsp, **how),
        lambda **how: nco.solve(tsp, "greedy", **how),
    ):
        with pytest.raises(InputError, match="is a tsp, not a cvrp"):
            call(problem="cvrp")
        with pytest.raises(InputError, match="metric 'none' not understood"):
            call(metric="none")


def test_results_of_a_list_of_instances_are_checked(tmp_path):
    """`nco.generate` gives lists where sizes differ."""
    graphs = nco.generate("mis", 12, count=3, seed=1)
    assert isinstance(graphs, list)
    path = tmp_path / "all.jsonl"
    results = nco.solve_batch(graphs, "greedy")
    path.write_text("".join(result.to_json() + "\n" for result in results))
    checks = nco.check_results(graphs, path)
    assert [check.objective for check in checks] == [result.objective for result in results]
    assert len(nco.check_results(graphs[1], path)) == 1


@pytest.mark.parametrize("value", [5, None])
def test_what_is_no_instance_is_said_in_one_line(value, tmp_path):
    for call in (
        lambda: nco.check(value, [0]),
        lambda: nco.info(value),
        lambda: nco.check_results(value, tmp_path / "all.jsonl"),
        lambda: nco.check_results([value], tmp_path / "all.jsonl"),
    ):
        with pytest.raises(InputError, match=f"a {type(value).__name__} is no instance"):
            call()


def test_info_describes_without_solving(knapsack):
    values = nco.info(knapsack)
    assert values["n"] == 4
    assert values["bound"] == 10
    assert values["fields"]["weights"] == {"shape": [4], "min": 1, "mean": 2.5, "max": 4}
    assert "greedy" in values["solvers"]


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_info_refuses_what_are_no_seconds(knapsack, seconds):
    with pytest.raises(nco.InputError, match=r"bound_seconds = \S+ not understood"):
        nco.info(knapsack, bound_seconds=seconds)


@pytest.mark.parametrize("name", registry.bounds.names())
def test_bounds_are_valid_and_take_no_time_when_there_is_none(name):
    for path in nco.examples.files(name):
        instance = nco.read(path)
        best = nco.examples.references()[path.name]
        for budget in (nco.Budget(0.0), nco.Budget(1.0)):
            bound = nco.dual_bound(instance, budget)
            if bound is not None:
                assert bound >= best if instance.sense == "maximize" else bound <= best
        spent = nco.Budget()
        nco.dual_bound(instance, nco.Budget(0.0))
        assert spent.elapsed() < 10


def test_examples_hold_what_they_say():
    for file, best in nco.examples.references().items():
        instance = nco.read(nco.examples.path(file))
        assert instance.n > 0
        assert best > 0
    with pytest.raises(nco.InputError, match=r"berlin52\.tsp"):
        nco.examples.path("../cli/app.py")


def test_convert_writes_the_same_instance(tmp_path):
    source = nco.examples.path("strong200.kp")
    assert nco.convert(source, tmp_path / "k.npz") == [tmp_path / "k.npz"]
    assert nco.read(tmp_path / "k.npz").digest == nco.read(source).digest
    with pytest.raises(nco.InputError, match=r"\.xyz"):
        nco.convert(source, tmp_path / "k.xyz")
    assert not (tmp_path / "k.xyz").exists()


def test_gap_target_is_exact():
    for sense in (nco.Sense.MINIMIZE, nco.Sense.MAXIMIZE):
        for bound in (-250.0, 0.5, 1234.5):
            target = api._gap_target(bound, 0.1, sense)
            gap = abs(target - bound) / min(abs(target), abs(bound))
            assert gap <= 0.1
            assert gap == pytest.approx(0.1)
            better = target < bound if sense == "maximize" else target > bound
            assert better
    assert api._gap_target(0.0, 0.1, nco.Sense.MINIMIZE) is None
    assert np.isfinite(api._gap_target(1.0, 0.0, nco.Sense.MINIMIZE))
