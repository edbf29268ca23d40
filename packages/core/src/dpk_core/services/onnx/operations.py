"""How much a network computes: the floating-point operations of an ONNX graph."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def count_operations(path: Path) -> int:
    """Floating-point operations for one image: two for every multiplication with an addition.

    Convolutions and matrix products are counted; what else there is (activations, concatenation)
    is a small part of any network, and bounded by memory rather than arithmetic.
    """
    import onnx

    model = onnx.load(path)
    for port in model.graph.input:
        port.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {info.name: _shape(info) for info in (*graph.value_info, *graph.output, *graph.input)}
    shapes |= {weights.name: list(weights.dims) for weights in graph.initializer}
    return sum(_operations(node, shapes) for node in graph.node)


def _operations(node: Any, shapes: dict[str, list[int]]) -> int:
    inputs = [shapes.get(name, []) for name in node.input]
    output = shapes.get(node.output[0], [])
    if not output or min(output) < 1:
        return 0  # a shape that depends on the input's values
    if node.op_type == "Conv":  # weights are (out, in / groups, height, width)
        return 2 * math.prod(output) * math.prod(inputs[1][1:])
    if node.op_type == "ConvTranspose":  # weights are (in, out / groups, height, width)
        return 2 * math.prod(inputs[0]) * math.prod(inputs[1][1:])
    if node.op_type in ("MatMul", "Gemm") and inputs[0]:
        return 2 * math.prod(output) * inputs[0][-1]
    return 0


def _shape(info: Any) -> list[int]:
    return [dim.dim_value for dim in info.type.tensor_type.shape.dim]
