"""How far off each peak detector is at each output stride, and what it costs.

    python benchmarks/peaks/run.py --budget 8 -o runs/peaks

README.md beside this file says what is measured and what was seen.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from machine import describe_machine

from dpk_core import Task, TrainingGenerator
from dpk_core.annotations import VISIBLE, AnnotationSet, Source
from dpk_core.services.plugins import registry
from dpk_core.services.storage import atomic_path
from dpk_core.services.synthetic import SyntheticAnimal
from dpk_core.skeleton import Skeleton
from dpk_models.device import jit_compile
from dpk_models.maps import MAP_SCALE

SIGMA = 5.0
"""Of the peaks, in input pixels: the default of a TrainingGenerator."""
SIDE, KEYPOINTS = 192, 32
STRIDES = (1, 2, 4, 8, 16)
HEIGHT = 0.8
"""Of the synthetic peaks: networks seldom reach 1."""
KINDS = {
    "clean": {},
    "gray levels": {"levels": 255, "noise": 1 / 255},
    "noise 2 %": {"noise": 0.02},
    "noise 5 %": {"noise": 0.05},
    "wider by 40 %": {"along": 1.4, "across": 1.4, "noise": 0.01},
    "oblique": {"along": 1.6, "across": 1.0, "noise": 0.01},
    "lopsided": {"skew": 0.2, "noise": 0.01},
}
"""Maps by name: the peak's width along and across a random direction in SIGMA, how much wider it
is ahead than behind, gray levels, and the standard deviation of noise."""
ANIMAL_SIZE = (128, 160)


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    lines = [
        "Peak detectors: error in input pixels, mean / 95th percentile",
        "",
        *describe_machine(),
        "",
        *synthetic_table(options),
        *trained_table(options),
        *speed_table(),
    ]
    text = "\n".join(lines)
    with atomic_path(options.output / "table.txt", overwrite=True) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    say(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--budget", type=float, default=8, help="minutes, nearly all of them for training")
    add("--model", default="StackedDenseNet", help="whose maps to look for peaks in")
    add("--strides", type=int, nargs="*", default=[4, 8, 16], help="to train that model at")
    add("--seed", type=int, default=0)
    add("--reuse", action="store_true", help="take the maps that an earlier run left in the folder")
    add("-o", "--output", type=Path, default=Path("runs/peaks"), help="folder for the results")
    return parser.parse_args()


def detectors(stride: int) -> dict[str, Any]:
    """Every registered detector, for maps of this stride."""
    specs = registry().specs("peak_detectors")
    return {spec.name: spec.load()(sigma=SIGMA / stride) for spec in specs}


def locate(detector: Any, maps: np.ndarray, stride: int) -> np.ndarray:
    """(n, h, w, k) -> (n, k, 2) in input pixels."""
    found = keras.ops.convert_to_numpy(detector(maps.astype("float32")))
    return (found[..., :2] + 0.5) * stride - 0.5


# -- synthetic maps -----------------------------------------------------------------------------


def synthetic_table(options: argparse.Namespace) -> Iterator[str]:
    """One block a kind of map, one line a stride."""
    yield f"Synthetic peaks of sigma {SIGMA:g} anywhere in images of {SIDE}x{SIDE}"
    names = list(detectors(4))
    for kind, settings in KINDS.items():
        yield ""
        yield f"{kind:>15}" + "".join(f"{name:>19}" for name in names)
        whole = np.nan
        for stride in STRIDES:
            rng = np.random.default_rng([options.seed, stride])
            true = rng.uniform(0, SIDE - 1, (512 // KEYPOINTS, KEYPOINTS, 2))
            maps = draw_peaks((true + 0.5) / stride - 0.5, SIDE // stride, SIGMA / stride, rng,
                              **settings)  # fmt: skip
            line = f"{f'stride {stride}':>15}"
            for name, detector in detectors(stride).items():
                found = np.concatenate([locate(detector, part[None], stride) for part in maps])
                error = np.linalg.norm(found - true, axis=-1)
                whole = error.mean() if name == "maxima" and stride == 1 else whole
                line += f"{error.mean():11.3f} /{np.percentile(error, 95):6.2f}"
                if name == "subpixel_maxima" and stride == 8:
                    ratio = error.mean() / whole
            yield line
        yield f"{'':15}stride 8 with subpixel_maxima / stride 1 with maxima: {ratio:.2f}"
    yield ""


def draw_peaks(
    peaks: np.ndarray,
    side: int,
    sigma: float,
    rng: np.random.Generator,
    *,
    along: float = 1.0,
    across: float = 1.0,
    skew: float = 0.0,
    levels: int = 0,
    noise: float = 0.0,
) -> np.ndarray:
    """Peaks (n, k, 2) in map pixels -> (n, side, side, k), one image at a time."""
    angles = rng.uniform(0, 2 * np.pi, peaks.shape[:2])
    y, x = np.mgrid[:side, :side][..., None]
    maps = np.empty((len(peaks), side, side, peaks.shape[1]), np.float32)
    for image, points, angle in zip(maps, peaks, angles, strict=True):
        dx, dy = x - points[:, 0], y - points[:, 1]
        u = dx * np.cos(angle) + dy * np.sin(angle)
        v = dy * np.cos(angle) - dx * np.sin(angle)
        width = along * np.where(u > 0, 1 + skew, 1 - skew)
        image[:] = HEIGHT * np.exp(-((u / width) ** 2 + (v / across) ** 2) / (2 * sigma**2))
        image += noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.rint(maps * levels) / levels, 0, 1) if levels else maps


# -- maps of a trained network ------------------------------------------------------------------


def trained_table(options: argparse.Namespace) -> Iterator[str]:
    """Errors of every detector on the same maps, of one network a stride, on unseen frames."""
    minutes = 0.9 * options.budget / max(len(options.strides), 1)
    height, width = ANIMAL_SIZE
    yield (
        f"Maps of a {options.model} on 250 unseen frames of a synthetic animal, {height}x{width}; "
        f"{minutes:.1f} min of training a stride"
    )
    names = list(detectors(4))
    yield ""
    yield f"{'':15}" + "".join(f"{name:>19}" for name in names) + f"{'width / learned':>20}"
    for stride in options.strides:
        maps, true = trained_maps(options, stride, minutes)
        line = f"{f'stride {stride}':>15}"
        for detector in detectors(stride).values():
            error = np.linalg.norm(locate(detector, maps, stride) - true, axis=-1)
            error = error[np.isfinite(error)]
            line += f"{error.mean():11.3f} /{np.percentile(error, 95):6.2f}"
        yield line + f"{peak_width(maps) / (SIGMA / stride):20.2f}"
    yield ""


def trained_maps(
    options: argparse.Namespace, stride: int, minutes: float
) -> tuple[np.ndarray, np.ndarray]:
    """(n, h, w, k) maps on 0 to 1 and (n, k, 2) keypoints, NaN for those not in sight."""
    path = options.output / f"maps_{options.model}_{stride}.npz"
    if options.reuse and path.is_file():
        with np.load(path) as file:
            return file["maps"].astype(np.float32), file["keypoints"]
    animal = SyntheticAnimal(seed=options.seed, size=ANIMAL_SIZE, n_frames=500, channels=1)
    order = np.random.default_rng(options.seed).permutation(len(animal))
    training, unseen = (labels(animal, rows) for rows in (order[:250], order[250:]))
    generator = TrainingGenerator(
        training, downsample_factor=int(np.log2(stride)), sigma=SIGMA, use_graph=False,
        validation_split=0.0, seed=options.seed,
    )  # fmt: skip
    extra = {"growth_rate": 24} if options.model == "StackedDenseNet" else {}
    model = registry().get("models", options.model).load()(generator, **extra)
    say(f"stride {stride}: {minutes:.1f} min of training of {model!r}")
    model.fit(
        batch_size=4, learning_rate=3e-3, schedule="cosine", epochs=100_000,
        time_limit=60 * minutes, run_dir=options.output / f"run_{options.model}_{stride}",
        overwrite=True,
    )  # fmt: skip
    images = np.stack([unseen[i].image for i in range(len(unseen))])
    outputs = model.network.predict(images, batch_size=25, verbose=0)
    maps = (outputs[-1] if isinstance(outputs, list) else outputs)[..., : len(animal.skeleton)]
    keypoints = np.where((unseen.visibility == VISIBLE)[..., None], unseen.keypoints, np.nan)
    maps = (maps / MAP_SCALE).astype(np.float16)
    np.savez_compressed(path, maps=maps, keypoints=keypoints)
    return maps.astype(np.float32), keypoints


def labels(animal: SyntheticAnimal, rows: np.ndarray) -> AnnotationSet:
    return AnnotationSet(
        np.stack([animal.render(int(i)) for i in rows]), animal.keypoints[rows], animal.skeleton,
        visibility=animal.visibility[rows],
        sources=tuple(Source("animal.mp4", int(i)) for i in rows),
    )  # fmt: skip


def peak_width(maps: np.ndarray) -> float:
    """Median standard deviation of the peaks in map pixels, from the curvature of their log."""
    n, height, width, k = maps.shape
    images = maps.transpose(0, 3, 1, 2).reshape(-1, height, width)
    row, column = np.divmod(images.reshape(n * k, -1).argmax(axis=1), width)
    row, column = np.clip(row, 1, height - 2), np.clip(column, 1, width - 2)
    i = np.arange(n * k)
    top = np.log(np.maximum(images[i, row, column], 1e-3))
    sides = [images[i, row + a, column + b] for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    curvature = 2 * top - sum(np.log(np.maximum(side, 1e-3)) for side in sides) / 2
    good = (top > np.log(0.2)) & (curvature > 0)
    return float(np.median(curvature[good] ** -0.5))


# -- speed --------------------------------------------------------------------------------------


def speed_table() -> Iterator[str]:
    """The time of each detector beside that of the network before it, in one compiled function."""
    skeleton = Skeleton.from_rows([("k0", None, None)] + [
        (f"k{i}", f"k{i - 1}", None) for i in range(1, KEYPOINTS)
    ])  # fmt: skip
    task = Task((SIDE, SIDE, 1), skeleton, use_graph=False)
    network = registry().get("models", "StackedDenseNet").load()(task).network
    yield (
        f"Milliseconds a batch and share of a prediction: StackedDenseNet (growth rate 48, stride "
        f"4), {SIDE}x{SIDE}, {KEYPOINTS} keypoints, {keras.backend.backend()}"
    )
    yield ""
    found = detectors(4)
    yield f"{'':15}{'network':>10}" + "".join(f"{name:>24}" for name in found)
    for batch in (1, 32):
        images = np.random.default_rng(0).integers(0, 256, (batch, SIDE, SIDE, 1), dtype=np.uint8)
        seconds = measure(network, found, images)
        line = f"{f'batch {batch}':>15}{1000 * seconds['network']:10.2f}"
        for name in found:
            more = seconds[name] - seconds["network"]
            line += f"{1000 * more:15.3f} ({100 * more / seconds[name]:4.1f} %)"
        yield line


def measure(network: keras.Model, found: dict[str, Any], images: np.ndarray) -> dict[str, float]:
    """Seconds a batch of the network alone and of network and detector: the median of many,
    taken in turn, so that whatever else the machine does falls on all alike."""
    programs: dict[str, Callable[[], Any]] = {
        name: compiled(network, detector) for name, detector in {"network": None, **found}.items()
    }
    took: dict[str, list[float]] = {name: [] for name in programs}
    rounds = 400 if len(images) == 1 else 20
    for i in range(rounds + 3):
        for name, program in programs.items():
            began = time.perf_counter()
            program(images)
            if i >= 3:
                took[name].append(time.perf_counter() - began)
    return {name: float(np.median(times)) for name, times in took.items()}


def compiled(network: keras.Model, detector: Any) -> Callable[[np.ndarray], Any]:
    """uint8 images to peaks, or to maps where there is no detector, as one program."""

    class Program(keras.Model):
        def call(self, images: Any) -> Any:
            maps = network(images, training=False)[-1]
            return maps[:, 0, 0] if detector is None else detector(maps / MAP_SCALE)

    program = Program()
    program.compile(jit_compile=jit_compile())
    program.make_predict_function()
    if keras.backend.backend() != "tensorflow":
        return program.predict_on_batch
    import tensorflow as tf

    # The compiled function itself, without what `predict` adds to a call.
    traced = tf.function(program.call, autograph=False)
    return lambda images: traced(tf.constant(images)).numpy()


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
