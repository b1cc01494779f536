"""Whisper as two ONNX graphs: one hears an utterance once, one weighs any number of sentences against it.

The encoder ends in the keys and values that every decoder layer attends to, so that they are computed once
for all sentences. The decoder is fed whole sentences (teacher forcing) or some tokens on top of what it has
said; only at the places asked for does it look at its vocabulary, by far its largest matrix.

Names of the weights are CTranslate2's. Sizes are read from their shapes. Dimensions: l layers, h heads, d
width of a head, t audio frames of 20 ms, b sentences, n tokens each, p tokens already said, m places.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from quantize.graphs.builder import GraphBuilder, Weights
from quantize.graphs.products import Products

MEL_BINS = 80
FAVOURITES = 2
EMBEDDING = "embedding"
"""The decoder's vocabulary matrix: looked up at one end, multiplied with at the other."""


def encoder(weights: Weights, products: Products) -> onnx.ModelProto:
    """`mel` (1, 80, 2t) -> `keys` (l, h, d, t) and `values` (l, h, t, d) of the decoder's layers."""
    g = GraphBuilder("whisper-encoder")
    w = _Weights(g, weights, products)
    x = g.input("mel", (1, MEL_BINS, "frames"))
    for name, stride in (("conv1", 1), ("conv2", 2)):
        kernel, bias = (w.const(f"encoder/{name}/{part}") for part in ("weight", "bias"))
        x = w.gelu(g.add("Conv", x, kernel, bias, kernel_shape=[3], pads=[1, 1], strides=[stride]))
    x = g.add("Transpose", x, perm=[0, 2, 1])
    x = g.add("Reshape", x, g.ints(-1, w.width))
    length = g.add("Slice", g.add("Shape", x), g.ints(0), g.ints(1))
    places = g.add("Slice", w.const("encoder/position_encodings/encodings"), g.ints(0), length, g.ints(0))
    x = g.add("Add", x, places)
    for layer in range(w.layers("encoder")):
        prefix = f"encoder/layer_{layer}"
        q, k, v = w.heads(w.norm(x, f"{prefix}/self_attention"), f"{prefix}/self_attention/linear_0", 3)
        scores = g.add("MatMul", w.scaled(q), g.add("Transpose", k, perm=[0, 2, 1]))
        mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
        x = g.add("Add", x, w.linear(w.merged(mixed), f"{prefix}/self_attention/linear_1"))
        x = w.feed_forward(x, prefix)
    x = w.norm(x, "encoder")
    keys, values = [], []
    for layer in range(w.layers("decoder")):
        k, v = w.heads(x, f"decoder/layer_{layer}/attention/linear_1", 2)
        keys.append(g.add("Unsqueeze", g.add("Transpose", k, perm=[0, 2, 1]), g.ints(0)))
        values.append(g.add("Unsqueeze", v, g.ints(0)))
    shape = (len(keys), w.head_count)
    g.output(g.add("Concat", *keys, axis=0), "keys", (*shape, w.head_width, "t"))
    g.output(g.add("Concat", *values, axis=0), "values", (*shape, "t", w.head_width))
    return g.model()


def decoder(weights: Weights, vocabulary: Sequence[int], products: Products) -> onnx.ModelProto:
    """Tokens in, natural-log probabilities out. `vocabulary`: upstream numbers of our tokens, in our order.

    Inputs: `tokens` (b, n) int64; `mask` (n, p + n) added to attention scores; `keys` and `values` of the
    encoder; `said_keys` and `said_values` (l, b, h, p, d); `places` (m,) int64 into the flattened (b, n);
    `choices` (m, c) int64 tokens. Outputs: `chosen` (m, c) the log-probabilities of the choices after each
    place's token, `favourite` (m, FAVOURITES) those of the likeliest tokens, `favourites` these tokens, and
    `new_keys` and `new_values` (l, b, h, n, d).
    """
    g = GraphBuilder("whisper-decoder")
    w = _Weights(g, weights, products)
    layers = w.layers("decoder")
    past = (layers, "b", w.head_count, "p", w.head_width)
    tokens = g.input("tokens", ("b", "n"), onnx.TensorProto.INT64)
    mask = g.input("mask", ("n", "p+n"))
    keys = g.input("keys", (layers, w.head_count, w.head_width, "t"))
    values = g.input("values", (layers, w.head_count, "t", w.head_width))
    said_keys, said_values = (g.input(name, past) for name in ("said_keys", "said_values"))
    places = g.input("places", ("m",), onnx.TensorProto.INT64)
    choices = g.input("choices", ("m", "c"), onnx.TensorProto.INT64)

    table = weights["decoder/embeddings/weight"][np.asarray(vocabulary)]
    x = products.lookup(g, tokens, EMBEDDING, table)
    n, p = (
        g.add("Slice", g.add("Shape", value), g.ints(axis), g.ints(axis + 1))
        for value, axis in ((tokens, 1), (said_keys, 3))
    )
    end = g.add("Add", p, n)
    x = g.add("Add", x, g.add("Slice", w.const("decoder/position_encodings/encodings"), p, end, g.ints(0)))
    flat = g.add("Reshape", x, g.ints(-1, w.width))
    batch = g.add("Slice", g.add("Shape", tokens), g.ints(0), g.ints(1))
    split_shape = g.add("Concat", batch, n, g.ints(w.head_count), g.ints(w.head_width), axis=0)

    def of_layer(stack: str, layer: int) -> str:
        return g.add("Squeeze", g.add("Gather", stack, g.ints(layer), axis=0), g.ints(0))

    new_keys, new_values = [], []
    for layer in range(layers):
        prefix = f"decoder/layer_{layer}"
        q, k, v = (
            g.add("Transpose", g.add("Reshape", part, split_shape), perm=[0, 2, 1, 3])
            for part in w.parts(
                w.norm(flat, f"{prefix}/self_attention"), f"{prefix}/self_attention/linear_0", 3
            )
        )
        new_keys.append(g.add("Unsqueeze", k, g.ints(0)))
        new_values.append(g.add("Unsqueeze", v, g.ints(0)))
        k = g.add("Concat", of_layer(said_keys, layer), k, axis=2)
        v = g.add("Concat", of_layer(said_values, layer), v, axis=2)
        scores = g.add("Add", g.add("MatMul", w.scaled(q), g.add("Transpose", k, perm=[0, 1, 3, 2])), mask)
        mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
        mixed = g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1, 3]), g.ints(-1, w.width))
        flat = g.add("Add", flat, w.linear(mixed, f"{prefix}/self_attention/linear_1"))
        # Every sentence attends to the same sound: one product a head serves them all.
        (q,) = w.heads(w.norm(flat, f"{prefix}/attention"), f"{prefix}/attention/linear_0", 1)
        scores = g.add("MatMul", w.scaled(q), of_layer(keys, layer))
        mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), of_layer(values, layer))
        flat = g.add("Add", flat, w.linear(w.merged(mixed), f"{prefix}/attention/linear_2"))
        flat = w.feed_forward(flat, prefix)
    flat = w.norm(g.add("Gather", flat, places, axis=0), "decoder")
    logprobs = g.add("LogSoftmax", products.product(g, flat, EMBEDDING, table, None), axis=-1)
    favourite = g.add("TopK", logprobs, g.ints(FAVOURITES), name="favourites_of", outputs=2, axis=-1)
    g.output(g.add("GatherElements", logprobs, choices, axis=1), "chosen", ("m", "c"))
    g.output(favourite, "favourite", ("m", FAVOURITES))
    g.output("favourites_of.1", "favourites", ("m", FAVOURITES), onnx.TensorProto.INT64)
    new = (layers, "b", w.head_count, "n", w.head_width)
    g.output(g.add("Concat", *new_keys, axis=0), "new_keys", new)
    g.output(g.add("Concat", *new_values, axis=0), "new_values", new)
    return g.model()


class _Weights:
    """The pieces that both graphs are made of."""

    def __init__(self, g: GraphBuilder, weights: Weights, products: Products) -> None:
        self._g = g
        self._weights = weights
        self._products = products
        self.width = int(weights["encoder/conv2/bias"].shape[0])
        self.head_count = int(weights["decoder/num_heads"].item())
        self.head_width = self.width // self.head_count

    def layers(self, side: str) -> int:
        return len(
            {n.split("/")[1] for n in self._weights if n.startswith(f"{side}/layer_") and "/ffn/" in n}
        )

    def const(self, name: str) -> str:
        """As it was published: half precision takes half the room, and loading widens it."""
        kept = self._g.const(name, self._weights[name])
        return self._g.add("Cast", kept, to=onnx.TensorProto.FLOAT)

    def norm(self, x: str, prefix: str) -> str:
        gamma, beta = (self.const(f"{prefix}/layer_norm/{part}") for part in ("gamma", "beta"))
        return self._g.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=1e-5)

    def linear(self, x: str, prefix: str) -> str:
        weight, bias = (self._weights[f"{prefix}/{part}"] for part in ("weight", "bias"))
        return self._products.product(self._g, x, prefix, weight, bias)

    def parts(self, x: str, prefix: str, count: int) -> list[str]:
        """One product for what CTranslate2 fused by rows (queries, keys, values), and its parts."""
        whole = self.linear(x, prefix)
        if count == 1:
            return [whole]
        sizes = self._g.ints(*[self.width] * count)
        first = self._g.add("Split", whole, sizes, name=f"{prefix}/split", outputs=count, axis=-1)
        return [first.removesuffix(".0") + f".{at}" for at in range(count)]

    def heads(self, x: str, prefix: str, count: int) -> list[str]:
        """`parts`, each as (h, rows, d)."""
        g = self._g
        shape = g.ints(-1, self.head_count, self.head_width)
        return [
            g.add("Transpose", g.add("Reshape", part, shape), perm=[1, 0, 2])
            for part in self.parts(x, prefix, count)
        ]

    def merged(self, x: str) -> str:
        """(h, rows, d) -> (rows, h * d)."""
        return self._g.add(
            "Reshape", self._g.add("Transpose", x, perm=[1, 0, 2]), self._g.ints(-1, self.width)
        )

    def scaled(self, q: str) -> str:
        return self._g.add("Mul", q, self._g.const("scale", np.array(self.head_width**-0.5, np.float32)))

    def feed_forward(self, x: str, prefix: str) -> str:
        hidden = self.gelu(self.linear(self.norm(x, f"{prefix}/ffn"), f"{prefix}/ffn/linear_0"))
        return self._g.add("Add", x, self.linear(hidden, f"{prefix}/ffn/linear_1"))

    def gelu(self, x: str) -> str:
        """The exact one. The runtime knows this pattern and computes it in one step."""
        g = self._g
        half, one, root = (
            g.const(n, np.array(v, np.float32)) for n, v in (("half", 0.5), ("one", 1), ("root", 2**0.5))
        )
        risen = g.add("Add", g.add("Erf", g.add("Div", x, root)), one)
        return g.add("Mul", g.add("Mul", x, risen), half)
