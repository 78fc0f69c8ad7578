"""The attention of a course on GPT-2, in PyTorch: no cache, no padding, no options."""

import math

import torch
from torch import nn


class MultiheadAttention(nn.Module):
    def __init__(self, n_embd, n_head, n_positions):
        super().__init__()
        self.n_head, self.head_size = n_head, n_embd // n_head
        self.c_attn = nn.Linear(n_embd, 3 * n_embd)
        self.c_proj = nn.Linear(n_embd, n_embd)
        self.register_buffer("causal", torch.tril(torch.ones(n_positions, n_positions)))

    def split_heads(self, x):
        x = x.view(x.shape[0], x.shape[1], self.n_head, self.head_size)
        return x.permute(0, 2, 1, 3)

    def merge_heads(self, x):
        x = x.permute(0, 2, 1, 3).contiguous()
        return x.view(x.shape[0], x.shape[1], self.n_head * self.head_size)

    def forward(self, x):
        query, key, value = self.c_attn(x).split(x.shape[2], dim=2)
        query = self.split_heads(query)
        key = self.split_heads(key)
        value = self.split_heads(value)
        scores = query @ key.transpose(2, 3)
        scores = scores / math.sqrt(self.head_size)
        visible = self.causal[: x.shape[1], : x.shape[1]] == 1
        scores = torch.where(visible, scores, torch.tensor(-1e4))
        weights = torch.softmax(scores, dim=3)
        output = weights @ value
        output = self.merge_heads(output)
        return self.c_proj(output)


def attention(x, params, config):
    module = MultiheadAttention(config.n_embd, config.n_head, config.n_positions)
    for name in ("c_attn", "c_proj"):
        layer = getattr(module, name)
        layer.weight.data, layer.bias.data = params[name]["weight"].T, params[name]["bias"]
    return module(x)
