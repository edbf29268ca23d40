"""What dpk-core itself brings, announced like everybody else's."""

from __future__ import annotations

from dpk_core.hookspecs import hookimpl
from dpk_core.specs import AugmenterSpec, EngineSpec, FormatSpec


@hookimpl
def dpk_augmenters() -> list[AugmenterSpec]:
    return [
        AugmenterSpec(
            "default",
            "flips, rotation, scale, shift, noise, dropout, blur, contrast (Graving et al. 2019)",
            "dpk_core.services.augment:default_augmenter",
        ),
        AugmenterSpec(
            "strong",
            "the same with larger amounts, for images that differ more than the labelled ones",
            "dpk_core.services.augment:strong_augmenter",
        ),
    ]


@hookimpl
def dpk_engines() -> list[EngineSpec]:
    return [
        EngineSpec(
            "onnxruntime",
            "exported models, on CPU or GPU, without the framework that trained them",
            "dpk_core.services.onnx:open_with_onnxruntime",
            (".onnx",),
            precisions=("float32", "int8"),
            requires=("onnxruntime",),
            install="python -m pip install 'dpk-core[onnx]'",
            priority="dpk_core.services.onnx.sessions:onnxruntime_priority",
        ),
        EngineSpec(
            "openvino",
            "exported models on CPUs, with bfloat16 where the CPU has it",
            "dpk_core.services.onnx:open_with_openvino",
            (".onnx",),
            precisions=("float32", "bfloat16", "int8"),
            requires=("openvino", "onnx"),
            install="python -m pip install 'dpk-core[openvino]'",
            priority="dpk_core.services.onnx.sessions:openvino_priority",
        ),
    ]


@hookimpl
def dpk_formats() -> list[FormatSpec]:
    kinds = ("annotations", "poses", "tracks")
    return [
        FormatSpec(
            "dpk",
            "labels, poses and tracks of dpk (HDF5)",
            "dpk_core.services.storage.dpk_format:DpkFormat",
            reads=kinds,
            writes=kinds,
            suffixes=(".h5", ".hdf5"),
        )
    ]
