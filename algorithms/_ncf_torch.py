"""The networks of ``algorithms.ncf`` on PyTorch Lightning: layers, batches, diversity terms, training, scoring."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

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

TABLE_PAIRS = 1 << 26
"""Pairs of a user and an item for which a table says, in a byte each, whether the user has rated the item."""

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
    Inside ``torch.autocast`` embeddings and hidden units have its type; logits are always float32, as bfloat16 would
    make ties of them.
    """

    def __init__(
        self, n_users: int, n_items: int, factors: int, layers: tuple[int, ...], gmf_factors: int, initial_std: float
    ) -> None:
        super().__init__()
        self.user = _embedding(n_users, factors, initial_std)
        self.item = _embedding(n_items, factors, initial_std)
        units = (2 * factors, *layers)
        self.first = nn.Linear(units[0], units[1])
        hidden = [part for sizes in pairwise(units[1:]) for part in (nn.ReLU(), nn.Linear(*sizes))]
        self.rest = nn.Sequential(*hidden, nn.ReLU(), nn.Linear(units[-1], 1))
        self.gmf: nn.Linear | None = None
        if gmf_factors:
            self.gmf_user = _embedding(n_users, gmf_factors, initial_std)
            self.gmf_item = _embedding(n_items, gmf_factors, initial_std)
            self.gmf = nn.Linear(gmf_factors, 1, bias=False)
        # Their parameters, listed once: walking a tree of modules in each step takes longer than a small layer.
        self._tower = [self.first, *(part for part in self.rest if isinstance(part, nn.Linear))]

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(b,) users and (m, b) items, each row of which belongs to the users -> (m, b) float32 logits."""
        device = self.user.weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            user_rows, item_rows = users.long(), items.long().flatten()
            parameters = [weight for layer in self._tower for weight in (layer.weight, layer.bias)]
            logits: Tensor = Tower.apply(
                rows_of(self.user.weight, user_rows, dtype), rows_of(self.item.weight, item_rows, dtype), *parameters
            )
            logits = logits.view(items.shape)
            if self.gmf is not None:
                user = rows_of(self.gmf_user.weight, user_rows, dtype)
                item = rows_of(self.gmf_item.weight, item_rows, dtype).view(*items.shape, -1)
                logits = logits + functional.linear(user * item, self.gmf.weight.to(dtype)).squeeze(-1)
        return logits

    def user_half(self, embeddings: Tensor) -> Tensor:
        """(..., factors) -> (..., layers[0]): the first layer's part that sees the user, with its bias."""
        return functional.linear(embeddings, self.first.weight.tensor_split(2, dim=1)[0], self.first.bias)

    def item_half(self, embeddings: Tensor) -> Tensor:
        """(..., factors) -> (..., layers[0]): the first layer's part that sees the item."""
        return functional.linear(embeddings, self.first.weight.tensor_split(2, dim=1)[1])

    def above_first(self, hidden: Tensor) -> Tensor:
        """(..., layers[0]) sums of both halves, which are overwritten -> (...) float32 logits of the tower."""
        weights = [turned(layer.weight, hidden.dtype) for layer in self._tower[1:]]
        biases = [layer.bias for layer in self._tower[1:]]
        return climb(hidden.flatten(0, -2), weights, biases)[1].view(hidden.shape[:-1])

    def embeddings(self) -> list[Tensor]:
        """The tables, without the layers."""
        return [module.weight for module in self.children() if isinstance(module, nn.Embedding)]


class Tower(torch.autograd.Function):
    """(b, factors) users, (m · b, factors) items and the layers' weights and biases -> (m · b,) float32 logits.

    The first layer is W [p, q] + c = (W_p p + c) + W_q q, so that a user's half is computed once for m items.
    Forward and backward pass by hand: what autograd makes of the same formulas copies the hidden units several times.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = [turned(weight, users.dtype) for weight in parameters[::2]], parameters[1::2]
        of_user, of_item = weights[0].tensor_split(2)
        hidden = torch.mm(items, of_item)
        hidden.view(-1, len(users), hidden.shape[1]).add_(affine(users, of_user, biases[0]))
        activations, logits = climb(hidden, weights[1:], biases[1:])
        ctx.save_for_backward(users, items, *activations, *weights)
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        users, items, *saved = ctx.saved_tensors
        activations, weights = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        gradient, found = gradients[0][:, None].to(users.dtype), []
        for below, weight in zip(reversed(activations), reversed(weights), strict=False):
            found += [gradient.sum(dim=0), products_summed(below, gradient).T]
            gradient = torch.mm(gradient, weight.T)
            # The gradient of ReLU, written over its own input.
            torch.ops.aten.threshold_backward.grad_input(gradient, below, 0, grad_input=gradient)
        of_user, of_item = weights[0].tensor_split(2)
        of_users = gradient.view(-1, len(users), gradient.shape[1]).sum(dim=0)
        first = torch.cat([products_summed(users, of_users), products_summed(items, gradient)]).T
        found += [of_users.sum(dim=0), first]
        of_parameters = (weight.float() for weight in reversed(found))
        return torch.mm(of_users, of_user.T), torch.mm(gradient, of_item.T), *of_parameters


def climb(hidden: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """(n, units) inputs of the first ReLU, which are overwritten -> the units after each ReLU, (n,) float32 logits.

    ``weights`` are ``turned``.
    """
    activations = [hidden.relu_()]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        activations.append(affine(activations[-1], weight, bias).relu_())
    return activations, affine(activations[-1].float(), weights[-1].float(), biases[-1]).squeeze(1)


def turned(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A layer's weights as (inputs, outputs), in memory too: a CPU multiplies these up to twice as fast."""
    return weight.T.to(dtype).contiguous()


def affine(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(n, a) times (a, b) plus (b,); of all three only ``bias`` may have another type."""
    if inputs.is_cuda:
        return torch.addmm(bias.to(inputs.dtype), inputs, weight)
    return torch.mm(inputs, weight).add_(bias)  # addmm takes up to three times as long where a layer is narrow


def products_summed(inputs: Tensor, gradients: Tensor) -> Tensor:
    """(n, a) and (n, b) -> (a, b) sum of the rows' outer products: a layer's gradient.

    A CPU's threads share the rows: 1.5 times as fast as one matrix product, which is too narrow to be shared.
    """
    threads = torch.get_num_threads()
    if inputs.is_cuda or threads == 1 or len(inputs) % threads:
        return torch.mm(inputs.T, gradients)
    inputs, gradients = (each.reshape(threads, -1, each.shape[1]) for each in (inputs, gradients))
    return torch.bmm(inputs.transpose(1, 2), gradients).sum(dim=0)


def rows_of(table: Tensor, indices: Tensor, dtype: torch.dtype) -> Tensor:
    """(n,) int64 -> (n, d) rows of ``table`` as ``dtype``; on a CPU their gradient is added up in float32."""
    if table.is_cuda:
        return functional.embedding(indices, table.to(dtype))
    rows: Tensor = HostRows.apply(table, indices)
    return rows.to(dtype)


class HostRows(torch.autograd.Function):
    """``table[indices]``; on a CPU its gradient takes less than half the time of an ``nn.Embedding``'s."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape = table.shape
        return table.index_select(0, indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_add_(0, indices, gradients[0]), None


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
"""(b,) int32 users, (m, b) int32 items, (m, b) float32 targets: m items for each user, item by item."""


class RankingBatches:
    """Every training row with ``negatives`` items that its user did not rate, drawn anew each epoch.

    Of a batch's 1 + negatives items for each row the first is the row's own, with target 1, the others are drawn, with
    target 0. Rows of a user who rated everything are left out. All tensors live on the training device; what is
    shuffled and drawn stays valid until the next epoch begins.
    """

    def __init__(self, rows: Interactions, negatives: int, batch_size: int, device: str, seed: int) -> None:
        self._sampler = UnratedSampler(rows, device)
        users, items = torch.tensor(rows.users, device=device), torch.tensor(rows.items, device=device)
        kept = self._sampler.n_unrated[users] > 0
        self._users, self._positives = users[kept], items[kept]
        self._items = torch.empty(1 + negatives, len(self._users), dtype=torch.int32, device=device)
        self._batch_rows = _batch_rows(len(self._users), batch_size // (1 + negatives))
        self._targets = torch.zeros(1 + negatives, self._batch_rows, device=device)
        self._targets[0] = 1
        self._generator = generator(device, seed, BATCHES)

    def __len__(self) -> int:
        return -(-len(self._users) // self._batch_rows)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(len(self._users), generator=self._generator, device=self._users.device)
        users = self._users[order]
        self._items[0] = self._positives[order]
        for some, drawn in zip(users.split(TILE_ROWS), self._items[1:].split(TILE_ROWS, dim=1), strict=True):
            drawn.copy_(self._sampler.draw(some, len(drawn), self._generator))
        for some, items in zip(users.split(self._batch_rows), self._items.split(self._batch_rows, dim=1), strict=True):
            yield some, items, self._targets[:, : len(some)]


class RatingBatches:
    """Every training row once an epoch, its target the rating less ``mean``."""

    def __init__(self, rows: Interactions, mean: float, batch_size: int, device: str, seed: int) -> None:
        self._columns = (
            torch.tensor(rows.users, device=device),
            torch.tensor(rows.items, device=device),
            torch.tensor(rows.values - np.float32(mean), device=device),
        )
        self._batch_rows = _batch_rows(len(rows), batch_size)
        self._generator = generator(device, seed, BATCHES)

    def __len__(self) -> int:
        return -(-len(self._columns[0]) // self._batch_rows)

    def __iter__(self) -> Iterator[Batch]:
        users = self._columns[0]
        order = torch.randperm(len(users), generator=self._generator, device=users.device)
        shuffled = (column[order].split(self._batch_rows) for column in self._columns)
        for some, items, targets in zip(*shuffled, strict=True):
            yield some, items[None], targets[None]


def _batch_rows(n_rows: int, wanted: int) -> int:
    """Rows of a batch: as wanted, but small data still makes ``MIN_STEPS`` steps an epoch."""
    return max(1, min(wanted, -(-n_rows // MIN_STEPS)))


class UnratedSampler:
    """Uniform draws, with replacement, of items that a user has not rated: exact, without a loop.

    With a user's rated items a_0 < a_1 < …, the r-th unrated item (from 0) is r + #{j: a_j − j ≤ r}. One search in the
    sorted keys user · n_items + (a_j − j) answers any number of draws.

    On a CPU a search takes ten times as long as a look into a table of all pairs. Where there is room for one, items
    are drawn from the whole catalogue, and only the rated ones among them are replaced by draws that search.

    Attributes:
        n_unrated: (n_users,) int64.
    """

    def __init__(self, rows: Interactions, device: str) -> None:
        self._n_items = rows.n_items
        users, items = torch.tensor(rows.users, device=device), torch.tensor(rows.items, device=device)
        rated = torch.unique(users.long() * rows.n_items + items)
        users = rated // rows.n_items
        counts = torch.bincount(users, minlength=rows.n_users)
        self._starts = counts.cumsum(0) - counts
        self._keys = rated - (torch.arange(len(rated), device=device) - self._starts[users])
        self.n_unrated = rows.n_items - counts
        self._rated: Tensor | None = None
        if device == "cpu" and rows.n_users * rows.n_items <= TABLE_PAIRS:
            self._rated = torch.zeros(rows.n_users * rows.n_items, dtype=torch.bool)
            self._rated[rated] = True

    def draw(self, users: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """(b,) users who have an unrated item -> (n, b) items."""
        users = users.long()
        if self._rated is None:
            return self._search(users.expand(n, -1), generator)
        drawn = torch.randint(self._n_items, (n, len(users)), generator=generator)
        redo = self._rated.take(users * self._n_items + drawn).flatten().nonzero().squeeze(1)
        drawn.view(-1)[redo] = self._search(users[redo % len(users)], generator)
        return drawn

    def _search(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """An unrated item for each of ``users``, in their shape."""
        noise = torch.randint(1 << 62, users.shape, generator=generator, device=users.device)
        place = noise % self.n_unrated[users]
        rated_below = torch.searchsorted(self._keys, users * self._n_items + place, right=True) - self._starts[users]
        return place + rated_below


def generator(device: str, seed: int, stream: int) -> torch.Generator:
    """Random numbers on ``device``, other ones for each seed and stream."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1)
    return torch.Generator(device).manual_seed(int(state[0]))


# -- diversity --------------------------------------------------------------------------------------------------------

Penalty = Callable[[Network, Tensor, Tensor, Tensor], Tensor]
"""(network, (b,) users, (m, b) items, (m, b) logits) of a batch -> () added to its loss."""


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
        return self._weight * expected_similarity(network(users, listed.T).T, self._genres[listed]).mean()


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
        self.automatic_optimization = False  # a step of Lightning's own takes a millisecond longer
        self.network = network
        self._loss = functional.binary_cross_entropy_with_logits if ranking else functional.mse_loss
        self._learning_rate = learning_rate
        self._reg = reg
        self._penalty = penalty

    def training_step(self, batch: Batch, batch_index: int) -> None:
        users, items, targets = batch
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        logits = self.network(users, items)
        loss = self._loss(logits, targets)
        if self._penalty is not None:
            loss = loss + self._penalty(self.network, users, items, logits)
        loss.backward()
        optimizer.step()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch  # it is there already

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
    precision: Literal["32", "bf16-mixed"] = "32",
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
            precision=precision,
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
    ``precision`` as in ``train``: with ``bf16-mixed`` the tables and the hidden units are bfloat16, scores never are.
    """

    def __init__(self, network: Network, mean: float, threads: int, precision: str = "32") -> None:
        self._network, self._mean, self._threads = network, mean, threads
        self._device = network.user.weight.device
        self._tile = TILE_PAIRS[self._device.type]
        dtype = torch.float32 if precision == "32" else torch.bfloat16
        with self._inference():
            self._users = network.user_half(network.user.weight).to(dtype)
            self._items = network.item_half(network.item.weight).to(dtype)
            if network.gmf is not None:
                self._gmf_users = network.gmf_user.weight * network.gmf.weight

    @property
    def device(self) -> str:
        """Where the weights are: ``cpu`` or ``cuda``."""
        return self._device.type

    def catalogue(self, users: IntArray) -> FloatArray:
        """(b,) users -> (b, n_items) float32 scores on the host."""
        n_items = len(self._items)
        tile = max(1, self._tile // n_items)
        with self._inference():
            scores = torch.empty(len(users), n_items, device=self._device)
            for part, chosen in zip(scores.split(tile), self.indices(users).split(tile), strict=True):
                torch.add(self._network.above_first(self._users[chosen, None, :] + self._items), self._mean, out=part)
                if self._network.gmf is not None:
                    part.addmm_(self._gmf_users[chosen], self._network.gmf_item.weight.T)
            return _on_host(scores)

    def pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) users and (p,) items -> (p,) float32 scores on the host."""
        return _on_host(self.pairs_on_device(self.indices(users), self.indices(items)))

    def pairs_on_device(self, users: Tensor, items: Tensor) -> Tensor:
        """(p,) users and (p,) items -> (p,) float32 scores, all on the weights' device."""
        with self._inference():
            scores = torch.empty(len(users), device=self._device)
            for part, user, item in zip(*(each.split(self._tile) for each in (scores, users, items)), strict=True):
                hidden = self._users.index_select(0, user).add_(self._items.index_select(0, item))
                torch.add(self._network.above_first(hidden), self._mean, out=part)
                if self._network.gmf is not None:
                    gmf_items = self._network.gmf_item.weight.index_select(0, item)
                    part += gmf_items.mul_(self._gmf_users.index_select(0, user)).sum(dim=1)
            return scores

    def indices(self, indices: IntArray) -> Tensor:
        """On the weights' device, as int32: half the bytes to send to a GPU."""
        return torch.tensor(np.asarray(indices, dtype=np.int32), device=self._device)

    def synchronize(self) -> None:
        """Wait until a GPU has finished."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            yield


def _on_host(scores: Tensor) -> FloatArray:
    host: FloatArray = scores.cpu().numpy()
    return host
