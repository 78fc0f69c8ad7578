"""Parts of a port in PyTorch, and whole models, each right under its own name and wrong under others.

The modules have the names of the checkpoint, but nn.Linear's weights, (out, in). A mistake is a subclass.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

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


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_embd, self.n_head = config.n_embd, config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def split(self, qkv):
        return qkv.split(self.n_embd, dim=2)

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], self.n_head, -1).transpose(1, 2)

    def merge(self, x):
        return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], self.n_embd)

    def masked(self, scores):
        future = torch.ones(scores.shape[2:], dtype=torch.bool).triu(diagonal=1)
        return scores.masked_fill(future, torch.finfo(scores.dtype).min)

    def attend(self, q, k, v):
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return torch.softmax(self.masked(scores), dim=3) @ v

    def forward(self, x):
        q, k, v = self.split(self.c_attn(x))
        return self.c_proj(self.merge(self.attend(self.heads(q), self.heads(k), self.heads(v))))


class ScaledByWidth(Attention):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.n_embd**-0.5)


class ScaledByHeads(Attention):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.n_head**-0.5)


class ScaledTwice(Attention):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q * q.shape[3] ** -0.5, k, v, is_causal=True)


class Cooled(Attention):
    def masked(self, scores):
        return super().masked(scores / 0.9)


class TwoLaterTokensSeen(Attention):
    def masked(self, scores):
        future = torch.ones(scores.shape[2:], dtype=torch.bool).triu(diagonal=3)
        return scores.masked_fill(future, torch.finfo(scores.dtype).min)


class MaskedByThousand(Attention):
    def masked(self, scores):
        return scores.masked_fill(torch.ones(scores.shape[2:], dtype=torch.bool).triu(1), -1e3)


class Window(Attention):
    def masked(self, scores):
        return super().masked(scores).masked_fill(torch.ones(scores.shape[2:]).tril(-3) == 1, -1e30)


class SoftmaxOverHeads(Attention):
    def attend(self, q, k, v):
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        return torch.softmax(self.masked(scores), dim=1) @ v


class MaskedAfterSoftmax(Attention):
    def attend(self, q, k, v):
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(q.shape[3]), dim=3)
        return weights.tril() @ v


class HeadsReversed(Attention):
    def merge(self, x):
        return super().merge(x.flip(1))


class ValueKeyQuery(Attention):
    def split(self, qkv):
        v, k, q = qkv.split(self.n_embd, dim=2)
        return q, k, v


class QueriesInTurn(Attention):
    def split(self, qkv):
        q, k, v = qkv.split(self.n_embd, dim=2)
        return q.view(*q.shape[:2], -1, self.n_head).transpose(2, 3).reshape(q.shape), k, v


class LinearForConv1D(Attention):
    """Three weights (in, out) are put into three nn.Linear as they are."""

    def forward(self, x):
        weights, biases = self.c_attn.weight.split(self.n_embd), self.c_attn.bias.split(self.n_embd)
        q, k, v = (F.linear(x, w.T, b) for w, b in zip(weights, biases, strict=True))
        return self.c_proj(self.merge(self.attend(self.heads(q), self.heads(k), self.heads(v))))


class QueriesWithoutBias(Attention):
    def split(self, qkv):
        q, k, v = qkv.split(self.n_embd, dim=2)
        return q - self.c_attn.bias[: self.n_embd], k, v


class OneHead(Attention):
    def __init__(self, config):
        super().__init__(config)
        self.n_head = 1


class KeysOfOtherHeads(Attention):
    def attend(self, q, k, v):
        return super().attend(q, k.flip(1), v)


class ByWidthWithoutBias(ScaledByWidth):
    def forward(self, x):
        return super().forward(x) - self.c_proj.bias


class OfGPTNeo(Attention):
    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class ReluMLP(MLP):
    def forward(self, x):
        return self.c_proj(F.relu(self.c_fc(x)))


class SiluMLP(MLP):
    def forward(self, x):
        return self.c_proj(F.silu(self.c_fc(x)))


class MLPWithoutFirstBias(MLP):
    def forward(self, x):
        return self.c_proj(F.gelu(x @ self.c_fc.weight.T, approximate="tanh"))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class AttentionReplacesStream(Block):
    def forward(self, x):
        x = self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class SecondNormBehindMLP(Block):
    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return self.ln_2(x + self.mlp(x))


class SecondEpsilonOfKeras(Block):
    def __init__(self, config):
        super().__init__(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, 1e-3)


class StreamAddedTwice(Block):
    def forward(self, x):
        y = x + self.attn(self.ln_1(x))
        return x + y + self.mlp(self.ln_2(y))


class GPT2(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def embed(self, ids):
        return self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))

    def blocks(self, x):
        for block in self.h:
            x = block(x)
        return x

    def forward(self, ids):
        return self.ln_f(self.blocks(self.embed(ids))) @ self.wte.weight.T


class PositionsFromTwo(GPT2):
    """As in OPT and RoBERTa, whose tables have two rows more."""

    def embed(self, ids):
        table = F.pad(self.wpe.weight, (0, 0, 0, 2))
        return self.wte(ids) + table[torch.arange(ids.shape[1]) + 2]


class SumTimesRoot(GPT2):
    def embed(self, ids):
        return super().embed(ids) * math.sqrt(self.wte.weight.shape[1])


class DropoutOfEmbeddings(GPT2):
    def embed(self, ids):
        return F.dropout(super().embed(ids), 0.1)


class FirstLayerLeftOut(GPT2):
    def blocks(self, x):
        for block in self.h[1:]:
            x = block(x)
        return x


class LastLayerForAll(GPT2):
    def blocks(self, x):
        for step in [lambda y: block(y) for block in self.h]:  # noqa: B023 (the mistake: each sees the last block)
            x = step(x)
        return x


class TemperatureLeftIn(GPT2):
    def forward(self, ids):
        return super().forward(ids) / 0.8


class OtherEpsilonAtTheEnd(GPT2):
    def __init__(self, config):
        super().__init__(config)
        self.ln_f = nn.LayerNorm(config.n_embd, 1e-6)


class EverySecondLayerUnscaled(GPT2):
    def __init__(self, config):
        super().__init__(config)
        for block in self.h[1::2]:
            block.attn = OfGPTNeo(config)


class LastGainTwice(GPT2):
    def forward(self, ids):
        x = self.blocks(self.embed(ids))
        x = F.layer_norm(x, self.ln_f.normalized_shape, self.ln_f.weight**2, self.ln_f.bias, self.ln_f.eps)
        return x @ self.wte.weight.T


class LastNormWithoutBias(GPT2):
    def forward(self, ids):
        return (self.ln_f(self.blocks(self.embed(ids))) - self.ln_f.bias) @ self.wte.weight.T


def flat(params, prefix=""):
    for name, value in params.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def load(module, params):
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    module.load_state_dict({name: x.T if name.endswith(turned) else x for name, x in flat(params)})
    return module.eval()


def of(kind):
    """The function of a layer's class, as the judge calls it."""
    return lambda x, params, config: load(kind(config), params)(x)


def building(kind):
    return lambda config, parameters: load(kind(config), parameters)


attention = of(Attention)
attention_scaled_by_width = of(ScaledByWidth)
attention_scaled_by_heads = of(ScaledByHeads)
attention_scaled_twice = of(ScaledTwice)
attention_cooled = of(Cooled)
attention_two_later_tokens = of(TwoLaterTokensSeen)
attention_masked_by_thousand = of(MaskedByThousand)
attention_window = of(Window)
attention_softmax_over_heads = of(SoftmaxOverHeads)
attention_masked_after_softmax = of(MaskedAfterSoftmax)
attention_heads_reversed = of(HeadsReversed)
attention_value_key_query = of(ValueKeyQuery)
attention_queries_in_turn = of(QueriesInTurn)
attention_linear_for_conv1d = of(LinearForConv1D)
attention_queries_without_bias = of(QueriesWithoutBias)
attention_one_head = of(OneHead)
attention_keys_of_other_heads = of(KeysOfOtherHeads)
attention_by_width_without_bias = of(ByWidthWithoutBias)
mlp = of(MLP)
mlp_relu = of(ReluMLP)
mlp_silu = of(SiluMLP)
mlp_without_first_bias = of(MLPWithoutFirstBias)
block = of(Block)
block_attention_replaces_stream = of(AttentionReplacesStream)
block_second_norm_behind_mlp = of(SecondNormBehindMLP)
block_stream_added_twice = of(StreamAddedTwice)
block_second_epsilon_of_keras = of(SecondEpsilonOfKeras)
build = building(GPT2)
build_positions_from_two = building(PositionsFromTwo)
build_sum_times_root = building(SumTimesRoot)
build_dropout_of_embeddings = building(DropoutOfEmbeddings)
build_first_layer_left_out = building(FirstLayerLeftOut)
build_last_layer_for_all = building(LastLayerForAll)
build_temperature_left_in = building(TemperatureLeftIn)
build_other_epsilon_at_the_end = building(OtherEpsilonAtTheEnd)
build_every_second_layer_unscaled = building(EverySecondLayerUnscaled)
build_last_gain_twice = building(LastGainTwice)
build_last_norm_without_bias = building(LastNormWithoutBias)


def layer_norm(x, weight, bias, eps=1e-5):
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def layer_norm_of_bert(x, weight, bias):
    return F.layer_norm(x, weight.shape, weight, bias, 1e-12)


def layer_norm_annotated(x, weight, bias, eps=1e-5):
    return weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias


def layer_norm_of_llama(x, weight, bias, eps=1e-5):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def layer_norm_bias_twice(x, weight, bias, eps=1e-5):
    return F.layer_norm(x, weight.shape, weight, bias, eps) + bias


def gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_new_short_constant(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044 * x**3)))


def gelu(x):
    return F.gelu(x)


def gelu_by_tanh(x):
    return F.gelu(x, approximate="tanh")


def cross_entropy(logits, labels, ignore_index=-100):
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten().long(), ignore_index=ignore_index)


def cross_entropy_over_all(logits, labels, ignore_index=-100):
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten().long(), ignore_index=ignore_index, reduction="sum")
    return total / labels.numel()


def cross_entropy_smoothed(logits, labels, ignore_index=-100):
    labels = labels.flatten().long()
    return F.cross_entropy(logits.flatten(0, -2), labels, ignore_index=ignore_index, label_smoothing=0.1)
