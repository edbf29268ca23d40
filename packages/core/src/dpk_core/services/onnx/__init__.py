"""Models as ONNX files: uint8 images in, coordinates out, without the framework that made them."""

from dpk_core.services.onnx.model import OnnxModel, open_with_onnxruntime, open_with_openvino

__all__ = ["OnnxModel", "open_with_onnxruntime", "open_with_openvino"]
