"""The task: everything a model needs to know of the data to build its network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from dpk_core.centroids import Centroids
from dpk_core.checks import check_positive, check_shape
from dpk_core.errors import ValidationError
from dpk_core.skeleton import Skeleton


def _shape(value: Sequence[int]) -> tuple[int, int, int]:
    check_shape("image_shape", (len(value),), (3,))
    height, width, channels = (int(v) for v in value)
    return height, width, channels


@attrs.frozen
class Task:
    """What goes into a network and what comes out.

    Parameters
    ----------
    image_shape
        (height, width, channels) of the images that the network sees, after `scale`.
    skeleton
        The keypoints to find.
    downsample_factor
        Confidence maps are 2**downsample_factor times smaller than the images.
    use_graph
        Also learn the posture graph (Graving et al. 2019). Default: where the skeleton has edges;
        the attribute is True or False.
    sigma
        Standard deviation of a confidence peak in pixels of the images that the network sees.
    scale
        Size of those images relative to the original ones: 0.5 halves both sides.
    centroids
        Given for a detector, which finds a point for each animal instead of keypoints of one: a
        single map shows all animals, and the skeleton has a place for each, in no order. None for
        poses.

    Raises
    ------
    ValidationError
        Also when a graph is asked for and the skeleton has no edges.
    """

    image_shape: tuple[int, int, int] = attrs.field(converter=_shape)
    skeleton: Skeleton
    downsample_factor: int = 2
    use_graph: bool | None = None
    sigma: float = 5.0
    scale: float = 1.0
    centroids: Centroids | None = None

    def __attrs_post_init__(self) -> None:
        if min(self.image_shape) < 1:
            raise ValidationError(f"image_shape: expected positive sides, found {self.image_shape}")
        if not isinstance(self.downsample_factor, int) or not 0 <= self.downsample_factor <= 8:
            raise ValidationError(
                f"downsample_factor: expected an integer from 0 to 8, found "
                f"{self.downsample_factor!r}"
            )
        check_positive("sigma", self.sigma)
        check_positive("scale", self.scale)
        if self.centroids is not None and self.use_graph:
            raise ValidationError(
                "use_graph: a detector of centroids learns no posture graph; leave use_graph "
                "(--graph) out"
            )
        has_edges = bool(self.skeleton.edges)
        if self.use_graph and not has_edges:
            raise ValidationError(
                "use_graph: a posture graph needs a skeleton with edges, and this one has none; "
                "name parents in the skeleton, or leave use_graph (--graph) out"
            )
        if self.use_graph is None:
            object.__setattr__(self, "use_graph", has_edges)

    @property
    def n_keypoints(self) -> int:
        return len(self.skeleton)

    @property
    def output_stride(self) -> int:
        """Input pixels for each pixel of a confidence map."""
        return 2**self.downsample_factor

    @property
    def output_shape(self) -> tuple[int, int]:
        """(height, width) of the confidence maps; a part of a cell at the border counts."""
        height, width, _ = self.image_shape
        return -(-height // self.output_stride), -(-width // self.output_stride)

    @property
    def n_graph_channels(self) -> int:
        return self.skeleton.n_graph_channels if self.use_graph else 0

    @property
    def n_output_channels(self) -> int:
        """Keypoints first, then the posture graph's channels; one for the centroids of all."""
        if self.centroids is not None:
            return 1
        return self.n_keypoints + self.n_graph_channels

    @property
    def finds(self) -> str:
        """What comes out, in words."""
        k = self.n_keypoints
        if self.centroids is not None:
            return f"centroids of up to {k} animal{'' if k == 1 else 's'}"
        return f"{k} keypoint{'' if k == 1 else 's'}"

    def to_config(self) -> dict[str, Any]:
        """Plain values for JSON; `from_config` reads them back."""
        config = attrs.asdict(self, recurse=False)
        if self.centroids is None:
            del config["centroids"]  # which programs that know only poses need not know
        else:
            config["centroids"] = self.centroids.to_config()
        config["image_shape"] = list(self.image_shape)
        config["skeleton"] = [list(row) for row in self.skeleton.to_rows()]
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Task:
        """The inverse of `to_config`; ValidationError names what is missing or unknown."""
        known = {f.name for f in attrs.fields(cls)}
        unknown, missing = set(config) - known, {"image_shape", "skeleton"} - set(config)
        if unknown or missing:
            raise ValidationError(
                f"task: expected the fields {sorted(known)}; unknown {sorted(unknown)}, "
                f"missing {sorted(missing)}"
            )
        skeleton = Skeleton.from_rows([tuple(row) for row in config["skeleton"]])
        if not skeleton.edges:  # files written before it was refused may ask for a graph
            config = {**config, "use_graph": False}
        if config.get("centroids") is not None:
            config = {**config, "centroids": Centroids.from_config(config["centroids"])}
        return cls(**{**config, "skeleton": skeleton})
