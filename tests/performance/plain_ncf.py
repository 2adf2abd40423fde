"""The control for the speed of NCF training: a plain loop, this and nothing faster or slower.

Tower 64-32-16-8 over embeddings 16 + 16; all positives and 4 uniform negatives each are drawn once an epoch into
tensors; one ``randperm``; slices of 8,192; binary cross-entropy on logits; Adam, step 5e-3.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

FACTORS, LAYERS, NEGATIVES, BATCH_SIZE, LEARNING_RATE = 16, (64, 32, 16, 8), 4, 8_192, 5e-3


class PlainNCF(nn.Module):
    """(b,) users and (b,) items -> (b,) logits."""

    def __init__(self, n_users: int, n_items: int) -> None:
        super().__init__()
        self.user = nn.Embedding(n_users, FACTORS)
        self.item = nn.Embedding(n_items, FACTORS)
        units = (2 * FACTORS, *LAYERS)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(units):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.tower = nn.Sequential(*layers, nn.Linear(units[-1], 1))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        logits: Tensor = self.tower(torch.cat([self.user(users), self.item(items)], dim=1))
        return logits.squeeze(1)


def train(users: Tensor, items: Tensor, n_users: int, n_items: int, epochs: int) -> PlainNCF:
    """Train on (n,) int64 positives."""
    model = PlainNCF(n_users, n_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        negatives = torch.randint(n_items, (NEGATIVES * len(items),))
        all_users = torch.cat([users, users.repeat_interleave(NEGATIVES)])
        all_items = torch.cat([items, negatives])
        labels = torch.cat([torch.ones(len(items)), torch.zeros(len(negatives))])
        order = torch.randperm(len(labels))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            logits = model(all_users[batch], all_items[batch])
            nn.functional.binary_cross_entropy_with_logits(logits, labels[batch]).backward()
            optimizer.step()
    return model
