"""LEAP's labels: MATLAB's axes, its counting from 1, its files old and new."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.leap import LeapFormat

NODES = ("head", "wingL", "wingR", "größe")
EDGES = np.array([[1, 2], [1, 3], [3, 4]], float)
HEIGHT, WIDTH, N = 24, 40, 5


def positions():
    """(joints, 2, images) as MATLAB has them; the pixel in row 6, column 12 is (12, 6) there."""
    found = np.full((4, 2, N), np.nan, np.float32)
    found[0, :, 0] = (12, 6)
    found[1, :, 0] = (40, 24)
    found[:, :, 3] = [[1, 1], [2.5, 3], [-4, 900], [np.inf, 3]]
    return found


def images():
    """(height, width, channels, images) as MATLAB has them."""
    found = np.zeros((HEIGHT, WIDTH, 1, N), np.uint8)
    found[5, 11, 0, 0] = 255
    found[23, 39, 0, 0] = 200
    found[:, :, 0, 4] = np.arange(WIDTH)
    return found


def matlab(group, key, values, kind):
    """A dataset as MATLAB 7.3 writes it: with its axes turned round, and its class."""
    group[key] = np.asarray(values).T
    group[key].attrs["MATLAB_class"] = np.bytes_(kind)


def matlab_text(group, key, text):
    matlab(group, key, np.frombuffer(text.encode("utf-16-le"), np.uint16)[None], "char")


def matlab_cells(group, key, texts):
    references = []
    for i, text in enumerate(texts):
        matlab_text(group.file, f"#refs#/{key}{i}", text)
        references.append(group.file[f"#refs#/{key}{i}"].ref)
    group[key] = np.array([references], dtype=h5py.ref_dtype)
    group[key].attrs["MATLAB_class"] = np.bytes_("cell")


def put_box(path, box=None):
    with h5py.File(path, "w") as file:
        file["box"] = np.asarray(images() if box is None else box).T
    return path


def put_labels(path, change=None, box="C:\\data\\flies.h5"):
    with h5py.File(path, "w", userblock_size=512) as file:
        matlab(file, "positions", positions(), "single")
        guesses = np.full((4, 2, N), np.nan, np.float32)
        guesses[0, :, :2] = 7
        matlab(file, "initialization", guesses, "single")
        matlab_text(file, "boxPath", box)
        skeleton = file.create_group("skeleton")
        skeleton.attrs["MATLAB_class"] = np.bytes_("struct")
        matlab_cells(skeleton, "nodes", NODES)
        matlab(skeleton, "edges", EDGES, "double")
        if change is not None:
            change(file)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


@pytest.fixture
def labels_path(tmp_path):
    put_box(tmp_path / "flies.h5")
    return put_labels(tmp_path / "flies.labels.mat")


def read(path, **options):
    return LeapFormat().read(path, **options)


def check(labels):
    x, y = labels.keypoints[0, 0]
    assert (x, y) == (11, 5)
    assert labels.images[0][int(y), int(x)] == 255
    x, y = labels.keypoints[0, 1]
    assert labels.images[0][int(y), int(x)] == 200
    assert labels.images[4][3].ravel().tolist() == list(range(WIDTH))
    assert labels.image_shape == (HEIGHT, WIDTH, 1)
    assert labels.keypoints[3, :3].tolist() == [[0, 0], [1.5, 2], [-5, 899]]
    assert labels.n_labelled == 2
    assert labels.skeleton.names == NODES
    assert labels.skeleton.edges == ((1, 0), (2, 0), (3, 2))
    assert labels.skeleton.swap == (-1, 2, 1, -1)
    assert [(s.video, s.frame) for s in labels.sources] == [("flies.h5", i) for i in range(N)]


def test_a_painted_dot_lies_at_its_label(labels_path):
    report = LossReport()
    labels = read(labels_path, report=report)
    check(labels)
    check_dataset(labels)
    assert np.isnan(labels.keypoints[1]).all()
    assert {loss.what: loss.count for loss in report} == {"initial guesses": 1}


def test_from_the_box(labels_path, tmp_path):
    check(read(tmp_path / "flies.h5"))
    assert identify(tmp_path / "flies.h5").spec.name == "leap"
    assert identify(labels_path).spec.name == "leap"
    check_format("leap", labels_path)


def test_wrong_extension(labels_path, tmp_path):
    other = labels_path.rename(tmp_path / "flies.txt")
    assert LeapFormat().sniff(other)
    check(read(other))


def test_initial_guesses_are_nobodys_labels(labels_path):
    labels = read(labels_path, initialization=True)
    assert labels.keypoints[1, 0].tolist() == [6, 6]
    assert labels.annotated[:2, 0].tolist() == [True, False]
    assert labels.n_labelled == 2


@pytest.mark.parametrize("compress", [False, True])
def test_old_files(tmp_path, compress):
    """As SciPy, which is nobody of us, writes them."""
    scipy_io = pytest.importorskip("scipy.io")
    put_box(tmp_path / "flies.h5")
    cells = np.empty((4, 1), object)
    cells[:, 0] = NODES
    content = {
        "positions": positions(),
        "boxPath": "/elsewhere/flies.h5",
        "skeleton": {"nodes": cells, "edges": EDGES},
    }
    path = tmp_path / "old.mat"
    scipy_io.savemat(path, content, do_compression=compress)
    assert LeapFormat().sniff(path)
    check(read(path))
    content = path.read_bytes()
    for share in (0.2, 0.6, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        LeapFormat().sniff(path)
        with pytest.raises(FileFormatError, match=r"is damaged|no 'positions'"):
            read(path)


def test_where_the_box_is(labels_path, tmp_path):
    box = (tmp_path / "flies.h5").rename(tmp_path / "other.h5")
    with pytest.raises(FileMissingError, match=r"images are not at .*flies\.h5.*images=PATH"):
        read(labels_path)
    assert len(read(labels_path, images=box)) == N
    assert len(read(put_labels(labels_path, box="D:\\x\\other.h5"))) == N
    (tmp_path / "far").mkdir()
    box = box.rename(tmp_path / "far" / "other.h5")
    assert len(read(put_labels(labels_path, box=str(box)))) == N
    for outside in ("far/other.h5", "../other.h5", "x" * 5000):
        with pytest.raises(FileMissingError, match="images are not at"):
            read(put_labels(labels_path, box=outside))


def test_colour_and_shares_of_white(labels_path, tmp_path):
    box = np.repeat(images(), 3, axis=2)
    box[..., 2, :] //= 5
    put_box(tmp_path / "flies.h5", box)
    assert read(labels_path).images[0][5, 11].tolist() == [255, 255, 51]
    put_box(tmp_path / "flies.h5", (box / 255).astype(np.float32))
    report = LossReport()
    labels = read(labels_path, report=report)
    assert labels.images[0][5, 11].tolist() == [255, 255, 51]
    assert ("images", N) in {(loss.what, loss.count) for loss in report}


def test_images_from_threads_and_other_processes(labels_path):
    pictures = read(labels_path).images
    expected = images().transpose(3, 0, 1, 2)
    with ThreadPoolExecutor(4) as pool:
        for i, image in enumerate(pool.map(lambda i: pictures[i % N], range(40))):
            assert np.array_equal(image, expected[i % N])
    again = pickle.loads(pickle.dumps(pictures))
    assert np.array_equal(again[:], expected)
    assert np.array_equal(again[[3, 0]], expected[[3, 0]])
    assert again[2:2].shape == (0, HEIGHT, WIDTH, 1)


def test_a_single_image(tmp_path):
    put_box(tmp_path / "one.h5", images()[:, :, 0, 0])

    def change(file):
        for key in ("positions", "initialization"):
            del file[key]
        matlab(file, "positions", positions()[:, :, 0], "single")

    labels = read(put_labels(tmp_path / "one.labels.mat", change))
    assert len(labels) == 1
    assert labels.keypoints[0, 0].tolist() == [11, 5]
    assert labels.images[0][5, 11] == 255


def put_training_set(path, scale=1.0, order=None, testing=0):
    """As generate_training_set.m has it: images, then their copies upside down, shuffled."""
    box = images()
    joints = np.nan_to_num(positions(), nan=3, posinf=3) * scale
    flipped = joints.copy()
    flipped[:, 1] = HEIGHT - flipped[:, 1]
    box = np.concatenate([box, box[::-1]], axis=3)
    joints = np.concatenate([joints, flipped], axis=2)
    order = np.arange(2 * N) if order is None else np.asarray(order)
    kept = order[: 2 * N - testing]
    with h5py.File(path, "w") as file:
        matlab(file, "box", box[..., kept], "uint8")
        matlab(file, "joints", joints[..., kept], "double")
        matlab(file, "labeledIdx", (10 + np.tile(np.arange(N), 2)[kept])[:, None], "double")
        matlab(file, "shuffleIdx", (kept + 1)[None], "double")
        file.attrs["scale"] = [scale]
        if testing:
            matlab(file, "testing/joints", joints[..., order[2 * N - testing :]], "double")
        matlab(file, "skeleton/edges", EDGES, "double")
        file["skeleton"].attrs["jointNames"] = "\n".join(NODES)
    return path


def test_training_sets(tmp_path):
    order = [9, 0, 7, 3, 1, 8, 2, 5, 4, 6]
    path = put_training_set(tmp_path / "training.h5", order=order)
    assert LeapFormat().sniff(path)
    report = LossReport()
    labels = read(path, report=report)
    assert [s.frame for s in labels.sources] == [9, 12, 10, 11, 13]
    assert labels.keypoints[0, 0].tolist() == [11, 5]
    assert labels.images[0][5, 11] == 255
    assert labels.images[4][3].ravel().tolist() == list(range(WIDTH))
    assert labels.skeleton.names == NODES
    assert {loss.what: loss.count for loss in report} == {"mirrored copies": 5}
    report = LossReport()
    path = put_training_set(tmp_path / "apart.h5", order=order, testing=2)
    labels = read(path, report=report)
    assert [s.frame for s in labels.sources] == [9, 12, 10, 11]
    assert {loss.what: loss.count for loss in report} == {"mirrored copies": 4, "labels": 2}


def test_scaled_training_sets(tmp_path):
    labels = read(put_training_set(tmp_path / "training.h5", scale=0.5))
    # from the corner, the pixel's centre was at 11.5 and lies at 5.75 in the smaller image
    assert labels.keypoints[0, 0].tolist() == [5.75 - 0.5, 5.5 / 2 - 0.5]


def test_names_in_a_form_of_matlabs_own(labels_path):
    def change(file):
        del file["skeleton/nodes"]
        matlab(file, "skeleton/nodes", np.zeros((1, 6), np.uint32), "string")

    report = LossReport()
    labels = read(put_labels(labels_path, change), report=report)
    assert labels.skeleton.names == ("joint_1", "joint_2", "joint_3", "joint_4")
    assert "names of keypoints" in {loss.what for loss in report}


# -- bad input ------------------------------------------------------------------------------------


def edges(values):
    def change(file):
        del file["skeleton/edges"]
        matlab(file, "skeleton/edges", np.array(values, float), "double")

    return change


def nodes(*names):
    def change(file):
        del file["skeleton/nodes"], file["#refs#"]
        matlab_cells(file["skeleton"], "nodes", names)

    return change


def no_positions(file):
    del file["positions"]


def other_positions(file):
    del file["positions"]
    matlab(file, "positions", np.zeros((2, 4, N)), "double")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (edges([[1, 5]]), "edges between joints 1 to 4"),
        (edges([[0, 1]]), "edges between joints 1 to 4"),
        (edges([[1.5, 2]]), "edges between joints 1 to 4"),
        (nodes("a", "b", "c"), "3 nodes, the positions have 4"),
        (nodes("a", "b", "c", "a"), "'a' stands twice"),
        (no_positions, "has no labels of LEAP"),
        (other_positions, r"expected \(joints, 2, images\)"),
    ],
)
def test_labels_that_cannot_be(labels_path, change, match):
    with pytest.raises(FileFormatError, match=match):
        read(put_labels(labels_path, change))


def test_circles_and_long_names(labels_path):
    report = LossReport()
    read(put_labels(labels_path, edges([[1, 2], [2, 3], [3, 1]])), report=report)
    assert {loss.what: loss.count for loss in report}["skeleton edges"] == 1
    names = ("鼻" * 900, "b", "c", "ухо 🦋")
    assert read(put_labels(labels_path, nodes(*names))).skeleton.names == names


def test_another_box(labels_path, tmp_path):
    put_box(tmp_path / "flies.h5", images()[..., :3])
    with pytest.raises(FileFormatError, match=r"labels for 5 images.*has 3"):
        read(labels_path)
    put_box(tmp_path / "flies.h5", np.zeros((4, 4, 7, 5), np.uint8))
    with pytest.raises(FileFormatError, match="1 or 3 channels"):
        read(labels_path)
    put_box(tmp_path / "flies.h5", np.zeros((4, 4, 1, 5), np.int64))
    with pytest.raises(FileFormatError, match="holds int64"):
        read(labels_path)


def test_links_are_not_followed(labels_path, tmp_path):
    put_box(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "flies.h5", "w") as file:
        file["box"] = h5py.ExternalLink("secret.h5", "/box")
    with pytest.raises(FileFormatError, match="'box' is a link to elsewhere"):
        read(labels_path)

    def change(file):
        del file["positions"]
        file["positions"] = h5py.ExternalLink("secret.h5", "/box")

    with pytest.raises(FileFormatError, match="'positions' is a link to elsewhere"):
        read(put_labels(labels_path, change))
    (tmp_path / "raw").write_bytes(bytes(800))
    with h5py.File(tmp_path / "flies.h5", "w") as file:
        file.create_dataset("box", (5, 1, 10, 10), np.uint8, external=[("raw", 0, 500)])
    with pytest.raises(FileFormatError, match="'box' lie in other files"):
        read(put_labels(labels_path))


def test_what_is_no_mat_file(tmp_path):
    for content in (b"", b"MATLAB 5.0 MAT-file", b"hello", b"\x89HDF\r\n\x1a\n"):
        path = tmp_path / "x.mat"
        path.write_bytes(content)
        assert not LeapFormat().sniff(path)
        with pytest.raises(FileFormatError):
            read(path)
    with pytest.raises(FileMissingError):
        read(tmp_path / "absent.mat")
    with pytest.raises(ValidationError):
        read(path, colour=1)
    with pytest.raises(ValidationError):
        read(path, kind="poses")


def test_damaged_files_are_refused_or_read(labels_path, damaged):
    for content in damaged(labels_path.read_bytes(), 200, seed=4):
        labels_path.write_bytes(content)
        LeapFormat().sniff(labels_path)
        try:
            labels = read(labels_path)
        except DpkError:
            continue
        assert labels.keypoints.shape[1:] == (len(labels.skeleton), 2)


def test_damaged_boxes_are_refused_or_read(labels_path, tmp_path, damaged):
    box = tmp_path / "flies.h5"
    for content in damaged(box.read_bytes(), 100, seed=5):
        box.write_bytes(content)
        try:
            image = read(labels_path).images[0]
        except DpkError:
            continue
        assert image.dtype == np.uint8
