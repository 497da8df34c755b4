"""The plug-in of docs/custom_problem.md, installed by its entry points."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "custom_problem.md"


def block(language, text):
    found = re.findall(rf"^```{language}[^\n]*\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return next(code for code in found if text in code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The file and its entry points, as pip leaves them, on the path of other processes."""
    site = tmp_path_factory.mktemp("site")
    (site / "vrptw.py").write_text(block("python", "class VRPTW"))
    about = site / "vrptw-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vrptw\nVersion: 1.0\n")
    lines = block("toml", "nco.problems").splitlines()
    points = []
    for line in lines:
        if group := re.fullmatch(r'\[project.entry-points."(.*)"\]', line):
            points.append(f"[{group[1]}]")
        elif line:
            points.append(line.replace('"', ""))
    (about / "entry_points.txt").write_text("\n".join(points) + "\n")
    (site / "tiny.txt").write_text(re.search(r'write_text\("""(.*?)"""', PAGE.read_text(), re.S)[1])
    return site


def nco(site, *words):
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "nco", *map(str, words)],
        cwd=site, env=environment, capture_output=True, text=True,
    )  # fmt: skip


def solve(site, file, *words):
    done = nco(site, "solve", file, "--json", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_knows_it(installed):
    found = {
        name: solve(installed, "tiny.txt", "--solver", name, "--time-limit", "2")["objective"]
        for name in ("auto", "pyvrp", "ortools")
    }
    assert len(set(found.values())) == 1
    for words in (
        ("info", "tiny.txt"),
        ("list", "problems"),
        ("convert", "tiny.txt", "tiny.npz"),
        ("generate", "vrptw", "--n", "10", "--seed", "1", "--out", "made.json"),
    ):
        done = nco(installed, *words)
        assert done.returncode == 0, done.stderr
    assert "vrptw" in nco(installed, "list", "problems").stdout


def test_benchmark(installed):
    words = ("--solver", "pyvrp", "--solver", "ortools", "--time-limit", "1", "--out", "rows.jsonl")
    done = nco(installed, "bench", "tiny.txt", *words)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (installed / "rows.jsonl").read_text().splitlines()]
    assert len({row["objective"] for row in rows}) == 1
    assert len(rows) == 2


def test_a_solution_that_is_late(installed):
    (installed / "late.json").write_text("[[2, 1], [3, 4, 5]]")
    done = nco(installed, "check", "tiny.txt", "late.json")
    assert done.returncode == 1
    assert "closed since 20" in done.stdout + done.stderr


def test_broken_files(installed):
    text = (installed / "tiny.txt").read_text()
    for name, broken, what in (
        ("short", text.replace("15        10", "15"), "6 numbers"),
        ("empty", "CUST DUE DATE\n", "no Solomon file"),
    ):
        file = installed / f"{name}.txt"
        file.write_text(broken)
        done = nco(installed, "info", file, "--problem", "vrptw")
        assert done.returncode == 2, done.stdout
        assert what in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("name", "best"), [("C101", 827.3), ("R101", 1637.7)])
def test_published_instances(installed, shared_data, name, best):
    file = shared_data / "routing" / "vrptw" / f"{name}.txt"
    found = solve(installed, file, "--solver", "pyvrp", "--time-limit", "4")["objective"]
    assert best - 1e-6 <= found <= 1.02 * best
