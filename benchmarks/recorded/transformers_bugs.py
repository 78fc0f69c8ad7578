"""Bugs planted in the GPT-2 of Hugging Face transformers; the stories of parity/mutants."""

from benchmarks.recorded.transformers_edits import (
    ATTENTION,
    BLOCK,
    MASKED,
    MLP,
    MODEL,
    PADDED,
    SCALED,
    SCORES,
    SOFTMAX,
    SOFTMAX_OF_ITS_OWN,
    SPLIT,
    SUMMED,
    K,
    Q,
    V,
    bug,
    in_activation,
    in_attention,
    in_conv1d,
    in_norm,
)
from benchmarks.recorded.transformers_new import NEW

OF_ATTENTION = (
    bug(
        "heads cut but not moved",
        "h.*.attn",
        (ATTENTION, K, "\n            key_states = key_states.reshape(shape_kv[0], -1, shape_kv[1], self.head_dim)"),
        (
            ATTENTION,
            V,
            "\n            value_states = value_states.reshape(shape_kv[0], -1, shape_kv[1], self.head_dim)",
        ),
        (
            ATTENTION,
            Q,
            Q.replace("view(shape_q).transpose(1, 2)", "reshape(shape_q[0], -1, shape_q[1], self.head_dim)"),
        ),
    ),
    in_attention(
        "heads merged but not moved back",
        "attn_output = attn_output.transpose(1, 2)",
        "attn_output = attn_output.reshape(attn_output.shape[0], attn_output.shape[2], attn_output.shape[1], -1)",
    ),
    bug(
        "channels dealt to the heads in turn",
        "h.*.attn",
        (ATTENTION, K, "\n            key_states = key_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)"),
        (
            ATTENTION,
            V,
            "\n            value_states = value_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)",
        ),
        (ATTENTION, Q, "        query_states = query_states.unflatten(-1, (self.head_dim, -1)).permute(0, 3, 1, 2)\n"),
    ),
    bug(
        "queries and keys swapped",
        "h.*.attn",
        (ATTENTION, SPLIT, SPLIT.replace("query_states, key_states,", "key_states, query_states,")),
    ),
    bug(
        "q, k, v channel by channel",
        "h.*.attn",
        (ATTENTION, SPLIT, SPLIT.replace(".split(self.split_size, dim=2)", ".unflatten(-1, (-1, 3)).unbind(-1)")),
    ),
    bug(
        "keys for values",
        "h.*.attn",
        (ATTENTION, V, V.replace("value_states.view", "key_states.transpose(1, 2).reshape")),
    ),
    in_attention("scores not scaled", SCORES, "torch.matmul(query, key.transpose(-1, -2))"),
    bug(
        "scores scaled by the root of C",
        "h.*.attn",
        (ATTENTION, "self.scaling = self.head_dim**-0.5", "self.scaling = self.embed_dim**-0.5"),
    ),
    bug(
        "scores scaled by D",
        "h.*.attn",
        (ATTENTION, "self.scaling = self.head_dim**-0.5", "self.scaling = 1 / self.head_dim"),
    ),
    bug(
        "layers counted from zero in the scale",
        "h.*.attn",
        (ATTENTION, "float(self.layer_idx + 1)", "float(self.layer_idx or 1)"),
        needs=(("scale_attn_by_inverse_layer_idx", True), ("n_layer", 2)),
    ),
    bug(
        "scale_attn_weights ignored",
        "h.*.attn",
        (ATTENTION, "if self.scale_attn_weights:", "if True:"),
        needs=(("scale_attn_weights", False),),
    ),
    bug(
        "scale_attn_by_inverse_layer_idx ignored",
        "h.*.attn",
        (ATTENTION, "if self.scale_attn_by_inverse_layer_idx:", "if False:"),
        needs=(("scale_attn_by_inverse_layer_idx", True), ("n_layer", 2)),
    ),
    in_attention("scores in float16", SCORES, "(query.half() @ key.half().transpose(-1, -2)).float() * scaling"),
    in_attention(
        "the mask shows the next token", MASKED, f"{MASKED[:-1]}.roll(1, -1).index_fill(-1, torch.tensor(0), 0)\n"
    ),
    in_attention(
        "the mask hides the token itself",
        MASKED,
        "attn_weights = attn_weights + nn.functional.pad(attention_mask[..., 1:], (0, 1), value=-3e4)\n",
    ),
    in_attention("the mask upside down", MASKED, "attn_weights = attn_weights - 3e4 * (attention_mask == 0)\n"),
    in_attention("no causal mask", MASKED, "pass\n"),
    in_attention("masked scores of -4", MASKED, f"{MASKED[:-1]}.clamp(min=-4)\n"),
    in_attention("scores times the mask", MASKED, "attn_weights = attn_weights * (attention_mask == 0)\n"),
    in_attention(
        "masks tiled over the heads",
        MASKED,
        "attention_mask = attention_mask.expand(-1, query.shape[1], -1, -1)\n"
        "        tiled = attention_mask.transpose(0, 1).reshape(attn_weights.shape)\n"
        "        attn_weights = attn_weights + tiled\n",
        needs=PADDED,
    ),
    in_attention("the first sequence's mask for all", MASKED, f"{MASKED[:-1]}[:1]\n", needs=PADDED),
    in_attention("softmax over the queries", "dim=-1", "dim=-2"),
    in_attention(
        "one more in the sum",
        SOFTMAX,
        "attn_weights = torch.exp(attn_weights - attn_weights.amax(-1, keepdim=True))\n"
        "    attn_weights = attn_weights / (attn_weights.sum(-1, keepdim=True) + 1)",
    ),
    in_attention(
        "softmax's gradient without the sum",
        SOFTMAX,
        "attn_weights = Softmax.apply(attn_weights)",
        prelude=SOFTMAX_OF_ITS_OWN,
    ),
    in_attention(
        "the scale left out of the scores' gradient",
        SCORES,
        "Scaled.apply(torch.matmul(query, key.transpose(-1, -2)), scaling)",
        prelude=SCALED,
    ),
)
OF_NORMS = (
    in_norm(
        "epsilon outside the root",
        "deviation = x.var(-1, unbiased=False, keepdim=True).sqrt() + self.eps\n"
        "        return (x - x.mean(-1, True)) / deviation * self.weight + self.bias",
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    in_norm(
        "epsilon always 1e-5",
        "return nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, 1e-5)",
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    bug(
        "ln_f keeps the default epsilon",
        "ln_f",
        (
            MODEL,
            "self.ln_f = nn.LayerNorm(self.embed_dim, eps=config.layer_norm_epsilon)",
            "self.ln_f = nn.LayerNorm(self.embed_dim)",
        ),
        needs=(("layer_norm_epsilon", 1e-3),),
    ),
    in_norm(
        "the unbiased variance",
        "return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias",
    ),
    in_norm(
        "the variance in one pass",
        "mean = x.mean(-1, True)\n        variance = (x * x).mean(-1, True) - mean * mean\n"
        "        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias",
        needs=(("regime", "large offset"),),
    ),
    in_norm(
        "mean of absolute values",
        "c = x - x.mean(-1, True); return c / (c.abs().mean(-1, True) + self.eps) * self.weight + self.bias",
    ),
    in_norm(
        "LayerNorm's gain dropped",
        "return nn.functional.layer_norm(x, self.normalized_shape, None, self.bias, self.eps)",
    ),
    in_norm(
        "LayerNorm's bias dropped",
        "return nn.functional.layer_norm(x, self.normalized_shape, self.weight, None, self.eps)",
    ),
    in_norm(
        "gain counted from one",
        "return nn.functional.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)",
    ),
    in_norm(
        "RMSNorm for LayerNorm",
        "return x / (x.square().mean(-1, True) + self.eps).sqrt() * self.weight + self.bias",
    ),
    in_norm(
        "LayerNorm over all tokens",
        "return nn.functional.layer_norm(x, x.shape[1:], eps=self.eps) * self.weight + self.bias",
    ),
    in_norm(
        "LayerNorm in float16",
        "weight, bias = self.weight.half(), self.bias.half()\n"
        "        return nn.functional.layer_norm(x.half(), self.normalized_shape, weight, bias, self.eps).float()",
    ),
    in_norm(
        "LayerNorm's mean left out of its gradient",
        "c = x - x.mean(-1, True).detach(); v = (x - x.mean(-1, True)).square().mean(-1, True)\n"
        "        return c / (v + self.eps).sqrt() * self.weight + self.bias",
    ),
)
OF_THE_REST = (
    bug(
        "ln_1 for both norms",
        "h.*",
        (BLOCK, "hidden_states = self.ln_2(hidden_states)", "hidden_states = self.ln_1(hidden_states)"),
    ),
    bug("ln_f dropped", "", (MODEL, "        hidden_states = self.ln_f(hidden_states)\n", ""), stages=("ln_f",)),
    in_conv1d("the bias dropped", "y = torch.mm(x, self.weight)"),
    in_conv1d("the bias of every rank", "y = torch.addmm(2 * self.bias, x, self.weight)"),
    in_conv1d(
        "matmul in TF32",
        "y = torch.addmm(self.bias, (x.detach().view(torch.int32) & ~8191).view(torch.float32) + 0 * x, self.weight)",
    ),
    in_conv1d("products in float16", "y = torch.mm(x.half(), self.weight.half()).float() + self.bias"),
    bug("c_proj transposed", "h.*.attn.c_proj", load="c_proj transposed"),
    bug("positions left out", "", (MODEL, SUMMED, "hidden_states = inputs_embeds"), stages=("embeddings",)),
    bug("positions added twice", "", (MODEL, SUMMED, f"{SUMMED} + position_embeds"), stages=("embeddings",)),
    bug(
        "embeddings times the root of C",
        "",
        (MODEL, SUMMED, SUMMED.replace("inputs_embeds +", "inputs_embeds * self.embed_dim**0.5 +")),
        stages=("embeddings", "wte"),
    ),
    bug(
        "positions one too far",
        "",
        (
            MODEL,
            "device=inputs_embeds.device) + past_seen_tokens",
            "device=inputs_embeds.device) + past_seen_tokens + 1",
        ),
        stages=("wpe",),
    ),
    bug(
        "positions follow the mask",
        "",
        (
            MODEL,
            "position_ids = position_ids.unsqueeze(0)",
            "position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)",
        ),
        stages=("wpe",),
        needs=PADDED,
    ),
    bug(
        "padding ignored",
        "",
        (
            MODEL,
            "attention_mask=attention_mask,\n            past_key_values=past_key_values,\n            position_ids",
            "attention_mask=None,\n            past_key_values=past_key_values,\n            position_ids",
        ),
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
        needs=PADDED,
    ),
    bug(
        "padding mask inverted",
        "",
        (
            MODEL,
            "attention_mask = attention_mask.view(batch_size, -1)",
            "attention_mask = 1 - attention_mask.view(batch_size, -1)",
        ),
        stages=("h.*.attn.masked_scores", "h.*.attn.attn_weights"),
        needs=PADDED,
    ),
    bug(
        "post-LN",
        "h.*",
        (BLOCK, "        hidden_states = self.ln_1(hidden_states)\n", ""),
        (
            BLOCK,
            "        hidden_states = attn_output + residual\n",
            "        hidden_states = self.ln_1(attn_output + residual)\n",
        ),
        (BLOCK, "        hidden_states = self.ln_2(hidden_states)\n", ""),
        (
            BLOCK,
            "hidden_states = residual + feed_forward_hidden_states",
            "hidden_states = self.ln_2(residual + feed_forward_hidden_states)",
        ),
        stages=("h.*.ln_1", "h.*.attn.qkv", "h.*.ln_2"),
    ),
    bug(
        "attention and MLP side by side",
        "h.*",
        (
            BLOCK,
            "        residual = hidden_states\n        hidden_states = self.ln_2(hidden_states)",
            "        hidden_states, residual = self.ln_2(residual), hidden_states",
        ),
        stages=("h.*.ln_2",),
    ),
    bug(
        "residual of the normed input",
        "h.*",
        (
            BLOCK,
            "        residual = hidden_states\n        hidden_states = self.ln_1(hidden_states)",
            "        residual = hidden_states = self.ln_1(hidden_states)",
        ),
    ),
    bug("residual missing", "h.*", (BLOCK, "hidden_states = residual + feed_forward", "hidden_states = feed_forward")),
    bug(
        "residual scaled by depth",
        "h.*",
        (BLOCK, "hidden_states = attn_output + residual", "hidden_states = attn_output * 0.5**0.5 + residual"),
    ),
    bug(
        "the residual's gradient dropped", "h.*", (BLOCK, "residual + feed_forward", "residual.detach() + feed_forward")
    ),
    bug("the last layer left out", "", (MODEL, "enumerate(self.h)", "enumerate(self.h[:-1])"), stages=("ln_f", "h.*")),
    bug(
        "the first layer's weights for all",
        "",
        (MODEL, "hidden_states = block(", "hidden_states = self.h[0]("),
        stages=("h.*.ln_1", "ln_f"),
        needs=(("n_layer", 2),),
    ),
    bug(
        "tie_word_embeddings ignored",
        ("", "lm_head"),
        (
            "GPT2LMHeadModel",
            "self.lm_head(hidden_states)",
            "nn.functional.linear(hidden_states, self.transformer.wte.weight)",
        ),
        stages=("logits",),
        needs=(("tie_word_embeddings", False),),
    ),
    bug("the head as it was initialised", "lm_head", load="head left out", needs=(("tie_word_embeddings", False),)),
    bug(
        "tied head scaled",
        "",
        ("GPT2LMHeadModel", "self.lm_head(hidden_states)", "self.lm_head(hidden_states * self.config.n_embd**-0.5)"),
        stages=("logits",),
    ),
    bug(
        "labels not shifted",
        "",
        (
            "GPT2LMHeadModel",
            "                labels,\n",
            "                labels,\n                shift_labels=labels,\n",
        ),
        stages=("loss",),
    ),
    bug(
        "labels shifted twice",
        "",
        (
            "GPT2LMHeadModel",
            "                labels,\n",
            "                nn.functional.pad(labels, (0, 1), value=-100)[:, 1:],\n",
        ),
        stages=("loss",),
    ),
    bug(
        "the gradient of wpe is zero",
        "",
        (MODEL, SUMMED, SUMMED.replace("position_embeds.to", "position_embeds.detach().to")),
    ),
    in_activation("erf for tanh", "return nn.functional.gelu(x)"),
    in_activation(
        "two digits of 0.044715 swapped",
        "return 0.5 * x * (1 + torch.tanh((2 / math.pi) ** 0.5 * (x + 0.044175 * x**3)))",
    ),
    in_activation("quick GELU", "return x * torch.sigmoid(1.702 * x)"),
    in_activation(
        "tanh by a rational formula",
        "u = ((2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).clamp(-3, 3)\n"
        "        return 0.5 * x * (1 + u * (27 + u * u) / (27 + 9 * u * u))",
    ),
    in_activation(
        "activation_function ignored",
        "return nn.functional.gelu(x, approximate='tanh')",
        needs=(("activation_function", "relu"),),
    ),
    bug(
        "activation before the bias",
        "h.*.mlp",
        (
            MLP,
            "hidden_states = self.act(hidden_states)",
            "hidden_states = self.act(hidden_states - self.c_fc.bias) + self.c_fc.bias",
        ),
    ),
    in_activation(
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
BUGS = (*OF_ATTENTION, *OF_NORMS, *OF_THE_REST, *NEW)
