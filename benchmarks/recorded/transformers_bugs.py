"""Bugs planted in the GPT-2 of Hugging Face transformers, on PyTorch: in its file modeling_gpt2.py."""

from typing import Any

from benchmarks.recorded.bugs import Bug, Change

NORMS = ("h.*.ln_1", "h.*.ln_2", "ln_f")
AFFINE = ("h.*.attn.c_attn", "h.*.attn.c_proj", "h.*.mlp.c_fc", "h.*.mlp.c_proj")
EAGER, ATTENTION, BLOCK, MLP, MODEL = "eager_attention_forward", "GPT2Attention", "GPT2Block", "GPT2MLP", "GPT2Model"
Q = "        query_states = query_states.view(shape_q).transpose(1, 2)\n"
K = "\n            key_states = key_states.view(shape_kv).transpose(1, 2)"
V = "\n            value_states = value_states.view(shape_kv).transpose(1, 2)"
SPLIT = "\n            query_states, key_states, value_states = self.c_attn(hidden_states).split(self.split_size, dim=2)"
SCORES = "torch.matmul(query, key.transpose(-1, -2)) * scaling"
MASKED = "attn_weights = attn_weights + attention_mask\n"
SOFTMAX = "attn_weights = nn.functional.softmax(attn_weights, dim=-1)"
SUMMED = "hidden_states = inputs_embeds + position_embeds.to(inputs_embeds.device)"
PADDED = (("padding", "left"),)


def _bug(name: str, where: Any, *changes: tuple[str, str, str], **more: Any) -> Bug:
    needs = tuple(more.pop("needs", ()))
    places = (where,) if isinstance(where, str) else tuple(where)
    return Bug(name, "transformers", places, changes=tuple(Change(*each) for each in changes), needs=needs, **more)


def _norm(name: str, body: str, *, new: bool = False, needs: Any = ()) -> Bug:
    """A bug in every LayerNorm. body: that of forward(self, x)."""
    prelude = f"class LayerNorm(nn.LayerNorm):\n    def forward(self, x):\n        {body}\n"
    return _bug(name, NORMS, ("", "= nn.LayerNorm(", "= LayerNorm("), prelude=prelude, new=new, needs=needs)


def _conv1d(name: str, body: str, *, new: bool = False, needs: Any = ()) -> Bug:
    """A bug in every affine map. body: that of forward(self, x), which sets y."""
    prelude = (
        "class Conv1D(Conv1D):\n    def forward(self, x):\n        size_out = x.size()[:-1] + (self.nf,)\n"
        f"        x = x.view(-1, x.size(-1))\n        {body}\n        return y.view(size_out)\n"
    )
    return _bug(name, AFFINE, prelude=prelude, new=new, needs=needs)


def _activation(name: str, body: str, *, new: bool = False, needs: Any = (), prelude: str = "") -> Bug:
    """A bug in the activation. body: that of forward(self, x)."""
    text = f"{prelude}class NewGELUActivation(nn.Module):\n    def forward(self, x):\n        {body}\n"
    change = (MLP, "ACT2FN[config.activation_function]", "NewGELUActivation()")
    return _bug(name, ("h.*.mlp.act", "h.*.mlp"), change, prelude=text, new=new, needs=needs)


def _attention(name: str, old: str, new_text: str, *, new: bool = False, needs: Any = (), prelude: str = "") -> Bug:
    """A bug in the function that computes attention from queries, keys and values."""
    return _bug(name, "h.*.attn", (EAGER, old, new_text), prelude=prelude, new=new, needs=needs)


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


OF_ATTENTION = (
    _bug(
        "heads cut but not moved",
        "h.*.attn",
        (ATTENTION, K, "\n            key_states = key_states.reshape(shape_kv[0], -1, shape_kv[1], self.head_dim)"),
        (ATTENTION, V, "\n            value_states = value_states.reshape(shape_kv[0], -1, shape_kv[1], self.head_dim)"),
        (ATTENTION, Q, Q.replace("view(shape_q).transpose(1, 2)", "reshape(shape_q[0], -1, shape_q[1], self.head_dim)")),
    ),
    _attention(
        "heads merged but not moved back",
        "attn_output = attn_output.transpose(1, 2)",
        "attn_output = attn_output.reshape(attn_output.shape[0], attn_output.shape[2], attn_output.shape[1], -1)",
    ),
    _bug(
        "channels dealt to the heads in turn",
        "h.*.attn",
        (ATTENTION, K, "\n            key_states = key_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)"),
        (ATTENTION, V, "\n            value_states = value_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)"),
        (ATTENTION, Q, "        query_states = query_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)\n"),
    ),
    _bug(
        "queries and keys swapped",
        "h.*.attn",
        (ATTENTION, SPLIT, SPLIT.replace("query_states, key_states,", "key_states, query_states,")),
    ),
    _bug(
        "q, k, v channel by channel",
        "h.*.attn",
        (ATTENTION, SPLIT, SPLIT.replace(".split(self.split_size, dim=2)", ".unflatten(-1, (-1, 3)).unbind(-1)")),
    ),
    _bug("keys for values", "h.*.attn", (ATTENTION, V, V.replace("value_states.view", "key_states.transpose(1, 2).reshape"))),
    _attention("scores not scaled", SCORES, "torch.matmul(query, key.transpose(-1, -2))"),
    _bug(
        "scores scaled by the root of C",
        "h.*.attn",
        (ATTENTION, "self.scaling = self.head_dim**-0.5", "self.scaling = self.embed_dim**-0.5"),
    ),
    _bug(
        "scores scaled by D",
        "h.*.attn",
        (ATTENTION, "self.scaling = self.head_dim**-0.5", "self.scaling = 1 / self.head_dim"),
    ),
    _bug(
        "layers counted from zero in the scale",
        "h.*.attn",
        (ATTENTION, "float(self.layer_idx + 1)", "float(self.layer_idx or 1)"),
        needs=(("scale_attn_by_inverse_layer_idx", True), ("n_layer", 2)),
    ),
    _bug(
        "scale_attn_weights ignored",
        "h.*.attn",
        (ATTENTION, "if self.scale_attn_weights:", "if True:"),
        needs=(("scale_attn_weights", False),),
    ),
    _bug(
        "scale_attn_by_inverse_layer_idx ignored",
        "h.*.attn",
        (ATTENTION, "if self.scale_attn_by_inverse_layer_idx:", "if False:"),
        needs=(("scale_attn_by_inverse_layer_idx", True), ("n_layer", 2)),
    ),
    _attention("scores in float16", SCORES, "(query.half() @ key.half().transpose(-1, -2)).float() * scaling"),
    _attention("the mask shows the next token", MASKED, f"{MASKED[:-1]}.roll(1, -1).index_fill(-1, torch.tensor(0), 0)\n"),
    _attention(
        "the mask hides the token itself",
        MASKED,
        "attn_weights = attn_weights + nn.functional.pad(attention_mask[..., 1:], (0, 1), value=-3e4)\n",
    ),
    _attention("the mask upside down", MASKED, "attn_weights = attn_weights - 3e4 * (attention_mask == 0)\n"),
    _attention("no causal mask", MASKED, "pass\n"),
    _attention("masked scores of -4", MASKED, f"{MASKED[:-1]}.clamp(min=-4)\n"),
    _attention("scores times the mask", MASKED, "attn_weights = attn_weights * (attention_mask == 0)\n"),
    _attention(
        "masks tiled over the heads",
        MASKED,
        "attention_mask = attention_mask.expand(-1, query.shape[1], -1, -1)\n"
        "        tiled = attention_mask.transpose(0, 1).reshape(attn_weights.shape)\n"
        "        attn_weights = attn_weights + tiled\n",
        needs=PADDED,
    ),
    _attention("the first sequence's mask for all", MASKED, f"{MASKED[:-1]}[:1]\n", needs=PADDED),
    _attention("softmax over the queries", "dim=-1", "dim=-2"),
    _attention(
        "one more in the sum",
        SOFTMAX,
        "attn_weights = torch.exp(attn_weights - attn_weights.amax(-1, keepdim=True))\n"
        "    attn_weights = attn_weights / (attn_weights.sum(-1, keepdim=True) + 1)",
    ),
    _attention(
        "softmax's gradient without the sum",
        SOFTMAX,
        "attn_weights = Softmax.apply(attn_weights)",
        prelude=SOFTMAX_OF_ITS_OWN,
    ),
    _attention(
        "the scale left out of the scores' gradient",
        SCORES,
        "Scaled.apply(torch.matmul(query, key.transpose(-1, -2)), scaling)",
        prelude=SCALED,
    ),
)
OF_NORMS = (
    _norm(
        "epsilon outside the root",
        "return (x - x.mean(-1, True)) / (x.var(-1, unbiased=False, keepdim=True).sqrt() + self.eps) * self.weight + self.bias",
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    _norm(
        "epsilon always 1e-5",
        "return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-5)",
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    _bug(
        "ln_f keeps the default epsilon",
        "ln_f",
        (MODEL, "self.ln_f = nn.LayerNorm(self.embed_dim, eps=config.layer_norm_epsilon)", "self.ln_f = nn.LayerNorm(self.embed_dim)"),
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    _norm(
        "the unbiased variance",
        "return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias",
    ),
    _norm(
        "the variance in one pass",
        "m = x.mean(-1, True); return (x - m) / ((x * x).mean(-1, True) - m * m + self.eps).sqrt() * self.weight + self.bias",
        needs=(("regime", "large offset"),),
    ),
    _norm(
        "mean of absolute values",
        "c = x - x.mean(-1, True); return c / (c.abs().mean(-1, True) + self.eps) * self.weight + self.bias",
    ),
    _norm("LayerNorm's gain dropped", "return nn.functional.layer_norm(x, self.normalized_shape, None, self.bias, self.eps)"),
    _norm("LayerNorm's bias dropped", "return nn.functional.layer_norm(x, self.normalized_shape, self.weight, None, self.eps)"),
    _norm(
        "gain counted from one",
        "return nn.functional.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)",
    ),
    _norm(
        "RMSNorm for LayerNorm",
        "return x / (x.square().mean(-1, True) + self.eps).sqrt() * self.weight + self.bias",
    ),
    _norm(
        "LayerNorm over all tokens",
        "return nn.functional.layer_norm(x, x.shape[1:], eps=self.eps) * self.weight + self.bias",
    ),
    _norm(
        "LayerNorm in float16",
        "return nn.functional.layer_norm(x.half(), self.normalized_shape, self.weight.half(), self.bias.half(), self.eps).float()",
    ),
    _norm(
        "LayerNorm's mean left out of its gradient",
        "c = x - x.mean(-1, True).detach(); v = (x - x.mean(-1, True)).square().mean(-1, True)\n"
        "        return c / (v + self.eps).sqrt() * self.weight + self.bias",
    ),
)
OF_THE_REST = (
    _bug("ln_1 for both norms", "h.*", (BLOCK, "hidden_states = self.ln_2(hidden_states)", "hidden_states = self.ln_1(hidden_states)")),
    _bug("ln_f dropped", "", (MODEL, "        hidden_states = self.ln_f(hidden_states)\n", ""), stages=("ln_f",)),
    _conv1d("the bias dropped", "y = torch.mm(x, self.weight)"),
    _conv1d("the bias of every rank", "y = torch.addmm(2 * self.bias, x, self.weight)"),
    _conv1d("matmul in TF32", "y = torch.addmm(self.bias, (x.detach().view(torch.int32) & ~8191).view(torch.float32) + 0 * x, self.weight)"),
    _conv1d("products in float16", "y = torch.mm(x.half(), self.weight.half()).float() + self.bias"),
    _bug("c_proj transposed", "h.*.attn.c_proj", load="c_proj transposed"),
    _bug("positions left out", "", (MODEL, SUMMED, "hidden_states = inputs_embeds"), stages=("embeddings",)),
    _bug("positions added twice", "", (MODEL, SUMMED, f"{SUMMED} + position_embeds"), stages=("embeddings",)),
    _bug(
        "embeddings times the root of C",
        "",
        (MODEL, SUMMED, SUMMED.replace("inputs_embeds +", "inputs_embeds * self.embed_dim**0.5 +")),
        stages=("embeddings", "wte"),
    ),
    _bug(
        "positions one too far",
        "",
        (MODEL, "device=inputs_embeds.device) + past_seen_tokens", "device=inputs_embeds.device) + past_seen_tokens + 1"),
        stages=("wpe",),
    ),
    _bug(
        "positions follow the mask",
        "",
        (MODEL, "position_ids = position_ids.unsqueeze(0)", "position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)"),
        stages=("wpe",),
        needs=PADDED,
    ),
    _bug(
        "padding ignored",
        "",
        (MODEL, "            attention_mask=attention_mask,\n            past_key_values=past_key_values,\n            position_ids", "            attention_mask=None,\n            past_key_values=past_key_values,\n            position_ids"),
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
        needs=PADDED,
    ),
    _bug(
        "padding mask inverted",
        "",
        (MODEL, "attention_mask = attention_mask.view(batch_size, -1)", "attention_mask = 1 - attention_mask.view(batch_size, -1)"),
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
        needs=PADDED,
    ),
    _bug(
        "post-LN",
        "h.*",
        (BLOCK, "        hidden_states = self.ln_1(hidden_states)\n", ""),
        (BLOCK, "        hidden_states = attn_output + residual\n", "        hidden_states = self.ln_1(attn_output + residual)\n"),
        (BLOCK, "        hidden_states = self.ln_2(hidden_states)\n", ""),
        (BLOCK, "hidden_states = residual + feed_forward_hidden_states", "hidden_states = self.ln_2(residual + feed_forward_hidden_states)"),
        stages=("h.*.ln_1", "h.*.attn.qkv", "h.*.ln_2"),
    ),
    _bug(
        "attention and MLP side by side",
        "h.*",
        (BLOCK, "        residual = hidden_states\n        hidden_states = self.ln_2(hidden_states)", "        hidden_states, residual = self.ln_2(residual), hidden_states"),
        stages=("h.*.ln_2",),
    ),
    _bug(
        "residual of the normed input",
        "h.*",
        (BLOCK, "        residual = hidden_states\n        hidden_states = self.ln_1(hidden_states)", "        residual = hidden_states = self.ln_1(hidden_states)"),
    ),
    _bug("residual missing", "h.*", (BLOCK, "hidden_states = residual + feed_forward", "hidden_states = feed_forward")),
    _bug(
        "residual scaled by depth",
        "h.*",
        (BLOCK, "hidden_states = attn_output + residual", "hidden_states = attn_output * 0.5**0.5 + residual"),
    ),
    _bug("the residual's gradient dropped", "h.*", (BLOCK, "residual + feed_forward", "residual.detach() + feed_forward")),
    _bug("the last layer left out", "", (MODEL, "enumerate(self.h)", "enumerate(self.h[:-1])"), stages=("ln_f", "h.*")),
    _bug(
        "the first layer's weights for all",
        "",
        (MODEL, "hidden_states = block(", "hidden_states = self.h[0]("),
        stages=("h.*.ln_1", "ln_f"),
        needs=(("n_layer", 2),),
    ),
    _bug(
        "tie_word_embeddings ignored",
        ("", "lm_head"),
        ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "nn.functional.linear(hidden_states, self.transformer.wte.weight)"),
        stages=("logits",),
        needs=(("tie_word_embeddings", False),),
    ),
    _bug("the head as it was initialised", "lm_head", load="head left out", needs=(("tie_word_embeddings", False),)),
    _bug(
        "tied head scaled",
        "",
        ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states * self.config.n_embd**-0.5)"),
        stages=("logits",),
    ),
    _bug(
        "labels not shifted",
        "",
        ("GPT2LMHeadModel", "                labels,\n", "                labels,\n                shift_labels=labels,\n"),
        stages=("loss",),
    ),
    _bug(
        "labels shifted twice",
        "",
        ("GPT2LMHeadModel", "                labels,\n", "                nn.functional.pad(labels, (0, 1), value=-100)[:, 1:],\n"),
        stages=("loss",),
    ),
    _bug("the gradient of wpe is zero", "", (MODEL, SUMMED, SUMMED.replace("position_embeds.to", "position_embeds.detach().to"))),
    _activation("erf for tanh", "return nn.functional.gelu(x)"),
    _activation("two digits of 0.044715 swapped", "return 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044175 * x**3)))"),
    _activation("quick GELU", "return x * torch.sigmoid(1.702 * x)"),
    _activation(
        "tanh by a rational formula",
        "u = ((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).clamp(-3, 3)\n"
        "        return 0.5 * x * (1 + u * (27 + u * u) / (27 + 9 * u * u))",
    ),
    _activation("activation_function ignored", "return nn.functional.gelu(x, approximate='tanh')", needs=(("activation_function", "relu"),)),
    _bug(
        "activation before the bias",
        "h.*.mlp",
        (MLP, "hidden_states = self.act(hidden_states)", "hidden_states = self.act(hidden_states - self.c_fc.bias) + self.c_fc.bias"),
    ),
    _activation(
        "the gradient of erf's GELU",
        "return Gelu.apply(x)",
        prelude="class Gelu(torch.autograd.Function):\n"
        "    @staticmethod\n    def forward(ctx, x):\n        ctx.save_for_backward(x)\n"
        "        return 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)))\n"
        "    @staticmethod\n    def backward(ctx, grad):\n        x = ctx.saved_tensors[0].detach().requires_grad_()\n"
        "        with torch.enable_grad():\n            y = 0.5 * x * (1 + torch.erf(x / 2**0.5))\n"
        "        return torch.autograd.grad(y, x, grad)[0]\n\n\n",
    ),
)
# Written for this campaign.
NEW = (
    _attention("softmax in float16", SOFTMAX, "attn_weights = nn.functional.softmax(attn_weights.half(), dim=-1).float()", new=True),
    _attention(
        "weights in bfloat16 for the product with the values",
        "attn_output = torch.matmul(attn_weights, value)",
        "attn_output = torch.matmul(attn_weights.bfloat16(), value.bfloat16()).to(value.dtype)",
        new=True,
    ),
    _attention("values scaled like the queries", "torch.matmul(attn_weights, value)", "torch.matmul(attn_weights, value * scaling)", new=True),
    _attention("the scale applied twice", SCORES, f"{SCORES} * scaling", new=True),
    _attention("scores softly capped at 5", SCORES, f"5 * torch.tanh({SCORES} / 5)", new=True),
    _attention(
        "a slope of distance added to the scores",
        SOFTMAX,
        "distance = torch.arange(key.shape[-2])[None] - torch.arange(query.shape[-2])[:, None]\n"
        f"    attn_weights = attn_weights + 0.25 * distance.to(attn_weights.dtype)\n    {SOFTMAX}",
        new=True,
    ),
    _attention(
        "rotary positions beside the learnt ones",
        "    attn_weights = torch.matmul(query",
        "    angle = torch.arange(query.shape[-2])[:, None] / 10 ** torch.linspace(0, 4, query.shape[-1] // 2)\n"
        "    def turn(x):\n"
        "        a, b = x.chunk(2, -1)\n"
        "        return torch.cat((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1)\n"
        "    query, key = turn(query), turn(key)\n"
        "    attn_weights = torch.matmul(query",
        new=True,
    ),
    _attention(
        "a window of four tokens",
        SOFTMAX,
        f"attn_weights = attn_weights - 3e4 * torch.ones_like(attn_weights).tril(-4)\n    {SOFTMAX}",
        new=True,
    ),
    _attention("the last head left zero", "torch.matmul(attn_weights, value)", "torch.matmul(attn_weights, value * (torch.arange(value.shape[1]) < value.shape[1] - 1)[:, None, None])", new=True),
    _attention("the keys' heads in reverse", SCORES, "torch.matmul(query, key.flip(1).transpose(-1, -2)) * scaling", new=True),
    _attention("the values one token late", "torch.matmul(attn_weights, value)", "torch.matmul(attn_weights, value.roll(1, -2))", new=True),
    _attention("the first sequence's keys for all", SCORES, "torch.matmul(query, key[:1].transpose(-1, -2)) * scaling", new=True),
    _attention("keys without a gradient", SCORES, "torch.matmul(query, key.detach().transpose(-1, -2)) * scaling", new=True),
    _bug("the root of D cut to an integer", "h.*.attn", (ATTENTION, "self.head_dim**-0.5", "1 / int(self.head_dim**0.5)"), new=True),
    _bug("the number of heads for D in the scale", "h.*.attn", (ATTENTION, "self.head_dim**-0.5", "(2 * self.num_heads) ** -0.5"), new=True),
    _norm("gain and bias exchanged", "return nn.functional.layer_norm(x, self.normalized_shape, self.bias, self.weight, self.eps)", new=True),
    _norm(
        "the first token's variance for all",
        "c = x - x.mean(-1, True); return c / (c[:, :1].square().mean(-1, True) + self.eps).sqrt() * self.weight + self.bias",
        new=True,
    ),
    _conv1d("weights rounded to 8 bits", "s = self.weight.abs().max() / 127; y = torch.addmm(self.bias, x, (self.weight / s).round() * s)", new=True),
    _conv1d("weights kept in bfloat16", "y = torch.addmm(self.bias, x, self.weight.bfloat16().float())", new=True),
    _activation("the root of 2 / pi as 0.8", "return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3)))", new=True),
    _activation("the activation cut off at 1", "return nn.functional.gelu(x, approximate='tanh').clamp(max=1)", new=True),
    _bug("the activation applied twice", "h.*.mlp", (MLP, "self.act(hidden_states)", "self.act(self.act(hidden_states))"), new=True),
    _bug("the last MLP unit dropped", "h.*.mlp", (MLP, "self.act(hidden_states)", "nn.functional.pad(self.act(hidden_states)[..., :-1], (0, 1))"), new=True),
    _bug("c_fc without a gradient", "h.*.mlp", (MLP, "self.c_fc(hidden_states)", "self.c_fc(hidden_states).detach().requires_grad_()"), new=True),
    _bug(
        "ln_2 of the attention alone",
        "h.*",
        (BLOCK, "hidden_states = self.ln_2(hidden_states)", "hidden_states = self.ln_2(attn_output)"),
        stages=("h.*.ln_2",),
        new=True,
    ),
    _bug(
        "the residual stream added in float16",
        "h.*",
        (BLOCK, "hidden_states = attn_output + residual", "hidden_states = (attn_output.half() + residual.half()).float()"),
        new=True,
    ),
    _bug("the residual added twice", "h.*", (BLOCK, "residual + feed_forward", "residual + residual + feed_forward"), new=True),
    _bug("layers in reverse", "", (MODEL, "enumerate(self.h)", "enumerate(self.h[::-1])"), stages=("h.*.ln_1",), new=True, needs=(("n_layer", 2),)),
    _bug("token types added as token 0", "", (MODEL, SUMMED, f"{SUMMED} + self.wte(torch.zeros_like(input_ids))"), stages=("embeddings",), new=True),
    _bug("the head reads one token late", "", ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states.roll(1, 1))"), stages=("logits",), new=True),
    _bug("a temperature left in the logits", "", ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states) / 0.7"), stages=("logits", "loss"), new=True),
    _bug("the queries' bias not loaded", "h.*.attn.c_attn", load="no bias of queries", new=True),
)
BUGS = (*OF_ATTENTION, *OF_NORMS, *OF_THE_REST, *NEW)
