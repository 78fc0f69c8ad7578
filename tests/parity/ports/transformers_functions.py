"""Functions and modules of transformers as ports of single functions: each under the name that it has in the mirror."""

import functools

import torch
import transformers
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.loss.loss_utils import ForCausalLMLoss, fixed_cross_entropy
from transformers.masking_utils import create_causal_mask
from transformers.models.gpt2 import modeling_gpt2
from transformers.pytorch_utils import Conv1D

from reference.config import flatten

gelu_new = NewGELUActivation()
gelu, relu, silu = ACT2FN["gelu"], ACT2FN["relu"], ACT2FN["silu"]


def loaded(module, params):
    module.load_state_dict(flatten(params))
    return module.eval()


def layer_norm(x, weight, bias, eps=1e-5):
    return loaded(torch.nn.LayerNorm(len(weight), eps=eps), {"weight": weight, "bias": bias})(x)


def conv1d(x, weight, bias):
    return loaded(Conv1D(weight.shape[1], weight.shape[0]), {"weight": weight, "bias": bias})(x)


def cross_entropy(logits, labels, ignore_index=-100):
    return fixed_cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=ignore_index)


cross_entropy.supports = {"nothing_scored": False}


def theirs(config, kind="eager"):
    return transformers.GPT2Config(**config.to_dict(), attn_implementation=kind)


def cached(past, layer):
    """The cache of a model whose layers up to this one have that past."""
    cache = transformers.DynamicCache()
    for i in range(layer + 1):
        cache.update(*past, i)
    return cache


def visible(x, config, attention_mask, cache):
    return create_causal_mask(
        config=config, inputs_embeds=x, attention_mask=attention_mask, past_key_values=cache, position_ids=None
    )


def attention_weights(q, k, config, layer=0, attention_mask=None):
    """eager_attention_forward, or what takes its place where scores are reordered and upcast."""
    module = modeling_gpt2.GPT2Attention(theirs(config), layer_idx=layer).eval()
    known = k.shape[2] - q.shape[2]
    cache = cached((k[:, :, :known], k[:, :, :known]), 0) if known else None
    mask = visible(q.transpose(1, 2).flatten(2), module.config, attention_mask, cache)
    if config.reorder_and_upcast_attn:
        return module._upcast_and_reordered_attn(q, k, k, mask)[1]
    return modeling_gpt2.eager_attention_forward(module, q, k, k, mask, scaling=module.scaling)[1]


def attention(x, params, config, layer=0, attention_mask=None, past=None, kind="eager"):
    module = loaded(modeling_gpt2.GPT2Attention(theirs(config, kind), layer_idx=layer), params)
    cache = transformers.DynamicCache() if past is None else cached(past, layer)
    output, _ = module(x, cache, visible(x, module.config, attention_mask, cache))
    return output, (cache.layers[layer].keys, cache.layers[layer].values)


def mlp(x, params, config):
    return loaded(modeling_gpt2.GPT2MLP(config.inner_size, theirs(config)), params)(x)


def block(x, params, config, layer=0, attention_mask=None, past=None, kind="eager"):
    named = theirs(config, kind)
    module = loaded(modeling_gpt2.GPT2Block(named, layer_idx=layer), params)
    cache = transformers.DynamicCache() if past is None else cached(past, layer)
    output = module(x, cache, visible(x, named, attention_mask, cache), use_cache=True)
    return output, (cache.layers[layer].keys, cache.layers[layer].values)


attention_by_sdpa = functools.partial(attention, kind="sdpa")
block_by_sdpa = functools.partial(block, kind="sdpa")


def language_model_loss(params, ids, labels, config, attention_mask=None, position_ids=None, ignore_index=-100):
    """ForCausalLMLoss of GPT2LMHeadModel. What a pad would predict is ignored, as a data collator does it."""
    model = transformers.GPT2LMHeadModel(theirs(config)).eval()
    heads = {f"transformer.{name}": x for name, x in flatten(params).items() if not name.startswith("lm_head.")}
    model.load_state_dict(heads | {"lm_head.weight": params.get("lm_head", params["wte"])["weight"]})
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    labels = torch.cat((labels[:, :1], labels[:, 1:].masked_fill(mask[:, :-1] == 0, ignore_index)), dim=1)
    logits = model(ids, attention_mask=mask, position_ids=position_ids).logits
    return ForCausalLMLoss(logits, labels, config.vocab_size, ignore_index=ignore_index)


language_model_loss.supports = {"nothing_scored": False}
