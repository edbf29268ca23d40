"""Training in 16 bits and on several devices; the model that comes out knows nothing of either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from dpk_core.errors import ValidationError
from dpk_models import StackedDenseNet, load_model, precision
from dpk_models.learner import Learner
from dpk_models.options import TrainingOptions
from dpk_models.replicas import choose_devices, fill_up
from dpk_models.stacked_densenet import StackedDenseNet as Network

BACKEND = keras.backend.backend()

# -- 16 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_training_in_16_bits_leaves_a_float32_model(make_model, same_weights, tmp_path, policy):
    models = [make_model(validation_split=0.25) for _ in range(2)]
    for model in models:
        record = model.fit(4, epochs=2, precision=policy)
        assert record.precision == policy
    assert same_weights(*models)
    assert {w.dtype for w in models[0].network.get_weights()} == {np.dtype("float32")}
    assert {layer.compute_dtype for layer in models[0].network.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    plain = make_model(validation_split=0.25).fit(4, epochs=2, precision="float32")
    assert record.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.02)

    models[0].save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = np.array(models[0].generator.dataset.images)
    assert np.array_equal(loaded.predict(images), models[0].predict(images))


def test_what_learns_in_16_bits(make_model):
    model = make_model()
    learner = Learner(model, TrainingOptions(precision="mixed_float16", learning_rate=1e-3))
    assert learner.network is not model.network
    computed = {layer.compute_dtype for layer in learner.network.layers}
    assert "float16" in computed
    assert {str(output.dtype) for output in learner.network.outputs} == {"float32"}
    assert isinstance(learner.optimizer, keras.optimizers.LossScaleOptimizer)
    images, keypoints = model.generator.batches(4)[0]
    before = [np.array(w) for w in learner.network.get_weights()]
    for _ in range(3):
        assert np.isfinite(learner.step(images, keypoints, 1e-3))
    after = learner.network.get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_layers_that_were_frozen_stay_so(make_model):
    model = make_model()
    frozen = next(layer for layer in model.network.layers if layer.weights)
    frozen.trainable = False
    before = [np.array(w) for w in frozen.get_weights()]
    model.fit(4, epochs=2, ema=0.5, learning_rate=0.01)
    for a, b in zip(before, frozen.get_weights(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), "mixed_float16"), ((7, 0), "mixed_float16"), ((6, 1), "float32"), (None, "float32")],
)
def test_auto_takes_16_bits_where_they_pay(monkeypatch, capability, expected):
    monkeypatch.setattr(precision, f"_of_{BACKEND}", lambda: capability)
    assert precision.choose_precision("auto") == expected
    assert precision.choose_precision("float32") == "float32"


def test_a_network_with_outputs_in_16_bits_is_refused(make_model, monkeypatch):
    model = make_model()
    build = Network.build

    def rounded(self, task):
        network = build(self, task)
        cast = keras.layers.Activation("linear", dtype=keras.config.dtype_policy())
        return keras.Model(network.inputs, [cast(output) for output in network.outputs])

    monkeypatch.setattr(StackedDenseNet, "build", rounded)
    with pytest.raises(ValidationError, match=r"outputs are float32.*--precision float32"):
        model.fit(4, epochs=1, precision="mixed_float16")


# -- the average of weights ----------------------------------------------------------------------


def test_the_average_of_weights_is_what_is_kept(make_model):
    """Against the definition, computed here step by step."""
    latest, momentum = [], 0.6

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            variables = self.model.network.trainable_variables
            latest.append([np.array(keras.ops.convert_to_numpy(v)) for v in variables])

    model = make_model(validation_split=0)
    model.fit(4, epochs=12, ema=momentum, learning_rate=0.01, callbacks=[Note()])
    averages = latest[0]
    for weights in latest[1 : 3 * model.record.best_epoch]:
        pairs = zip(averages, weights, strict=True)
        averages = [momentum * a + (1 - momentum) * w for a, w in pairs]
    assert len(latest) == 36
    assert model.record.best_epoch > 1
    for kept, expected in zip(model.network.trainable_variables, averages, strict=True):
        found = keras.ops.convert_to_numpy(kept)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_average_of_a_short_training_is_its_end(make_model, same_weights):
    """It reaches back over a tenth at most: of six steps, over the last."""
    models = [make_model(validation_split=0) for _ in range(2)]
    models[0].fit(4, epochs=2, ema=0.99)
    models[1].fit(4, epochs=2, ema=0.0)
    assert same_weights(*models)


# -- several devices -----------------------------------------------------------------------------

TWO_CPUS = """
    import json
    import keras
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    import numpy as np
    from dpk_core import TrainingGenerator
    from dpk_core.testing import dot_annotations
    from dpk_models import StackedDenseNet

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"])

    found = []
    for batch_size in (4, 5):
        for n in (1, 2):
            losses = []
            generator = TrainingGenerator(
                dot_annotations(12, size=(32, 32)), augmenter=None, seed=3, sigma=3.0,
                validation_split=0.2,
            )
            model = StackedDenseNet(generator, growth_rate=4)
            record = model.fit(batch_size, epochs=1, devices=n, callbacks=[Note()])
            found.append({
                "devices": record.devices, "images": len(generator.split.train), "losses": losses,
                "validation": record.history[-1]["val_loss"],
            })
    print(json.dumps(found))
"""


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch under Keras trains on one device")
def test_two_devices_learn_what_one_learns():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_CPUS)],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert [run["devices"] for run in found] == [1, 2, 1, 2]
    assert found[0]["images"] == 10
    even, odd = found[:2], found[2:]
    assert even[1]["losses"] == pytest.approx(even[0]["losses"], rel=1e-4)
    assert even[1]["validation"] == pytest.approx(even[0]["validation"], rel=1e-3)
    # A batch of five is filled up with an image that weighs nothing but is part of the batch
    # normalization: almost the same.
    assert odd[1]["losses"] == pytest.approx(odd[0]["losses"], rel=1e-2)


def test_batches_are_filled_up_with_images_that_weigh_nothing(make_model):
    model = make_model()
    images, keypoints = model.generator.batches(5)[0]
    filled, labels = fill_up(images, keypoints, 4)
    assert len(filled) == len(labels) == 8
    assert np.array_equal(filled[5:], images[:3])
    assert np.isnan(labels[5:]).all()
    assert fill_up(images, keypoints, 5)[0] is images
    trainer = Learner(model, TrainingOptions(learning_rate=1e-3)).trainer
    expected, loss = (
        float(trainer.compute_loss(y=y, y_pred=model.network(x, training=False)))
        for x, y in ((images, keypoints), (filled, labels))
    )
    assert loss == pytest.approx(expected, rel=1e-5)


def test_devices_that_are_not_there(make_model):
    assert choose_devices("auto", batch_size=4).n == 1
    with pytest.raises(ValidationError, match="devices: expected"):
        choose_devices(64, batch_size=128)
    with pytest.raises(ValidationError, match='devices: expected a whole number above 0 or "auto"'):
        TrainingOptions(devices="all")
