"""Frames a second of dpk and of DeepPoseKit 0.3.9, side by side on one machine, peaks included.

python benchmarks/speed/run.py --competitors original --output benchmarks/speed/results/NAME.txt

All contenders are alive at the same time, each in a process of its own, and take turns: whatever
else the machine does hits all alike. The first run makes an environment for the original (a few
minutes and 2 GB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from machine import describe_machine, matmul_gflops  # noqa: E402

ORIGINAL = ("tensorflow==2.20.*", "tf-keras==2.20.*", "h5py", "opencv-python-headless")
ORIGINAL_MORE = ("scikit-learn", "pandas", "pyyaml", "scikit-image", "imageio", "matplotlib")
ORIGINAL_ALONE = ("deepposekit==0.3.9", "imgaug==0.4.0")
"""Installed without what they ask for, which no longer exists for today's Python."""

MODELS = {
    "StackedDenseNet": (2, {}),
    "StackedHourglass": (2, {"filters": 64, "n_stacks": 2}),
    "LEAP": (0, {"peak_detector": "maxima"}),
    "DeepLabCut": (2, {"backbone": "resnet50"}),
}
"""Output stride (as a power of two) and settings, the same as the original's in its worker."""


ENGINES = [
    ("keras", "float32"),
    ("onnxruntime", "float32"),
    ("onnxruntime", "int8"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
]

EXACT = [engine for engine, precision in ENGINES if precision == "float32"]


class Contender:
    """A process that measures itself when told to."""

    def __init__(self, label: str, command: list[str]) -> None:
        self.label = label
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        self.rates: dict[int, list[float]] = {}
        self.error = "" if self._answer() is not None else "did not start"

    def measure(self, batch_size: int, seconds: float) -> None:
        if self.error:
            return
        try:
            self.process.stdin.write(json.dumps({"batch_size": batch_size, "seconds": seconds}))
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.error = f"ended at batch {batch_size}"
            return
        answer = self._answer()
        if answer is None:
            self.error = f"ended at batch {batch_size}"
        else:
            self.rates.setdefault(batch_size, []).append(answer["frames_per_second"])

    def median(self, batch_size: int) -> float:
        return float(np.median(self.rates.get(batch_size, [np.nan])))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)

    def _answer(self) -> dict | None:
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        return None


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        lines = run(options, Path(folder))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--competitors", default="", help="original, or nothing")
    parser.add_argument("--models", default=",".join(MODELS), help="some of them, with commas")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32, 100])
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each number")
    parser.add_argument("--rounds", type=int, default=3, help="how often all take turns")
    parser.add_argument("--environments", type=Path, help="where the original's is made")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    names = options.models.split(",")
    lines = [
        "Frames a second, 192x192x1, 32 keypoints, peaks included (median of "
        f"{options.rounds} rounds of {options.seconds:g} s)",
        *describe_machine(),
    ]
    rates: dict[str, Contender] = {}
    matmul: list[float] = []
    for name in names:  # one model after the other: memory
        contenders = start(name, folder, options)
        for _ in range(options.rounds):
            matmul.append(matmul_gflops())
            for batch_size in options.batch_sizes:
                for contender in contenders:
                    contender.measure(batch_size, options.seconds)
        for contender in contenders:
            contender.close()
            rates[contender.label] = contender
            print(row(contender, options.batch_sizes), file=sys.stderr, flush=True)
    lines.append(f"load average at the end: {os.getloadavg()[0]:.1f} (idle, it is about 2)")
    lines.append("")
    lines.append(" " * 52 + "".join(f"{f'batch {b}':>11}" for b in options.batch_sizes))
    lines += [row(contender, options.batch_sizes) for contender in rates.values()]
    lines += ["", *ratios(rates, options.batch_sizes, folder, float(np.median(matmul)))]
    return lines


def start(name: str, folder: Path, options: argparse.Namespace) -> list[Contender]:
    downsample_factor, settings = MODELS[name]
    path = folder / f"{name}.keras"
    ours = [sys.executable, str(HERE / "ours_worker.py")]
    saving = [*ours, "save", name, str(downsample_factor), json.dumps(settings), str(path)]
    subprocess.run(saving, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    contenders = []
    if "original" in options.competitors:
        python = original_python(options.environments)
        command = [str(python), str(HERE / "original_worker.py"), name]
        contenders.append(Contender(f"DeepPoseKit 0.3.9 {name}", command))
    if name == "StackedDenseNet":
        contenders.append(Contender(f"dpk {name}, network alone", [*ours, "alone", str(path)]))
    for engine, precision in ENGINES:
        command = [*ours, "predict", str(path), engine, precision]
        contenders.append(Contender(f"dpk {name}, {engine} {precision}", command))
    return contenders


def original_python(environments: Path | None) -> Path:
    """The Python of the original's environment, which is made when it is not there."""
    root = environments or Path.home() / ".cache" / "dpk-benchmarks"
    folder = root / "deepposekit-0.3.9"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *ORIGINAL, *ORIGINAL_MORE], check=True)
        subprocess.run([*pip, "--no-deps", *ORIGINAL_ALONE], check=True)
        (folder / "complete").touch()
    return python


def row(contender: Contender, batch_sizes: list[int]) -> str:
    numbers = "".join(f"{contender.median(b):11.1f}" for b in batch_sizes)
    return f"{contender.label:<52}{numbers}  {contender.error}".rstrip()


def ratios(
    rates: dict[str, Contender], batch_sizes: list[int], folder: Path, matmul: float
) -> list[str]:
    """What the numbers say, each ratio from this one run."""
    lines = []
    ours = {engine: rates.get(f"dpk StackedDenseNet, {engine} float32") for engine in EXACT}
    others = {
        "network alone": rates.get("dpk StackedDenseNet, network alone"),
        "DeepPoseKit 0.3.9": rates.get("DeepPoseKit 0.3.9 StackedDenseNet"),
        "original LEAP": rates.get("DeepPoseKit 0.3.9 LEAP"),
        "original DeepLabCut": rates.get("DeepPoseKit 0.3.9 DeepLabCut"),
    }
    pairs = [
        (f"{engine} / {other}", above, below)
        for engine, above in ours.items()
        for other, below in others.items()
    ]
    for label, above, below in pairs:
        if above is not None and below is not None:
            numbers = "".join(f"{above.median(b) / below.median(b):11.2f}" for b in batch_sizes)
            lines.append(f"{'StackedDenseNet, ' + label:<52}{numbers}")
    from dpk_core.services.engines import exported_file
    from dpk_core.services.onnx.operations import count_operations

    path = folder / "StackedDenseNet.keras"
    exported = exported_file(path) if path.exists() else None
    if exported is not None:
        bound = 1e9 * matmul / count_operations(exported)
        for engine, contender in ours.items():
            shares = "".join(f"{contender.median(b) / bound:11.2f}" for b in batch_sizes)
            lines.append(f"{f'StackedDenseNet, {engine} / float32 bound':<52}{shares}")
        lines.append(
            f"The bound: {bound:.0f} frames/s, as the machine multiplies matrices at "
            f"{matmul:.0f} GFLOP/s and the network needs {matmul / bound:.2f} GFLOP a frame"
        )
    return lines


if __name__ == "__main__":
    main()
