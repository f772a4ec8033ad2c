"""How weights move: Muon for matrices, in float32, because bfloat16 is slow on most CPUs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is made orthogonal, so that all directions of a matrix learn alike.

    Takes matrices only. Steps are scaled to the size AdamW's would have, so learning rates compare.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Moves every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["speed"] = torch.zeros_like(matrix)
                state["speed"].lerp_(matrix.grad, 1 - group["momentum"])
                ahead = matrix.grad.lerp(state["speed"], group["momentum"])
                scale = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(orthogonal(ahead), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Nearly the orthogonal matrix closest to this one, by Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    turned = matrix.T if tall else matrix
    turned = turned / (turned.norm() + 1e-7)
    for _ in range(rounds):
        square = turned @ turned.T
        # these coefficients pull every singular value close to 1 in few rounds, at the price of not reaching it
        turned = 3.4445 * turned + (-4.7750 * square + 2.0315 * square @ square) @ turned
    return turned.T if tall else turned
