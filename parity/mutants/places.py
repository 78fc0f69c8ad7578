"""The stages that may be blamed for a family of planted bugs."""

NORMS = ("ln_1", "ln_2", "ln_f")
AFFINE = ("attn.qkv", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
PRODUCTS = (*AFFINE, "attn.scores", "attn.attn_output", "logits", "score")
