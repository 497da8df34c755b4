"""What is installed: one package, with its data, that nothing shadows."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import nco

ROOT = Path(__file__).resolve().parents[1]


def python(code, cwd):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("folder", ["instances", "mip", "robust"])
def test_a_folder_of_the_repository_is_not_a_package_of_its_own(folder, tmp_path):
    from_root = python(f"import {folder}", ROOT)
    assert from_root.returncode == 1
    assert f"installs as nco.{folder}" in from_root.stderr.splitlines()[-1]
    assert "pip install -e ." in from_root.stderr.splitlines()[-1]
    for cwd in (ROOT, tmp_path):
        assert python(f"import nco.{folder}", cwd).returncode == 0


def test_one_class_from_everywhere(tmp_path):
    code = "import nco, nco.instances.tsp as t; assert nco.TSP is t.TSP"
    assert python(code, ROOT).returncode == 0
    assert python(code, tmp_path).returncode == 0


def test_version():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nco.__version__ == project["version"]


def test_every_folder_with_code_is_a_package():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    homes = {"nco": ROOT / "nco"} | {f"nco.{n}": ROOT / n for n in ("instances", "mip", "robust")}
    found = set()
    for name, home in homes.items():
        for init in home.rglob("__init__.py"):
            parts = init.parent.relative_to(home).parts
            found.add(".".join((name, *parts)))
    assert found == set(listed)


def test_no_solver_logs_to_the_screen_by_itself(tmp_path):
    code = "import nco; nco.solve(nco.generate('tsp', 6), solver='greedy', time_limit=1)"
    done = python(code, tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.slow
def test_wheel_holds_types_examples_and_tables(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("nco-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "nco/py.typed", "nco/instances/py.typed", "nco/mip/py.typed", "nco/robust/py.typed",
        "nco/auto.json", "nco/examples/berlin52.tsp", "nco/examples/p0548.mps.gz",
        "nco/examples/references.csv", "nco/instances/core.py", "nco/cli/solve.py",
    ):  # fmt: skip
        assert name in names
    assert not any(name.startswith(("tests/", "mip/", "instances/", "robust/")) for name in names)
