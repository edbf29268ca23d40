"""CVAT's XML: from the corner, hidden and outside, images and video, refused with a reason."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest

from dpk_core import VideoWriter
from dpk_core.errors import DpkError, FileFormatError, FileMissingError, ValidationError
from dpk_core.losses import LossReport
from dpk_core.services.formats import identify
from dpk_core.testing import check_dataset
from dpk_core.testing.formats import check_format
from dpk_io_formats.cvat import CvatFormat
from dpk_io_formats.images import write_png

SVG = escape(
    '<line x1="1" y1="2" x2="3" y2="4" stroke="black" data-type="edge" data-node-from="1" '
    'data-node-to="2"></line><line data-type="edge" data-node-from="1" data-node-to="3"></line>'
    '<circle r="1" data-type="element node" data-element-id="1" data-node-id="1" '
    'data-label-name="head"></circle>'
    '<circle r="1" data-type="element node" data-node-id="2" data-label-name="ear_l"></circle>'
    '<circle r="1" data-type="element node" data-node-id="3" data-label-name="ear_r"></circle>'
)
LABELS = f"""<labels>
<label><name>ear_l</name><type>points</type><attributes></attributes><parent>mouse</parent></label>
<label><name>mouse</name><color>#ff</color><type>skeleton</type><svg>{SVG}</svg></label>
<label><name>head</name><type>points</type><parent>mouse</parent></label>
<label><name>ear_r</name><type>points</type><parent>mouse</parent></label>
</labels>"""


def points(label, x, y, **more):
    """A keypoint on the centre of a pixel, as CVAT measures it, with two decimals."""
    return shape("points", label=label, points=f"{x + 0.5:.2f},{y + 0.5:.2f}", **more)


def shape(tag, *parts, **attributes):
    attributes = {"source": "manual", "outside": "0", "occluded": "0", **attributes}
    text = " ".join(f"{key}={quoteattr(str(value))}" for key, value in attributes.items())
    return f"<{tag} {text}>{''.join(parts)}</{tag}>"


def image(name, *shapes, width=30, height=20, **more):
    more = "".join(f" {key}={quoteattr(str(value))}" for key, value in more.items())
    size = f'width="{width}" height="{height}"'
    return f'<image id="0" name={quoteattr(name)} {size}{more}>{"".join(shapes)}</image>'


def track(identity, *shapes, label="mouse", **more):
    more = "".join(f" {key}={quoteattr(str(value))}" for key, value in more.items())
    return f'<track id="{identity}" label="{label}"{more}>{"".join(shapes)}</track>'


def mouse(*parts, **more):
    return shape("skeleton", *parts, label="mouse", **more)


@pytest.fixture
def folder(tmp_path):
    dot = np.zeros((20, 30, 3), np.uint8)
    dot[4, 11] = (255, 0, 0)
    (tmp_path / "images" / "train").mkdir(parents=True)
    write_png(tmp_path / "images" / "dot.png", dot)
    write_png(tmp_path / "images" / "train" / "größer.png", np.zeros((36, 40, 3), np.uint8))
    return tmp_path


def put(folder, *elements, meta=f"<task>{LABELS}</task>"):
    path = folder / "annotations.xml"
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    text = f"{head}<meta>{meta}</meta>{''.join(elements)}</annotations>\n"
    path.write_text(text, encoding="utf-8")
    return path


IMAGES = (
    image(
        "dot.png",
        mouse(
            points("head", 11, 4), points("ear_r", 3, 7, occluded=1),
            points("ear_l", 0, 0, outside=1),
        ),
    ),
    image(
        "größer.png",
        mouse(points("head", 39, 35), points("ear_l", -3, 700), occluded=1),
        mouse(points("head", 1, 1), points("ear_l", 2, 2)),
        width=40, height=36, subset="train",
    ),
)  # fmt: skip


def read(path, **options):
    return CvatFormat().read(path, **options)


# -- images ---------------------------------------------------------------------------------------


def test_a_painted_dot_lies_at_its_label(folder):
    report = LossReport()
    labels = read(put(folder, *IMAGES), report=report)
    assert labels.skeleton.names == ("ear_l", "head", "ear_r")
    x, y = labels.keypoints[0, 1]
    assert (x, y) == (11, 4)
    assert labels.images[0][int(y), int(x)].tolist() == [255, 0, 0]
    assert labels.visibility.tolist() == [[0, 2, 1], [1, 1, 0], [2, 2, 0]]
    assert np.isnan(labels.keypoints[0, 0]).all()
    assert labels.keypoints[1, 0].tolist() == [-3, 700]
    assert [(s.video, s.individual, s.size) for s in labels.sources] == [
        ("dot.png", "", (20, 30)), ("train/größer.png", "1", None), ("train/größer.png", "2", None),
    ]  # fmt: skip
    assert labels.skeleton.edges == ((0, 1), (2, 1)), "the head is the parent of both ears"
    assert labels.skeleton.swap == (2, -1, 0)
    assert {loss.what: loss.count for loss in report} == {"labels": 1}
    check_dataset(labels)
    check_format("cvat", folder)


def test_images_without_shapes_and_other_shapes(folder):
    report = LossReport()
    box = shape("box", "<attribute name='a'>b</attribute>", label="x", xtl=1, ytl=1, xbr=2, ybr=2)
    path = put(
        folder, image("dot.png"),
        image("größer.png", mouse(points("head", 1, 1)), box, points("spot", 3, 3), width=0),
    )  # fmt: skip
    labels = read(path, report=report)
    assert labels.n_labelled == 1
    assert len(labels) == 2
    assert {loss.what: loss.count for loss in report} == {
        "labels": 1, "shapes": 1, "points": 1, "attributes": 1
    }  # fmt: skip


def test_several_skeletons(folder):
    rat = shape("skeleton", points("tail", 5, 6), label="rat")
    path = put(folder, image("dot.png", mouse(points("head", 11, 4)), rat))
    with pytest.raises(FileFormatError, match=r"labels mouse, rat.*label=NAME"):
        read(path)
    report = LossReport()
    labels = read(path, label="rat", report=report)
    assert labels.skeleton.names == ("tail",)
    assert labels.keypoints.tolist() == [[[5, 6]]]
    assert {loss.what: loss.count for loss in report} == {"labels": 1, "animals": 1}
    with pytest.raises(ValidationError, match="no skeleton of the label 'cat'"):
        read(path, label="cat")


def test_points_in_groups(folder):
    path = put(
        folder,
        image("dot.png", points("head", 11, 4), points("tail", 1, 2)),
        image(
            "größer.png", points("head", 3, 3, group_id=7), points("head", 4, 4, group_id=9),
            points("tail", 5, 5, group_id=9), width=40, height=36,
        ),
    )  # fmt: skip
    labels = read(path)
    assert labels.skeleton.names == ("head", "tail")
    assert [s.individual for s in labels.sources] == ["", "7", "9"]
    assert labels.keypoints[0].tolist() == [[11, 4], [1, 2]]
    assert labels.keypoints[2].tolist() == [[4, 4], [5, 5]]
    with pytest.raises(FileFormatError, match=r"dot\.png: the point 'head' stands twice"):
        read(put(folder, image("dot.png", points("head", 1, 1), points("head", 2, 2))))


def test_rows_of_points(folder):
    spine = shape("points", label="spine", points="11.5,4.5;2,3;4,5")
    labels = read(put(folder, image("dot.png", spine, spine.replace("11.5", "9.5"))))
    assert labels.skeleton.names == ("spine_1", "spine_2", "spine_3")
    assert labels.keypoints[0].tolist() == [[11, 4], [1.5, 2.5], [3.5, 4.5]]
    shorter = shape("points", label="leg", points="1,1;2,2")
    with pytest.raises(FileFormatError, match="leg with 2, spine with 3"):
        read(put(folder, image("dot.png", spine, shorter)))
    assert len(read(put(folder, image("dot.png", spine, shorter)), label="leg")) == 1


# -- video ----------------------------------------------------------------------------------------

VIDEO = f"""<task><mode>interpolation</mode>{LABELS}<original_size><width>48</width>
<height>32</height></original_size><source>walk.mp4</source></task>"""
TRACKS = (
    track(
        0, mouse(points("head", 11, 4), points("ear_l", 2, 2), frame=2, keyframe=1),
        mouse(points("head", 12, 4), points("ear_l", 2, 2), frame=3, keyframe=0),
        mouse(points("head", 13, 4), points("ear_l", 2, 2, outside=1), frame=4, keyframe=1),
        mouse(points("head", 0, 0, outside=1), frame=5, keyframe=1, outside=1),
    ),
    track(1, mouse(points("head", 40, 30), frame=2, keyframe=1)),
)  # fmt: skip


@pytest.fixture
def video(tmp_path):
    with VideoWriter(tmp_path / "walk.mp4", fps=10) as writer:
        for i in range(8):
            writer.write(np.full((32, 48, 3), 30 * i, np.uint8))
    return tmp_path


def test_tracks_of_a_video(video):
    report = LossReport()
    labels = read(put(video, *TRACKS, meta=VIDEO), report=report)
    assert [(s.video, s.frame, s.individual) for s in labels.sources] == [
        ("walk.mp4", 2, "0"), ("walk.mp4", 2, "1"), ("walk.mp4", 4, "0")
    ]  # fmt: skip
    assert labels.keypoints[:, 1].tolist() == [[11, 4], [40, 30], [13, 4]]
    assert np.isnan(labels.keypoints[2, 0]).all()
    assert abs(int(labels.images[2].mean()) - 120) < 5
    assert ("interpolated shapes", 1) in {(loss.what, loss.count) for loss in report}
    check_dataset(labels)


def test_interpolated_frames_are_nobodys_labels(video):
    labels = read(put(video, *TRACKS, meta=VIDEO), interpolated=True)
    assert [s.frame for s in labels.sources] == [2, 2, 3, 4]
    assert labels.keypoints[2, 1].tolist() == [12, 4]
    assert labels.annotated.any(axis=1).tolist() == [True, True, False, True]


def test_points_that_are_tracked(video):
    head = points("head", 1, 1, frame=3, keyframe=1)
    tail = points("tail", 2, 2, frame=3, keyframe=1)
    tracks = (
        track(0, head, label="head", group_id=4),
        track(1, tail, label="tail", group_id=4),
    )
    labels = read(put(video, *tracks, meta=VIDEO))
    assert labels.keypoints.tolist() == [[[1, 1], [2, 2]]]


def test_frames_instead_of_the_video(video):
    (video / "walk.mp4").rename(video / "moved.mp4")
    path = put(video, *TRACKS, meta=VIDEO)
    with pytest.raises(FileMissingError, match=r"frame_000002\.png"):
        read(path)
    assert len(read(path, video=video / "moved.mp4")) == 3
    (video / "images").mkdir()
    for i in (2, 4):
        write_png(video / "images" / f"frame_{i:06d}.PNG", np.full((32, 48, 3), 9 * i, np.uint8))
    labels = read(path)
    assert labels.images[2][0, 0, 0] == 36
    with pytest.raises(FileMissingError, match="video: no file"):
        read(path, video="nowhere.mp4")


def test_a_video_exported_as_images(video):
    frame = image("frame_000004", mouse(points("head", 11, 4)), width=48, height=32)
    labels = read(put(video, frame, meta=VIDEO))
    assert [(s.video, s.frame) for s in labels.sources] == [("walk.mp4", 4)]


# -- bad input ------------------------------------------------------------------------------------


def test_sniffs_by_content(folder):
    plugin = CvatFormat()
    path = put(folder, *IMAGES)
    assert identify(path).spec.name == "cvat"
    assert identify(folder).spec.name == "cvat"
    assert plugin.sniff(path.rename(folder / "wrong.txt"))
    (folder / "voc.xml").write_text("<annotation><folder/></annotation>")
    (folder / "other.xml").write_text("<annotations><entry/></annotations>")
    assert not plugin.sniff(folder / "voc.xml")
    assert not plugin.sniff(folder / "other.xml")
    assert not plugin.sniff(folder / "absent")


def test_entities_are_refused(folder):
    path = folder / "annotations.xml"
    levels = '<!ENTITY e0 "ha">' + "".join(f'<!ENTITY e{i + 1} "&e{i};&e{i};">' for i in range(60))
    for head in (
        f"<!DOCTYPE annotations [{levels}]>",
        '<!DOCTYPE annotations [<!ENTITY e60 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotations SYSTEM "http://example.com/x.dtd">',
    ):
        path.write_text(f"{head}<annotations><meta>&e60;</meta></annotations>")
        assert not CvatFormat().sniff(path)
        with pytest.raises(FileFormatError, match="document type or entities"):
            read(path)
    utf16 = f"{head}<annotations><meta/></annotations>".encode("utf-16")
    path.write_bytes(utf16)
    with pytest.raises(FileFormatError, match="document type or entities"):
        read(path)
    svg = escape('<!DOCTYPE a [<!ENTITY x "y">]>')
    path = put(folder, *IMAGES, meta=f"<task>{LABELS.replace(SVG, svg)}</task>")
    with pytest.raises(FileFormatError):
        read(path)


def test_what_is_no_export(folder):
    path = put(folder, *IMAGES)
    content = path.read_bytes()
    for text, match in [
        (b"", "not XML, or cut short"),
        (content[: len(content) // 2], "not XML, or cut short"),
        (b"<annotations>" + b"<a>" * 100_000, "nested deeper"),
        (b"<labels/>", "expected <annotations>, found <labels>"),
        (b'<?xml version="1.0" encoding="x-none"?><annotations/>', "not XML|not readable"),
        (b"<annotations/>", "no skeleton and no points"),
        (b"\xff\xfe\x00", "not XML"),
    ]:
        path.write_bytes(text)
        with pytest.raises(FileFormatError, match=match):
            read(path)
    with pytest.raises(FileMissingError):
        read(folder / "absent.xml")
    with pytest.raises(ValidationError):
        read(put(folder, *IMAGES), colour=1)


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ([mouse(points("head", 1, 1), points("head", 2, 2))], "'head' stands twice"),
        ([mouse(points("", 1, 1))], "'' stands twice"),
        ([mouse(shape("points", label="head", points="1,2;3,4"))], "one point, found 2"),
        ([mouse(shape("points", label="head", points="1"))], "expected points as x,y"),
        ([mouse(shape("points", label="head", points=""))], "expected points as x,y"),
        ([mouse(shape("points", label="head", points="1,x"))], "expected points as x,y"),
        ([mouse(shape("points", label="head", points="nan,1"))], "expected finite"),
        ([mouse(shape("points", label="head", points="1,-inf"))], "expected finite"),
    ],
)
def test_shapes_that_cannot_be(folder, shapes, match):
    with pytest.raises(FileFormatError, match=rf"dot\.png.*{match}"):
        read(put(folder, image("dot.png", *shapes)))


def test_frames_that_cannot_be(video):
    twice = track(3, *(mouse(points("head", 1, 1), frame=2, keyframe=1) for _ in "ab"))
    with pytest.raises(FileFormatError, match="track 3: the frame 2 stands twice"):
        read(put(video, twice, meta=VIDEO))
    with pytest.raises(FileFormatError, match="expected the number of a frame, found '-1'"):
        read(put(video, track(3, mouse(points("head", 1, 1), frame=-1)), meta=VIDEO))
    late = track(3, mouse(points("head", 1, 1), frame=99, keyframe=1))
    with pytest.raises(FileFormatError, match="has 8 frames; the labels are of frame 99"):
        read(put(video, late, meta=VIDEO)).images[0]


def test_images_that_cannot_be(folder):
    with pytest.raises(FileFormatError, match=r"'dot\.png' is listed twice"):
        read(put(folder, *IMAGES, IMAGES[0]))
    for name in ("../dot.png", "a/../../b.png", "..\\dot.png"):
        with pytest.raises(FileFormatError, match="leads out of its folder"):
            read(put(folder, image(name, mouse(points("head", 1, 1)))))
    with pytest.raises(FileFormatError, match=r"30x20 pixels.*made for 60x20"):
        read(put(folder, image("dot.png", mouse(points("head", 1, 1)), width=60)))
    (folder / "images" / "dot.png").unlink()
    with pytest.raises(FileMissingError, match=r"1 of 2 labelled images.*dot\.png"):
        read(put(folder, *IMAGES))
    assert len(read(put(folder, *IMAGES), missing="skip")) == 2


def test_names_that_cannot_be(folder):
    twice = LABELS.replace("<name>ear_l</name>", "<name>head</name>")
    with pytest.raises(FileFormatError, match="'head' stands twice in 'mouse'"):
        read(put(folder, *IMAGES, meta=f"<task>{twice}</task>"))
    long = "鼻" * 800
    labels = read(put(folder, image("dot.png", mouse(points(long, 1, 1))), meta=""))
    assert labels.skeleton.names == (long,)


def test_damaged_files_are_refused_or_read(folder, video, damaged):
    for elements, meta in ((IMAGES, f"<task>{LABELS}</task>"), (TRACKS, VIDEO)):
        path = put(folder, *elements, meta=meta)
        for content in damaged(path.read_bytes(), 200, seed=6):
            path.write_bytes(content)
            CvatFormat().sniff(path)
            try:
                labels = read(path, missing="skip")
            except DpkError:
                continue
            assert labels.keypoints.shape[1:] == (len(labels.skeleton), 2)
