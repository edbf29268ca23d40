"""What is trained: the arms of each experiment, and how much of them the budget allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from experiments.data import Animal

from dpk_core.services.plugins import registry
from dpk_core.services.storage import atomic_path

BATCH = 5
"""Images a step. The numbers of training images are multiples of it, so that no batch is left
with one or two images, which batch normalization bears badly."""
SIZES = (5, 10, 25, 50, 100, 200, 400)
NO_GRAPH = "no graph"
"""In the names of arms that learn keypoints alone."""
START_SECONDS = 20.0
"""Of each training for making and compiling the network."""
STEADY = 0.8
"""Part of the measured speed that is counted on."""


@attrs.frozen
class Arm:
    """One variant of an experiment.

    Parameters
    ----------
    name
        In tables and figures.
    model
        Registered name.
    small, paper
        Hyperparameters for machines without a GPU, and as large as in the paper.
    stride
        ``downsample_factor``.
    use_graph
        Whether the posture graph is learned too.
    cost
        Time of a training step relative to StackedDenseNet's, roughly.
    """

    name: str
    model: str
    small: dict[str, Any] = attrs.field(factory=dict)
    paper: dict[str, Any] = attrs.field(factory=dict)
    stride: int = 2
    use_graph: bool = True
    cost: float = 1.0

    def hyperparameters(self, width: str) -> dict[str, Any]:
        return self.paper if width == "paper" else self.small


DENSENET = Arm(
    "StackedDenseNet", "StackedDenseNet", {"growth_rate": 16}, {"growth_rate": 48, "n_stacks": 2}
)
KNOWN = (
    DENSENET,
    Arm("StackedHourglass", "StackedHourglass", {"filters": 32}, {"filters": 256, "n_stacks": 2},
        cost=1.7),
    Arm("LEAP", "LEAP", {"filters": 16}, {"filters": 64}, stride=0, cost=1.4),
    Arm(
        "DeepLabCut", "DeepLabCut", {"backbone": "mobilenetv2", "alpha": 0.5},
        {"backbone": "resnet50"}, cost=2.0,
    ),
)  # fmt: skip


def arms(experiment: str, *, use_graph: bool = True) -> list[Arm]:
    """Of "graph": with and without it; of "models": every registered model, with it or without."""
    if experiment == "graph":
        return [DENSENET, without_graph(DENSENET)]
    names = [spec.name for spec in registry().specs("models")]
    models = [arm for arm in KNOWN if arm.model in names]
    models += [Arm(name, name) for name in names if name not in {arm.model for arm in KNOWN}]
    return models if use_graph else [without_graph(arm) for arm in models]


def without_graph(arm: Arm) -> Arm:
    return attrs.evolve(arm, name=f"{arm.name}, {NO_GRAPH}", use_graph=False)


@attrs.frozen
class Run:
    """One training."""

    animal: str
    arm: Arm
    repeat: int
    n_train: int
    settings: str = ""

    @property
    def key(self) -> str:
        """Tells this training from all others, whichever experiment wants it."""
        parts = (self.animal, self.arm.name, f"repeat {self.repeat}", f"{self.n_train} images")
        return " | ".join((*parts, self.settings))


@attrs.frozen
class Plan:
    """How much is done; kept in the folder of results, so that a later start goes on with it.

    Parameters
    ----------
    repeats
        Each with another unseen block, other training images and other initial weights.
    images
        That each training sees, counting repetitions: equally many for all.
    sizes
        Numbers of training images that the models are compared at, besides all of them.
    size_repeats
        Repeats at those smaller numbers.
    scales
        Of the images of each animal.
    width
        "small" or "paper".
    learning_rate
        One for all; None for the one that each model names.
    use_graph
        Whether the models that are compared learn the posture graph as well.
    """

    repeats: int
    images: int
    sizes: tuple[int, ...] = attrs.field(converter=tuple)
    size_repeats: int
    scales: dict[str, float]
    width: str = "small"
    learning_rate: float | None = None
    use_graph: bool = True

    def runs(self, experiment: str, animals: dict[str, Animal]) -> Iterator[Run]:
        """Repeat by repeat, arm after arm, so that an early end leaves whole comparisons."""
        for repeat in range(self.repeats):
            for name, animal in animals.items():
                most = animal.most_images(self.repeats)
                sizes = [most]
                if experiment == "models" and repeat < self.size_repeats:
                    sizes += [n for n in self.sizes if n < most]
                for n in sizes:
                    for arm in arms(experiment, use_graph=self.use_graph):
                        yield Run(name, arm, repeat, n, self._settings(name))

    def _settings(self, animal: str) -> str:
        rate = "" if self.learning_rate is None else f", rate {self.learning_rate:g}"
        return f"{self.images} seen, scale {self.scales[animal]:g}, {self.width}{rate}"

    def seconds(
        self, experiment: str, animals: dict[str, Animal], speeds: dict[str, float]
    ) -> float:
        """What all runs will take about; speeds are images a second at each animal's best scale."""
        total = 0.0
        for run in self.runs(experiment, animals):
            shrunk = (self.scales[run.animal] / animals[run.animal].scales[0]) ** 2
            pace = STEADY * speeds[run.animal] / (shrunk * run.arm.cost)
            total += START_SECONDS + self.images / pace
        return total

    def save(self, path: Path) -> None:
        with atomic_path(path, overwrite=True) as temporary:
            Path(temporary).write_text(json.dumps(attrs.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


LEVELS = (  # repeats, images, sizes, repeats of the sizes, whether at full scale
    (10, 100_000, SIZES, 5, True),
    (5, 60_000, SIZES, 5, True),
    (5, 40_000, SIZES, 3, True),
    (5, 20_000, (5, 10, 25, 50, 100), 3, True),
    (3, 20_000, (10, 25, 50, 100), 3, False),
    (3, 10_000, (10, 25, 100), 2, False),
    (3, 6_000, (10, 50), 1, False),
    (2, 4_000, (10, 50), 1, False),
    (2, 3_000, (25,), 1, False),
    (2, 2_000, (), 0, False),
    (1, 1_000, (), 0, False),
)
"""From what one would like to what is better than nothing."""


def affordable(
    experiment: str,
    animals: dict[str, Animal],
    speeds: dict[str, float],
    seconds: float,
    width: str,
) -> Plan:
    """The most ambitious level that fits, or the least one."""
    plan = None
    for repeats, images, sizes, size_repeats, full in LEVELS:
        scales = {name: a.scales[0 if full else -1] for name, a in animals.items()}
        plan = Plan(repeats, images, sizes, size_repeats, scales, width)
        if plan.seconds(experiment, animals, speeds) <= seconds:
            break
    assert plan is not None
    return plan
