"""The skeleton: reading, writing, what it knows, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpk_core import Skeleton
from dpk_core.errors import FileFormatError, FileMissingError, SkeletonError

ROWS = [
    ("head", None, None),
    ("eyeL", "head", "eyeR"),
    ("eyeR", "head", "eyeL"),
    ("tail", None, None),
    ("tip", "tail", None),
    ("alone", None, None),
]


@st.composite
def skeletons(draw):
    names = draw(
        st.lists(
            st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
            .map(str.strip)
            .filter(bool),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    k = len(names)
    parent = [draw(st.integers(-1, i - 1)) for i in range(k)]
    swap = [-1] * k
    for i in range(0, k - 1, 2):
        if draw(st.booleans()):
            swap[i], swap[i + 1] = i + 1, i
    return Skeleton(names, parent, swap)


@given(skeletons())
def test_csv_round_trip(tmp_path_factory, skeleton):
    path = tmp_path_factory.mktemp("skeleton") / "s.csv"
    skeleton.to_csv(path)
    assert Skeleton.from_csv(path) == skeleton
    assert Skeleton.from_array(skeleton.to_array(), skeleton.names) == skeleton
    assert Skeleton.from_rows(skeleton.to_rows()) == skeleton


@given(skeletons())
def test_flip_order_is_its_own_inverse(skeleton):
    order = skeleton.flip_order
    assert np.array_equal(order[order], np.arange(len(skeleton)))


def test_what_it_knows():
    skeleton = Skeleton.from_rows(ROWS)
    assert skeleton.edges == ((1, 0), (2, 0), (4, 3))
    assert skeleton.limbs == ((0, 1), (2,))
    assert skeleton.roots == (0, 0, 0, 3, 3, 5)
    assert skeleton.n_graph_channels == 2 + 3 + 2
    assert skeleton.flip_order.tolist() == [0, 2, 1, 3, 4, 5]


def test_without_edges_there_is_no_graph():
    assert Skeleton(("a", "b")).n_graph_channels == 0


def test_deepposekits_skeletons(test_data):
    fly = Skeleton.from_csv(test_data / "fly" / "skeleton.csv")
    assert (len(fly), len(fly.edges), len(fly.limbs), fly.n_graph_channels) == (32, 25, 7, 34)
    assert fly.one_sided_swaps == (("midlegR3", "midlegL2"), ("midlegL3", "midlegR3"))
    assert len(Skeleton.from_csv(test_data / "skeletons" / "locust.csv")) == 35
    assert Skeleton.from_csv(test_data / "skeletons" / "zebra.csv").index("tailtip") == 8


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one keypoint"),
        ([("a", None, None), ("a", None, None)], r"'a' stands twice, in rows 1 and 2"),
        ([("a", "b", None)], r"'a' \(row 1\) has the parent 'b', which is not a keypoint"),
        ([("a", None, "z")], "swap partner 'z'"),
        ([("a", "b", None), ("b", "c", None), ("c", "a", None)], "cycle: a -> b -> c -> a"),
        ([("a", "a", None)], "cycle: a -> a"),
        ([("x", "a", None), ("a", "b", None), ("b", "a", None)], "cycle: a -> b -> a"),
        ([("", None, None)], "row 1 has an empty name"),
    ],
)
def test_refuses(rows, message):
    with pytest.raises(SkeletonError, match=message):
        Skeleton.from_rows(rows)


def test_csv_errors_name_the_file(tmp_path):
    path = tmp_path / "s.csv"
    with pytest.raises(FileMissingError, match=r"s\.csv"):
        Skeleton.from_csv(path)
    path.write_text("keypoint,parent\na,\n")
    with pytest.raises(FileFormatError, match="found keypoint,parent"):
        Skeleton.from_csv(path)
    path.write_text("name,parent,swap\na,b,\n")
    with pytest.raises(SkeletonError, match=r"s\.csv: .*'b'"):
        Skeleton.from_csv(path)
    path.write_bytes(b"name,parent,swap\n\xff\xfe,,\n")
    with pytest.raises(FileFormatError, match="UTF-8"):
        Skeleton.from_csv(path)


def test_csv_as_spreadsheets_write_it(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes("\ufeffname, parent ,swap\r\nhead,,\r\ntail, head,\r\n\r\n".encode())
    assert Skeleton.from_csv(path).edges == ((1, 0),)
