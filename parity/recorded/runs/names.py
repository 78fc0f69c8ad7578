"""The names that people give to the parts of a GPT-2, as Hugging Face's; and the kinds of operators."""

import re

# What stands before the names of a model's parts: the frameworks' wrappers, and the names of the whole model.
PREFIXES = (
    "transformer",
    "model",
    "module",
    "network",
    "_backbone",
    "backbone",
    "gpt2",
    "gpt",
    "decoder",
    "_orig_mod",
    "cell",
    "net",
)
# Words at the top of a model, within a layer, and within its attention or MLP.
TOP = {
    "blocks": "h",
    "layers": "h",
    "layer": "h",
    "token_embedding": "wte",
    "token_embeddings": "wte",
    "tok_embedding": "wte",
    "tok_embeddings": "wte",
    "tok_emb": "wte",
    "word_embedding": "wte",
    "word_embeddings": "wte",
    "embed_tokens": "wte",
    "pos_embedding": "wpe",
    "pos_embeddings": "wpe",
    "pos_emb": "wpe",
    "position_embedding": "wpe",
    "position_embeddings": "wpe",
    "embed_positions": "wpe",
    "dropout": "drop",
    "final_norm": "ln_f",
    "final_layer_norm": "ln_f",
    "final_layernorm": "ln_f",
    "layernorm": "ln_f",
    "layer_norm": "ln_f",
    "norm": "ln_f",
    "norm_f": "ln_f",
    "head": "lm_head",
    "output_layer": "lm_head",
}
IN_A_LAYER = {
    "attention": "attn",
    "self_attn": "attn",
    "self_attention": "attn",
    "norm1": "ln_1",
    "norm_1": "ln_1",
    "ln1": "ln_1",
    "layernorm1": "ln_1",
    "layer_norm1": "ln_1",
    "layer_norm_1": "ln_1",
    "input_layernorm": "ln_1",
    "norm2": "ln_2",
    "norm_2": "ln_2",
    "ln2": "ln_2",
    "layernorm2": "ln_2",
    "layer_norm2": "ln_2",
    "layer_norm_2": "ln_2",
    "post_attention_layernorm": "ln_2",
    "ffn": "mlp",
    "ff": "mlp",
    "feed_forward": "mlp",
}
IN_ATTENTION = {
    "qkv": "c_attn",
    "qkv_proj": "c_attn",
    "query_key_value": "c_attn",
    "in_proj": "c_attn",
    "query": "q",
    "q_proj": "q",
    "to_q": "q",
    "key": "k",
    "k_proj": "k",
    "to_k": "k",
    "value": "v",
    "v_proj": "v",
    "to_v": "v",
    "out_proj": "c_proj",
    "o_proj": "c_proj",
    "proj": "c_proj",
    "projection": "c_proj",
    "dense": "c_proj",
}
IN_AN_MLP = {
    "fc1": "c_fc",
    "fc_1": "c_fc",
    "fc_in": "c_fc",
    "up_proj": "c_fc",
    "linear1": "c_fc",
    "dense_h_to_4h": "c_fc",
    "fc2": "c_proj",
    "fc_2": "c_proj",
    "fc_out": "c_proj",
    "down_proj": "c_proj",
    "linear2": "c_proj",
    "dense_4h_to_h": "c_proj",
    "gelu": "act",
    "activation": "act",
}
LEAVES = {"gamma": "weight", "beta": "bias", "embedding_table": "weight"}
# The kinds of operators and modules, by their names in small letters without underscores at their ends.
KINDS = {
    "embedding": "embedding gather embeddinglookup",
    "layer_norm": "layernorm layer_norm norm layernormext native_layer_norm",
    "linear": "linear dense conv1d addmm matmul mm bmm batchmatmul matmulext rmatmul baddbmm",
    "softmax": "softmax softmaxext",
    "activation": "gelu newgeluactivation geluactivation fastgelu quickgeluactivation gelunew tanh_gelu relu silu",
    "add": "add radd iadd",
    "mul": "mul rmul div truediv rtruediv",
    "dropout": "dropout dropoutext dropout2d",
    "attention": "scaled_dot_product_attention flash_attention_score npu_fusion_attention",
    "loss": "cross_entropy crossentropyloss softmaxcrossentropywithlogits nll_loss nllloss",
}
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}


def common_path(path: str) -> str:
    """A module's path as Hugging Face's GPT2Model has it, without prefixes: "h.0.attn.c_attn"."""
    steps = path.split(".")
    while steps and (steps[0] in PREFIXES or steps[0] == ""):
        steps = steps[1:]
    found: list[str] = []
    for step in steps:
        words = TOP
        if len(found) >= 2 and found[0] == "h":
            words = {"attn": IN_ATTENTION, "mlp": IN_AN_MLP}.get(found[2], {}) if len(found) > 2 else IN_A_LAYER
        found.append(words.get(step, step))
    return ".".join(found)


def common_parameter(path: str, name: str) -> str:
    """A parameter's name as Hugging Face's GPT2Model has it, of the module at that path."""
    return ".".join(filter(None, (common_path(path), LEAVES.get(name, name))))


def layer_of(path: str) -> str:
    """The part of a model that stands down the side of a table: "h.3" of "h.3.attn.c_attn", else the first step."""
    found = re.match(r"h\.\d+", path)
    return found[0] if found else path.partition(".")[0]


def kind_of(operator: str) -> str:
    """The kind of an operator or a module's class: "linear" of "Conv1D", "addmm", "MatMul"; else the word itself."""
    word = operator.rpartition(".")[2].strip("_").lower()
    return KIND_OF.get(word, word)
