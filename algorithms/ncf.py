"""NCF, NeuMF and NCF with a diversity loss: the networks of He et al. (2017) on PyTorch Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from algorithms._metadata import item_metadata
from algorithms.base import Recommender, Shape, cosines
from algorithms.config import AtLeast, Epochs, Negatives, Patience
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import UserError
from datasets.types import FloatArray, IntArray


class NCF(Recommender):
    """A ReLU tower over the concatenated embeddings of user and item ("MLP", He et al. 2017, eq. 10), trained by Adam.

    Ranking: every training row is a positive and unrated items are drawn as negatives, logistic loss. Ratings: linear
    output, squared error of ratings less their mean. The presets ``report-3`` and ``report-4`` are the towers of three
    and four layers of the report that named the algorithm, as PyTorch initialises them; ``report`` is ``report-4``.
    """

    predicts_ratings = True
    similar_by = "cosine of item embeddings"

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of a user's and an item's embedding", AtLeast(1)] = 16
        layers: Annotated[tuple[int, ...], "units of the tower's hidden layers", AtLeast(1)] = (64, 32, 16, 8)
        epochs: Epochs = 20
        patience: Patience = 5
        learning_rate: Annotated[float, "step of Adam", AtLeast(0)] = 5e-3
        batch_size: Annotated[int, "rows and negatives of one step, at most 1/16 of an epoch", AtLeast(1)] = 4096
        reg: Annotated[float, "L2 penalty on the embeddings, added to the gradient", AtLeast(0)] = 1e-5
        negatives: Negatives = 4
        initial_std: Annotated[float, "standard deviation of the initial embeddings", AtLeast(0)] = 0.01
        initial_layers: Annotated[
            Literal["glorot", "torch"], "initial weights: Glorot with zero biases, or PyTorch's own with random ones"
        ] = "glorot"
        precision: Annotated[
            Literal["32", "bf16-mixed"],
            "arithmetic of training and scoring: float32, or bfloat16 but for weights, sums and scores (for GPUs)",
        ] = "32"

        def __post_init__(self) -> None:
            if not self.layers:
                raise UserError("layers must name the units of at least one hidden layer, such as 32-16")

    SPACE = {
        "factors": IntUniform(8, 64, log=True),
        "epochs": IntUniform(5, 40),
        "learning_rate": LogUniform(5e-4, 0.02),
        "batch_size": IntUniform(1_024, 16_384, log=True),
        "reg": LogUniform(1e-7, 1e-3),
        "negatives": IntUniform(1, 10),
        "initial_std": LogUniform(1e-3, 1),
    }

    _threads = 1
    _scorer: Any = None
    _item_tables: tuple[str, ...] = ("item",)

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from algorithms import _ncf_torch as framework

        config, rows, ranking = self.config, train.interactions, train.task is Task.RANKING
        self._threads = run.threads
        self._mean = 0.0 if ranking else float(rows.values.mean(dtype=np.float64))
        self._network = framework.build(self._design(), config.initial_layers, run.seed).to(run.device)
        module = framework.Training(
            self._network, ranking, config.learning_rate, config.reg, self._penalty(framework, train, run)
        )
        batches = (
            framework.RankingBatches(rows, config.negatives, config.batch_size, run.device, run.seed)
            if ranking
            else framework.RatingBatches(rows, self._mean, config.batch_size, run.device, run.seed)
        )
        epochs = self._steps(run, config.epochs)

        def after_epoch(epoch: int) -> bool:
            if run.validates or epoch == epochs:  # in between nobody looks
                self._publish(framework)
            return self._step_done(run, epoch, epochs)

        framework.train(module, batches, epochs, run, after_epoch, config.precision)
        self._publish(framework)

    def _penalty(self, framework: Any, train: TrainSet, run: FitContext) -> Any:
        """What is added to the loss of a batch: nothing."""
        return None

    def _design(self) -> dict[str, Any]:
        """The network's sizes, as ``_ncf_torch.Network`` takes them."""
        return {
            "n_users": self.n_users,
            "n_items": self.n_items,
            "factors": self.config.factors,
            "layers": self.config.layers,
            "gmf_factors": 0,
            "initial_std": self.config.initial_std,
        }

    def _publish(self, framework: Any) -> None:
        self._scorer = framework.Scorer(self._network, self._mean, self._threads, self.config.precision)

    def _score(self, users: IntArray) -> FloatArray:
        scores: FloatArray = self._scorer.catalogue(users)
        return scores

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        scores: FloatArray = self._scorer.pairs(users, items)
        return scores

    def _similarities(self, item: int) -> FloatArray:
        return cosines(np.hstack([self._weights(name) for name in self._item_tables]), item)

    def _weights(self, table: str) -> FloatArray:
        """(n, d) float32 embeddings on the host."""
        weights: FloatArray = getattr(self._network, table).weight.detach().cpu().numpy()
        return weights

    def synchronize(self) -> None:
        if self._scorer is not None:
            self._scorer.synchronize()

    @property
    def fitted_device(self) -> str:
        return "cpu" if self._scorer is None else str(self._scorer.device)

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        weights = {name: tensor.cpu().numpy() for name, tensor in self._network.state_dict().items()}
        return {**weights, "mean": np.array([self._mean])}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        from algorithms import _ncf_torch as framework

        self._mean = state["mean"].item()
        self._network = framework.restore(self._design(), state)
        self._publish(framework)

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # else matrix products on a GPU may differ from run to run

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        factors = config.factors + getattr(config, "gmf_factors", 0)
        weights = 4 * 4 * factors * (shape.n_users + shape.n_items)  # with gradient and Adam's two moments
        epoch = shape.n_rows * (4 * (4 + config.negatives) + 4 * 8)  # rows, their draws, their order, sorted keys
        rated = min(shape.n_users * shape.n_items, 1 << 26)  # the table of ``_ncf_torch.UnratedSampler``
        activations = 3 * 4 * config.batch_size * (2 * factors + sum(config.layers))
        return weights + epoch + rated + activations


class NeuMF(NCF):
    """Generalised matrix factorisation and the tower, each with embeddings of its own, under one output layer.

    He et al. (2017), eq. 12, trained from scratch as ``NCF``.
    """

    @dataclass(frozen=True)
    class Config(NCF.Config):
        gmf_factors: Annotated[int, "length of the embeddings that are multiplied", AtLeast(1)] = 16

    SPACE = {**NCF.SPACE, "gmf_factors": IntUniform(8, 64, log=True)}

    similar_by = "cosine of item embeddings, those of both parts"
    _item_tables = ("item", "gmf_item")

    def _design(self) -> dict[str, Any]:
        return {**super()._design(), "gmf_factors": self.config.gmf_factors}


class NCFDiversity(NCF):
    """``NCF`` whose loss also grows with the similarity of genres within a list.

    ``expected-similarity``: for some users of each batch, the expected cosine of the genres of two different items
    drawn from the user's list, each item with the softmax of its score. The softmax is the top-one probability of
    ListNet (Cao et al. 2007), the expectation one minus Rao's quadratic entropy (1982) over distinct items. The list is
    the user's ``list_length`` best of ``candidates`` items, which are drawn by their number of training rows, smoothed.

    ``report``: the sum of the correlation matrix of genre columns, diagonal included, over the ten best-scored samples
    of the batch, whoever their users are. It depends on which samples these are, not on their scores: it has no
    gradient, and the fitted weights are those of ``NCF``.
    """

    @dataclass(frozen=True)
    class Config(NCF.Config):
        diversity_weight: Annotated[float, "weight of the diversity term in the loss", AtLeast(0)] = 0.015
        formulation: Annotated[
            Literal["expected-similarity", "report"],
            "what the diversity term is: a differentiable one, or the report's",
        ] = "expected-similarity"
        candidates: Annotated[int, "items from which a user's list is made, each step", AtLeast(2)] = 256
        list_length: Annotated[int, "items of the list whose similarity is lowered", AtLeast(2)] = 30

    SPACE = {**NCF.SPACE, "diversity_weight": LogUniform(1e-3, 1)}

    def _penalty(self, framework: Any, train: TrainSet, run: FitContext) -> Any:
        genres, config = _genres(train), self.config
        if config.formulation == "report":
            return framework.GenreCorrelation(genres, config.diversity_weight, run.device)
        counts = np.bincount(train.interactions.items, minlength=self.n_items)
        return framework.ExpectedSimilarity(
            genres, counts, config.diversity_weight, config.candidates, config.list_length, run.device, run.seed
        )


def _genres(train: TrainSet) -> npt.NDArray[np.float32]:
    """(n_items, g) 0 and 1; where no column is called genres, all categories of the items.

    Raises:
        UserError: when the data set has no categories of items.
    """
    matrix = item_metadata(train, numbers=False, algorithm="ncf-diversity")
    features = train.item_features
    names = () if features is None else features.names
    columns = [j for j, name in enumerate(names) if name.startswith("genres=") and name != "genres=missing"]
    if features is not None and columns:
        matrix = features.matrix[:, columns]
    dense: npt.NDArray[np.float32] = matrix.toarray()
    return dense
