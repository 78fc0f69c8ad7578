"""The attention of a course on GPT-2, in MindSpore: no cache, no padding, no options."""

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class MultiheadAttention(nn.Cell):
    def __init__(self, n_embd, n_head, n_positions):
        super().__init__()
        self.n_head, self.head_size = n_head, n_embd // n_head
        self.c_attn = nn.Dense(n_embd, 3 * n_embd)
        self.c_proj = nn.Dense(n_embd, n_embd)
        self.causal = ms.Tensor(np.tril(np.ones((n_positions, n_positions), np.float32)))

    def split_heads(self, x):
        x = x.reshape(x.shape[0], x.shape[1], self.n_head, self.head_size)
        return x.transpose(0, 2, 1, 3)

    def merge_heads(self, x):
        x = x.transpose(0, 2, 1, 3)
        return x.reshape(x.shape[0], x.shape[1], self.n_head * self.head_size)

    def construct(self, x):
        query, key, value = self.c_attn(x).split(x.shape[2], axis=2)
        query = self.split_heads(query)
        key = self.split_heads(key)
        value = self.split_heads(value)
        scores = ops.matmul(query, key.swapaxes(2, 3))
        scores = scores / math.sqrt(self.head_size)
        visible = self.causal[: x.shape[1], : x.shape[1]]
        scores = scores + (1 - visible) * -1e4
        weights = ops.softmax(scores, axis=3)
        output = ops.matmul(weights, value)
        output = self.merge_heads(output)
        return self.c_proj(output)


def attention(x, params, config):
    cell = MultiheadAttention(config.n_embd, config.n_head, config.n_positions)
    for name in ("c_attn", "c_proj"):
        layer = getattr(cell, name)
        layer.weight.set_data(params[name]["weight"].T)
        layer.bias.set_data(params[name]["bias"])
    return cell(x)
