"""``nco solve``: results, files, exit codes, interruption."""

import gzip
import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nco import Result, api, examples, read
from nco.classical.constructive import Greedy

QUICK = ("--solver", "greedy", "--time-limit", "1")


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_one_table_for_mixed_problems(nco, here):
    answer = nco("solve", "berlin52.tsp", "strong200.kp", "er60.col", *QUICK)
    assert answer.code == 0
    assert answer.err == ""
    for word in ("berlin52", "strong200", "er60", "knapsack", "mis", "objective"):
        assert word in answer.out
    assert answer.out.count("objective") == 1


def test_json_is_one_checked_result_a_line(nco, here):
    answer = nco("solve", "berlin52.tsp", "strong200.kp", *QUICK, "--json")
    rows = lines(answer.out)
    assert [row["file"] for row in rows] == ["berlin52.tsp", "strong200.kp"]
    for row in rows:
        result = Result.from_json(json.dumps(row))
        instance = read(row["file"])
        assert result.digest == instance.digest
        assert instance.violations(result.solution) == []
        assert instance.objective(result.solution) == result.objective
    keys = {
        "file", "n", "problem", "instance", "digest", "solver", "solution", "objective", "bound",
        "status", "stopped", "seconds", "seed", "trajectory", "ref_cost", "sense", "evaluation",
        "batch", "params", "versions", "extra", "gap", "ref_gap",
    }  # fmt: skip
    assert set(rows[0]) == keys


def test_batch_gives_one_line_per_instance_with_reference_gap(nco, here):
    coords = np.random.default_rng(0).random((3, 12, 2))
    np.savez("batch.npz", coords=coords, ref_cost=np.array([1.0, np.nan, 2.0]))
    rows = lines(nco("solve", "batch.npz", *QUICK, "--json").out)
    assert [row["instance"] for row in rows] == ["batch[0]", "batch[1]", "batch[2]"]
    assert rows[0]["ref_gap"] == pytest.approx(100 * (rows[0]["objective"] - 1))
    assert rows[1]["ref_gap"] is None
    assert "batch × 3" in nco("solve", "batch.npz", *QUICK).out


def test_routes_by_a_cost_matrix_have_a_policy_of_their_own(nco, here, one_error):
    (here / "x.vrp").write_text(
        "NAME: x\nTYPE: CVRP\nDIMENSION: 4\nCAPACITY: 2\nEDGE_WEIGHT_TYPE: EXPLICIT\n"
        "EDGE_WEIGHT_FORMAT: FULL_MATRIX\nEDGE_WEIGHT_SECTION\n"
        "0 9 9 9\n9 0 9 1\n9 9 0 9\n9 9 9 0\n"
        "DEMAND_SECTION\n1 0\n2 1\n3 1\n4 1\nDEPOT_SECTION\n1\n-1\nEOF\n"
    )
    # A beam, as precisions decide so few customers differently.
    bq = ("solve", "x.vrp", "--solver", "bq", "-p", "beam=8", "--iterations", "5", "--json")
    (row,) = lines(nco(*bq).out)
    # One vehicle from 2 to 4, one for 3.
    assert (row["objective"], row["versions"]["weights"]) == (37, "acvrp-light-v1")
    refused = nco(*bq, "--param", "weights=cvrp-light-v2")
    assert (refused.code, refused.out) == (2, "")
    assert one_error(refused.err)
    assert "reads coordinates, not a cost matrix" in refused.err


def test_bad_file_does_not_stop_the_others(nco, here, one_error):
    (here / "bad.tsp").write_text("NAME : x\nTYPE : TSP\nDIMENSION : 3\nEOF\n")
    answer = nco("solve", "berlin52.tsp", "bad.tsp", "strong200.kp", *QUICK, "--json")
    assert answer.code == 2
    assert [row["instance"] for row in lines(answer.out)] == ["berlin52", "strong200"]
    assert one_error(answer.err)
    assert "bad.tsp" in answer.err


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "empty", "junk", "gzip"])
def test_unreadable_files_are_one_line(nco, here, one_error, kind):
    path = here / "x.tsp"
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("nowhere")
        case "empty":
            path.touch()
        case "junk":
            path.write_bytes(bytes(range(256)) * 8)
        case "gzip":
            path.write_bytes(b"\x1f\x8b\x08" + b"\x00" * 50)
    answer = nco("solve", "x.tsp", "--json", "--out", "x.tour", *QUICK)
    assert answer.code == 2
    assert answer.out == ""
    assert one_error(answer.err)
    assert "x.tsp" in answer.err
    assert not (here / "x.tour").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--solver", "pyvpr"), "did you mean pyvrp?"),
        (("--solver", "auto:plan"), "write key=value"),
        (("--solver", "greedy", "--param", "fast=1"), "no parameter 'fast'"),
        (("--param", "novalue"), "write key=value"),
        (("--problem", "tps"), "tsp"),
        (("--metric", "EUC"), "metric"),
        (("--time-limit", "-1"), "time_limit"),
        (("--time-limit", "nan"), "time_limit"),
        (("--iterations", "-1"), "iterations"),
        (("--gap", "-1"), "gap"),
        (("--jobs", "0"), "jobs"),
        (("--seed", "-1"), "seed"),
        (("--device", "cuda", "--solver", "greedy"), "has no device"),
        (("--stages", "3", "--solver", "greedy"), "leave --stages out"),
        (("--samples", "0", "--solver", "udc"), "samples = 0 < 1 not understood"),
        (("--nonsense",), "--nonsense"),
        (("--start", "none.tour"), "none.tour"),
    ],
)
def test_wrong_options_are_one_line(nco, here, one_error, args, text):
    answer = nco("solve", "berlin52.tsp", *args)
    assert answer.code == 2
    assert answer.out == ""
    assert one_error(answer.err)
    assert text in answer.err


def test_unknown_backend(nco, here, one_error):
    answer = nco("solve", "berlin52.tsp", "er60.col", "--jobs", "2", "--backend", "rya", *QUICK)
    assert (answer.code, one_error(answer.err)) == (2, True)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_missing_extra_names_what_to_install(nco, here, one_error):
    answer = nco("solve", "berlin52.tsp", "er60.col", "--jobs", "2", "--backend", "ray", *QUICK)
    assert answer.code == 2
    assert one_error(answer.err)
    assert "nco[ray]" in answer.err


def test_unsupported_problem_names_the_solvers_that_can(nco, here, one_error):
    answer = nco("solve", "strong200.kp", "--solver", "savings")
    assert answer.code == 2
    assert one_error(answer.err)
    assert "greedy" in answer.err
    assert "solves" in answer.err or "not knapsack" in answer.err


def test_batch_that_cannot_be_solved_is_not_hundreds_of_lines(nco, here):
    np.savez("batch.npz", coords=np.random.default_rng(0).random((50, 5, 2)))
    answer = nco("solve", "batch.npz", "--solver", "savings")
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 2


def test_infeasible_model_exits_with_1(nco, here):
    (here / "no.lp").write_text("minimize\n x\nsubject to\n c1: x >= 2\nbounds\n x <= 1\nend\n")
    answer = nco("solve", "no.lp", "--solver", "highs", "--time-limit", "5", "--json")
    assert answer.code == 1
    assert lines(answer.out)[0]["status"] == "infeasible"


def test_out_file_is_the_formats_own_form(nco, here):
    answer = nco("solve", "berlin52.tsp", *QUICK, "--out", "b.tour", "--json")
    assert (here / "b.tour").read_text().count("\n") > 52
    objective = lines(answer.out)[0]["objective"]
    assert f"objective {objective}" in nco("check", "berlin52.tsp", "b.tour").out


def test_out_json_is_the_result(nco, here):
    assert nco("solve", "berlin52.tsp", *QUICK, "--out", "b.json").code == 0
    result = Result.from_json((here / "b.json").read_text())
    assert result.instance == "berlin52"
    assert nco("check", "berlin52.tsp", "b.json").code == 0


def test_out_may_be_gzipped(nco, here):
    assert nco("solve", "berlin52.tsp", *QUICK, "--out", "one.json.gz").code == 0
    assert json.loads(gzip.decompress((here / "one.json.gz").read_bytes()))["status"] == "feasible"
    assert nco("solve", "berlin52.tsp", "er60.col", *QUICK, "--out", "all.jsonl.gz").code == 0
    rows = lines(gzip.decompress((here / "all.jsonl.gz").read_bytes()).decode())
    assert [row["instance"] for row in rows] == ["berlin52", "er60"]


def test_out_jsonl_holds_all_results(nco, here):
    assert nco("solve", "berlin52.tsp", "er60.col", *QUICK, "--out", "all.jsonl").code == 0
    rows = lines((here / "all.jsonl").read_text())
    assert [row["instance"] for row in rows] == ["berlin52", "er60"]


def test_out_is_untouched_where_there_is_nothing_to_write(nco, here):
    (here / "all.jsonl").write_text("old")
    (here / "bad.tsp").write_text("")
    assert nco("solve", "bad.tsp", "--out", "all.jsonl").code == 2
    assert (here / "all.jsonl").read_text() == "old"


def test_out_folder_holds_one_file_for_each_instance(nco, here):
    assert nco("solve", "berlin52.tsp", "strong200.kp", *QUICK, "--out", "sols").code == 0
    assert sorted(p.name for p in (here / "sols").iterdir()) == ["berlin52.tour", "strong200.sol"]
    assert nco("check", "strong200.kp", "sols/strong200.sol").code == 0


def test_out_that_ends_with_a_slash_is_a_folder(nco, here):
    assert nco("solve", "berlin52.tsp", *QUICK, "--out", "sols.d/").code == 0
    assert [p.name for p in (here / "sols.d").iterdir()] == ["berlin52.tour"]


@pytest.mark.parametrize(
    ("files", "out"),
    [
        (("berlin52.tsp",), "/proc/x.tour"),
        (("berlin52.tsp",), "berlin52.tsp/x.tour"),
        (("berlin52.tsp",), "none/x.tour"),
        (("berlin52.tsp", "er60.col"), "one.tour"),
        (("berlin52.tsp", "er60.col"), "berlin52.tsp/sols/"),
        (("batch.npz",), "one.tour"),
        (("batch.npz",), "plain"),
    ],
)
def test_impossible_out_is_refused_before_anything_is_solved(nco, here, one_error, files, out):
    np.savez("batch.npz", coords=np.random.default_rng(0).random((2, 5, 2)))
    (here / "plain").write_text("a file, no folder")
    before = (here / "berlin52.tsp").read_bytes()
    answer = nco("solve", *files, *QUICK, "--out", out, "--json")
    assert answer.code == 2
    assert answer.out == ""
    assert one_error(answer.err)
    assert (here / "berlin52.tsp").read_bytes() == before


def test_an_instance_file_is_never_written_over(nco, here, one_error):
    """Neither as the target itself nor as what an instance's solution would be called."""
    nco("generate", "two-stage-knapsack", "--n", "5", "--out", "drawn.json")
    values = json.loads((here / "drawn.json").read_text()) | {"name": "two"}
    (here / "two.json").write_text(json.dumps(values))
    (here / "link.tour").symlink_to("berlin52.tsp")
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    for args in (
        ("berlin52.tsp", *QUICK, "--out", "berlin52.tsp"),
        ("berlin52.tsp", *QUICK, "--out", "link.tour"),
        ("two.json", "--solver", "nominal", "--time-limit", "5", "--out", ".", "-q"),
    ):
        answer = nco("solve", *args)
        assert answer.code == 2
        assert one_error(answer.err)
        assert "is the instance file" in answer.err
    assert {path.name: path.read_bytes() for path in here.iterdir()} == before


def test_names_that_no_file_can_have_stop_no_other_instance(nco, here):
    files = []
    for position, name in enumerate(["a\0b", "x" * 300, "\ud800", "last"]):
        values = {"problem": "tsp", "name": name, "coords": [[0, 0], [1, 0], [1, position]]}
        files.append(f"{position}.json")
        (here / files[-1]).write_text(json.dumps(values))
    answer = nco("solve", *files, *QUICK, "--out", "sols", "--json")
    assert [row["file"] for row in lines(answer.out)] == files
    assert {"a_b.tour", "last.tour"} <= {path.name for path in (here / "sols").iterdir()}
    assert "nco: error: 1.json: " in answer.err
    assert answer.code == 2


def test_two_instances_of_one_name_do_not_overwrite_each_other(nco, here, one_error):
    (here / "again").mkdir()
    (here / "again" / "berlin52.tsp").write_bytes((here / "berlin52.tsp").read_bytes())
    answer = nco("solve", "berlin52.tsp", "again/berlin52.tsp", *QUICK, "--out", "sols")
    assert answer.code == 2
    assert one_error(answer.err)
    assert [p.name for p in (here / "sols").iterdir()] == ["berlin52.tour"]


def test_start_is_used_and_checked(nco, here, one_error):
    nco("solve", "A-n32-k5.vrp", "--solver", "savings", "--out", "start.sol", "-t", "1")
    args = ("solve", "A-n32-k5.vrp", "--solver", "pyvrp", "--iterations", "1", "--json")
    savings = nco("check", "A-n32-k5.vrp", "start.sol", "--json")
    started = nco(*args, "--start", "start.sol")
    assert lines(started.out)[0]["objective"] <= lines(savings.out)[0]["objective"]
    (here / "wrong.sol").write_text("Route #1: 1 2 3\nCost 10\n")
    answer = nco(*args, "--start", "wrong.sol")
    assert answer.code == 2
    assert one_error(answer.err)
    assert "wrong.sol" in answer.err
    answer = nco("solve", "A-n32-k5.vrp", "er60.col", "--start", "start.sol")
    assert (answer.code, one_error(answer.err)) == (2, True)


def test_jobs_change_no_result(nco, here):
    coords = np.random.default_rng(0).random((3, 15, 2))
    np.savez("batch.npz", coords=coords)
    args = ("solve", "batch.npz", "berlin52.tsp", "--solver", "pyvrp", "--json", "--no-bound")
    args += ("--time-limit", "60", "--iterations", "30", "--seed", "3")
    one = {row["instance"]: row for row in lines(nco(*args).out)}
    two = {row["instance"]: row for row in lines(nco(*args, "--jobs", "2").out)}
    assert one.keys() == two.keys() == {"batch[0]", "batch[1]", "batch[2]", "berlin52"}
    for name, row in one.items():
        assert row["solution"] == two[name]["solution"]
        assert row["seed"] == two[name]["seed"]
    assert one["berlin52"]["seed"] == 3


class Batched(Greedy):
    """Takes batches; the end of its own is near at its first instance."""

    def solve(self, *args, **options):
        result = super().solve(*args, **options)
        if self.ends:
            signal.raise_signal(signal.SIGTERM)
        return result

    def solve_batch(self, instances, budget, **options):
        raise AssertionError("there is none")


@pytest.fixture
def batched(monkeypatch):
    monkeypatch.setattr(api, "make_solver", lambda name, params: Batched())
    monkeypatch.setattr(Batched, "ends", False, raising=False)


def test_jobs_of_a_batched_solver_change_nothing_and_it_says_so(nco, here, batched):
    answer = nco("solve", "berlin52.tsp", "er60.col", "--jobs", "2", *QUICK, "--json")
    assert (answer.code, len(lines(answer.out))) == (0, 2)
    assert answer.err.count("--jobs changes nothing") == 1


def test_sigterm_keeps_what_is_finished(nco, here, batched, monkeypatch):
    monkeypatch.setattr(Batched, "ends", True)
    before = signal.getsignal(signal.SIGTERM)
    answer = nco("solve", "berlin52.tsp", "er60.col", *QUICK, "--out", "all.jsonl")
    assert answer.code == 130
    assert [row["instance"] for row in lines(Path("all.jsonl").read_text())] == ["berlin52"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_quiet_says_nothing(nco, here):
    answer = nco("solve", "berlin52.tsp", *QUICK, "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_verbose_logs_improvements(nco, here):
    answer = nco("solve", "berlin52.tsp", *QUICK, "-v")
    assert "nco: INFO: solving berlin52" in answer.err
    assert "objective" in answer.err


# ------------------------------------------------------------------------- interruption


def wait_for_solution(process):
    """Read the log until the first objective."""
    for line in process.stderr:
        if "objective" in line and "objective none" not in line:
            return
    raise AssertionError("no solution was logged")


def test_ctrl_c_returns_the_best_so_far(nco_process, here):
    args = ("X-n101-k25.vrp", "--solver", "pyvrp", "--time-limit", "300", "--json", "-v")
    process = nco_process("solve", *args)
    wait_for_solution(process)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (row,) = lines(out)
    assert row["stopped"] == "interrupted"
    instance = read(examples.path("X-n101-k25.vrp"))
    assert instance.violations(row["solution"]) == []


def test_ctrl_c_leaves_the_rest_with_nothing(nco_process, here):
    files = ("X-n101-k25.vrp", "A-n32-k5.vrp")
    process = nco_process("solve", *files, "--solver", "pyvrp", "-t", "300", "--json", "-v")
    wait_for_solution(process)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [row["instance"] for row in lines(out)] == ["X-n101-k25"]


def descendants(pid):
    """Command lines of the processes below one."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            found.append(Path(f"/proc/{child}/cmdline").read_text())
            found += descendants(child)
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_ctrl_c_reaches_jobs(nco_process, here):
    files = ("X-n101-k25.vrp", "A-n32-k5.vrp", "berlin52.tsp")
    process = nco_process("solve", *files, "-s", "pyvrp", "-t", "300", "--jobs", "2", "--json")
    while sum("loky" in line for line in descendants(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(2.0)
    # Only this ends it: the time limit is far beyond the test's.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    rows = lines(out)
    assert err == ""
    assert process.returncode == 130
    assert len(rows) == 3
    assert {row["stopped"] for row in rows} == {"interrupted"}
    assert sum(row["solution"] is not None for row in rows) <= 2


STUBBORN = """
import sys, time

class Stubborn:
    name = "stubborn"

    def supports(self, instance):
        return None

    def solve(self, instance, budget, *, seed=0, start=None, on_event=None):
        print("ready", file=sys.stderr, flush=True)
        while not budget.interrupted():
            time.sleep(0.02)
        print("heard", file=sys.stderr, flush=True)
        while True:
            time.sleep(0.02)
"""
RUN_STUBBORN = """
import sys
sys.path.insert(0, ".")
from nco.cli import main
from nco.instances.registry import Entry, solvers
solvers.add(Entry("stubborn", "stubborn:Stubborn"))
sys.exit(main(["solve", "berlin52.tsp", "--solver", "stubborn"]))
"""


def test_second_ctrl_c_kills(here):
    (here / "stubborn.py").write_text(STUBBORN)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_STUBBORN], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "heard\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ""


def test_closed_stdout_is_no_error(here):
    args = [sys.executable, "-m", "nco", "solve", "berlin52.tsp", *QUICK, "--out", "a.tour"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *args], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "a.tour").read_text().startswith("NAME")


def test_a_solver_that_is_named_counts_more_than_that_of_a_config(nco, here, one_error):
    (here / "lkh.toml").write_text('solver = "lkh"\n')
    for named, found in ((), "lkh"), (("--solver", "auto"), "auto"), (("-s", "greedy"), "greedy"):
        answer = nco("solve", "berlin52.tsp", "-t", "0", "--config", "lkh.toml", "--json", *named)
        assert [row["solver"] for row in lines(answer.out)] == [found]


def test_closed_pipe_is_quiet(nco_process, here):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "nco", "solve", "berlin52.tsp", *QUICK, "--json"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert done.returncode == 1
    assert done.stderr == b""


def test_live_table_on_a_terminal_without_colours(here):
    main_end, terminal = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "nco", "solve", "berlin52.tsp", *QUICK, "--json"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(terminal)
    screen = b""
    while True:
        try:
            chunk = os.read(main_end, 4096)
        except OSError:
            break
        if not chunk:
            break
        screen += chunk
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert json.loads(out)["instance"] == "berlin52"
    assert b"objective" in screen
    assert b"\x1b[3" not in screen
