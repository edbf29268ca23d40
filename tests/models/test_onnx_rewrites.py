"""Rewritten graphs give what they gave before."""

from __future__ import annotations

import numpy as np
import pytest

from dpk_models.onnx_rewrites import spell_out_selu

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def selu_twice():
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Selu", ["x"], ["a"], name="first"),
        helper.make_node("Selu", ["a"], ["y"], name="second"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "graph", ports[:1], ports[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


def test_selu_has_the_same_values_far_out_too():
    model = selu_twice()
    x = np.concatenate(
        [np.linspace(-12, 12, 4001), [-1e30, -200, -0.0, 0.0, 90, 1e30, np.inf, np.nan]]
    ).astype(np.float32)
    before = run(model, x)
    spell_out_selu(model)
    assert not {"Selu"} & {node.op_type for node in model.graph.node}
    onnx.checker.check_model(model)
    np.testing.assert_allclose(run(model, x), before, rtol=2e-6, atol=2e-6)


def test_a_graph_without_selu_stays_as_it_is():
    model = selu_twice()
    for node in model.graph.node:
        node.op_type = "Relu"
    before = model.SerializeToString()
    spell_out_selu(model)
    assert model.SerializeToString() == before


def test_selu_of_another_slope_stays_as_it_is():
    model = selu_twice()
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("alpha", 2.0))
    spell_out_selu(model)
    assert model.graph.node[0].op_type == "Selu"
