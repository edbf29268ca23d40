"""The experiments end to end on a few synthetic images, and their parts that can be wrong."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

pytest.importorskip("dpk_models")
pytest.importorskip("matplotlib")
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("experiments.run")


@pytest.fixture
def part(experiments: ModuleType):
    return lambda name: importlib.import_module(f"experiments.{name}")


def test_interrupted_experiment_goes_on_and_reports(experiments, part, tmp_path, monkeypatch):
    data, plan = part("data"), part("plan")
    small = data.animal(24)
    monkeypatch.setitem(experiments.ANIMALS, "animal", lambda: small)
    monkeypatch.setattr(part("training"), "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(experiments, "training_speed", lambda *args: 100.0)
    tiny = plan.attrs.evolve(plan.DENSENET, small={"growth_rate": 4, "n_transitions": 3})
    other = plan.attrs.evolve(tiny, name="no graph", use_graph=False)
    monkeypatch.setattr(plan, "arms", lambda *args, **options: [tiny, other])
    arguments = ["graph", "--data", "animal", "--repeats", "1", "--images", "20"]
    arguments += ["--scale", "0.25", "--width", "small", "-o", str(tmp_path)]

    experiments.main([*arguments, "--at-most", "1"])
    runs = tmp_path / "runs.jsonl"
    first = runs.read_bytes()
    assert first.count(b"\n") == 1
    runs.write_bytes(first + b'{"key": "cut sho')
    experiments.main(arguments)

    lines = runs.read_text().splitlines()
    assert runs.read_bytes().startswith(first)
    results = [json.loads(line) for line in lines]
    assert [r["arm"] for r in results] == ["StackedDenseNet", "no graph"]
    _, unseen = small.split(0)
    labelled = np.isfinite(small.images.keypoints[unseen]).all(axis=2).sum()
    assert all(len(r["errors"]) + r["missed"] == labelled for r in results)
    assert len({r["images"] for r in results}) == 1
    table = (tmp_path / "graph.txt").read_text()
    assert "no graph" in table
    assert f"{np.mean(results[0]['errors']):.2f}" in table
    assert (tmp_path / "graph-animal-errors.png").read_bytes().startswith(b"\x89PNG")


def test_interrupted_training_is_not_kept(experiments, part, tmp_path, monkeypatch):
    small = part("data").animal(24)
    monkeypatch.setitem(experiments.ANIMALS, "animal", lambda: small)
    monkeypatch.setattr(experiments, "training_speed", lambda *args: 100.0)
    stopped = {"stopped": "interrupted", "errors": [1.0], "seconds": 1.0}
    monkeypatch.setattr(experiments, "measure", lambda run, *args: {"key": run.key, **stopped})
    with pytest.raises(SystemExit, match="not kept"):
        experiments.main(["graph", "--data", "animal", "--width", "small", "-o", str(tmp_path)])
    assert not (tmp_path / "runs.jsonl").exists()


def test_unseen_is_a_block_of_time_with_a_gap(part):
    animal = part("data").animal(60)
    frames = animal.images.frames
    for repeat in range(4):
        split, unseen = animal.split(repeat)
        block, train = frames[unseen], frames[split.train]
        assert block.size == 15
        assert not split.validation.size
        assert np.array_equal(block, frames[(frames >= block.min()) & (frames <= block.max())])
        distance = np.abs(train[:, None] - block).min()
        assert distance > animal.gap
    assert animal.split(0)[1].max() == 59
    few, more = animal.split(0, 5)[0].train, animal.split(0, 10)[0].train
    assert set(few) < set(more)


def test_budget_decides_how_much(part):
    data, plan = part("data"), part("plan")
    animals, speeds = {"animal": data.animal(60)}, {"animal": 100.0}
    plans = [plan.affordable("models", animals, speeds, 60.0 * m, "small") for m in (1, 60, 1e6)]
    counts = [len(list(p.runs("models", animals))) for p in plans]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert plans[0].scales == {"animal": 0.5}
    assert plans[-1].scales == {"animal": 1.0}
    assert plans[1].seconds("models", animals, speeds) <= 3600
    keys = [run.key for run in plans[-1].runs("models", animals)]
    assert len(set(keys)) == len(keys)
    graph = {run.key for run in plans[-1].runs("graph", animals)}
    bare = plan.attrs.evolve(plans[-1], use_graph=False)
    assert graph & set(keys), "what both experiments need is trained once"
    assert graph & {run.key for run in bare.runs("models", animals)}


def test_letter_values(part):
    letters = part("report").letter_values(np.arange(1601.0))
    assert letters["M"] == (800, 800)
    assert letters["F"] == (400, 1200)
    assert letters["D"] == (100, 1500)
    assert 1601 / 2 ** (len(letters) + 1) < 20


@pytest.mark.parametrize(("version", "shift"), [(1.4, 0.0), (1.0, -0.5)])
def test_sleap_labels(part, tmp_path, version, shift):
    path = tmp_path / "labels.slp"
    nodes = [{"name": n} for n in ("thorax", "wingL", "wingR")]
    links = [{"source": 0, "target": 1}, {"source": 0, "target": 2}]
    skeleton = {"nodes": [{"id": i} for i in range(3)], "links": links}
    with h5py.File(path, "w") as file:
        group = file.create_group("metadata")
        group.attrs["format_id"] = version
        group.attrs["json"] = json.dumps({"nodes": nodes, "skeletons": [skeleton]})
        file["tracks_json"] = [b'[0,"male"]']
        points = [(1.0, 2.0), (np.nan, np.nan), (5.0, 6.0)]
        file["points"] = np.array(points * 2, dtype=[("x", "f8"), ("y", "f8")])
        file["frames"] = np.array([(0, 7)], dtype=[("frame_id", "u8"), ("frame_idx", "u8")])
        fields = ("instance_type", "frame_id", "track", "point_id_start", "point_id_end")
        file["instances"] = np.array(
            [(0, 0, 0, 0, 3), (1, 0, 0, 3, 6)], dtype=[(name, "i8") for name in fields]
        )
    keypoints, frames, tracks, found, names = part("data").read_sleap(path)
    assert keypoints.shape == (1, 3, 2)
    assert frames.tolist() == [7]
    np.testing.assert_array_equal(keypoints[0, 0], [1 + shift, 2 + shift])
    assert np.isnan(keypoints[0, 1]).all()
    assert found.parent == (-1, 0, 0)
    assert found.swap == (-1, 2, 1)
    assert names == ["male"]
    assert tracks.tolist() == [0]


def test_crop_is_black_outside(part):
    data = part("data")
    picture = np.full((200, 300), 9, np.uint8)
    square = data.cut(picture, -10, 100)
    assert (square[:100, 10:] == 9).all()
    assert not square[:, :10].any()
    assert not square[100:].any()
