"""A GPT-2 of MindSpore cells, written as a course would write it; one of the models that are dumped by msprobe."""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class Conv1D(nn.Cell):
    """x @ weight + bias."""

    def __init__(self, weights, name):
        super().__init__()
        self.weight = Parameter(weights[f"{name}.weight"], name=f"{name}.weight")
        self.bias = Parameter(weights[f"{name}.bias"], name=f"{name}.bias")

    def construct(self, x):
        return ops.matmul(x, self.weight) + self.bias


class Norm(nn.Cell):
    """LayerNorm of the last axis."""

    def __init__(self, weights, name, config):
        super().__init__()
        self.weight = Parameter(weights[f"{name}.weight"], name=f"{name}.weight")
        self.bias = Parameter(weights[f"{name}.bias"], name=f"{name}.bias")
        self.op = ops.LayerNorm(-1, -1, config.layer_norm_epsilon)

    def construct(self, x):
        return self.op(x, self.weight, self.bias)[0]


class Attention(nn.Cell):
    """Causal attention of several heads."""

    def __init__(self, weights, name, config, layer):
        super().__init__()
        self.c_attn, self.c_proj = Conv1D(weights, f"{name}.c_attn"), Conv1D(weights, f"{name}.c_proj")
        self.n_head, self.head_size = config.n_head, config.head_size
        self.scale = config.head_size**0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale *= layer + 1

    def heads(self, x):
        batch, tokens, _ = x.shape
        return x.reshape(batch, tokens, self.n_head, self.head_size).transpose(0, 2, 1, 3)

    def construct(self, x, hidden):
        batch, tokens, channels = x.shape
        q, k, v = ops.split(self.c_attn(x), channels, 2)
        q, k, v = self.heads(q), self.heads(k), self.heads(v)
        scores = ops.matmul(q, k.transpose(0, 1, 3, 2)) / self.scale
        scores = ops.masked_fill(scores, hidden, float(np.finfo(np.float16).min))
        weights = ops.softmax(scores, -1)
        y = ops.matmul(weights, v)
        return self.c_proj(y.transpose(0, 2, 1, 3).reshape(batch, tokens, channels))


class Activation(nn.Cell):
    """GPT-2's GELU, or what config.json says."""

    def __init__(self, config):
        super().__init__()
        self.kind = config.activation_function

    def construct(self, x):
        if self.kind == "gelu_new":
            return ops.gelu(x, approximate="tanh")
        return ops.gelu(x) if self.kind == "gelu" else ops.relu(x) if self.kind == "relu" else ops.silu(x)


class MLP(nn.Cell):
    """Two affine maps, and an activation between them."""

    def __init__(self, weights, name, config):
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(weights, f"{name}.c_fc"), Conv1D(weights, f"{name}.c_proj")
        self.act = Activation(config)

    def construct(self, x):
        return self.c_proj(self.act(self.c_fc(x)))


class Block(nn.Cell):
    """One layer."""

    def __init__(self, weights, name, config, layer):
        super().__init__()
        self.ln_1, self.ln_2 = Norm(weights, f"{name}.ln_1", config), Norm(weights, f"{name}.ln_2", config)
        self.attn = Attention(weights, f"{name}.attn", config, layer)
        self.mlp = MLP(weights, f"{name}.mlp", config)

    def construct(self, x, hidden):
        x = x + self.attn(self.ln_1(x), hidden)
        return x + self.mlp(self.ln_2(x))


class Embedding(nn.Cell):
    """Rows of a table."""

    def __init__(self, weights, name):
        super().__init__()
        self.weight = Parameter(weights[f"{name}.weight"], name=f"{name}.weight")

    def construct(self, ids):
        return ops.gather(self.weight, ids, 0)


class GPT2(nn.Cell):
    """The language model. weights: tensors by the names of a checkpoint."""

    def __init__(self, weights, config):
        super().__init__()
        self.wte, self.wpe = Embedding(weights, "wte"), Embedding(weights, "wpe")
        self.h = nn.CellList([Block(weights, f"h.{i}", config, i) for i in range(config.n_layer)])
        self.ln_f = Norm(weights, "ln_f", config)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.lm_head = Parameter(weights["lm_head.weight"], name="lm_head.weight")

    def construct(self, ids, attention_mask=None):
        tokens = ids.shape[1]
        hidden = Tensor(~np.tri(tokens, dtype=bool))
        if attention_mask is not None:
            hidden = ops.logical_or(hidden, (attention_mask == 0)[:, None, None, :])
        x = self.wte(ids) + self.wpe(ops.arange(tokens))
        for block in self.h:
            x = block(x, hidden)
        x = self.ln_f(x)
        return ops.matmul(x, (self.wte.weight if self.tied else self.lm_head).T)


def loss_of(model, ids, labels, attention_mask=None):
    """Mean cross-entropy of the next token."""
    logits = model(ids, attention_mask)
    logits, labels = logits[:, :-1], labels[:, 1:]
    return ops.cross_entropy(logits.reshape(-1, logits.shape[-1]).astype("float32"), labels.reshape(-1))
