"""A plain GPT-2 in MindSpore cells with Hugging Face's names, and a cache.

gpt2 check --with mindspore_gpt2.py:build --as course
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops


class Conv1D(nn.Cell):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = Parameter(ops.zeros((n_in, n_out)), name="weight")
        self.bias = Parameter(ops.zeros(n_out), name="bias")

    def construct(self, x):
        return ops.matmul(x, self.weight) + self.bias


class LayerNorm(nn.Cell):
    def __init__(self, n_embd):
        super().__init__()
        self.weight = Parameter(ops.ones(n_embd), name="weight")
        self.bias = Parameter(ops.zeros(n_embd), name="bias")

    def construct(self, x):
        centred = x - x.mean(-1, keep_dims=True)
        variance = (centred * centred).mean(-1, keep_dims=True)
        return centred / ops.sqrt(variance + 1e-5) * self.weight + self.bias


class Embedding(nn.Cell):
    def __init__(self, count, n_embd):
        super().__init__()
        self.weight = Parameter(ops.zeros((count, n_embd)), name="weight")

    def construct(self, ids):
        return self.weight[ids]


class Attention(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn, self.c_proj = Conv1D(config.n_embd, 3 * config.n_embd), Conv1D(config.n_embd, config.n_embd)

    def construct(self, x, past):
        batch, tokens, channels = x.shape
        heads = (batch, tokens, self.n_head, channels // self.n_head)
        q, k, v = (y.reshape(heads).transpose(0, 2, 1, 3) for y in self.c_attn(x).split(channels, axis=2))
        if past is not None:
            k, v = ops.cat((past[0], k), axis=2), ops.cat((past[1], v), axis=2)
        scores = ops.matmul(q, k.swapaxes(2, 3)) / math.sqrt(heads[3])
        visible = ms.Tensor(np.tri(tokens, k.shape[2], k.shape[2] - tokens, dtype=bool))
        scores = ops.where(visible, scores, ms.Tensor(np.finfo(np.float32).min))
        output = ops.matmul(ops.softmax(scores, axis=3), v).transpose(0, 2, 1, 3).reshape(x.shape)
        return self.c_proj(output), (k, v)


class MLP(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(config.n_embd, 4 * config.n_embd), Conv1D(4 * config.n_embd, config.n_embd)

    def construct(self, x):
        return self.c_proj(ops.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = LayerNorm(config.n_embd), LayerNorm(config.n_embd)
        self.attn, self.mlp = Attention(config), MLP(config)

    def construct(self, x, past):
        attended, present = self.attn(self.ln_1(x), past)
        x = x + attended
        return x + self.mlp(self.ln_2(x)), present


class GPT2(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.h = nn.CellList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = LayerNorm(config.n_embd)

    def construct(self, ids, past_key_values=None):
        pasts = past_key_values or [None] * len(self.h)
        known = past_key_values[0][0].shape[2] if past_key_values else 0
        x, presents = self.wte(ids) + self.wpe(ops.arange(known, known + ids.shape[1])), []
        for block, past in zip(self.h, pasts, strict=True):
            x, present = block(x, past)
            presents.append(present)
        return ops.matmul(self.ln_f(x), self.wte.weight.T), presents


supports = {"past": True}  # --as course has none


def build(config, parameters):
    model = GPT2(config)
    for parameter in model.get_parameters():
        parameter.set_data(parameters[parameter.name])
    return model
