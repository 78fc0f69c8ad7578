"""A third backend: GPT-2's sums in einsum notation. The reference computes everything else."""

import numpy as np
from numpy import einsum

from gpt2.backends import NumPyBackend, NumPyModel, numpy_dtype
from reference import activations, ops
from reference.attention import attention_scale, mask_scores, visible_keys


def conv1d(x, weight, bias):
    return einsum("btc,cn->btn", x, weight) + bias


def attention(x, params, config, layer=0, attention_mask=None, past=None):
    qkv = conv1d(x, **params["c_attn"]).reshape(*x.shape[:2], 3, config.n_head, config.head_size)
    q, k, v = einsum("btnhd->nbhtd", qkv)
    if past is not None:
        k, v = np.concatenate((past[0], k), axis=2), np.concatenate((past[1], v), axis=2)
    scores = einsum("bhtd,bhsd->bhts", q, k) / np.array(attention_scale(config, layer), x.dtype)
    weights = ops.softmax(mask_scores(scores, visible_keys(q.shape[2], k.shape[2], attention_mask)))
    return conv1d(einsum("bhts,bhsd->bthd", weights, v).reshape(x.shape), **params["c_proj"]), (k, v)


class EinsumModel(NumPyModel):  # inherits classify, stages and decoder
    def logits(self, ids, attention_mask=None, position_ids=None):
        params, config, eps = self.params, self.config, self.config.layer_norm_epsilon
        positions = np.arange(ids.shape[1])[None] if position_ids is None else position_ids
        x = params["wte"]["weight"][ids] + params["wpe"]["weight"][positions]
        for i, layer in enumerate(params["h"]):
            x = x + attention(ops.layer_norm(x, **layer["ln_1"], eps=eps), layer["attn"], config, i, attention_mask)[0]
            h = conv1d(ops.layer_norm(x, **layer["ln_2"], eps=eps), **layer["mlp"]["c_fc"])
            x = x + conv1d(getattr(activations, config.activation_function)(h), **layer["mlp"]["c_proj"])
        head = params["wte"] if config.tie_word_embeddings else params["lm_head"]
        return einsum("btc,vc->btv", ops.layer_norm(x, **params["ln_f"], eps=eps), head["weight"])


class EinsumBackend(NumPyBackend):
    name = "einsum"
    sources = None  # it has no files with the names of the reference's
    trainer = None  # it cannot train, so the judge gives it no dropout masks

    def call(self, function, arguments):
        functions = {"ops.conv1d": conv1d, "attention.attention": attention}
        if function not in functions:
            raise NotImplementedError(f"einsum has no {function}")
        return functions[function](**arguments)

    def model(self, config, parameters):
        return EinsumModel(config, parameters, numpy_dtype(self.dtype))
