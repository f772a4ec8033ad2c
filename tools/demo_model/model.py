"""The network: a small llama in torch, row for row what llama.cpp runs under that name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network. Every row is a multiple of 32 long, so that every matrix can be Q8_0."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 768
    context: int = 1024
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads


class Llama(nn.Module):
    """Token ids in, logits out. The embedding is also the output matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        cos, sin = rotations(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        for block in self.blocks:  # what is added to the residual starts smaller, so depth does not blow it up
            for matrix in (block.output, block.down):
                nn.init.normal_(matrix.weight, std=0.02 / (2 * shape.layers) ** 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits for [batch, length] ids; the whole row is one context, from position 0."""
        length = tokens.shape[1]
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden, self.cos[:length], self.sin[:length])
        return functional.linear(self.norm(hidden), self.embedding.weight)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward net, each behind its norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.head * shape.kv_heads
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, kv_width, bias=False)
        self.value = nn.Linear(shape.width, kv_width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)
        self.feed_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        hidden = hidden + self._attend(self.attention_norm(hidden), cos, sin)
        normed = self.feed_norm(hidden)
        return hidden + self.down(functional.silu(self.gate(normed)) * self.up(normed))

    def _attend(self, normed: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = normed.shape
        shape = self.shape

        def heads(flat: Tensor, count: int) -> Tensor:
            return flat.view(batch, length, count, shape.head).transpose(1, 2)

        query = rotate(heads(self.query(normed), shape.heads), cos, sin)
        key = rotate(heads(self.key(normed), shape.kv_heads), cos, sin)
        value = heads(self.value(normed), shape.kv_heads)
        share = shape.heads // shape.kv_heads
        mixed = functional.scaled_dot_product_attention(
            query, key.repeat_interleave(share, 1), value.repeat_interleave(share, 1), is_causal=True
        )
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


def rotations(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine for each position and each pair of neighbouring features of a head."""
    frequency = shape.rope_base ** (-torch.arange(0, shape.head, 2, dtype=torch.float64) / shape.head)
    angle = torch.outer(torch.arange(shape.context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair of *neighbouring* features, the convention of llama.cpp's llama architecture.

    Training in that convention means that query and key rows need no permutation when exported.
    """
    even, odd = heads[..., 0::2], heads[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
