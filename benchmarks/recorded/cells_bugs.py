"""Bugs planted in the GPT-2 of MindSpore cells, benchmarks/recorded/cells.py, and in the twin."""

from typing import Any

from benchmarks.recorded.bugs import Bug, Change

NORMS = ("h.*.ln_1", "h.*.ln_2", "ln_f")
AFFINE = ("h.*.attn.c_attn", "h.*.attn.c_proj", "h.*.mlp.c_fc", "h.*.mlp.c_proj")


def _bug(name: str, where: Any, scope: str, old: str, new_text: str, **more: Any) -> Bug:
    places = (where,) if isinstance(where, str) else tuple(where)
    return Bug(f"MindSpore: {name}", "cells", places, changes=(Change(scope, old, new_text),), **more)


CELLS = (
    _bug(
        "heads cut but not moved",
        "h.*.attn",
        "Attention",
        "reshape(batch, tokens, self.n_head, self.head_size).transpose(0, 2, 1, 3)",
        "reshape(batch, self.n_head, tokens, self.head_size)",
    ),
    _bug("heads merged but not moved back", "h.*.attn", "Attention", "y.transpose(0, 2, 1, 3).reshape", "y.reshape"),
    _bug("queries and keys swapped", "h.*.attn", "Attention", "q, k, v = ops.split", "k, q, v = ops.split"),
    _bug("scores not scaled", "h.*.attn", "Attention", " / self.scale", ""),
    _bug(
        "scores scaled by the root of C",
        "h.*.attn",
        "Attention",
        "self.scale = config.head_size**0.5",
        "self.scale = config.n_embd**0.5",
    ),
    _bug("softmax over the queries", "h.*.attn", "Attention", "ops.softmax(scores, -1)", "ops.softmax(scores, -2)"),
    _bug(
        "no mask",
        "h.*.attn",
        "Attention",
        "scores = ops.masked_fill(scores, hidden, float(np.finfo(np.float16).min))",
        "pass",
    ),
    _bug("masked scores of -4", "h.*.attn", "Attention", "float(np.finfo(np.float16).min)", "-4.0"),
    _bug(
        "the mask upside down",
        "h.*.attn",
        "Attention",
        "masked_fill(scores, hidden,",
        "masked_fill(scores, ops.logical_not(hidden),",
    ),
    _bug(
        "the mask shows the next token",
        "",
        "GPT2",
        "~np.tri(tokens, dtype=bool)",
        "~np.tri(tokens, k=1, dtype=bool)",
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
    ),
    _bug(
        "the mask hides the token itself",
        "",
        "GPT2",
        "~np.tri(tokens, dtype=bool)",
        "~np.tri(tokens, k=-1, dtype=bool)",
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
    ),
    _bug("gelu as it comes", ("h.*.mlp.act",), "Activation", 'ops.gelu(x, approximate="tanh")', "ops.gelu(x)"),
    _bug("its own epsilon", NORMS, "Norm", ", config.layer_norm_epsilon)", ")", needs=(("layer_norm_epsilon", 1e-3),)),
    _bug(
        "LayerNorm over all tokens",
        NORMS,
        "Norm",
        "return self.op(x, self.weight, self.bias)[0]",
        "mean = lambda x: x.mean(2, True).mean(1, True)\n        x = x - mean(x)\n"
        "        return x / (mean(x * x) + 1e-5).sqrt() * self.weight + self.bias",
    ),
    _bug(
        "LayerNorm's gain dropped", NORMS, "Norm", "self.op(x, self.weight,", "self.op(x, ops.ones_like(self.weight),"
    ),
    _bug("gain counted from one", NORMS, "Norm", "self.op(x, self.weight,", "self.op(x, self.weight + 1,"),
    _bug("the bias dropped", AFFINE, "Conv1D", " + self.bias", ""),
    _bug(
        "products in float16",
        AFFINE,
        "Conv1D",
        "ops.matmul(x, self.weight)",
        'ops.matmul(x.astype("float16"), self.weight.astype("float16")).astype("float32")',
    ),
    _bug("positions one too far", "", "GPT2", "ops.arange(tokens)", "ops.arange(1, tokens + 1)", stages=("wpe",)),
    _bug("positions left out", "", "GPT2", " + self.wpe(ops.arange(tokens))", "", stages=("embeddings",)),
    _bug(
        "residual of the normed input",
        "h.*",
        "Block",
        "x = x + self.attn(self.ln_1(x), hidden)",
        "x = self.ln_1(x); x = x + self.attn(x, hidden)",
    ),
    _bug("ln_f dropped", "", "GPT2", "        x = self.ln_f(x)\n", "", stages=("ln_f",)),
    _bug("labels not shifted", "", "loss_of", "logits[:, :-1], labels[:, 1:]", "logits, labels", stages=("loss",)),
    Bug("MindSpore: c_proj transposed", "cells", ("h.*.attn.c_proj",), load="c_proj transposed"),
    _bug(
        "values gathered along the tokens",
        ("wte", "wpe"),
        "Embedding",
        "ops.gather(self.weight, ids, 0)",
        "ops.gather(self.weight, (ids + 1) % self.weight.shape[0], 0)",
        new=True,
    ),
    _bug(
        "softmax of rounded scores",
        "h.*.attn",
        "Attention",
        "ops.softmax(scores, -1)",
        'ops.softmax(scores.astype("float16"), -1).astype("float32")',
        new=True,
    ),
    _bug(
        "the keys' heads in reverse",
        "h.*.attn",
        "Attention",
        "k.transpose(0, 1, 3, 2)",
        "ops.flip(k, (1,)).transpose(0, 1, 3, 2)",
        new=True,
    ),
    _bug(
        "ln_2 of the attention alone",
        "h.*",
        "Block",
        "x = x + self.attn(self.ln_1(x), hidden)\n        return x + self.mlp(self.ln_2(x))",
        "a = self.attn(self.ln_1(x), hidden)\n        return x + a + self.mlp(self.ln_2(a))",
        stages=("h.*.ln_2",),
        new=True,
    ),
    _bug(
        "the MLP without a gradient",
        "h.*.mlp",
        "MLP",
        "self.act(self.c_fc(x))",
        "ops.stop_gradient(self.act(self.c_fc(x)))",
        new=True,
    ),
    _bug(
        "scores softly capped at 5",
        "h.*.attn",
        "Attention",
        " / self.scale\n",
        " / self.scale\n        scores = 5 * ops.tanh(scores / 5)\n",
        new=True,
    ),
)


# Of the twin, planted by parity.mutants.base.Edit: (name, where, function, old, new).
def _twin(name: str, where: Any, function: str, old: str, new_text: str, **more: Any) -> Bug:
    places = (where,) if isinstance(where, str) else tuple(where)
    return Bug(f"twin: {name}", "twin", places, changes=(Change(function, old, new_text),), **more)


TWIN = (
    _twin(
        "heads cut but not moved",
        "h.*.attn",
        "ms_backend.attention.split_heads",
        "x.reshape(x.shape[:-1] + (n_head, x.shape[-1] // n_head)).swapaxes(1, 2)",
        "x.reshape(x.shape[0], n_head, x.shape[1], x.shape[2] // n_head)",
    ),
    _twin(
        "heads merged but not moved back",
        "h.*.attn",
        "ms_backend.attention.merge_heads",
        "x.swapaxes(1, 2).reshape",
        "x.reshape",
    ),
    _twin(
        "scores scaled by the root of C",
        "h.*.attn",
        "ms_backend.attention.attention_scale",
        "math.sqrt(config.head_size)",
        "math.sqrt(config.n_embd)",
    ),
    _twin(
        "the mask shows the next token", "h.*.attn", "ms_backend.attention.causal_bias", "<= queries", "<= queries + 1"
    ),
    _twin(
        "padding mask inverted",
        "h.*.attn",
        "ms_backend.attention.visible_keys",
        "attention_mask != 0",
        "attention_mask == 0",
        needs=(("padding", "left"),),
    ),
    _twin("gelu as it comes", ("h.*.mlp", "h.*.mlp.act"), "ms_backend.ops.gelu_new", ', approximate="tanh"', ""),
    _twin(
        "its own epsilon",
        NORMS,
        "ms_backend.ops.layer_norm",
        "ops.LayerNorm(-1, -1, eps)",
        "ops.LayerNorm(-1, -1)",
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    _twin("the bias dropped", AFFINE, "ms_backend.ops.conv1d", " + bias)", ")"),
    _twin(
        "softmax over the queries", "h.*.attn", "ms_backend.ops.softmax", "weights.sum(axis=-1", "weights.sum(axis=-2"
    ),
    _twin("residual missing", "h.*", "ms_backend.model.block", "x + mlp(", "mlp("),
    _twin("residual of the normed input", "h.*", "ms_backend.model.block", "x + attended", "normed + attended"),
    _twin(
        "the last layer left out",
        "",
        "ms_backend.model.gpt2",
        'enumerate(params["h"])',
        'enumerate(params["h"][:-1])',
        stages=("ln_f", "h.*"),
    ),
    _twin(
        "positions one too far",
        "",
        "ms_backend.model.gpt2",
        "P.arange(past_length, past_length + ids.shape[1])",
        "P.arange(past_length + 1, past_length + 1 + ids.shape[1])",
        stages=("wpe",),
    ),
    _twin(
        "tied head scaled",
        "",
        "ms_backend.model.language_model",
        "unembedding(x, ",
        "unembedding(x * config.n_embd**-0.5, ",
        stages=("logits",),
    ),
    _twin(
        "values one token late",
        "h.*.attn",
        "ms_backend.attention.attention",
        "matmul(weights, v)",
        "matmul(weights, ops.cat((v[:, :, :1], v[:, :, :-1]), axis=2))",
        new=True,
    ),
)
BUGS = (*CELLS, *TWIN)
