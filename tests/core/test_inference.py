"""From an engine's pixels to the user's: batches, sizes, channels, one frame or many."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet
from dpk_core.errors import ValidationError
from dpk_core.services.engines import load_model
from dpk_core.services.evaluation import evaluate_on
from dpk_core.services.imaging import coordinates_to_original, prepare_images
from dpk_core.services.inference import Realtime, predict_images
from dpk_core.skeleton import Skeleton
from dpk_core.task import Task
from dpk_core.testing import dot_annotations

PAIR = Skeleton.from_rows([("spot", None, None), ("beside", "spot", None)])


class Brightest:
    """An engine that finds the brightest pixel, and one to the right of it.

    It always answers in the same memory, as real ones may, and remembers what it was given.
    """

    def __init__(self) -> None:
        self.batches = []
        self.memory = {}

    def __call__(self, images):
        self.batches.append(images)
        n, height, width, _ = images.shape
        flat = images.astype(int).sum(axis=3).reshape(n, -1)
        y, x = np.unravel_index(flat.argmax(axis=1), (height, width))
        found = self.memory.setdefault(n, np.empty((n, 2, 3), np.float32))
        found[:, 0, 0], found[:, 1, 0] = x, x + 1
        found[..., 1] = y[:, None]
        found[..., 2] = flat.max(axis=1)[:, None] / 255 / images.shape[3]
        return found


def spot_at(x, y, shape=(48, 64, 1)):
    image = np.zeros(shape, np.uint8)
    image[y, x] = 255
    return image


def task_of(shape=(48, 64, 1), scale=1.0):
    return Task(shape, PAIR, scale=scale)


# -- many images ---------------------------------------------------------------------------------


def test_every_batch_is_full():
    run = Brightest()
    images = np.stack([spot_at(5 + i, 7) for i in range(7)])
    told = []
    found = predict_images(run, task_of(), images, 3, lambda *done: told.append(done))
    assert [batch.shape for batch in run.batches] == [(3, 48, 64, 1)] * 3
    assert not run.batches[-1][1:].any()
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert found.shape == (7, 2, 3)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0, 0], 5 + np.arange(7))


def test_an_engine_gets_contiguous_uint8_images():
    run = Brightest()
    mirrored = np.stack([spot_at(5, 7)] * 2)[:, :, ::-1]
    found = predict_images(run, task_of(), mirrored, 2)
    assert run.batches[0].flags.c_contiguous
    assert run.batches[0].dtype == np.uint8
    assert np.array_equal(found[0], [[58, 7, 1], [59, 7, 1]])


@pytest.mark.parametrize(("size", "scale"), [((96, 128), 0.5), ((97, 131), 0.5), ((31, 47), 1.5)])
def test_coordinates_are_in_pixels_of_the_images_that_were_given(size, scale):
    height, width = (int(np.floor(side * scale + 0.5)) for side in size)
    task = task_of((height, width, 1), scale)
    image = np.zeros((*size, 1), np.uint8)
    image[10:20, 30:40] = 255  # (34.5, 14.5) is its centre
    # An engine that knows where it is, in its own pixels.
    own = ((np.array([34.5, 14.5]) + 0.5) * (width / size[1], height / size[0]) - 0.5).tolist()

    def run(images):
        return np.array([[[*own, 1.0]] * 2], np.float32)

    assert np.allclose(predict_images(run, task, image[None], 1)[0, 0, :2], (34.5, 14.5), atol=1e-4)
    assert np.allclose(Realtime(run, task)(image)[0, :2], (34.5, 14.5), atol=1e-4)


def test_no_images_and_wrong_ones():
    run = Brightest()
    assert predict_images(run, task_of(), np.empty((0, 48, 64, 1), np.uint8)).shape == (0, 2, 3)
    assert run.batches == []
    for images, message in (
        (np.zeros((48, 64, 1), np.uint8), r"images\[None\]"),
        (np.zeros((1, 50, 64, 1), np.uint8), "expected 48x64"),
        (np.zeros((1, 48, 64, 1), np.float32), "expected uint8"),
        ([np.zeros((48, 64, 1), np.uint8)], "found list"),
    ):
        with pytest.raises(ValidationError, match=message):
            predict_images(run, task_of(), images)
    with pytest.raises(ValidationError, match="batch_size"):
        predict_images(run, task_of(), np.zeros((1, 48, 64, 1), np.uint8), 0)
    assert run.batches == []


# -- one frame -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_realtime_gives_what_predict_gives(channels, scale):
    size = (48, 64) if scale == 1 else (95, 127)
    task = task_of((48, 64, channels), scale)
    rng = np.random.default_rng(0)
    realtime = Realtime(Brightest(), task)
    for shape in ((*size, 1), (*size, 3), (*size, 4)):
        frame = rng.integers(0, 200, shape).astype(np.uint8)
        expected = predict_images(Brightest(), task, frame[None], 1)[0]
        found = realtime(frame)
        assert np.array_equal(found, expected)
        assert (found.dtype, found.shape) == (np.float32, (2, 3))


def test_realtime_takes_gray_frames_without_an_axis_for_it():
    realtime = Realtime(Brightest(), task_of())
    assert np.array_equal(realtime(spot_at(9, 5)[..., 0]), realtime(spot_at(9, 5)))
    colour = Realtime(Brightest(), task_of((48, 64, 3)))
    assert np.array_equal(colour(spot_at(9, 5)[..., 0])[0], [9, 5, 1])


def test_results_are_the_callers_own():
    """The next call, or whatever the caller does with a result, changes no other result."""
    for task, size in ((task_of(), (48, 64)), (task_of(scale=0.5), (96, 128))):
        realtime = Realtime(Brightest(), task)
        black, corner = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        corner[20:24, 30:34] = 255
        first = realtime(black)
        kept = first.copy()
        second = realtime(corner)
        assert np.array_equal(first, kept)
        assert not np.array_equal(second, kept)
        expected = second.copy()
        second[:] = -1
        assert np.array_equal(realtime(corner), expected)


def test_realtime_leaves_the_frame_as_it_was():
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    before = frame.copy()
    realtime = Realtime(Brightest(), task_of((48, 64, 3)))
    realtime(frame)
    realtime.warm_up()
    assert np.array_equal(frame, before)


def test_memory_is_made_once():
    run = Brightest()
    realtime = Realtime(run, task_of())
    realtime.warm_up(2)
    realtime(spot_at(3, 4))
    realtime(np.repeat(spot_at(3, 4), 3, axis=-1))
    assert len(run.batches) == 4
    assert len({batch.ctypes.data for batch in run.batches}) == 1


def test_warm_up_runs_on_black_frames():
    seen = []
    realtime = Realtime(lambda images: seen.append(images.max()) or np.zeros((1, 2, 3)), task_of())
    realtime(spot_at(3, 4))
    realtime.warm_up()
    assert seen == [255, 0, 0, 0]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((48, 65, 1), np.uint8), "expected 48x64.*found 48x65"),
        (np.zeros((48, 64, 1), np.float32), "expected uint8.*found float32"),
        (np.zeros((48, 64), bool), "expected uint8.*found bool"),
        (np.zeros((48, 64, 2), np.uint8), "cannot turn 2 channels"),
        (np.zeros((1, 48, 64, 1), np.uint8), "expected shape"),
        (np.zeros(48, np.uint8), "expected shape"),
        (np.uint8(3), "expected shape"),
    ],
    ids=str,
)
def test_wrong_frames_are_refused(frame, message):
    run = Brightest()
    with pytest.raises(ValidationError, match=message):
        Realtime(run, task_of())(frame)
    assert run.batches == []


def test_a_frame_of_the_networks_size_is_no_frame_of_the_video():
    """The network sees 48x64; the video has 96x128, and a frame of 48x64 is a mistake."""
    with pytest.raises(ValidationError, match=r"expected 96x128.*found 48x64"):
        Realtime(Brightest(), task_of(scale=0.5))(spot_at(3, 4))


@pytest.mark.parametrize("engine", ["keras", "onnxruntime", "openvino"])
def test_realtime_of_every_engine(engine, learned):
    pytest.importorskip(engine)
    model = load_model(learned.keras if engine == "keras" else learned.onnx, engine)
    realtime = model.realtime()
    realtime.warm_up(1)
    results = [realtime(image) for image in learned.images[:4]]
    expected = model.predict(learned.images[:4], batch_size=1)
    assert np.allclose(results, expected, atol=1e-4)
    assert np.ptp([result[0, 0] for result in results]) > 1


# -- evaluation ----------------------------------------------------------------------------------


class AtLabels:
    """A model whose predictions are given."""

    def __init__(self, predictions, skeleton):
        self.predictions = predictions
        self.skeleton = skeleton
        self.task = Task((48, 64, 1), skeleton)

    def predict(self, images, batch_size=32):
        return self.predictions


def test_errors_are_distances_to_the_labels():
    annotations = dot_annotations(4)
    labels = np.stack([annotations[i].keypoints for i in range(4)])
    predictions = np.dstack([labels[..., 0] + 3, labels[..., 1] - 4, np.ones((4, 3))])
    found = evaluate_on(AtLabels(predictions, annotations.skeleton), annotations)
    assert np.allclose(found["errors"][:2], 5, atol=1e-4)
    assert np.isnan(found["errors"][3]).all()
    assert np.array_equal(found["predictions"], predictions, equal_nan=True)
    assert found["keypoints"].shape == (4, 3, 2)
    assert "mean 5" in repr(found["summary"])


def test_what_cannot_be_evaluated_is_refused():
    annotations = dot_annotations(4)
    model = AtLabels(None, annotations.skeleton)
    images, keypoints = np.empty((0, 48, 64, 1), np.uint8), np.empty((0, 3, 2))
    nothing = AnnotationSet(images, keypoints, annotations.skeleton)
    with pytest.raises(ValidationError, match="at least one image"):
        evaluate_on(model, nothing)
    with pytest.raises(ValidationError, match="expected the keypoints spot, beside"):
        evaluate_on(AtLabels(None, PAIR), annotations)


def test_prepared_and_back_is_where_it_was():
    """The two halves of every prediction undo each other, also where sides had to be rounded."""
    task = task_of((33, 44, 1), 0.34)
    image = np.zeros((97, 129, 1), np.uint8)
    image[40:57, 60:77] = 255
    small = prepare_images(image[None], task)[0, ..., 0].astype(float)
    y, x = np.mgrid[:33, :44]
    centre = np.array([[(small * x).sum() / small.sum(), (small * y).sum() / small.sum()]])
    assert np.allclose(coordinates_to_original(centre, task, (97, 129)), (68, 48), atol=0.1)
