"""The three networks: one composes scenes from words, one knows the shapes' outlines, one finds the things of a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.picture_model.scenes import SHAPES
from tools.picture_model.slots import COLUMNS, ROWS
from tools.picture_model.words import COUNT, LENGTH


@dataclass(frozen=True, slots=True)
class Form:
    """Sizes of the composer."""

    width: int = 128
    heads: int = 4
    blocks: int = 4
    text_blocks: int = 2
    hidden: int = 384


BEGIN = COUNT
"""Stands before every text, and alone for no text."""
BOX = 5
"""Numbers that tell of a hole: left, top, right, bottom, and 1 where there is a hole."""
SEEN = 64
"""Pixels each way of the picture in which things are looked for."""
SPOTS = 16
"""Cells each way; each may hold the middle of a small thing and of a large one."""
LARGE_FROM = 0.19
"""Radius from which a thing counts as large."""
ANSWERS = 1 + 2 + 1 + 3 + len(SHAPES)
"""What is said of a cell: is there a thing, where in the cell, its radius, its colour, its shape."""


class Attention(nn.Module):
    """Many-headed attention of ``here`` to ``there``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, here: Tensor, there: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value = (
            layer(side).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, side in ((self.query, here), (self.key, there), (self.value, there))
        )
        scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5)
        if mask is not None:
            scores = scores + mask
        return self.output(torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2))


class Feed(nn.Module):
    """Two layers, applied to each row alone."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        nn.init.normal_(self.down.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.up(x)))


class TextBlock(nn.Module):
    """Words look at each other."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(form.width)
        self.attention = Attention(form.width, form.heads)
        self.feed_norm = nn.LayerNorm(form.width)
        self.feed = Feed(form.width, form.hidden)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, mask)
        return x + self.feed(self.feed_norm(x))


class SceneBlock(nn.Module):
    """The scene's rows look at each other, then at the words; the time says how far to trust what they see."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(form.width) for _ in range(3))
        self.attention = Attention(form.width, form.heads)
        self.words = Attention(form.width, form.heads)
        self.feed = Feed(form.width, form.hidden)
        self.steer = nn.Linear(form.width, 2 * form.width)
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor, when: Tensor) -> Tensor:
        normed = self.norms[0](x)
        x = x + self.attention(normed, normed)
        x = x + self.words(self.norms[1](x), text, mask)
        scale, shift = self.steer(when).unsqueeze(1).chunk(2, -1)
        return x + self.feed(self.norms[2](x) * (1 + scale) + shift)


class Composer(nn.Module):
    """Guesses the finished scene from a noisy one, the words and, for changes, the scene to start from."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        width = form.width
        self.word = nn.Embedding(COUNT + 1, width)
        self.word_place = nn.Parameter(torch.randn(LENGTH + 1, width) * 0.3)
        self.text_blocks = nn.ModuleList(TextBlock(form) for _ in range(form.text_blocks))
        self.text_norm = nn.LayerNorm(width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Linear(2 * COLUMNS + 1 + BOX, width)
        self.row = nn.Parameter(torch.randn(ROWS, width) * 0.5)
        self.blocks = nn.ModuleList(SceneBlock(form) for _ in range(form.blocks))
        self.leave_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, COLUMNS)

    def forward(self, words: Tensor, noisy: Tensor, time: Tensor, source: Tensor, given: Tensor, box: Tensor) -> Tensor:
        """The finished scene (batch, ROWS, COLUMNS).

        ``words`` (batch, n) begins with BEGIN and ends in zeros; ``time`` (batch) goes from 0, all noise, to 1; ``source`` is the
        scene to start from, zeros where ``given`` (batch) is 0; ``box`` (batch, BOX) the hole to fill, zeros for none.
        """
        mask = (words == 0).to(noisy.dtype)[:, None, None, :] * -1e4
        text = self.word(words) + self.word_place[: words.shape[1]]
        for block in self.text_blocks:
            text = block(text, mask)
        text = self.text_norm(text)
        when = functional.silu(self.time(waves(time)) + text[:, 0])
        known = torch.cat((given[:, None], box), 1)[:, None].expand(-1, ROWS, -1)
        x = self.enter(torch.cat((noisy, source, known), -1)) + self.row
        for block in self.blocks:
            x = block(x, text, mask, when)
        return self.leave(self.leave_norm(x))


def waves(time: Tensor) -> Tensor:
    """A time from 0 to 1 as 64 sines and cosines."""
    rates = torch.exp(torch.arange(32, dtype=torch.float32) * (math.log(100.0) / 31))
    angles = time[:, None] * rates * (math.pi / 2)
    return torch.cat((angles.sin(), angles.cos()), 1)


class Outlines(nn.Module):
    """How far a point lies outside a shape, which is what draws it at any size."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.enter = nn.Linear(2 + len(SHAPES), hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(len(SHAPES), hidden) for _ in range(2))
        self.leave = nn.Linear(hidden, 1)

    def forward(self, points: Tensor, shape: Tensor) -> Tensor:
        """Distances (n) of ``points`` (n, 2) to the outline of ``shape`` (n or 1, SHAPES; sums to 1), negative inside; radii."""
        shape = shape.expand(points.shape[0], -1)
        x = functional.relu(self.enter(torch.cat((points * 2, shape), 1)))
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = functional.relu(layer(x) + gate(shape))
        return self.leave(x)[:, 0]


class Finder(nn.Module):
    """Which things a picture shows, and on what background."""

    def __init__(self, width: int = 48, deep: int = 80) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.shrink = nn.Conv2d(16, width, 3, stride=2, padding=1)
        self.near = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.down = nn.Conv2d(width, deep, 3, stride=2, padding=1)
        self.far = nn.ModuleList(nn.Conv2d(deep, deep, 3, padding=1) for _ in range(3))
        self.up = nn.Conv2d(deep, width, 1)
        self.join = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.say = nn.Conv2d(width, 2 * ANSWERS, 1)
        self.behind = nn.Linear(deep, 3)
        # most cells are empty, and the network should not have to learn that first
        nn.init.constant_(self.say.bias.view(2, ANSWERS)[:, 0], -5.0)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``picture`` (batch, 3, SEEN, SEEN), 0 to 1: (batch, 2, ANSWERS, SPOTS, SPOTS), and the background's colour."""
        x = functional.relu(self.shrink(functional.relu(self.enter(picture * 2 - 1))))
        for layer in self.near:
            x = x + functional.relu(layer(x))
        deep = functional.relu(self.down(x))
        for layer in self.far:
            deep = deep + functional.relu(layer(deep))
        wide = self.up(deep)[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        x = x + wide.reshape(x.shape)
        for layer in self.join:
            x = x + functional.relu(layer(x))
        return self.say(x).reshape(-1, 2, ANSWERS, SPOTS, SPOTS), self.behind(deep.mean((2, 3)))
