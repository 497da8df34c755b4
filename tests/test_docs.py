"""The examples of README and docs are run; its tables are true."""

import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nco import examples
from nco.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [(m[2], m[3]) for m in BLOCK.finditer(page.read_text()) if m[1] == language]


def shell(page):
    """The ``nco`` lines of a page's shell blocks."""
    text = "\n".join(code for _, code in blocks(page, "sh"))
    return [line.partition("  #")[0] for line in text.splitlines() if line.startswith("nco ")]


def put_files(page, folder):
    """The blocks with a title, as files."""
    for _, title, text in BLOCK.findall(page.read_text()):
        if title:
            (folder / title).write_text(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for file in examples.FOLDER.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_examples(page, folder):
    put_files(page, folder)
    code = [text for title, text in blocks(page, "python") if not title]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if shell(p)], ids=lambda p: p.name)
def test_shell_examples(page, folder, capsys):
    put_files(page, folder)
    for line in shell(page):
        words = shlex.split(line)[1:]
        if words == ["demo"] or words[-1].endswith("COMMAND"):
            continue
        assert main(words) == 0, (line, capsys.readouterr().err)


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)


def solver_table():
    """The table of README, made from what the solvers themselves say."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["list", "solvers", "--json"]) == 0
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    names = [row["name"] for row in rows]
    problems = {p: None for row in rows for p in row["problems"]}
    lines = ["| solver | " + " | ".join(problems) + " |", "|---|" + ":-:|" * len(problems)]
    for name, row in zip(names, rows, strict=True):
        marks = ["✓" if p in row["problems"] else "" for p in problems]
        lines.append(f"| {name} | " + " | ".join(marks) + " |")
    return "\n".join(lines), [row["name"] for row in rows if row["installed"] != "yes"]


def test_table_of_solvers_is_true():
    text = (ROOT / "README.md").read_text()
    shown = text.partition("<!-- solvers: begin -->\n")[2].partition("\n<!-- solvers: end -->")[0]
    expected, missing = solver_table()
    by_name = {line.split("|")[1].strip(): line for line in shown.splitlines()}
    for line in expected.splitlines():
        name = line.split("|")[1].strip()
        # What is not installed cannot be asked.
        if name not in missing:
            assert by_name.get(name) == line, f"README should say:\n{expected}"


def test_changelog_has_the_version():
    import nco

    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {nco.__version__}" in text
