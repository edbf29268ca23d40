"""Ours to another format and back, and the other way: only what the report names changes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dpk_core.errors import DpkError
from dpk_core.losses import LossReport
from dpk_core.poses import Poses
from dpk_core.services.formats import get_format, identify
from dpk_core.skeleton import Skeleton
from dpk_core.streams import PoseStream
from dpk_core.testing import check_format
from dpk_core.tracks import Tracks

pytest.importorskip("h5netcdf")

POSES = {"csv": ".csv", "parquet": ".parquet", "numpy": ".npz", "movement": ".nc"}
TRACKS = {**POSES, "mot": ".txt"}
FEW = settings(max_examples=25, deadline=None, derandomize=True)

NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=8
)
FLOATS = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))
SCORES = st.floats(0, 1, width=32)


@st.composite
def skeletons(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    k = len(names)
    parent = [draw(st.integers(-1, i - 1)) for i in range(k)]
    swap = [draw(st.integers(-1, k - 1)) for _ in range(k)]
    return Skeleton(tuple(names), parent, swap)


@st.composite
def some_poses(draw):
    skeleton = draw(skeletons())
    k = len(skeleton)
    pairs = draw(
        st.lists(st.tuples(st.integers(0, 300), st.integers(-1, 4)), max_size=12, unique=True)
    )
    pairs.sort()
    n = len(pairs)
    keypoints = draw(hnp.arrays(np.float32, (n, k, 2), elements=FLOATS))
    scores = draw(hnp.arrays(np.float32, (n, k), elements=SCORES))
    frames, ids = np.array(pairs, np.int64).reshape(n, 2).T
    names = draw(st.dictionaries(st.integers(0, 5).map(str), NAMES, max_size=3))
    provenance = {"track_names": names, "video": "Käfer.mp4", "fps": 25}
    return Poses(keypoints, scores, skeleton, frames, ids, provenance)


@st.composite
def some_tracks(draw):
    pairs = draw(
        st.lists(st.tuples(st.integers(0, 300), st.integers(0, 4)), max_size=12, unique=True)
    )
    pairs.sort()
    n = len(pairs)
    frames, ids = np.array(pairs, np.int64).reshape(n, 2).T
    coordinates = st.floats(-1e5, 1e5) | st.just(float("nan"))
    sizes = st.floats(0, 1e4) | st.just(float("nan"))
    columns = [
        draw(hnp.arrays(np.float64, n, elements=elements))
        for elements in (coordinates, coordinates, sizes, sizes, st.floats(-3, 3))
    ]
    score = draw(hnp.arrays(np.float32, n, elements=SCORES))
    interpolated = draw(hnp.arrays(np.bool_, n))
    names = draw(st.dictionaries(st.integers(0, 5).map(str), NAMES, max_size=3))
    return Tracks(frames, ids, *columns, score, interpolated, {"track_names": names, "fps": 30})


def _there_and_back(name, data, kind):
    """What is read after writing, the two reports, and what was read after a second turn."""
    _, found = get_format(name)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Path(folder) / f"{i}{TRACKS[name]}" for i in "ab")
        written, read = LossReport(), LossReport()
        found.write(first, data, report=written)
        once = found.read(first, kind, report=read)
        once = once.read() if kind == "poses" else once
        found.write(second, PoseStream.of(once) if kind == "poses" else once)
        twice = found.read(second, kind)
        twice = twice.read() if kind == "poses" else twice
    return once, twice, {loss.what: loss.count for loss in written}, read


def _same_poses(a, b):
    for name in ("keypoints", "scores", "frames", "track_ids"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("name", ["parquet", "numpy"])
@FEW
@given(poses=some_poses())
def test_poses_lose_nothing(name, poses):
    once, twice, written, read = _there_and_back(name, PoseStream.of(poses, 5), "poses")
    for back in (once, twice):
        _same_poses(back, poses)
        assert back.skeleton == poses.skeleton
        assert back.provenance == poses.provenance
    assert not written
    assert not read


@FEW
@given(poses=some_poses().filter(len))
def test_poses_in_csv_lose_what_the_report_says(poses):
    once, twice, written, read = _there_and_back("csv", PoseStream.of(poses, 5), "poses")
    skeleton, names = poses.skeleton, poses.provenance["track_names"]
    used = {i: name for i, name in names.items() if int(i) in poses.track_ids}
    for back in (once, twice):
        _same_poses(back, poses)
        assert back.skeleton == Skeleton(skeleton.names)
        assert back.provenance == ({"track_names": used} if used else {})
    expected = {
        "provenance entries": 2,
        "skeleton edges": len(skeleton.edges),
        "swap partners": sum(s != -1 for s in skeleton.swap),
        "track names": len(names) - len(used),
    }
    assert written == {what: count for what, count in expected.items() if count}
    assert not read


@FEW
@given(poses=some_poses())
def test_poses_in_movement_lose_only_rows_without_coordinates(poses):
    once, twice, written, read = _there_and_back("movement", PoseStream.of(poses, 5), "poses")
    there = ~np.isnan(poses.keypoints).any(axis=2).all(axis=1)
    seen = poses[there]
    order = np.lexsort((np.where(seen.track_ids < 0, 99, seen.track_ids), seen.frames))
    for back in (once, twice):
        _same_poses(back, seen[order])
        assert back.skeleton == poses.skeleton
        assert back.provenance == poses.provenance
    assert written == ({"rows": int((~there).sum())} if (~there).any() else {})
    assert not read


def _same_tracks(a, b, but=()):
    for name, column in a.columns().items():
        if name not in but:
            np.testing.assert_array_equal(column, getattr(b, name), err_msg=name)


@pytest.mark.parametrize("name", ["parquet", "numpy", "csv"])
@FEW
@given(tracks=some_tracks())
def test_tracks_lose_nothing_but_provenance(name, tracks):
    once, twice, written, read = _there_and_back(name, tracks, "tracks")
    names = tracks.provenance["track_names"]
    used = {i: text for i, text in names.items() if int(i) in tracks.id}
    for back in (once, twice):
        _same_tracks(tracks, back)
        if name == "csv":
            assert back.provenance == ({"track_names": used} if used else {})
        else:
            assert back.provenance == tracks.provenance
    expected = {"provenance entries": 1, "track names": len(names) - len(used)}
    lost = {what: count for what, count in expected.items() if count}
    assert written == (lost if name == "csv" else {})
    assert not read


@pytest.mark.parametrize("name", ["movement", "mot"])
@FEW
@given(tracks=some_tracks())
def test_boxes_lose_what_the_report_says(name, tracks):
    there = ~(np.isnan(tracks.x) | np.isnan(tracks.y))
    if name == "mot" and not there.any():
        return
    once, twice, written, _ = _there_and_back(name, tracks, "tracks")
    seen = tracks[there]
    close = {"rtol": 0, "atol": 2e-6 if name == "mot" else 0}
    ids = once.id if name == "movement" else once.id + seen.id.min() - once.id.min()
    np.testing.assert_array_equal(ids, seen.id)
    np.testing.assert_array_equal(once.frame, seen.frame)
    np.testing.assert_array_equal(once.score, seen.score)
    for axis in "xy":
        np.testing.assert_allclose(getattr(once, axis), getattr(seen, axis), **close)
        np.testing.assert_allclose(getattr(twice, axis), getattr(once, axis), **close)
    _same_tracks(once, twice, but=("x", "y"))
    expected = {
        "rows": int((~there).sum()),
        "angles": int((~np.isnan(seen.angle)).sum()),
        "interpolations": int(seen.interpolated.sum()),
    }
    for what, count in expected.items():
        assert written.get(what, 0) == count
    half = np.isnan(seen.width) | np.isnan(seen.height)
    if name == "mot":
        assert written.get("boxes", 0) == half.sum()
    changed = np.maximum(abs(once.width - seen.width), abs(once.height - seen.height))[~half]
    assert (changed <= 1e-5).all() or {"widths", "heights"} & set(written)


@pytest.mark.parametrize("name", sorted(TRACKS))
def test_keeps_the_contract(name):
    check_format(name)


def _sample(name, kind, folder):
    from dpk_core.testing.formats import sample_of

    path = folder / f"{kind}{TRACKS[name]}"
    get_format(name)[1].write(path, sample_of(kind))
    return path, sample_of(kind)


def _mutations(content, count, seed):
    rng = np.random.default_rng(seed)
    for turn in range(count):
        data = bytearray(content)
        at = int(rng.integers(len(data)))
        if turn % 4 == 0:
            del data[at:]
        elif turn % 4 == 1:
            del data[at : at + int(rng.integers(1, 40))]
        elif turn % 4 == 2:
            data[at:at] = rng.bytes(int(rng.integers(1, 20)))
        else:
            for i in rng.integers(len(data), size=int(rng.integers(1, 6))):
                data[i] = int(rng.integers(256))
        yield bytes(data)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for kind, known in (("poses", POSES), ("tracks", TRACKS)) for name in known],
)
def test_damaged_files_give_errors_or_right_answers(name, kind, tmp_path):
    path, sample = _sample(name, kind, tmp_path)
    _, found = get_format(name)
    if kind == "poses":
        sample = sample.read()
    checked = name in ("parquet", "numpy")  # these carry checksums, so a change can't pass
    outcomes, unnamed = {"error": 0, "read": 0}, 0
    for data in _mutations(path.read_bytes(), 80, 3):
        path.write_bytes(data)
        found.sniff(path)
        try:
            back = found.read(path, kind)
            back = back.read() if kind == "poses" else back
        except DpkError as error:
            unnamed += path.name not in str(error)
            outcomes["error"] += 1
            continue
        outcomes["read"] += 1
        if checked:
            if kind == "poses":
                _same_poses(back, sample)
            else:
                _same_tracks(back, sample)
    assert outcomes["error"] > 20, outcomes
    assert not unnamed


@pytest.mark.parametrize("name", sorted(TRACKS))
@pytest.mark.parametrize("wrong", [".txt", ".h5", ".slp", ""])
def test_the_name_of_a_file_says_nothing(name, wrong, tmp_path):
    path, sample = _sample(name, "tracks", tmp_path)
    renamed = path.rename(tmp_path / f"Größe 東京{'x' * 100}{wrong}")
    found = identify(renamed)
    assert (found.spec.name, found.kinds) == (name, ("tracks",))
    assert len(found.format.read(renamed, "tracks")) == len(sample)


@pytest.mark.parametrize("name", sorted(POSES))
def test_infinite_coordinates_become_missing_and_are_reported(name, tmp_path):
    keypoints = np.array([[[1, 2], [np.inf, 3]], [[4, -np.inf], [5, 6]]], np.float32)
    poses = Poses(keypoints, np.ones((2, 2)), Skeleton(("a", "b")))
    report = LossReport()
    path = tmp_path / f"p{POSES[name]}"
    get_format(name)[1].write(path, PoseStream.of(poses), report=report)
    back = get_format(name)[1].read(path, "poses").read()
    assert {loss.what: loss.count for loss in report} == {"keypoints": 2}
    np.testing.assert_array_equal(np.isnan(back.keypoints[..., 0]), [[False, True], [True, False]])


@pytest.mark.parametrize("name", sorted(POSES))
def test_far_and_negative_coordinates_stay(name, tmp_path):
    keypoints = np.array([[[-5.5, 1e9], [-1e-30, 3e38]]], np.float32)
    poses = Poses(
        keypoints, np.ones((1, 2)), Skeleton(("a", "b")), [2**40 if name != "movement" else 7]
    )
    path = tmp_path / f"p{POSES[name]}"
    get_format(name)[1].write(path, PoseStream.of(poses))
    _same_poses(get_format(name)[1].read(path, "poses").read(), poses)


@pytest.mark.parametrize("name", ["csv", "parquet", "numpy"])
def test_an_individual_twice_in_a_frame_of_tracks_is_an_error(name, tmp_path):
    tracks = Tracks([4, 5, 5], [1, 1, 1], [1.0, 2, 3], [1.0, 2, 3])
    path = tmp_path / f"t{TRACKS[name]}"
    get_format(name)[1].write(path, tracks)
    with pytest.raises(DpkError, match=r"row \d.* 1 stands in frame 5 a second time"):
        get_format(name)[1].read(path, "tracks")


@pytest.mark.parametrize("name", sorted(POSES))
def test_pieces_are_written_as_they_come(name, tmp_path):
    """The writer never holds more than a few pieces: the stream sees the file grow."""
    skeleton = Skeleton(tuple(f"k{i}" for i in range(10)))
    rng = np.random.default_rng(0)
    piece = Poses(rng.random((8192, 10, 2)), rng.random((8192, 10)), skeleton)
    sizes = []

    def pieces():
        for i in range(12):
            sizes.append(sum(p.stat().st_size for p in tmp_path.iterdir()))
            yield attrs.evolve(piece, frames=np.arange(8192 * i, 8192 * (i + 1)))

    get_format(name)[1].write(tmp_path / f"p{POSES[name]}", PoseStream(skeleton, pieces, 12 * 8192))
    if name != "numpy":  # its temporary files have no names
        assert len(set(sizes[-12:])) > 4, sizes
    back = get_format(name)[1].read(tmp_path / f"p{POSES[name]}", "poses")
    lengths = [len(part) for part in back]
    assert sum(lengths) == 12 * 8192
    assert max(lengths) <= 8192
