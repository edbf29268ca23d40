"""What dpk-models brings."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import EngineSpec, ModelSpec, PeakDetectorSpec


@hookimpl
def dpk_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            "StackedDenseNet",
            "stacked fully convolutional DenseNets; fast and accurate (Graving et al. 2019)",
            "dpk_models.stacked_densenet:StackedDenseNet",
        ),
        ModelSpec(
            "StackedHourglass",
            "stacked residual encoder-decoders (Newell et al. 2016)",
            "dpk_models.stacked_hourglass:StackedHourglass",
        ),
        ModelSpec(
            "LEAP",
            "small encoder-decoder with maps as large as the images (Pereira et al. 2019)",
            "dpk_models.leap:LEAP",
        ),
        ModelSpec(
            "DeepLabCut",
            "image classifier as encoder, pretrained or not (Mathis et al. 2018)",
            "dpk_models.deeplabcut:DeepLabCut",
        ),
    ]


@hookimpl
def dpk_peak_detectors() -> list[PeakDetectorSpec]:
    return [
        PeakDetectorSpec("maxima", "brightest pixel of each map", "dpk_models.peaks:Maxima2D"),
        PeakDetectorSpec(
            "subpixel_maxima",
            "best fit of a Gaussian, finer than a pixel (Graving et al. 2019)",
            "dpk_models.peaks:SubpixelMaxima2D",
        ),
        PeakDetectorSpec(
            "dark",
            "top of the map's logarithm, for peaks of any width (Zhang et al. 2020)",
            "dpk_models.peaks:Dark2D",
        ),
    ]


@hookimpl
def dpk_engines() -> list[EngineSpec]:
    return [
        EngineSpec(
            "keras",
            "models trained with dpk-models, on Keras' backend",
            "dpk_models.saving:load_model",
            (".keras",),
            exports=(".onnx",),
            export_requires=("onnx", "tf2onnx"),
            install="python -m pip install 'dpk-models[onnx]'",
            priority="dpk_core.services.devices:framework_priority",
        )
    ]
