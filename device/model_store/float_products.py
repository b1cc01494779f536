"""Multiplies the same integers in float32, for a processor whose eight-bit kernels cannot be trusted.

Sums of products of eight bits stay below 2^26, so float32 gives them to one part in ten million.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper


def in_float(network: bytes) -> bytes:
    """An ONNX file whose integer products are float ones; what runs between them is not touched. Products
    of dequantised tensors (QDQ) are float by themselves, once a runtime is told not to fuse them. Raises
    onnx's or protobuf's own errors for what is no ONNX file."""
    model = onnx.load_from_string(network)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "MatMulInteger":
            nodes.append(node)
            continue
        wide = []
        for at, given in enumerate(node.input[:2]):
            name = f"{node.output[0]}.wide{at}"
            nodes.append(helper.make_node("Cast", [given], [name], to=TensorProto.FLOAT))
            if len(node.input) > 2 + at and node.input[2 + at]:
                zero, centred = f"{name}.zero", f"{name}.centred"
                nodes.append(helper.make_node("Cast", [node.input[2 + at]], [zero], to=TensorProto.FLOAT))
                nodes.append(helper.make_node("Sub", [name, zero], [centred]))
                name = centred
            wide.append(name)
        nodes.append(helper.make_node("MatMul", wide, [node.output[0]]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    made: bytes = model.SerializeToString()
    return made
