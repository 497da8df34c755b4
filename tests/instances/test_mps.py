"""MPS, LP and .sol files: exact round trips, errors with lines, mutations."""

import gzip
import math
import random

import numpy as np
import pyscipopt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nco.instances import io
from nco.instances.core import Budget, InputError, Sense, Status
from nco.instances.mip import MIP
from nco.instances.mps import from_model
from nco.mip.highs import HiGHS
from nco.mip.scip import SCIP

NUMBERS = st.one_of(
    st.integers(-50, 50).map(float),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: v if abs(v) > 1e-9 else 0.0),
)


def same(a, b):
    left, right = a.data(), b.data()
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    assert a.digest == b.digest


@st.composite
def mips(draw, ranges):
    n, m = draw(st.integers(1, 5)), draw(st.integers(0, 4))
    low = np.array(draw(st.lists(NUMBERS, min_size=n, max_size=n)))
    high = np.array(draw(st.lists(NUMBERS, min_size=n, max_size=n)))
    low, high = np.minimum(low, high), np.maximum(low, high)
    row_low = np.array(draw(st.lists(st.integers(-40, 40), min_size=m, max_size=m)), dtype=float)
    kind = draw(st.lists(st.integers(0, 4 if ranges else 3), min_size=m, max_size=m))
    row_high = row_low.copy()
    for k, choice in enumerate(kind):
        if choice in (1, 3):
            row_low[k] = -math.inf
        if choice in (2, 3):
            row_high[k] = math.inf
        if choice == 4:
            row_high[k] += 7.25
    for k, choice in enumerate(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))):
        if choice in (1, 3):
            low[k] = -math.inf
        if choice in (2, 3):
            high[k] = math.inf
    return MIP(
        c=draw(st.lists(NUMBERS, min_size=n, max_size=n)),
        A=np.array(
            draw(st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=m, max_size=m))
        ).reshape(m, n),
        row_lower=row_low,
        row_upper=row_high,
        lower=low,
        upper=high,
        integrality=draw(st.lists(st.booleans(), min_size=n, max_size=n)),
        offset=draw(NUMBERS),
        sense=draw(st.sampled_from(list(Sense))),
        columns=draw(st.permutations(["alpha", "b_1", "z.2", "_q", "long" * 20]))[:n],
        rows=draw(st.permutations(["row", "R2", "cap_3", "obj"]))[:m],
    )


@settings(max_examples=150)
@given(mip=mips(ranges=True), packed=st.booleans())
def test_mps_round_trip(mip, packed, tmp_path_factory):
    path = tmp_path_factory.mktemp("mps") / ("model.mps.gz" if packed else "model.mps")
    io.write(mip, path)
    same(mip, io.read(path))


@settings(max_examples=60)
@given(mip=mips(ranges=False), packed=st.booleans())
def test_lp_round_trip(mip, packed, tmp_path_factory):
    mip = mip.replace(rows=[f"c{k}" for k in range(mip.m)])
    path = tmp_path_factory.mktemp("lp") / ("model.lp.gz" if packed else "model.lp")
    io.write(mip, path)
    same(mip, io.read(path))


@settings(max_examples=100)
@given(low=NUMBERS, width=st.floats(1e-6, 1e6))
def test_ranged_rows_come_back_to_the_last_bit(low, width, tmp_path_factory):
    high = low + width
    mip = MIP(c=[1.0], A=[[1.0]], row_lower=[low], row_upper=[high])
    path = tmp_path_factory.mktemp("mps") / "model.mps"
    io.write(mip, path)
    back = io.read(path)
    # The format itself cannot hold every pair; then one limit is one bit off.
    assert abs(back.row_lower[0] - low) <= np.spacing(max(abs(low), abs(high)))
    assert abs(back.row_upper[0] - high) <= np.spacing(max(abs(low), abs(high)))


FIXED = """\
* a comment
NAME          EXAMPLE
ROWS
 N  COST
 L  LIM1
 G  MY ROW
COLUMNS
    X ONE     COST               1.0   LIM1               1.0
    X ONE     MY ROW             1.0
    MARK0000  'MARKER'                 'INTORG'
    Y         COST               2.0   LIM1               1.0
    MARK0001  'MARKER'                 'INTEND'
RHS
    RHS       LIM1               4.0   MY ROW             1.0
BOUNDS
 UP BND       X ONE              4.0
ENDATA
"""
FREE = """\
NAME
OBJSENSE
    MAX
ROWS
 N cost
 E eq
 N spare
 L le
 G ge
COLUMNS
 x cost 1 eq 1
 x spare 3
 y eq 1 le -1e0
 MARKER 'MARKER' 'INTORG'
 z ge 1 cost .5
 w ge 1
 v ge 1
 MARKER 'MARKER' 'INTEND'
RHS
 cost -7 eq 5
 le 2
RANGES
 RNG eq -2 le 1
BOUNDS
 UP x -3
 BV BND y
 LO BND w 2
 FR v
ENDATA
"""


def write(tmp_path, text, name="model.mps"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_fixed_format_with_spaces_in_names(tmp_path):
    mip = io.read(write(tmp_path, FIXED.replace("\n", "\r\n")))
    assert list(mip.columns) == ["X ONE", "Y"]
    assert list(mip.rows) == ["LIM1", "MY ROW"]
    assert mip.upper.tolist() == [4, 1]
    assert mip.row_lower.tolist() == [-math.inf, 1]


def test_conventions_of_free_format(tmp_path):
    mip = io.read(write(tmp_path, FREE))
    assert mip.sense is Sense.MAXIMIZE
    assert list(mip.rows) == ["eq", "le", "ge"]
    assert mip.offset == 7
    assert (mip.row_lower.tolist(), mip.row_upper.tolist()) == ([3, 1, 0], [5, 2, math.inf])
    assert mip.lower.tolist() == [-math.inf, 0, 0, 2, -math.inf]
    assert mip.upper.tolist() == [-3, 1, 1, math.inf, math.inf]
    assert mip.integrality.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        (" x cost 1 eq 1", " x cost 1 nope 1", 11, "row 'nope' does not exist"),
        (" x cost 1 eq 1", " x cost one", 11, "'one' is not a number"),
        (" x cost 1 eq 1", " x cost nan", 11, "'nan' is not a number"),
        (" x cost 1 eq 1", " x cost 1_0", 11, "'1_0' is not a number"),
        (" x cost 1 eq 1", " x cost 1e400", 11, "too large"),
        (" x cost 1 eq 1", " x cost", 11, "expected a column"),
        (" UP x -3", " UP xx -3", 25, "column 'xx' does not exist"),
        (" UP x -3", " SC BND x 3", 25, "semi-continuous"),
        (" UP x -3", " UQ BND x 3", 25, "bound type 'UQ' not understood"),
        (" w ge 1", " x ge 1", 16, "column 'x' comes twice"),
        (" L le", " L eq", 8, "row 'eq' comes twice"),
        (" L le", " K le", 8, "expected a row"),
        ("BOUNDS", "SOS", 24, "special ordered sets are not supported"),
        ("BOUNDS", "QUADOBJ", 24, "quadratic objectives are not supported"),
        ("BOUNDS", "INDICATORS", 24, "indicator constraints are not supported"),
        ("BOUNDS", "BOUNTS", 24, "unknown section 'BOUNTS'"),
        ("    MAX", "    MOST", 3, "objective sense 'MOST'"),
        ("ENDATA", "", None, "ends without ENDATA"),
    ],
)
def test_mps_errors(tmp_path, old, new, line, what):
    with pytest.raises(InputError, match=what) as caught:
        io.read(write(tmp_path, FREE.replace(old, new, 1)), "mip")
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


def test_the_first_set_of_a_section_counts(tmp_path, caplog):
    """As in SCIP and HiGHS; lines without a name belong to it."""
    text = FREE.replace("cost -7 eq 5\n le 2", "S1 cost -7 eq 5\n S2 cost 9 eq 6\n le 2")
    text = text.replace("RNG eq -2 le 1", "RNG eq -2 le 1\n OTHER eq 3")
    text = text.replace(" FR v\n", " FR v\n UP OTHER w 5\n FX OTHER y 3\n")
    text = text.replace("UP x -3", "UP BND x -3")
    same(io.read(write(tmp_path, text)), io.read(write(tmp_path, FREE, "one.mps")))
    said = [record.getMessage().partition("mps: ")[2] for record in caplog.records]
    assert said == [
        "RHS of the set S2 are left out", "RANGES of the set OTHER are left out",
        "BOUNDS of the set OTHER are left out",
    ]  # fmt: skip


def test_the_objective_may_be_named(tmp_path):
    for name in ("OBJNAME\n    spare\n", "OBJNAME spare\n"):
        mip = io.read(write(tmp_path, FREE.replace("ROWS\n", f"{name}ROWS\n")))
        assert mip.c.tolist() == [3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("ROWS\n", "OBJNAME\n profit\nROWS\n", "objective 'profit' is no row of type N"),
        ("ROWS\n", "OBJNAME\n eq\nROWS\n", "objective 'eq' is no row of type N"),
        ("RHS\n", "OBJNAME\n spare\nRHS\n", ":20: OBJNAME behind COLUMNS"),
    ],
)
def test_objectives_that_are_none(tmp_path, old, new, what):
    with pytest.raises(InputError, match=what):
        io.read(write(tmp_path, FREE.replace(old, new, 1)))


LP = "Maximize\n obj: x + 2 y + 3\nSubject To\n c1: x + y <= 5\nBinary\n x\nEnd\n"


def test_lp_without_end(tmp_path):
    same(
        io.read(write(tmp_path, LP.replace("End\n", ""), "a.lp")),
        io.read(write(tmp_path, LP, "a.lp")),
    )


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("c1: x", "c1: * x", r"a.lp:4: HiGHS: .*; SCIP: "),
        ("x + 2 y", "x + [ y ^2 ] / 2", r"a.lp:2: quadratic terms are not supported"),
        ("x + y <= 5", "x = 1 -> y <= 5", r"a.lp:4: indicator constraints are not supported"),
        ("Binary", "Semi-Continuous", r"a.lp:5: semi-continuous columns are not supported"),
        ("Binary\n x", "SOS\n s1: S1:: x:1", r"a.lp:5: special ordered sets are not supported"),
        ("Maximize", "Hello", r"a.lp:1: does not start with Minimize or Maximize"),
        ("+ 2 y", "+ 2 y[0]", r"a.lp:2: names with brackets are not supported"),
        ("c1: x + y <= 5", "c1: 1 <= x + y <= 5 z", r"a.lp:4: HiGHS: .*; SCIP: "),
        ("c1: x + y <= 5", "c1: 1 <= x + y >= 5", r"a.lp:4: HiGHS: .*; SCIP: "),
        (LP, "max: x + y; c1: x + y <= 5;\n", r"a.lp: has no columns"),
    ],
)
def test_lp_errors(tmp_path, old, new, what):
    with pytest.raises(InputError, match=what):
        io.read(write(tmp_path, LP.replace(old, new, 1), "a.lp"), "mip")


@pytest.mark.parametrize(
    ("row", "low", "high"),
    [
        ("c1: -5 <= x - y <= 5", -5, 5),
        ("c1:\n -.5e1\n < x -\n y < 5 \\ 1 <= x <= 2\n", -5, 5),
        ("c1: 5 >= x - y >= - 5", -5, 5),
        ("c1: -inf <= x - y <= 5", -math.inf, 5),
        ("c1: -5 =< x - y =< +infinity", -5, math.inf),
        ("-5 <= x - y <= 5", -5, 5),
    ],
)
def test_rows_with_two_limits_in_lp(tmp_path, row, low, high):
    text = LP.replace("c1: x + y <= 5", f"r0: x + y <= 5\n {row}\n 1 <= 2 x + y <= 7")
    mip = io.read(write(tmp_path, text, "a.lp"))
    assert mip.A.toarray().tolist() == [[1, 1], [1, -1], [2, 1]]
    assert mip.row_lower.tolist() == [-math.inf, low, 1]
    assert mip.row_upper.tolist() == [5, high, 7]
    assert len(set(mip.rows)) == 3
    assert mip.upper.tolist() == [1, math.inf]


def test_lines_of_mistakes_beside_rows_with_two_limits(tmp_path):
    text = LP.replace("c1: x + y <= 5", "c1:\n -5 <=\n x - y <= 5\n c2: x + <= 5")
    with pytest.raises(InputError, match=r"a\.lp:7: HiGHS: expected a term"):
        io.read(write(tmp_path, text, "a.lp"))


def test_coefficients_of_a_column_in_one_row_add_up(tmp_path):
    path = write(tmp_path, LP.replace("c1: x + y", "c1: x + y + 2 x"), "a.lp")
    model = pyscipopt.Model()
    model.hideOutput()
    model.readProblem(str(path))
    for mip in (io.read(path), from_model(model)):
        assert mip.A.toarray().tolist() == [[3, 1]]


@pytest.mark.parametrize("name", ["a.mps", "a.lp", "a.mps.gz", "a.lp.gz"])
@pytest.mark.parametrize("data", [b"", b"\x00\x01\x02\xff" * 99, b"\x1f\x8b\x08junk", b"hello\n"])
def test_garbage(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError):
        io.read(path, "mip")


def test_names_and_rows_that_a_format_cannot_hold(tmp_path):
    mip = MIP(c=[1.0], A=[[1.0]], row_lower=[1.0], row_upper=[2.0], columns=["a b"])
    with pytest.raises(InputError, match="'a b' cannot be written"):
        io.write(mip, tmp_path / "a.mps")
    with pytest.raises(InputError, match="has two limits"):
        io.write(mip.replace(columns=["x"]), tmp_path / "a.lp")
    assert not list(tmp_path.iterdir())


def test_a_negative_upper_bound_leaves_the_lower_one(tmp_path):
    mip = MIP(c=[1.0], A=[[1.0]], upper=[-1.0])
    io.write(mip, tmp_path / "a.mps")
    same(io.read(tmp_path / "a.mps"), mip)


@pytest.mark.parametrize("name", ["end", "General", "bin", "maximize", "st"])
def test_columns_that_are_words_of_the_lp_format(name, tmp_path):
    mip = MIP(c=[1.0, 1.0], A=[[1.0, 1.0]], integrality=[1, 1], columns=[name, "x"])
    with pytest.raises(InputError, match=f"'{name}'; write .mps"):
        io.write(mip, tmp_path / "a.lp")
    io.write(mip, tmp_path / "a.mps")
    same(io.read(tmp_path / "a.mps"), mip)


def test_nothing_is_printed(tmp_path, capfd):
    with pytest.raises(InputError):
        io.read(write(tmp_path, LP.replace("c1: x", "c1: * x"), "a.lp"), "mip")
    io.read(write(tmp_path, LP, "a.lp"))
    assert capfd.readouterr() == ("", "")


PIECES = [
    "RANGES", "BOUNDS", " BV BND alpha", "nan", "1e400", "-", "::", "<=", "free", "\t", "a b c d e",
    "ENDATA", "End", "->", "[ x ^2 ]", "1e30", "x" * 300, "'MARKER'", "", "-infinity", "* c", ")",
]  # fmt: skip


def mutate(text, rng):
    lines = text.split("\n")
    for _ in range(rng.randint(1, 3)):
        k = rng.randrange(len(lines))
        action = rng.randrange(5)
        if action == 0:
            lines[k] = ""
        elif action == 1:
            lines.insert(k, rng.choice(lines))
        elif action == 2:
            lines.insert(k, rng.choice(PIECES))
        elif action == 3:
            words = lines[k].split(" ")
            words[rng.randrange(len(words))] = rng.choice(PIECES)
            lines[k] = " ".join(words)
        else:
            lines = lines[: k + 1]
    return "\n".join(lines)


@settings(max_examples=200)
@given(seed=st.integers(0, 10**9), suffix=st.sampled_from(["mps", "lp"]))
def test_mutated_models_are_read_or_refused(seed, suffix, tmp_path_factory):
    text = FREE if suffix == "mps" else LP
    path = write(tmp_path_factory.mktemp("m"), mutate(text, random.Random(seed)), f"model.{suffix}")
    try:
        mip = io.read(path, "mip")
    except InputError:
        return
    assert isinstance(mip, MIP)


MODEL = MIP(c=[1.0, -2.0], A=[[1.0, 1.0]], row_upper=[3], columns=["x", "y"])


def test_solution_round_trip(tmp_path):
    solution = {"x": 0.1, "y": -3.0}
    io.write_solution(MODEL, solution, tmp_path / "a.sol")
    assert io.read_solution(tmp_path / "a.sol", MODEL) == solution
    text = (tmp_path / "a.sol").read_text()
    assert text.startswith("objective value: 6.1\n")


def test_solution_as_scip_writes_it(tmp_path):
    path = tmp_path / "a.sol"
    path.write_text(
        "solution status: optimal\nobjective value:      -5\n"
        "x                   1 \t(obj:1)\ny  3 \t(obj:-2)\n"
    )
    assert io.read_solution(path, MODEL) == {"x": 1.0, "y": 3.0}


def test_solution_of_columns_with_blanks_in_their_names(tmp_path):
    mip = MODEL.replace(columns=["MY VAR", "MY  OTHER"])
    path = tmp_path / "a.sol"
    io.write_solution(mip, {"MY VAR": 1.0, "MY  OTHER": 2.5}, path)
    assert io.read_solution(path, mip) == {"MY VAR": 1.0, "MY  OTHER": 2.5}
    path.write_text("MY VAR   1 \t(obj:1)\n")
    assert io.read_solution(path, mip) == {"MY VAR": 1.0}


def test_columns_that_look_like_comments(tmp_path):
    mip = MODEL.replace(columns=["#1", "=obj="])
    io.write_solution(mip, {"#1": 1.0, "=obj=": 2.0}, tmp_path / "a.sol")
    assert io.read_solution(tmp_path / "a.sol", mip) == {"#1": 1.0, "=obj=": 2.0}
    (tmp_path / "a.sol").write_text("#2 columns\n# 1\n#1 3\n")
    assert io.read_solution(tmp_path / "a.sol", mip) == {"#1": 3.0}


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("solution status: optimal\nobjective value:     -5.5\n", -5.5),
        ("# Objective value = 1e+3\n", 1000.0),
        ("=obj= 25779856.372\n", 25779856.372),
        ("objective value: unknown\n", None),
        ("", None),
    ],
)
def test_the_stated_objective(tmp_path, text, stated):
    assert io.stated_cost(write(tmp_path, f"{text}x 1\n", "a.sol"), MODEL) == stated


def test_scip_reads_what_is_written(tmp_path):
    io.write(MODEL, tmp_path / "a.mps")
    io.write_solution(MODEL, {"x": 0.5, "y": 2.5}, tmp_path / "a.sol")
    model = pyscipopt.Model()
    model.hideOutput()
    model.readProblem(str(tmp_path / "a.mps"))
    solution = model.readSolFile(str(tmp_path / "a.sol"))
    assert model.checkSol(solution)
    assert model.getSolObjVal(solution) == -4.5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x 1\nz 2\n", ":2: column 'z' does not exist"),
        ("x 1\nx 2\n", ":2: column 'x' comes twice"),
        ("x\n", ":1: no value for 'x'"),
        ("x one\n", ":1: 'one' is not a number"),
        ("x inf\n", ":1: 'inf' is not a number"),
        ("x 1_0\n", ":1: '1_0' is not a number"),
    ],
)
def test_solution_errors(tmp_path, text, what):
    path = tmp_path / "a.sol"
    path.write_text(text)
    with pytest.raises(InputError, match=what):
        io.read_solution(path, MODEL)


@settings(max_examples=100)
@given(seed=st.integers(0, 10**9))
def test_mutated_solutions_are_read_or_refused(seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "a.sol"
    path.write_text(mutate("objective value: 3\nx 1\ny 2.5\n", random.Random(seed)))
    try:
        solution = io.read_solution(path, MODEL)
    except InputError:
        return
    assert isinstance(MODEL.violations(solution), list)


@pytest.mark.parametrize("solver", [SCIP, HiGHS])
@pytest.mark.parametrize(("name", "best"), [("p0548", 8691), ("gesa2", 25779856.372)])
def test_benchmark_optima(shared_data, solver, name, best):
    mip = io.read(shared_data / "mip" / f"{name}.mps.gz")
    result = solver().solve(mip, Budget(60))
    assert result.status is Status.OPTIMAL
    assert result.objective == pytest.approx(best, abs=1e-3)


def test_benchmark_files_are_read(shared_data):
    for path in sorted((shared_data / "mip").glob("*.gz")):
        mip = io.read(path)
        with gzip.open(path, "rt") as file:
            assert file.read(1)
        assert mip.n > 0
        assert mip.name == path.name.split(".")[0]
