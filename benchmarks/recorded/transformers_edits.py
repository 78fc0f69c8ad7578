"""How bugs are planted in the GPT-2 of Hugging Face transformers, on PyTorch: in its file modeling_gpt2.py."""

from typing import Any

from benchmarks.recorded.bugs import Bug, Change

NORMS = ("h.*.ln_1", "h.*.ln_2", "ln_f")
AFFINE = ("h.*.attn.c_attn", "h.*.attn.c_proj", "h.*.mlp.c_fc", "h.*.mlp.c_proj")
EAGER, ATTENTION, BLOCK, MLP, MODEL = "eager_attention_forward", "GPT2Attention", "GPT2Block", "GPT2MLP", "GPT2Model"
Q = "        query_states = query_states.view(shape_q).transpose(1, 2)\n"
K = "\n            key_states = key_states.view(shape_kv).transpose(1, 2)"
V = "\n            value_states = value_states.view(shape_kv).transpose(1, 2)"
SPLIT = (
    "\n            query_states, key_states, value_states = self.c_attn(hidden_states).split(self.split_size, dim=2)"
)
SCORES = "torch.matmul(query, key.transpose(-1, -2)) * scaling"
MASKED = "attn_weights = attn_weights + attention_mask\n"
SOFTMAX = "attn_weights = nn.functional.softmax(attn_weights, dim=-1)"
SUMMED = "hidden_states = inputs_embeds + position_embeds.to(inputs_embeds.device)"
PADDED = (("padding", "left"),)


def bug(name: str, where: Any, *changes: tuple[str, str, str], **more: Any) -> Bug:
    needs = tuple(more.pop("needs", ()))
    places = (where,) if isinstance(where, str) else tuple(where)
    return Bug(name, "transformers", places, changes=tuple(Change(*each) for each in changes), needs=needs, **more)


def in_norm(name: str, body: str, *, new: bool = False, needs: Any = ()) -> Bug:
    """A bug in every LayerNorm. body: that of forward(self, x)."""
    prelude = f"class LayerNorm(nn.LayerNorm):\n    def forward(self, x):\n        {body}\n"
    return bug(name, NORMS, ("", "= nn.LayerNorm(", "= LayerNorm("), prelude=prelude, new=new, needs=needs)


def in_conv1d(name: str, body: str, *, new: bool = False, needs: Any = ()) -> Bug:
    """A bug in every affine map. body: that of forward(self, x), which sets y."""
    prelude = (
        "class Conv1D(Conv1D):\n    def forward(self, x):\n        size_out = x.size()[:-1] + (self.nf,)\n"
        f"        x = x.view(-1, x.size(-1))\n        {body}\n        return y.view(size_out)\n"
    )
    return bug(name, AFFINE, prelude=prelude, new=new, needs=needs)


def in_activation(name: str, body: str, *, new: bool = False, needs: Any = (), prelude: str = "") -> Bug:
    """A bug in the activation. body: that of forward(self, x)."""
    text = f"{prelude}class NewGELUActivation(nn.Module):\n    def forward(self, x):\n        {body}\n"
    change = (MLP, "ACT2FN[config.activation_function]", "NewGELUActivation()")
    return bug(name, ("h.*.mlp.act", "h.*.mlp"), change, prelude=text, new=new, needs=needs)


def in_attention(name: str, old: str, new_text: str, *, new: bool = False, needs: Any = (), prelude: str = "") -> Bug:
    """A bug in the function that computes attention from queries, keys and values."""
    return bug(name, "h.*.attn", (EAGER, old, new_text), prelude=prelude, new=new, needs=needs)


SOFTMAX_OF_ITS_OWN = """class Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.softmax(x, -1))
        return torch.softmax(x, -1)

    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0] * grad
"""
SCALED = """class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        return grad, None
"""
