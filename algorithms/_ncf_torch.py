"""The networks of ``algorithms.ncf`` on PyTorch Lightning: layers, batches, diversity terms, training, scoring."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.nn import functional

from algorithms.types import FitContext
from datasets.types import FloatArray, IntArray, Interactions

TILE_PAIRS = {"cpu": 8_192, "cuda": 1 << 20}
"""Pairs scored at once: on a CPU their hidden units stay in the cache, on a GPU one launch has enough to do."""

TILE_ROWS = 1 << 17
"""Training rows whose negatives are drawn at once: 64-bit keys exist for so many only."""

MIN_STEPS = 16
"""An epoch is cut into at least so many batches."""

DIVERSITY_USERS = 32
"""Users of a batch whose lists the diversity term looks at."""

CANDIDATE_POWER = 0.75
"""Between uniform draws and draws by popularity (Mikolov et al. 2013, section 2.2)."""

BATCHES, DIVERSITY = range(2)
"""Streams of random numbers: a diversity term must not move the batches' draws."""


# -- the network ------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """logit(u, i) = tower([p_u, q_i]) + h · (g_u ⊙ g_i) (He et al. 2017, eq. 12; ``gmf_factors`` 0: eq. 10).

    The tower's last layer and h together are NeuMF's output layer, whose input is the concatenation of both parts.
    """

    def __init__(
        self, n_users: int, n_items: int, factors: int, layers: tuple[int, ...], gmf_factors: int, initial_std: float
    ) -> None:
        super().__init__()
        self.user = _embedding(n_users, factors, initial_std)
        self.item = _embedding(n_items, factors, initial_std)
        units = (2 * factors, *layers)
        self.first = nn.Linear(units[0], units[1])
        hidden = [part for sizes in pairwise(units[1:]) for part in (nn.ReLU(inplace=True), nn.Linear(*sizes))]
        self.rest = nn.Sequential(*hidden, nn.ReLU(inplace=True), nn.Linear(units[-1], 1))
        self.gmf: nn.Linear | None = None
        if gmf_factors:
            self.gmf_user = _embedding(n_users, gmf_factors, initial_std)
            self.gmf_item = _embedding(n_items, gmf_factors, initial_std)
            self.gmf = nn.Linear(gmf_factors, 1, bias=False)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(b,) users and (b, m) items of each -> (b, m) logits.

        The first layer is W [p, q] + c = (W_p p + c) + W_q q, so that a user's half is computed once for m items.
        """
        hidden = self.item_half(self.item(items))
        hidden += self.user_half(self.user(users))[:, None, :]
        logits = self.above_first(hidden)
        if self.gmf is not None:
            logits = logits + self.gmf(self.gmf_user(users)[:, None, :] * self.gmf_item(items)).squeeze(-1)
        return logits

    def user_half(self, embeddings: Tensor) -> Tensor:
        """(..., factors) -> (..., layers[0]): the first layer's part that sees the user, with its bias."""
        return functional.linear(embeddings, self.first.weight.tensor_split(2, dim=1)[0], self.first.bias)

    def item_half(self, embeddings: Tensor) -> Tensor:
        """(..., factors) -> (..., layers[0]): the first layer's part that sees the item."""
        return functional.linear(embeddings, self.first.weight.tensor_split(2, dim=1)[1])

    def above_first(self, hidden: Tensor) -> Tensor:
        """(..., layers[0]) sums of both halves, which are overwritten -> (...) logits of the tower."""
        logits: Tensor = self.rest(hidden).squeeze(-1)
        return logits

    def embeddings(self) -> list[Tensor]:
        """The tables, without the layers."""
        return [module.weight for module in self.children() if isinstance(module, nn.Embedding)]


def build(design: Mapping[str, Any], initial_layers: str, seed: int) -> Network:
    """A network with the initial weights of ``seed``; the process's own random state stays as it is.

    ``initial_layers`` "glorot": uniform weights of Glorot and Bengio (2010), zero biases. With PyTorch's random biases
    and embeddings near 0, a unit whose bias is negative is off for every pair, and stays so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(**design)
        for module in network.modules():
            if isinstance(module, nn.Linear) and initial_layers == "glorot":
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return network


def restore(design: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]]) -> Network:
    """A network on the CPU with saved ``weights``; other arrays among them are left alone."""
    network = Network(**design)
    network.load_state_dict({name: torch.tensor(weights[name]) for name in network.state_dict()})
    return network


def _embedding(n: int, factors: int, std: float) -> nn.Embedding:
    table = nn.Embedding(n, factors)
    with torch.no_grad():
        table.weight.mul_(std)  # PyTorch draws them from N(0, 1)
    return table


# -- batches ----------------------------------------------------------------------------------------------------------

Batch = tuple[Tensor, Tensor, Tensor]
"""(b,) int32 users, (b, m) int32 items, (b, m) float32 targets."""


class RankingBatches:
    """Every training row with ``negatives`` items that its user did not rate, drawn anew each epoch.

    A batch has 1 + negatives columns: the row's own item with target 1, then the drawn ones with target 0. Rows of a
    user who rated everything are left out. All tensors live on the training device.
    """

    def __init__(self, rows: Interactions, negatives: int, batch_size: int, device: str, seed: int) -> None:
        self._sampler = UnratedSampler(rows, device)
        users, items = torch.tensor(rows.users, device=device), torch.tensor(rows.items, device=device)
        kept = self._sampler.n_unrated[users] > 0
        self._users = users[kept]
        self._items = items[kept, None].repeat(1, 1 + negatives)
        self._batch_rows = _batch_rows(len(self._users), batch_size // (1 + negatives))
        self._targets = torch.zeros(self._batch_rows, 1 + negatives, device=device)
        self._targets[:, 0] = 1
        self._generator = generator(device, seed, BATCHES)

    def __len__(self) -> int:
        return -(-len(self._users) // self._batch_rows)

    def __iter__(self) -> Iterator[Batch]:
        for users, items in zip(self._users.split(TILE_ROWS), self._items.split(TILE_ROWS), strict=True):
            items[:, 1:] = self._sampler.draw(users, items.shape[1] - 1, self._generator)
        order = torch.randperm(len(self._users), generator=self._generator, device=self._users.device)
        for part in order.split(self._batch_rows):
            yield self._users[part], self._items[part], self._targets[: len(part)]


class RatingBatches:
    """Every training row once an epoch, its target the rating less ``mean``."""

    def __init__(self, rows: Interactions, mean: float, batch_size: int, device: str, seed: int) -> None:
        self._users = torch.tensor(rows.users, device=device)
        self._items = torch.tensor(rows.items, device=device)[:, None]
        self._targets = torch.tensor(rows.values - np.float32(mean), device=device)[:, None]
        self._batch_rows = _batch_rows(len(rows), batch_size)
        self._generator = generator(device, seed, BATCHES)

    def __len__(self) -> int:
        return -(-len(self._users) // self._batch_rows)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._users), generator=self._generator, device=self._users.device)
        for part in order.split(self._batch_rows):
            yield self._users[part], self._items[part], self._targets[part]


def _batch_rows(n_rows: int, wanted: int) -> int:
    """Rows of a batch: as wanted, but small data still makes ``MIN_STEPS`` steps an epoch."""
    return max(1, min(wanted, -(-n_rows // MIN_STEPS)))


class UnratedSampler:
    """Uniform draws, with replacement, of items that a user has not rated: exact, and none is thrown away.

    With a user's rated items a_0 < a_1 < …, the r-th unrated item (from 0) is r + #{j: a_j − j ≤ r}. One search in the
    sorted keys user · n_items + (a_j − j) answers any number of draws.

    Attributes:
        n_unrated: (n_users,) int64.
    """

    def __init__(self, rows: Interactions, device: str) -> None:
        self._n_items = rows.n_items
        rated = torch.tensor(np.unique(rows.users.astype(np.int64) * rows.n_items + rows.items), device=device)
        users = rated // rows.n_items
        counts = torch.bincount(users, minlength=rows.n_users)
        self._starts = counts.cumsum(0) - counts
        self._keys = rated - (torch.arange(len(rated), device=device) - self._starts[users])
        self.n_unrated = rows.n_items - counts

    def draw(self, users: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """(b,) users who have an unrated item -> (b, n) int32 items."""
        users = users.long()[:, None]
        noise = torch.randint(1 << 62, (len(users), n), generator=generator, device=users.device)
        place = noise % self.n_unrated[users]
        rated_below = torch.searchsorted(self._keys, users * self._n_items + place, right=True) - self._starts[users]
        return (place + rated_below).int()


def generator(device: str, seed: int, stream: int) -> torch.Generator:
    """Random numbers on ``device``, other ones for each seed and stream."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1)
    return torch.Generator(device).manual_seed(int(state[0]))


# -- diversity --------------------------------------------------------------------------------------------------------

Penalty = Callable[[Network, Tensor, Tensor, Tensor], Tensor]
"""(network, (b,) users, (b, m) items, (b, m) logits) of a batch -> () added to its loss."""


class ExpectedSimilarity:
    """Mean expected similarity of the lists of some of a batch's users (see ``NCFDiversity``).

    Args:
        genres: (n_items, g) non-negative; items without genres are on no list.
        counts: (n_items,) training rows of each item; the chance to be a candidate is as their ``CANDIDATE_POWER``.
    """

    def __init__(
        self,
        genres: npt.NDArray[np.float32],
        counts: IntArray,
        weight: float,
        candidates: int,
        list_length: int,
        device: str,
        seed: int,
    ) -> None:
        lengths = np.linalg.norm(genres, axis=1, keepdims=True)
        chances = np.where(lengths[:, 0] > 0, counts**CANDIDATE_POWER, 0)
        self._weight = weight
        self._candidates = min(candidates, int(np.count_nonzero(chances)))
        self._list_length = min(list_length, self._candidates)
        self._genres = torch.tensor(genres / np.where(lengths > 0, lengths, 1), device=device)
        self._chances = torch.tensor(chances, dtype=torch.float32, device=device)
        self._generator = generator(device, seed, DIVERSITY)

    def __call__(self, network: Network, users: Tensor, items: Tensor, logits: Tensor) -> Tensor:
        if self._list_length < 2:
            return logits.new_zeros(())
        users = users[:DIVERSITY_USERS]
        drawn = torch.multinomial(self._chances, self._candidates, generator=self._generator)
        with torch.no_grad():
            hidden = network.user_half(network.user(users))[:, None, :] + network.item_half(network.item(drawn))
            listed = drawn[network.above_first(hidden).topk(self._list_length, dim=1).indices]
        return self._weight * expected_similarity(network(users, listed), self._genres[listed]).mean()


def expected_similarity(scores: Tensor, vectors: Tensor) -> Tensor:
    """(b, k) scores and (b, k, g) vectors -> (b,) Σ_{i≠j} w_i w_j v_i·v_j / Σ_{i≠j} w_i w_j with w the softmax.

    The quotient, not its numerator: that one could be lowered by putting all weight on one item.
    """
    chance = scores.softmax(dim=1)
    together = (chance[:, :, None] * vectors).sum(dim=1).square().sum(dim=1)
    itself = (chance.square() * vectors.square().sum(dim=2)).sum(dim=1)
    different = 1 - chance.square().sum(dim=1)
    return (together - itself) / different.clamp_min(1e-6)


class GenreCorrelation:
    """The report's term, a number without a gradient (see ``NCFDiversity``)."""

    def __init__(self, genres: npt.NDArray[np.float32], weight: float, device: str) -> None:
        self._genres = torch.tensor(genres, device=device)
        self._weight = weight

    def __call__(self, network: Network, users: Tensor, items: Tensor, logits: Tensor) -> Tensor:
        if logits.numel() < 2:
            return logits.new_zeros(())
        best = logits.detach().flatten().topk(min(10, logits.numel())).indices
        columns = self._genres[items.flatten()[best]].T
        # A genre that all ten have, or none, has no correlation: the report's pandas leaves it out of the sum.
        return self._weight * torch.corrcoef(columns).nansum()


# -- training ---------------------------------------------------------------------------------------------------------


class Training(lightning.LightningModule):
    """A network, its loss (a batch's mean of logistic loss or squared error) and Adam (Kingma, Ba 2015)."""

    def __init__(
        self, network: Network, ranking: bool, learning_rate: float, reg: float, penalty: Penalty | None
    ) -> None:
        super().__init__()
        self.network = network
        self._loss = functional.binary_cross_entropy_with_logits if ranking else functional.mse_loss
        self._learning_rate = learning_rate
        self._reg = reg
        self._penalty = penalty

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        users, items, targets = batch
        logits = self.network(users, items)
        loss = self._loss(logits, targets)
        return loss if self._penalty is None else loss + self._penalty(self.network, users, items, logits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        tables = self.network.embeddings()
        layers = [weight for weight in self.network.parameters() if all(weight is not table for table in tables)]
        groups: list[dict[str, Any]] = [{"params": tables, "weight_decay": self._reg}, {"params": layers}]
        return torch.optim.Adam(groups, lr=self._learning_rate, fused=True)


class _AfterEpoch(lightning.Callback):
    """Calls ``after_epoch(epoch)``, counted from 1; the training ends when it answers True."""

    def __init__(self, after_epoch: Callable[[int], bool]) -> None:
        self._after_epoch = after_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        trainer.should_stop = self._after_epoch(trainer.current_epoch + 1)


def train(
    module: Training,
    batches: RankingBatches | RatingBatches,
    epochs: int,
    run: FitContext,
    after_epoch: Callable[[int], bool],
) -> None:
    """Run ``epochs`` passes over ``batches``, or fewer when ``after_epoch`` says so. Writes no file, prints nothing."""
    torch.set_num_threads(run.threads)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if run.device == "cuda" else "cpu",
            devices=1,
            max_epochs=epochs,
            callbacks=[_AfterEpoch(after_epoch)],
            plugins=[LightningEnvironment()],  # never a cluster's, whatever variables that has set
            barebones=True,  # no logger, checkpoints, progress bar or summary
        )
        trainer.fit(module, batches)
    module.network.to(run.device)  # Lightning leaves the weights on the host


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's banners, tips and advice; errors are raised as ever."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\b")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# -- scoring ----------------------------------------------------------------------------------------------------------


class Scorer:
    """A network with the weights that it has now, ready to score; ``mean`` is added to every score.

    The halves of the first layer are tables of users and items, so that a pair costs their sum and the layers above.
    """

    def __init__(self, network: Network, mean: float, threads: int) -> None:
        self._network, self._mean, self._threads = network, mean, threads
        self._device = network.user.weight.device
        self._tile = TILE_PAIRS[self._device.type]
        with self._inference():
            self._users, self._items = network.user_half(network.user.weight), network.item_half(network.item.weight)
            if network.gmf is not None:
                self._gmf_users = network.gmf_user.weight * network.gmf.weight

    def catalogue(self, users: IntArray) -> FloatArray:
        """(b,) users -> (b, n_items) float32 scores on the host."""
        n_items = len(self._items)
        tile = max(1, self._tile // n_items)
        with self._inference():
            scores = torch.empty(len(users), n_items, device=self._device)
            for part, chosen in zip(scores.split(tile), self._indices(users).split(tile), strict=True):
                torch.add(self._network.above_first(self._users[chosen, None, :] + self._items), self._mean, out=part)
                if self._network.gmf is not None:
                    part.addmm_(self._gmf_users[chosen], self._network.gmf_item.weight.T)
            return _on_host(scores)

    def pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) users and (p,) items -> (p,) float32 scores on the host."""
        with self._inference():
            scores = torch.empty(len(users), device=self._device)
            tiles = (tensor.split(self._tile) for tensor in (scores, self._indices(users), self._indices(items)))
            for part, user, item in zip(*tiles, strict=True):
                torch.add(self._network.above_first(self._users[user] + self._items[item]), self._mean, out=part)
                if self._network.gmf is not None:
                    part += (self._gmf_users[user] * self._network.gmf_item.weight[item]).sum(dim=1)
            return _on_host(scores)

    def synchronize(self) -> None:
        """Wait until a GPU has finished."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _indices(self, indices: IntArray) -> Tensor:
        return torch.tensor(indices, dtype=torch.long, device=self._device)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            yield


def _on_host(scores: Tensor) -> FloatArray:
    host: FloatArray = scores.cpu().numpy()
    return host
