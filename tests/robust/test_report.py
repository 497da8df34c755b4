"""The benchmark's tables beside the published ones."""

import pytest

from nco.instances import io
from nco.instances.capital_budgeting import CapitalBudgeting


@pytest.fixture
def references(tmp_path):
    """One published result of each kind."""
    for name, text in (
        ("knapsack", "instance,correlation,n,bp_obj,bp_time,neur2ro_obj,neur2ro_time\n"
                     "RKP_UN_n20_a,UN,20,200,TIME_LIMIT,190,4\n"),
        ("capital_budgeting", "instance,n,neur2ro_x,neur2ro_time,k2_x,k2_time,k5_x,k5_time,"
                              "k10_x,k10_time\nCB_n4_a,4,0000,7,CHEAP,9,,,,\n"),
        ("capital_budgeting_loans", "instance,N,bp_obj,bp_time\nRC_N10_a,10,50,0.5\n"),
    ):  # fmt: skip
        (tmp_path / name / "instances").mkdir(parents=True)
        (tmp_path / name / "reference.csv").write_text(text)
    instance = CapitalBudgeting.generate(4, seed=1)
    cheap = (instance.costs == instance.costs.min()).astype(int)
    path = tmp_path / "capital_budgeting" / "reference.csv"
    path.write_text(path.read_text().replace("CHEAP", "".join(map(str, cheap))))
    io.write(instance, tmp_path / "x.cb")
    (tmp_path / "x.cb").rename(tmp_path / "capital_budgeting" / "instances" / "CB_n4_a")
    return tmp_path


def row(key, problem, instance, spec, n, objective, bound):
    return {
        "key": key, "problem": problem, "instance": instance, "spec": spec, "n": n,
        "objective": objective, "bound": bound, "seconds": 3.0, "time_limit": 30.0,
        "sense": "maximize",
    }  # fmt: skip


def test_ours_beside_the_published(references, report):
    """Errors against the best of both; gaps of ours only; published x are evaluated anew."""
    rows = [
        row("a", "two-stage-knapsack", "RKP_UN_n20_a", "auto", 20, 202.0, 202.0),
        row("b", "capital-budgeting-loans", "RC_N10_a", "auto", 10, 49.0, 50.5),
        {"key": "c", "problem": "two-stage-knapsack", "error": "died"},
    ]
    lines = report("robust_report.py", rows, references).splitlines()
    found = {tuple(c.strip() for c in line.split("|")[1:4]): line.split("|")[4:] for line in lines
             if line.startswith("|")}  # fmt: skip
    errors = {key: float(cells[1]) for key, cells in found.items() if cells[0].strip() == "1"}
    assert errors["UN", "20", "auto 30 s"] == 0
    assert errors["UN", "20", "published neur2ro"] == pytest.approx(100 * 12 / 202, abs=1e-3)
    assert errors["UN", "20", "published branch-and-price"] == pytest.approx(0.990, abs=1e-3)
    assert errors["all", "", "auto 30 s"] in (0, 2)
    assert errors["", "10", "auto 30 s"] == 2
    assert found["", "10", "auto 30 s"][4].strip() == f"{100 * 1.5 / 49:.3f}"
    assert found["UN", "20", "published branch-and-price"][-2].strip() == ""
    truncated = io.read(
        references / "capital_budgeting" / "instances" / "CB_n4_a",
        "capital-budgeting",
        truncate_budget=True,
    )
    cheap = (truncated.costs == truncated.costs.min()).astype(float)
    values = [truncated.two_stage.worst_case(x).value for x in ([0] * 4, cheap)]
    expected = 100 * (max(values) - values[0]) / max(values)
    assert errors["", "4", "published neur2ro"] == pytest.approx(expected, abs=1e-3)
    assert ("", "4", "published k-adaptability 5") not in found


def test_what_learning_adds_is_a_comparison_on_the_same_files(references, report):
    """Pairs at equal time; what only one side has solved does not count."""
    problem, learned = "two-stage-knapsack", "ccg:learned=0.3"
    rows = [
        row("a", problem, "RKP_UN_n20_a", "ccg", 20, 198.0, 202.0),
        row("b", problem, "RKP_UN_n20_a", learned, 20, 200.0, 202.0),
        row("c", problem, "RKP_UN_n20_b", "ccg", 20, 100.0, 100.0),
        row("d", problem, "RKP_UN_n20_b", learned, 20, 100.0, 100.0),
        row("e", problem, "RKP_UN_n20_c", "ccg", 20, 50.0, 100.0),
    ]
    lines = report("robust_report.py", rows, references).splitlines()
    (line,) = [line for line in lines if line.startswith(f"| ccg | {learned} |")]
    cells = [cell.strip() for cell in line.split("|")[3:-1]]
    assert cells == ["30", "2", "0.500", "0.000", "0.500", "0.000", "1", "1", "0", "1.010", "0.500"]
