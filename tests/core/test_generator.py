"""TrainingGenerator: batches from annotations."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dpk_core.annotations import AnnotationSet, Source
from dpk_core.errors import FileFormatError, FileMissingError, ValidationError
from dpk_core.interfaces import Augmenter, Dataset, PoseFormat, Sample
from dpk_core.services import formats
from dpk_core.services.generator import TrainingGenerator
from dpk_core.services.splits import Split
from dpk_core.services.storage import write_annotations
from dpk_core.skeleton import Skeleton
from dpk_core.specs import FormatSpec

SKELETON = Skeleton.from_rows(
    [("head", None, None), ("left", "head", "right"), ("right", "head", "left")]
)


def make_set(n: int = 12, size: tuple[int, int] = (20, 30), channels: int = 1, **fields):
    """Images that hold their own number, keypoints that hold it too."""
    number = np.arange(n)
    images = np.broadcast_to(
        number.astype(np.uint8)[:, None, None, None], (n, *size, channels)
    ).copy()
    keypoints = np.zeros((n, 3, 2)) + number[:, None, None]
    return AnnotationSet(images, keypoints, SKELETON, **fields)


class ListDataset(Dataset):
    """A dataset of samples as they are given, right or wrong."""

    def __init__(self, samples: list[Sample]) -> None:
        self.skeleton = SKELETON
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Sample:
        return self.samples[i]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.samples[0].image.shape


class NoisyAugmenter(Augmenter):
    """Adds the seed to the keypoints, so that a test sees which seed came."""

    def augment(self, images, keypoints, seed):
        return images, keypoints + seed % 1000


def sample(size=(20, 30), dtype=np.uint8) -> Sample:
    return Sample(
        np.zeros((*size, 1), dtype), np.zeros((3, 2), np.float32), np.full(3, 2, np.uint8)
    )


def test_an_epoch_gives_every_training_image_once_with_its_keypoints():
    generator = TrainingGenerator(make_set(), augmenter=None, validation_split=0.25)
    batches = generator.batches(4)
    images = np.concatenate([images for images, _ in batches])
    keypoints = np.concatenate([keypoints for _, keypoints in batches])
    assert images.dtype == np.uint8
    assert keypoints.dtype == np.float32
    np.testing.assert_array_equal(images[:, 0, 0, 0], keypoints[:, 0, 0])
    assert sorted(images[:, 0, 0, 0]) == generator.split.train.tolist()
    assert [len(b[0]) for b in batches] == [4, 4, 1]
    assert len(generator.batches(4, drop_last=True)) == 2


def test_validation_batches_come_in_order_and_without_augmentation():
    generator = TrainingGenerator(make_set(), augmenter=NoisyAugmenter(), validation_split=0.5)
    images, keypoints = generator.batches(100, validation=True)[0]
    assert images[:, 0, 0, 0].tolist() == generator.split.validation.tolist()
    np.testing.assert_array_equal(keypoints[:, 0, 0], generator.split.validation)


def test_each_epoch_has_its_own_order_and_the_same_seed_repeats_it():
    def order(seed: int, epoch: int) -> list[int]:
        generator = TrainingGenerator(make_set(50), augmenter=None, seed=seed, split=SPLIT_OF_50)
        return np.concatenate(
            [b[0][:, 0, 0, 0] for b in generator.batches(8, epoch=epoch)]
        ).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


SPLIT_OF_50 = Split(np.arange(40), np.arange(40, 50), 50)


def test_batches_do_not_depend_on_the_order_or_the_thread_that_asks():
    generator = TrainingGenerator(make_set(40), augmenter=NoisyAugmenter())
    batches = generator.batches(4, epoch=3)
    expected = [keypoints for _, keypoints in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: batches[i][1], reversed(range(len(batches)))))
    for a, b in zip(expected, reversed(found), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_labelled_images_are_used_and_unlabelled_positions_are_missing():
    annotated = np.zeros((12, 3), bool)
    annotated[[2, 5], 1] = True
    generator = TrainingGenerator(
        make_set(annotated=annotated), augmenter=None, shuffle=False, validation_split=0
    )
    images, keypoints = generator.batches(16)[0]
    assert images[:, 0, 0, 0].tolist() == [2, 5]
    assert np.isnan(keypoints[:, [0, 2]]).all()
    assert keypoints[:, 1, 0].tolist() == [2, 5]


def test_nothing_labelled_says_what_to_do():
    nothing = make_set(annotated=np.zeros((12, 3), bool))
    with pytest.raises(ValidationError, match=r"none of the 12 images.*only_annotated=False"):
        TrainingGenerator(nothing, augmenter=None)
    assert len(TrainingGenerator(nothing, augmenter=None, only_annotated=False).dataset) == 12


def test_an_image_without_any_keypoint_trains_too():
    annotations = make_set(6)
    keypoints = annotations.keypoints.copy()
    keypoints[3] = np.nan
    annotations = AnnotationSet(
        annotations.images, keypoints, SKELETON, annotated=np.ones((6, 3), bool)
    )
    generator = TrainingGenerator(annotations, augmenter=None, validation_split=0, shuffle=False)
    assert np.isnan(generator.batches(6)[0][1]).all(axis=(1, 2)).tolist() == [
        False, False, False, True, False, False,
    ]  # fmt: skip


def test_one_image_trains():
    generator = TrainingGenerator(make_set(1), augmenter=None)
    assert (generator.n_train, generator.n_validation) == (1, 0)
    assert generator.batches(16, drop_last=True)[0][0].shape == (1, 20, 30, 1)
    assert len(generator.batches(16, validation=True)) == 0


def test_scale_and_grayscale_change_images_and_keypoints_together():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (1, 21, 40, 3), dtype=np.uint8)
    annotations = AnnotationSet(images, np.full((1, 3, 2), 9.5), SKELETON)
    generator = TrainingGenerator(annotations, augmenter=None, scale=0.5, grayscale=True)
    found, keypoints = generator.batches(1)[0]
    assert generator.task.image_shape == (11, 20, 1) == found.shape[1:]
    np.testing.assert_allclose(keypoints[0, 0], [4.5, 10 * 11 / 21 - 0.5], rtol=1e-6)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_the_cache_changes_nothing(cache_bytes):
    generator = TrainingGenerator(
        make_set(7, channels=3), augmenter=None, cache_bytes=cache_bytes, scale=0.5, shuffle=False
    )
    images, keypoints = generator.batches(7, augment=False)[0]
    assert images[:, 0, 0, 0].tolist() == generator.split.train.tolist()
    np.testing.assert_allclose(keypoints[:, 0, 0], (generator.split.train + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_images_of_mixed_sizes_name_the_first_that_differs(cache_bytes):
    dataset = ListDataset([sample(), sample(), sample((20, 31)), sample((9, 9))])

    def run() -> None:
        generator = TrainingGenerator(
            dataset, augmenter=None, cache_bytes=cache_bytes, validation_split=0, shuffle=False
        )
        list(generator.batches(2))

    with pytest.raises(ValidationError, match=r"image 2 .*\(20, 31, 1\).*\(20, 30, 1\)"):
        run()


def test_float_images_say_how_to_convert():
    with pytest.raises(ValidationError, match=r"image 1 .*expected uint8.*float32.*255"):
        TrainingGenerator(ListDataset([sample(), sample(dtype=np.float32)]), augmenter=None)


def test_sources_that_are_not_there_or_not_a_dataset(tmp_path):
    with pytest.raises(FileMissingError, match=r"nothing\.h5"):
        TrainingGenerator(tmp_path / "nothing.h5")
    with pytest.raises(
        ValidationError, match=r"expected a path or a dpk_core\.Dataset, found list"
    ):
        TrainingGenerator([1, 2, 3])


def test_a_split_of_another_dataset_is_refused():
    with pytest.raises(ValidationError, match="made for 50 labelled images, the dataset has 12"):
        TrainingGenerator(make_set(12), augmenter=None, split=SPLIT_OF_50)


def test_neighbouring_frames_of_a_video_are_held_out_together():
    sources = tuple(Source("a.mp4", frame) for frame in range(100))
    generator = TrainingGenerator(make_set(100, sources=sources), augmenter=None)
    assert generator.split.method == "block"
    assert np.ptp(generator.split.validation) == 9


def test_training_and_validation_datasets_are_in_original_pixels():
    for source in (make_set(10), ListDataset([sample() for _ in range(10)])):
        generator = TrainingGenerator(source, augmenter=None, scale=0.5, validation_split=0.2)
        assert len(generator.training_dataset()) == 8
        validation = generator.validation_dataset()
        assert len(validation) == 2
        assert validation[1].image.shape == validation.image_shape == (20, 30, 1)
        with pytest.raises(IndexError):
            validation[2]


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_a_file_of_annotations(tmp_path, cache_bytes):
    path = tmp_path / "data.h5"
    write_annotations(path, make_set(12, sources=tuple(Source("a.mp4", i) for i in range(12))))
    generator = TrainingGenerator(path, augmenter=None, cache_bytes=cache_bytes)
    assert generator.split.method == "block"
    for images, keypoints in generator.batches(4):
        np.testing.assert_array_equal(images[:, 0, 0, 0], keypoints[:, 2, 1])


def test_a_file_that_is_no_annotations(tmp_path):
    path = tmp_path / "data.h5"
    path.write_text("no HDF5")
    with pytest.raises(FileFormatError, match=r"data\.h5"):
        TrainingGenerator(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        FileFormatError, match=r"no annotations that.*folder is in no format.*dpk formats"
    ):
        TrainingGenerator(tmp_path / "folder")


class TextFormat(PoseFormat):
    """Counts its images in a text file."""

    def sniff(self, path):
        return Path(path).read_text().startswith("images: ")

    def read(self, path, kind="annotations", *, report=None, **options):
        return make_set(int(Path(path).read_text().split()[1]))


@pytest.mark.parametrize("name", ["data.txt", "data.h5"])
def test_a_format_plugin_reads_what_it_recognises(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("images: 7")
    specs = [
        FormatSpec("broken", "does not import", "no_such_module:Format", reads=["annotations"]),
        FormatSpec("writer", "is not asked", "no_such_module:Format", writes=["poses"]),
        FormatSpec("absent", "is not asked", "no_such_module:Format", ["poses"], requires=["no_x"]),
        FormatSpec("text", "reads text", f"{__name__}:TextFormat", reads=["annotations"]),
    ]
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(TextFormat=TextFormat))
    monkeypatch.setattr(formats, "registry", lambda: SimpleNamespace(specs=lambda kind: specs))
    with pytest.warns(UserWarning, match="'broken' could not be loaded"):
        generator = TrainingGenerator(tmp_path / name, augmenter=None)
    assert len(generator.dataset) == 7


def test_deepposekits_own_file(test_data):
    path = test_data / "fly" / "example_annotation_set.h5"
    with pytest.raises(ValidationError, match=r"none of the 100 images.*only_annotated=False"):
        TrainingGenerator(path)
    generator = TrainingGenerator(path, only_annotated=False)
    images, keypoints = generator.batches(16)[0]
    assert images.shape == (16, 192, 192, 1)
    assert keypoints.shape == (16, 32, 2)
    assert generator.task.output_shape == (48, 48)
