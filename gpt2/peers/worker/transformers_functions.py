"""Functions and modules of transformers, each under the name that it has in the mirror.

They take and return PyTorch's tensors. As ports of single functions they are judged too.
"""

import functools
import inspect

import torch
import transformers
from transformers.activations import ACT2FN, NewGELUActivation
from transformers.loss.loss_utils import ForCausalLMLoss, fixed_cross_entropy
from transformers.masking_utils import create_causal_mask
from transformers.models.gpt2 import modeling_gpt2
from transformers.pytorch_utils import Conv1D

gelu_new = NewGELUActivation()
gelu, relu, silu = ACT2FN["gelu"], ACT2FN["relu"], ACT2FN["silu"]


def flatten(tree, name=""):
    """The leaves of a tree of dicts and lists by their names, joined by dots."""
    if not isinstance(tree, (dict, list)):
        return {name: tree}
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {
        leaf: x for key, branch in branches for leaf, x in flatten(branch, f"{name}.{key}" if name else key).items()
    }


def loaded(module, params):
    """The module with these tensors themselves in place of its parameters, so that gradients reach them."""
    given, names = flatten(params), dict(module.named_parameters())
    if given.keys() != names.keys():
        raise KeyError(f"expected the parameters {sorted(names)}, got {sorted(given)}")
    for name, x in given.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if x.shape != names[name].shape:
            raise ValueError(f"{name} has the shape {tuple(x.shape)}, expected {tuple(names[name].shape)}")
        delattr(owner, leaf)
        setattr(owner, leaf, x)
    return module.eval()


def layer_norm(x, weight, bias, eps=1e-5):
    return loaded(torch.nn.LayerNorm(len(weight), eps=eps), {"weight": weight, "bias": bias})(x)


def conv1d(x, weight, bias):
    return loaded(Conv1D(weight.shape[1], weight.shape[0]), {"weight": weight, "bias": bias})(x)


def embedding(ids, weight):
    return loaded(torch.nn.Embedding(*weight.shape), {"weight": weight})(ids)


def unembedding(x, weight):
    return loaded(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False), {"weight": weight})(x)


def softmax(x):
    return torch.nn.functional.softmax(x, dim=-1)


def log_softmax(x):
    return torch.nn.functional.log_softmax(x, dim=-1)


def cross_entropy(logits, labels, ignore_index=-100):
    return fixed_cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=ignore_index)


cross_entropy.supports = {"nothing_scored": False}


def theirs(config, kind="eager", length=0):
    """Their configuration. A block of transformers 4 keeps a mask of n_positions, which is at least the length here."""
    named = transformers.GPT2Config(**config.to_dict(), attn_implementation=kind)
    named.n_positions = max(named.n_positions, length)
    return named


def cached(past, layer):
    """The cache of a model whose layers up to this one have that past."""
    cache = transformers.DynamicCache()
    for i in range(layer + 1):
        cache.update(*past, i)
    return cache


def visible(x, config, attention_mask, cache):
    """The mask that a model makes, by the arguments of transformers 5 or, with MindNLP, of 4."""
    known = 0 if cache is None else cache.get_seq_length()
    given = {"inputs_embeds": x}
    if "input_embeds" in inspect.signature(create_causal_mask).parameters:
        given = {"input_embeds": x, "cache_position": torch.arange(known, known + x.shape[1])}
    return create_causal_mask(
        config=config, attention_mask=attention_mask, past_key_values=cache, position_ids=None, **given
    )


def attention_weights(q, k, config, layer=0, attention_mask=None):
    """eager_attention_forward, or what takes its place where scores are reordered and upcast."""
    module = modeling_gpt2.GPT2Attention(theirs(config, length=k.shape[2]), layer_idx=layer).eval()
    known = k.shape[2] - q.shape[2]
    cache = cached((k[:, :, :known], k[:, :, :known]), 0) if known else None
    mask = visible(q.transpose(1, 2).flatten(2), module.config, attention_mask, cache)
    if config.reorder_and_upcast_attn:
        return module._upcast_and_reordered_attn(q, k, k, mask)[1]
    scale = {"scaling": module.scaling} if hasattr(module, "scaling") else {}  # transformers 4 finds it itself
    return modeling_gpt2.eager_attention_forward(module, q, k, k, mask, **scale)[1]


def attention(x, params, config, layer=0, attention_mask=None, past=None, kind="eager"):
    cache = transformers.DynamicCache() if past is None else cached(past, layer)
    named = theirs(config, kind, cache.get_seq_length() + x.shape[1])
    module = loaded(modeling_gpt2.GPT2Attention(named, layer_idx=layer), params)
    mask = visible(x, named, attention_mask, cache)
    output, _ = module(x, past_key_values=cache, attention_mask=mask)
    return output, (cache.layers[layer].keys, cache.layers[layer].values)


def mlp(x, params, config, layer=0):
    inner = params["c_fc"]["bias"].shape[0]
    return loaded(modeling_gpt2.GPT2MLP(inner, theirs(config)), params)(x)


def block(x, params, config, layer=0, attention_mask=None, past=None, kind="eager"):
    cache = transformers.DynamicCache() if past is None else cached(past, layer)
    named = theirs(config, kind, cache.get_seq_length() + x.shape[1])
    module = loaded(modeling_gpt2.GPT2Block(named, layer_idx=layer), params)
    mask = visible(x, named, attention_mask, cache)
    output = module(x, past_key_values=cache, attention_mask=mask, use_cache=True)
    output = output[0] if isinstance(output, tuple) else output  # a tuple in transformers 4
    return output, (cache.layers[layer].keys, cache.layers[layer].values)


attention_by_sdpa = functools.partial(attention, kind="sdpa")
block_by_sdpa = functools.partial(block, kind="sdpa")


def whole(config, params):
    """GPT2LMHeadModel, or GPT2ForSequenceClassification where there is a score, of these parameters."""
    kind = transformers.GPT2ForSequenceClassification if "score" in params else transformers.GPT2LMHeadModel
    model = kind(theirs(config))
    given = flatten(params)
    if "score" not in params and model.lm_head.weight is model.transformer.wte.weight:
        model.lm_head = torch.nn.Linear(config.n_embd, config.vocab_size, bias=False)  # with a name of its own
        given["lm_head.weight"] = given["wte.weight"]
    heads = ("lm_head.", "score.")
    return loaded(model, {n if n.startswith(heads) else f"transformer.{n}": x for n, x in given.items()})


def scores(model, ids, attention_mask=None, position_ids=None, **cache):
    """What a whole model returns. Odd positions without a mask would be taken for packed texts: there is one, then."""
    if attention_mask is None and position_ids is not None:
        known = cache["past_key_values"].get_seq_length() if cache else 0
        attention_mask = torch.ones((ids.shape[0], known + ids.shape[1]), dtype=ids.dtype, device=ids.device)
    return model(ids, attention_mask=attention_mask, position_ids=position_ids, **cache)


def language_model(params, ids, config, attention_mask=None, position_ids=None, past=None):
    """The scores, and the keys and values of every layer."""
    cache = transformers.DynamicCache()
    for i, pair in enumerate(past or ()):
        cache.update(*pair, i)
    found = scores(whole(config, params), ids, attention_mask, position_ids, past_key_values=cache, use_cache=True)
    return found.logits, [(layer.keys, layer.values) for layer in cache.layers]


def language_model_loss(params, ids, labels, config, attention_mask=None, position_ids=None, ignore_index=-100):
    """ForCausalLMLoss of GPT2LMHeadModel. What a pad would predict is ignored, as a data collator does it."""
    logits = scores(whole(config, params), ids, attention_mask, position_ids).logits
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    labels = torch.cat((labels[:, :1], labels[:, 1:].masked_fill(mask[:, :-1] == 0, ignore_index)), dim=1)
    return ForCausalLMLoss(logits, labels, config.vocab_size, ignore_index=ignore_index)


language_model_loss.supports = {"nothing_scored": False}


def padded(ids, config, attention_mask):
    """The ids with the id of a pad at every pad and at no last token of a text, and that id: so pads are told by it.

    Raises NotImplementedError where there is no such id.
    """
    if attention_mask is None and config.pad_token_id is not None:
        return ids, config.pad_token_id
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask
    if not bool((mask != 0).any(dim=1).all()):
        raise NotImplementedError("a sequence of pads alone")
    last = ((mask != 0) * torch.arange(ids.shape[1])).float().argmax(dim=1)
    taken = set(ids.gather(1, last[:, None])[:, 0].tolist())
    free = [pad for pad in (config.pad_token_id, *range(config.vocab_size)) if pad is not None and pad not in taken]
    if not free:
        raise NotImplementedError("no id is left for pads: each is the last of some text")
    return torch.where(mask == 0, torch.full_like(ids, free[0]), ids), free[0]


def labels_of(model, ids, attention_mask=None, position_ids=None):
    """The scores of the labels by a whole classifier. Raises NotImplementedError where pads cannot be told."""
    config = model.config
    told_by_id = attention_mask is None and config.pad_token_id is not None
    if told_by_id and position_ids is not None and bool((ids[:, -1] == config.pad_token_id).any()):
        raise NotImplementedError("position_ids with pads that their id alone tells")
    before = config.pad_token_id
    try:
        ids, config.pad_token_id = padded(ids, config, attention_mask)
        return scores(model, ids, attention_mask, position_ids).logits
    finally:
        config.pad_token_id = before


def sequence_classifier(params, ids, config, attention_mask=None, position_ids=None):
    return labels_of(whole(config, params), ids, attention_mask, position_ids)


def sequence_classifier_loss(params, ids, labels, config, attention_mask=None, position_ids=None, ignore_index=-100):
    found = labels_of(whole(config, params), ids, attention_mask, position_ids)
    return torch.nn.functional.cross_entropy(found, labels, ignore_index=ignore_index)


sequence_classifier_loss.supports = {"nothing_scored": False}
