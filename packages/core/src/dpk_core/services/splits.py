"""Splits: which images train a model and which are held out to validate it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import attrs
import numpy as np

from dpk_core.checks import as_array
from dpk_core.errors import FileFormatError, ValidationError

METHODS = ("auto", "video", "block", "random")
"""Ways to choose: see `make_split`."""

_same_array = attrs.cmp_using(eq=np.array_equal)


def _rows(value: Sequence[int] | np.ndarray) -> np.ndarray:
    array = as_array(
        "split", np.asarray(value, dtype=None if len(value) else int), np.int64, ("n",)
    )
    array = np.sort(array)
    array.flags.writeable = False
    return array


def _names(value: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(name) for name in value)


@attrs.frozen(repr=False)
class Split:
    """Rows of a dataset that train and rows that validate.

    Parameters
    ----------
    train, validation
        Row numbers, each row in one of them at most once; kept sorted and read-only.
    n_images
        Length of the dataset that was split.
    method
        How rows were chosen: "random", "video", "block", "none" or "given".
    seed
        The seed of the choice.
    held_out
        Names of the videos that are held out as a whole (method "video").

    Raises
    ------
    ValidationError
        When training is empty, the two overlap, or a row lies outside the dataset.

    Examples
    --------
    >>> split = make_split(10, 0.2, seed=1)
    >>> split
    Split(8 train, 2 validation of 10 images, random, seed 1)
    >>> Split.from_json(split.to_json()) == split
    True
    """

    train: np.ndarray = attrs.field(converter=_rows, eq=_same_array)
    validation: np.ndarray = attrs.field(converter=_rows, eq=_same_array)
    n_images: int
    method: str = "given"
    seed: int = 0
    held_out: tuple[str, ...] = attrs.field(default=(), converter=_names)

    def __attrs_post_init__(self) -> None:
        every = np.concatenate([self.train, self.validation])
        if not len(self.train):
            raise ValidationError("split: expected at least one training image, found none")
        if every.min() < 0 or every.max() >= self.n_images:
            wrong = every[(every < 0) | (every >= self.n_images)][0]
            raise ValidationError(
                f"split: row {wrong} is outside a dataset of {self.n_images} images"
            )
        values, counts = np.unique(every, return_counts=True)
        if (counts > 1).any():
            raise ValidationError(
                f"split: row {values[counts > 1][0]} stands more than once; a row is either for "
                "training or for validation"
            )

    def check_fits(self, n_images: int) -> Split:
        """This split, or ValidationError when it was made for a dataset of another length."""
        if n_images != self.n_images:
            raise ValidationError(
                f"this split was made for {self.n_images} labelled images, the dataset has "
                f"{n_images}; use the dataset that it was made for, or leave the split out to "
                "make a new one"
            )
        return self

    def to_json(self) -> str:
        """JSON text; `from_json` reads it back."""
        values = attrs.asdict(self, recurse=False)
        values["train"], values["validation"] = self.train.tolist(), self.validation.tolist()
        values["held_out"] = list(self.held_out)
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Split:
        """The inverse of `to_json`.

        Raises
        ------
        FileFormatError
            When the text is not JSON or has other fields.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise FileFormatError(
                f"not a split: expected JSON, found {text[:40]!r} ({error})"
            ) from None
        known = [field.name for field in attrs.fields(cls)]
        if not isinstance(values, dict) or set(values) != set(known):
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise FileFormatError(f"not a split: expected the fields {known}, found {found}")
        return cls(**values)

    def __repr__(self) -> str:
        return (
            f"Split({len(self.train)} train, {len(self.validation)} validation of "
            f"{self.n_images} images, {self.method}, seed {self.seed})"
        )


def make_split(
    n_images: int,
    fraction: float = 0.1,
    *,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    frames: Sequence[int] | np.ndarray | None = None,
    group_by: str = "auto",
) -> Split:
    """Hold out about ``fraction`` of the images for validation.

    Neighbouring frames of a video look alike. When one trains and the other validates, the
    validation error is too good to be true. Hence the grouped ways:

    - ``"video"`` holds out whole videos, as many as come nearest to the fraction, at least one.
    - ``"block"`` holds out runs of consecutive frames, the same fraction of each video: one run
      for every ten images held out in a video, spread over its length, at places drawn by the
      seed. Images of one frame (several individuals) stay together. Images of unknown frame keep
      their order in the dataset.
    - ``"random"`` draws images one by one.
    - ``"auto"`` is ``"video"`` when there are enough videos that holding out whole ones costs
      little (at least five, and at least 1 / fraction), ``"block"`` when there are fewer and
      frames or videos are known, and ``"random"`` when neither is.

    Parameters
    ----------
    n_images
        Length of the dataset.
    fraction
        0 <= fraction < 1. Above 0, at least one image is held out of five or more; whatever the
        fraction, at least one image trains.
    seed
        The same seed gives the same split.
    groups
        The video of each image ("" unknown), as `Dataset.groups`.
    frames
        The frame number of each image (-1 unknown), as `Dataset.frames`.
    group_by
        One of "auto", "video", "block", "random".

    Raises
    ------
    ValidationError
        On a fraction outside [0, 1), an unknown ``group_by``, no images, or ``"video"`` for a
        dataset that does not know at least two videos.
    """
    _check_request(n_images, fraction, group_by, groups, frames)
    n_validation = _n_validation(n_images, fraction)
    if not n_validation:
        return Split(np.arange(n_images), [], n_images, "none", seed)
    rng = np.random.default_rng([seed, 7])
    names = [""] * n_images if groups is None else list(groups)
    method = _choose(group_by, names, frames, fraction)
    held_out: tuple[str, ...] = ()
    if method == "video":
        chosen, held_out = _hold_out_videos(names, n_validation, rng)
    elif method == "block":
        chosen = _hold_out_blocks(names, frames, n_validation, rng)
    else:
        chosen = rng.permutation(n_images)[:n_validation]
    if len(chosen) >= n_images:  # one single moment: there is nothing to group by
        method, chosen = "random", rng.permutation(n_images)[:n_validation]
    train = np.setdiff1d(np.arange(n_images), chosen)
    return Split(train, chosen, n_images, method, seed, held_out)


def _check_request(
    n_images: int,
    fraction: float,
    group_by: str,
    groups: Sequence[str] | None,
    frames: Sequence[int] | np.ndarray | None,
) -> None:
    if n_images < 1:
        raise ValidationError("split: expected at least one image, found none")
    if not 0 <= fraction < 1:
        raise ValidationError(
            f"validation_split: expected a fraction from 0 to below 1, found {fraction}"
        )
    if group_by not in METHODS:
        raise ValidationError(f"group_by: expected one of {METHODS}, found {group_by!r}")
    for name, values in (("groups", groups), ("frames", frames)):
        if values is not None and len(values) != n_images:
            raise ValidationError(
                f"{name}: expected one for each of {n_images} images, found {len(values)}"
            )
    if group_by == "video" and len(set(groups or ())) < 2:
        raise ValidationError(
            "group_by='video': expected images from at least two videos, found "
            f"{len(set(groups or ()))}; use 'block' or 'random'"
        )


def _n_validation(n_images: int, fraction: float) -> int:
    wanted = int(np.floor(fraction * n_images + 0.5))
    if fraction > 0 and n_images >= 5:
        wanted = max(1, wanted)
    return min(wanted, n_images - 1)


def _choose(
    group_by: str, names: list[str], frames: Sequence[int] | np.ndarray | None, fraction: float
) -> str:
    if group_by != "auto":
        return group_by
    videos = set(names)
    if "" not in videos and len(videos) >= max(5, 1 / fraction):
        return "video"
    knows_frames = frames is not None and (np.asarray(frames) >= 0).any()
    return "block" if videos != {""} or knows_frames else "random"


def _hold_out_videos(
    names: list[str], n_validation: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[str, ...]]:
    videos, of_image, sizes = np.unique(names, return_inverse=True, return_counts=True)
    order = rng.permutation(len(videos))
    chosen: list[int] = []
    count = 0
    for video in order:
        nearer = abs(count + sizes[video] - n_validation) < abs(count - n_validation)
        if nearer and len(chosen) + 1 < len(videos):
            chosen.append(int(video))
            count += int(sizes[video])
    if not chosen:  # every video is larger than twice what was asked for
        chosen = [int(order[np.argmin(sizes[order])])]
    rows = np.flatnonzero(np.isin(of_image, chosen))
    return rows, tuple(sorted(str(videos[v]) for v in chosen))


_IMAGES_IN_A_RUN = 10


def _hold_out_blocks(
    names: list[str],
    frames: Sequence[int] | np.ndarray | None,
    n_validation: int,
    rng: np.random.Generator,
) -> np.ndarray:
    numbers = np.full(len(names), -1) if frames is None else np.asarray(frames)
    _, of_image, sizes = np.unique(names, return_inverse=True, return_counts=True)
    chosen: list[np.ndarray] = []
    for video, wanted in enumerate(_shares(sizes, n_validation, rng)):
        rows = np.flatnonzero(of_image == video)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        chosen.append(_runs(rows, numbers[rows], int(wanted), rng))
    return np.unique(np.concatenate(chosen))


def _shares(sizes: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Divide ``total`` in proportion to the sizes: whole numbers, the largest remainders first."""
    exact = sizes * (total / sizes.sum())
    shares = np.floor(exact).astype(int)
    remainder = exact - shares + rng.uniform(0, 1e-9, len(sizes))  # ties fall at random
    shares[np.argsort(-remainder)[: total - shares.sum()]] += 1
    return shares


def _runs(
    rows: np.ndarray, numbers: np.ndarray, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """``wanted`` of the rows in runs, each at a random place of its own stretch of the video."""
    if not wanted:
        return rows[:0]
    chosen = np.zeros(len(rows), dtype=bool)
    n_runs = max(1, wanted // _IMAGES_IN_A_RUN)
    lengths = [len(part) for part in np.array_split(np.arange(wanted), n_runs)]
    for stretch, length in zip(np.array_split(np.arange(len(rows)), n_runs), lengths, strict=True):
        start = stretch[0] + rng.integers(0, len(stretch) - length + 1)
        chosen[start : start + length] = True
    # images of one frame stay together: where a run touches a frame, it takes all of it
    known = numbers >= 0
    chosen |= known & np.isin(numbers, numbers[chosen & known])
    return rows[chosen]
