"""A synthetic animal with known keypoints, for the demo, the tests and the benchmarks."""

from __future__ import annotations

from dpk_core.services.synthetic.renderer import SyntheticAnimal, write_video

__all__ = ["SyntheticAnimal", "write_video"]
