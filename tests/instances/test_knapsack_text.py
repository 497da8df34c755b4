"""Knapsack text files: three layouts, solutions, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nco.instances import io
from nco.instances.core import Batch, InputError
from nco.instances.knapsack import Knapsack

PLAIN = "3 10\n1 2\n3 4\n5.5 6\n"
INDEXED = "3\n1 1 2\n2 3 4\n3 5.5 6\n10\n"
BLOCK = """knapPI_1_3_10_1
n 3
c 10
z 8
time 0.00
1,1,2,0
2,3,4,1
3,5,6,1
-----

"""


def put(folder, text, name="x.kp"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        INDEXED,
        INDEXED.replace("3 5.5", "2 5.5").replace("2 3 4", "1 3 4").replace("1 1 2", "0 1 2"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(" ", "\t\t"),
        PLAIN.replace("\n", "\n\n"),
        "# made by hand\n" + PLAIN.replace("3 4", "3 4 # the second"),
        PLAIN.replace("10", "1e1"),
        PLAIN.replace(" ", ", "),
    ],
)
def test_one_instance(tmp_path, text):
    """Layouts and spellings of one instance."""
    instance = io.read(put(tmp_path, text))
    expected = Knapsack(values=[1, 3, 5.5], weights=[2, 4, 6], capacity=10)
    assert instance.digest == expected.digest
    assert instance.name == "x"
    assert instance.ref_cost is None


def test_block(tmp_path):
    """Pisinger's block is recognised whatever the file is called; it brings its optimum."""
    instance = io.read(put(tmp_path, BLOCK, "x.csv"))
    assert (instance.name, instance.n, instance.capacity) == ("knapPI_1_3_10_1", 3, 10)
    assert (instance.ref_cost, instance.ref_solution) == (8, [1, 2])
    unsolved = BLOCK.replace("z 8", "z 0").replace(",1\n", ",0\n")
    assert io.read(put(tmp_path, unsolved)).ref_cost is None
    bare = BLOCK.replace(",0\n", "\n").replace(",1\n", "\n")
    assert (io.read(put(tmp_path, bare)).ref_cost, io.read(put(tmp_path, bare)).n) == (8, 3)


def test_blocks_make_a_batch(tmp_path):
    """Equal sizes only."""
    other = BLOCK.replace("c 10", "c 6").replace("z 8", "z 5").replace("2,3,4,1", "2,3,4,0")
    batch = io.read(put(tmp_path, BLOCK + other))
    assert isinstance(batch, Batch)
    assert [i.capacity for i in batch] == [10, 6]
    assert batch.ref_cost.tolist() == [8, 5]
    assert batch.objective(batch.ref_solution).tolist() == [8, 5]
    small = "knapPI_2\nn 1\nc 3\n1,2,3,0\n-----\n"
    with pytest.raises(InputError, match="2 instances of 2 sizes") as caught:
        io.read(put(tmp_path, BLOCK + small))
    assert "split" in caught.value.hint


def test_known_solution_in_the_last_line(tmp_path):
    """Zeros and ones after the items; it must fit, and with two items it is ambiguous."""
    instance = io.read(put(tmp_path, PLAIN + "0 1 1\n"))
    assert (instance.ref_cost, instance.ref_solution) == (8.5, [1, 2])
    with pytest.raises(InputError, match=r"x.kp:5: the solution in the file: weight 12 > "):
        io.read(put(tmp_path, PLAIN + "1 1 1\n"))
    with pytest.raises(InputError, match="3 items, n says 2"):
        io.read(put(tmp_path, "2 9\n1 2\n3 4\n0 1\n"))


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("10 3\n1 2\n3 4\n5 6\n", 1, "n is 10, but 3 items follow"),
        (PLAIN.replace("3 10", "4 10"), 4, "3 items, n says 4"),
        (PLAIN.replace("3 10", "2 10"), 4, "3 items, n says 2"),
        (PLAIN.replace("3 10", "1000000000000 10"), 4, "3 items, n says 1000000000000"),
        (PLAIN.replace("3 10", "0 10"), 1, "0 is not a number of items"),
        (PLAIN.replace("3 10", "2.5 10"), 1, "2.5 is not a number of items"),
        (PLAIN.replace("3 10", "3 10 7"), 1, "3 numbers in the first line"),
        (PLAIN.replace("3 10", "-5 10 7"), 1, "-5 < 0"),
        (PLAIN.replace("3 10", "3 -10"), 1, "-10 < 0"),
        (PLAIN.replace("3 4", "3 x"), 3, "'x' is not a number"),
        (PLAIN.replace("3 4", "3 nan"), 3, "'nan' is not a number"),
        (PLAIN.replace("3 4", "3 1e999"), 3, "'1e999' is not a number"),
        (PLAIN.replace("3 4", "nan 4"), 3, "'nan' is not a number"),
        (PLAIN.replace("3 4", "3 1e300"), 3, "1e300 > 2^62"),
        (PLAIN.replace("3 4", "3 -4"), 3, "-4 < 0"),
        (PLAIN.replace("3 4", "3 4 5"), 3, "3 numbers, expected 2"),
        (PLAIN.replace("3 4", "3"), 3, "1 numbers, expected 2"),
        (INDEXED.replace("\n10\n", "\n"), 4, "the last line is not the capacity"),
        (INDEXED.replace("2 3 4", "1 3 4"), 3, "index 1, expected 2"),
        (INDEXED.replace("2 3 4", "3 4"), 3, "2 numbers, expected 3"),
        ("3\n", 1, "the last line is not the capacity"),
        ("# nothing\n", None, "holds no numbers"),
        (BLOCK.replace("n 3\n", ""), 1, "a block without n"),
        (BLOCK.replace("c 10\n", ""), 1, "a block without c"),
        (BLOCK.replace("c 10", "c 10\nc 11"), 4, "c comes twice"),
        (BLOCK.replace("n 3", "n 4"), 8, "3 items, n says 4"),
        (BLOCK.replace("2,3,4,1", "2,3,4"), 7, "3 numbers, expected 4"),
        (BLOCK.replace("2,3,4,1", "2,3,4,2"), 7, "chosen is 2"),
        (BLOCK.replace("z 8", "z 9"), 5, "the chosen items are worth 8, z says 9"),
        (BLOCK.replace("1,1,2,0", "1,1,2,1"), 5, "the solution in the file: weight 12"),
        (BLOCK.replace("time", "hour"), 5, "'hour 0.00' in a block"),
        (BLOCK.replace("-----", "=="), 9, "'==' after a block"),
        (BLOCK.split("1,1")[0], 5, "0 items, n says 3"),
    ],
)
def test_refused(tmp_path, text, line, what):
    """One line with the line number and a remedy."""
    with pytest.raises(InputError) as caught:
        io.read(put(tmp_path, text))
    assert what in caught.value.what
    assert caught.value.line == line
    assert caught.value.hint


def test_plain_text_needs_a_wish(tmp_path):
    """Two columns of numbers could be anything; the caller can say what they are."""
    path = put(tmp_path, PLAIN, "x.txt")
    with pytest.raises(InputError, match="--problem"):
        io.read(path)
    assert io.read(path, "knapsack").n == 3


def test_solutions(tmp_path):
    """One item per line, or zeros and ones; written as the former."""
    instance = io.read(put(tmp_path, PLAIN))
    for text in ("# c\n1\n2\n", "0 1 1\n", "1\r\n2", "[1, 2]", '{"solution": [1, 2]}'):
        assert io.read_solution(put(tmp_path, text, "s.sol"), instance) == [1, 2]
    io.write_solution(instance, [1, 2], tmp_path / "t.sol")
    assert io.read_solution(tmp_path / "t.sol", instance) == [1, 2]
    assert io.stated_cost(tmp_path / "t.sol", instance) == 8.5
    io.write_solution(instance, [], tmp_path / "e.sol")
    assert io.read_solution(tmp_path / "e.sol", instance) == []
    repeated = io.read_solution(put(tmp_path, "1\n1\n", "r.sol"), instance)
    assert instance.violations(repeated) == ["item 1 is chosen 2 times"]
    for text, line, what in (
        ("3\n", 1, "item 3 does not exist"),
        ("0\n-1\n", 2, "item -1 does not exist"),
        ("0\nx\n", 2, "item x does not exist"),
        ("0 1\n", 1, "2 numbers in a line"),
        ("0 1 2\n", 1, "3 numbers in a line"),
        ("0\n1 2\n", 2, "2 numbers"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            io.read_solution(put(tmp_path, text, "b.sol"), instance)
        assert caught.value.line == line


number = st.one_of(st.integers(0, 10**9), st.floats(0, 1e9))


@given(st.lists(st.tuples(number, number), min_size=1, max_size=9), number)
def test_round_trip(tmp_path_factory, items, capacity):
    """Bit for bit."""
    values, weights = (np.array(column) for column in zip(*items, strict=True))
    instance = Knapsack(values=values, weights=weights, capacity=capacity)
    path = tmp_path_factory.mktemp("k") / "x.kp"
    io.write(instance, path)
    assert io.read(path).digest == instance.digest


def test_batches_are_not_text(tmp_path):
    """Only a batch of one is written."""
    batch = Batch.of([Knapsack(values=[k], weights=[1], capacity=2) for k in (1, 2)])
    with pytest.raises(InputError, match="holds one instance, not 2"):
        io.write(batch, tmp_path / "x.kp")
    assert not (tmp_path / "x.kp").exists()
    io.write(batch[1:], tmp_path / "x.kp")
    assert io.read(tmp_path / "x.kp").values.tolist() == [2]


def test_large_numbers_stay_exact(tmp_path):
    """Beyond 2^53 a float would change them."""
    large = 2**53 + 1
    instance = Knapsack(values=[large, 1], weights=[3, large], capacity=large)
    io.write(instance, tmp_path / "x.kp")
    assert io.read(tmp_path / "x.kp").digest == instance.digest
