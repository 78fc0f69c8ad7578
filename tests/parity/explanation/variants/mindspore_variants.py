"""Parts of a port in MindSpore, and whole models, each right under its own name and wrong under others.

The cells have the names of the checkpoint, but nn.Dense's weights, (out, in). A mistake is a subclass.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

supports = {
    "past": False,
    "attention_mask": False,
    "position_ids": False,
    "dropout": False,
    "activation_function": False,
    "n_inner": False,
    "scale_attn_weights": False,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "tie_word_embeddings": False,
    "nothing_scored": False,
}


class Attention(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.n_embd, self.n_head = config.n_embd, config.n_head
        self.c_attn = nn.Dense(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Dense(config.n_embd, config.n_embd)

    def qkv(self, x):
        return self.c_attn(x).split(self.n_embd, axis=2)

    def heads(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.n_head, -1).transpose(0, 2, 1, 3)

    def merge(self, x):
        return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], self.n_embd)

    def scores(self, q, k):
        return ops.matmul(q, k.swapaxes(2, 3)) / math.sqrt(q.shape[3])

    def masked(self, scores):
        visible = ms.Tensor(np.tri(*scores.shape[2:], dtype=bool))
        return ops.where(visible, scores, ms.Tensor(np.finfo(np.float32).min))

    def weights(self, scores):
        return ops.softmax(self.masked(scores), axis=3)

    def project(self, x):
        return self.c_proj(x)

    def construct(self, x):
        q, k, v = self.qkv(x)
        weights = self.weights(self.scores(self.heads(q), self.heads(k)))
        return self.project(self.merge(ops.matmul(weights, self.heads(v))))


class QuarterOfScale(Attention):
    """Queries are scaled by D^-1/4, as Whisper does, and keys are forgotten."""

    def scores(self, q, k):
        return ops.matmul(q * q.shape[3] ** -0.25, k.swapaxes(2, 3))


class ScaledByEight(Attention):
    """The root of the 64 channels of GPT-2's own heads, as a number."""

    def scores(self, q, k):
        return ops.matmul(q, k.swapaxes(2, 3)) / 8.0


class ItselfHidden(Attention):
    def masked(self, scores):
        hidden = ms.Tensor(np.triu(np.ones(scores.shape[2:], bool)))
        return scores.masked_fill(hidden, float(np.finfo(np.float32).min))


class ThirtyTaken(Attention):
    def masked(self, scores):
        return scores + ms.Tensor(np.triu(np.full(scores.shape[2:], -30, np.float32), 1))


class ThreeTooFew(Attention):
    """Neither itself nor the two before it: each query sees all that is hidden alike where nothing is left."""

    def masked(self, scores):
        visible = ms.Tensor(np.tri(*scores.shape[2:], -3, dtype=bool))
        return ops.where(visible, scores, ms.Tensor(np.finfo(np.float32).min))


class QueryValueKey(Attention):
    def qkv(self, x):
        q, v, k = super().qkv(x)
        return q, k, v


class ProjectedWithoutBias(Attention):
    def project(self, x):
        return ops.matmul(x, self.c_proj.weight.T)


class ValuesTransposed(Attention):
    def qkv(self, x):
        q, k, _ = super().qkv(x)
        weight, bias = self.c_attn.weight[2 * self.n_embd :], self.c_attn.bias[2 * self.n_embd :]
        return q, k, ops.matmul(x, weight) + bias


class HeadsRolled(Attention):
    def merge(self, x):
        return super().merge(ops.cat((x[:, 1:], x[:, :1]), axis=1))


class SizeForCount(Attention):
    """The two numbers of split_heads(x, head_size, n_head) are exchanged."""

    def __init__(self, config):
        super().__init__(config)
        self.n_head = config.n_embd // config.n_head


class WeightsDropped(Attention):
    def weights(self, scores):
        return ops.dropout(super().weights(scores), 0.1)


class LayerNorm(nn.Cell):
    def __init__(self, n_embd, eps):
        super().__init__()
        self.weight = ms.Parameter(ops.ones(n_embd), name="weight")
        self.bias = ms.Parameter(ops.zeros(n_embd), name="bias")
        self.norm = ops.LayerNorm(-1, -1, eps)

    def construct(self, x):
        return self.norm(x, self.weight, self.bias)[0]


class GainLeftOut(LayerNorm):
    def construct(self, x):
        return self.norm(x, ops.ones_like(self.weight), self.bias)[0]


class MLP(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Dense(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Dense(4 * config.n_embd, config.n_embd)

    def construct(self, x):
        return self.c_proj(ops.gelu(self.c_fc(x), approximate="tanh"))


class HardSwishMLP(MLP):
    def construct(self, x):
        return self.c_proj(ops.hardswish(self.c_fc(x)))


class ErfMLP(MLP):
    def construct(self, x):
        return self.c_proj(ops.gelu(self.c_fc(x)))


class TwoBiasesMLP(MLP):
    def construct(self, x):
        return self.c_proj(ops.gelu(self.c_fc(x) + self.c_fc.bias, approximate="tanh"))


class Block(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def construct(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class OneNormForBoth(Block):
    """As in GPT-J: attention and MLP side by side, behind one norm."""

    def construct(self, x):
        normed = self.ln_1(x)
        return x + self.attn(normed) + self.mlp(normed)


class SecondGainLeftOut(Block):
    def __init__(self, config):
        super().__init__(config)
        self.ln_2 = GainLeftOut(config.n_embd, config.layer_norm_epsilon)


class GPT2(nn.Cell):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.CellList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def positions(self, ids):
        return ops.arange(ids.shape[1])

    def embed(self, ids):
        return self.wte(ids) + self.wpe(self.positions(ids))

    def construct(self, ids):
        x = self.embed(ids)
        for block in self.h:
            x = block(x)
        return ops.matmul(self.ln_f(x), self.wte.embedding_table.T)


class PositionsByCounting(GPT2):
    """The sum of a mask of ones, as for pads on the left; the -1 is forgotten, and the table's end is held."""

    def positions(self, ids):
        counted = ops.cumsum(ops.ones_like(ids).astype(ms.int32), 1)
        return ops.minimum(counted, ms.Tensor(self.wpe.vocab_size - 1, ms.int32))


class PositionsWeighted(GPT2):
    def embed(self, ids):
        return self.wte(ids) + 0.5 * self.wpe(self.positions(ids))


def flat(params, prefix=""):
    for name, value in params.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def load(cell, params):
    own = dict(cell.parameters_and_names())
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    for name, x in flat(params):
        table = name.replace("wte.weight", "wte.embedding_table").replace("wpe.weight", "wpe.embedding_table")
        own[table].set_data(x.T if name.endswith(turned) else x)
    return cell.set_train(False)


def of(kind):
    """The function of a layer's class, as the judge calls it."""
    return lambda x, params, config: load(kind(config), params)(x)


def building(kind):
    return lambda config, parameters: load(kind(config), parameters)


attention = of(Attention)
attention_quarter_of_scale = of(QuarterOfScale)
attention_scaled_by_eight = of(ScaledByEight)
attention_itself_hidden = of(ItselfHidden)
attention_three_too_few = of(ThreeTooFew)
attention_thirty_taken = of(ThirtyTaken)
attention_query_value_key = of(QueryValueKey)
attention_projected_without_bias = of(ProjectedWithoutBias)
attention_values_transposed = of(ValuesTransposed)
attention_heads_rolled = of(HeadsRolled)
attention_size_for_count = of(SizeForCount)
attention_weights_dropped = of(WeightsDropped)
mlp = of(MLP)
mlp_hard_swish = of(HardSwishMLP)
mlp_erf = of(ErfMLP)
mlp_first_bias_twice = of(TwoBiasesMLP)
block = of(Block)
block_one_norm_for_both = of(OneNormForBoth)
block_second_gain_left_out = of(SecondGainLeftOut)
build = building(GPT2)
build_positions_by_counting = building(PositionsByCounting)
build_positions_weighted = building(PositionsWeighted)


def layer_norm(x, weight, bias, eps=1e-5):
    return ops.LayerNorm(-1, -1, eps)(x, weight, bias)[0]


def layer_norm_of_llama_epsilon(x, weight, bias):
    return ops.LayerNorm(-1, -1, 1e-6)(x, weight, bias)[0]


def softmax(x):
    return ops.softmax(x, axis=-1)


def softmax_warm(x):
    return ops.softmax(x / 1.1, axis=-1)


def cross_entropy(logits, labels, ignore_index=-100):
    labels = labels.reshape(-1).astype(ms.int32)
    return ops.cross_entropy(logits.reshape(labels.shape[0], -1), labels, ignore_index=ignore_index)


def cross_entropy_divided_twice(logits, labels, ignore_index=-100):
    scored = int((labels != ignore_index).sum())
    return cross_entropy(logits, labels, ignore_index) / max(scored, 1)
