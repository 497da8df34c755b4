"""The tables of a campaign, and the targets they are held against."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nco.instances import io

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def run(spec, *events, limit=60.0, instance="a", status="feasible", over=0.1):
    """A row whose objective goes down to the reference, 100, or stays above it."""
    return {
        "key": f"{spec}-{instance}-{limit}", "digest": instance, "instance": instance,
        "spec": spec, "time_limit": limit, "seed": 0, "seconds": limit + over, "reference": 100.0,
        "sense": "minimize", "status": status, "objective": events[-1][1] if events else None,
        "trajectory": [[seconds, value, None, spec] for seconds, value in events],
    }  # fmt: skip


@pytest.fixture
def table(report):
    """What the report prints of rows: the lines of its first table, by target."""

    def make(*rows):
        head, *lines = report("mip_report.py", rows).split("\n\n")[0].splitlines()
        assert head.startswith("target")
        return {line[:50].strip(): (line[50:56].strip(), *line[56:].split()) for line in lines}

    return make


def test_ratios_of_integrals(table):
    # Gaps of one half for 10 s and for 30 s: integrals of 5 s and 15 s, geometric with 1 s.
    rows = [run("balans", (0, 200), (10, 100)), run("highs", (0, 200), (30, 100))]
    assert table(*rows)["integral by that of highs, 60 s"][:2] == ("1", "0.33")
    rows[0] = run("balans", (0, 200), (29, 100))
    assert table(*rows)["integral by that of highs, 60 s"][-1] == "no"
    # Without the other one's run, nothing is said.
    assert "integral by that of highs, 60 s" not in table(rows[0])


def test_final_gaps_of_what_is_open(table):
    names = "abcde"
    rows = [run("balans", (1, 110), instance=name) for name in names]
    others = [run("highs", (1, value), instance=name)
              for name, value in zip(names, (120, 120, 110, 100, 120), strict=True)]  # fmt: skip
    others[4]["status"] = "optimal"
    lines = table(*rows, *others)
    assert lines["final gap better than of highs"] == ("4", "50", "%", ">=", "40", "%", "yes")
    assert lines["final gap worse than of highs"] == ("4", "25", "%", "<=", "15", "%", "no")


def test_first_solutions_and_none_at_all(table):
    rows = [run("balans", (1.9, 100)), run("highs", (3, 100)), run("scip", (1, 200))]
    line = "first solution, beyond 1.5 x the faster engine's"
    assert table(*rows)[line][-1] == "yes"
    assert table(run("balans", (2.1, 100)), *rows[1:])[line][-1] == "no"
    lines = table(run("balans"), *rows[1:])
    assert lines[line][1] == "inf"
    assert lines["no solution in 60 s though a peer has one"] == ("1", "1", "0", "no")


def test_the_best_arm_is_the_one_to_beat(table):
    rows = [
        run("balans", (2, 100), limit=20.0),
        run("balans:arms=rins", (3, 100), limit=20.0),
        run("balans:arms=mutation", (1, 100), limit=20.0),
    ]
    assert table(*rows)["integral by that of the best arm, mutation"][-1] == "no"


def test_late_ends_overheads_and_memory(table):
    process = {"file": "a", "seed": 0, "time_limit": 10.0, "trajectory": []}
    lines = table(
        run("balans", (1, 100), limit=5.0, over=0.8),
        run("balans", (1, 100), limit=60.0, over=3.0),
        {"instance": "wide", "overhead": 0.04, "allowed": 0.05, "columns": 9},
        *(
            process | {"key": spec, "spec": spec, "mib": mib, "first": first}
            for spec, mib, first in (("highs", 100, 2.0), ("scip", 150, 1.0), ("balans", 260, 1.9))
        ),
    )
    assert lines["latest end, beyond 5 s"][-1] == "no"
    assert lines["outside of engines, 9 columns"][1:] == ("4.0", "%", "<", "5", "%", "yes")
    assert lines["peak memory by that of highs"][1:] == ("2.60", "<=", "2.50", "no")
    assert lines["first solution with start-up, beyond 1.5 x"][-1] == "yes"


def test_engines_are_measured_in_their_own_processes(table, tmp_path, hard_mip):
    io.write(hard_mip, tmp_path / "hard.mps")
    command = [sys.executable, BENCH / "mip_engines.py", tmp_path / "out.jsonl",
               tmp_path / "hard.mps", "--seconds", "0.5"]  # fmt: skip
    for _ in range(2):
        subprocess.run(command, check=True)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["spec"] for row in rows] == ["highs", "scip", "balans"]
    assert all(row["mib"] > row["mib_before"] > 0 for row in rows)
    assert table(*rows)["peak memory by that of highs"][0] == "1"
