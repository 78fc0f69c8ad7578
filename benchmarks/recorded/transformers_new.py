"""Bugs planted in the GPT-2 of Hugging Face transformers, written for this campaign before any of it was judged."""

from benchmarks.recorded.transformers_edits import (
    ATTENTION,
    BLOCK,
    MLP,
    MODEL,
    SCORES,
    SOFTMAX,
    SUMMED,
    bug,
    in_activation,
    in_attention,
    in_conv1d,
    in_norm,
)

NEW = (
    in_attention(
        "softmax in float16",
        SOFTMAX,
        "attn_weights = nn.functional.softmax(attn_weights.half(), dim=-1).float()",
        new=True,
    ),
    in_attention(
        "weights in bfloat16 for the product with the values",
        "attn_output = torch.matmul(attn_weights, value)",
        "attn_output = torch.matmul(attn_weights.bfloat16(), value.bfloat16()).to(value.dtype)",
        new=True,
    ),
    in_attention(
        "values scaled like the queries",
        "torch.matmul(attn_weights, value)",
        "torch.matmul(attn_weights, value * scaling)",
        new=True,
    ),
    in_attention("the scale applied twice", SCORES, f"{SCORES} * scaling", new=True),
    in_attention("scores softly capped at 5", SCORES, f"5 * torch.tanh({SCORES} / 5)", new=True),
    in_attention(
        "a slope of distance added to the scores",
        SOFTMAX,
        "distance = torch.arange(key.shape[-2])[None] - torch.arange(query.shape[-2])[:, None]\n"
        f"    attn_weights = attn_weights + 0.25 * distance.to(attn_weights.dtype)\n    {SOFTMAX}",
        new=True,
    ),
    in_attention(
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
    in_attention(
        "a window of four tokens",
        SOFTMAX,
        f"attn_weights = attn_weights - 3e4 * torch.ones_like(attn_weights).tril(-4)\n    {SOFTMAX}",
        new=True,
    ),
    in_attention(
        "the last head left zero",
        "torch.matmul(attn_weights, value)",
        "torch.matmul(attn_weights, value * (torch.arange(value.shape[1]) < value.shape[1] - 1)[:, None, None])",
        new=True,
    ),
    in_attention(
        "the keys' heads in reverse", SCORES, "torch.matmul(query, key.flip(1).transpose(-1, -2)) * scaling", new=True
    ),
    in_attention(
        "the values one token late",
        "torch.matmul(attn_weights, value)",
        "torch.matmul(attn_weights, value.roll(1, -2))",
        new=True,
    ),
    in_attention(
        "the first sequence's keys for all",
        SCORES,
        "torch.matmul(query, key[:1].transpose(-1, -2)) * scaling",
        new=True,
    ),
    in_attention(
        "keys without a gradient", SCORES, "torch.matmul(query, key.detach().transpose(-1, -2)) * scaling", new=True
    ),
    bug(
        "the root of D cut to an integer",
        "h.*.attn",
        (ATTENTION, "self.head_dim**-0.5", "1 / int(self.head_dim**0.5)"),
        new=True,
    ),
    bug(
        "the number of heads for D in the scale",
        "h.*.attn",
        (ATTENTION, "self.head_dim**-0.5", "self.num_heads**-0.5"),
        new=True,
    ),
    in_norm(
        "gain and bias exchanged",
        "return nn.functional.layer_norm(x, self.normalized_shape, self.bias, self.weight, self.eps)",
        new=True,
    ),
    in_norm(
        "the first token's variance for all",
        "c = x - x.mean(-1, True)\n"
        "        return c / (c[:, :1].square().mean(-1, True) + self.eps).sqrt() * self.weight + self.bias",
        new=True,
    ),
    in_conv1d(
        "weights rounded to 8 bits",
        "s = self.weight.abs().max() / 127; y = torch.addmm(self.bias, x, (self.weight / s).round() * s)",
        new=True,
    ),
    in_conv1d("weights kept in bfloat16", "y = torch.addmm(self.bias, x, self.weight.bfloat16().float())", new=True),
    in_activation(
        "the root of 2 / pi as 0.8", "return 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.044715 * x**3)))", new=True
    ),
    in_activation(
        "the activation cut off at 1", "return nn.functional.gelu(x, approximate='tanh').clamp(max=1)", new=True
    ),
    bug(
        "the activation applied twice",
        "h.*.mlp",
        (MLP, "self.act(hidden_states)", "self.act(self.act(hidden_states))"),
        new=True,
    ),
    bug(
        "the last MLP unit dropped",
        "h.*.mlp",
        (MLP, "self.act(hidden_states)", "nn.functional.pad(self.act(hidden_states)[..., :-1], (0, 1))"),
        new=True,
    ),
    bug(
        "c_fc without a gradient",
        "h.*.mlp",
        (MLP, "self.c_fc(hidden_states)", "self.c_fc(hidden_states).detach().requires_grad_()"),
        new=True,
    ),
    bug(
        "ln_2 of the attention alone",
        "h.*",
        (BLOCK, "hidden_states = self.ln_2(hidden_states)", "hidden_states = self.ln_2(attn_output)"),
        stages=("h.*.ln_2",),
        new=True,
    ),
    bug(
        "the residual stream added in float16",
        "h.*",
        (
            BLOCK,
            "hidden_states = attn_output + residual",
            "hidden_states = (attn_output.half() + residual.half()).float()",
        ),
        new=True,
    ),
    bug(
        "the residual added twice",
        "h.*",
        (BLOCK, "residual + feed_forward", "residual + residual + feed_forward"),
        new=True,
    ),
    bug(
        "layers in reverse",
        "",
        (MODEL, "enumerate(self.h)", "enumerate(self.h[::-1])"),
        stages=("h.*.ln_1",),
        new=True,
        needs=(("n_layer", 2),),
    ),
    bug(
        "token types added as token 0",
        "",
        (MODEL, SUMMED, f"{SUMMED} + self.wte(torch.zeros_like(input_ids))"),
        stages=("embeddings",),
        new=True,
    ),
    bug(
        "the head reads one token late",
        "",
        ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states.roll(1, 1))"),
        stages=("logits",),
        new=True,
    ),
    bug(
        "a temperature left in the logits",
        "",
        ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states) / 0.7"),
        stages=("logits", "loss"),
        new=True,
    ),
    bug("the queries' bias not loaded", "h.*.attn.c_attn", load="no bias of queries", new=True),
)
