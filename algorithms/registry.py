"""The table of algorithms. Standard library only: planning, ``list`` and cell keys never load an adapter.

One entry is enough to be listed, run, tuned, timed and tested.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datasets.errors import UserError, unknown_name

if TYPE_CHECKING:
    from algorithms.base import Recommender

NATIVE = "native"
"""The model is made for the task."""
CALIBRATED = "calibrated"
"""Scores become ratings by a map fitted on validation rows (†)."""
BY_RATING = "by-rating"
"""A rating model that ranks by predicted rating (‡)."""

RANKER = {"ranking": NATIVE, "rating": CALIBRATED}
RATER = {"ranking": BY_RATING, "rating": NATIVE}


TUNED = "tuned"
"""The preset that every algorithm has: what tuning found, another configuration for each data set and protocol."""


@dataclass(frozen=True)
class AlgorithmSpec:
    """One algorithm.

    Attributes:
        name: kebab-case.
        target: ``"module:Class"`` of its adapter, a ``Recommender``.
        summary: one line.
        packages: distributions whose versions are part of a cell's key.
        support: task -> ``native``, ``calibrated`` or ``by-rating``; a task that is missing is not supported.
        extra: the optional dependency group that it needs, or None.
        devices: where it can run. For ``cuda`` the harness asks the frameworks among its packages (``algorithms.gpu``).
        other_packages: (option, its value) or ("device", "cuda") -> the packages of such a configuration instead.
        siblings: names of private modules beside the adapter's that decide its result too.
        presets: preset -> options that differ from the ``Config`` defaults. ``default`` is good on ml-latest-small;
            ``report``, where there is one, is what the report that named the algorithm used. ``TUNED`` is reserved.
        control: a baseline that cannot learn which user likes what; the contract suite then expects no such thing.
    """

    name: str
    target: str
    summary: str
    packages: tuple[str, ...]
    support: Mapping[str, str]
    extra: str | None = None
    devices: tuple[str, ...] = ("cpu",)
    other_packages: Mapping[tuple[str, object], tuple[str, ...]] = field(default_factory=dict)
    siblings: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"default": {}})
    control: bool = False

    def packages_of(self, config: Mapping[str, object], device: str) -> tuple[str, ...]:
        """``packages``, or what ``other_packages`` has for this configuration on this device."""
        chosen = {**config, "device": device}
        others = (names for (option, value), names in self.other_packages.items() if chosen.get(option) == value)
        return next(others, self.packages)


_NCF_REPORT = {
    "epochs": 20,
    "patience": 0,
    "learning_rate": 0.001,
    "batch_size": 1024,
    "reg": 0.0,
    "negatives": 4,
    "initial_std": 1.0,
    "initial_layers": "torch",
}
_NCF_REPORT_3 = {**_NCF_REPORT, "factors": 8, "layers": (32, 16, 8)}
_NCF_REPORT_4 = {**_NCF_REPORT, "factors": 16, "layers": (64, 32, 16, 8)}
_NCF_DIVERSITY_REPORT_3 = {**_NCF_REPORT_3, "formulation": "report", "diversity_weight": 0.001}


ALGORITHMS: dict[str, AlgorithmSpec] = {
    entry.name: entry
    for entry in (
        AlgorithmSpec(
            name="popularity",
            target="algorithms.popularity:Popularity",
            summary="the same order for everybody: how many rated an item, or how well",
            packages=("numpy",),
            support=RANKER,
            presets={"default": {}, "report": {"by": "damped-mean"}},
            control=True,
        ),
        AlgorithmSpec(
            name="random",
            target="algorithms.random:Random",
            summary="seeded uniform scores: the floor that every figure is read against",
            packages=("numpy",),
            support=RANKER,
            control=True,
        ),
        AlgorithmSpec(
            name="als",
            target="algorithms.als:ALS",
            summary="implicit-feedback matrix factorisation by alternating least squares (implicit)",
            packages=("implicit", "numpy", "scipy"),
            support=RANKER,
            devices=("cpu", "cuda"),
            other_packages={("device", "cuda"): ("implicit", "rmm-cu13", "numpy", "scipy")},
            siblings=("gpu",),
            presets={"default": {}, "report": {"factors": 50, "reg": 0.01, "alpha": 1.0, "epochs": 15}},
        ),
        AlgorithmSpec(
            name="lightfm",
            target="algorithms.lightfm:LightFM",
            summary="matrix factorisation with the WARP ranking loss, or a logistic one for ratings (LightFM)",
            packages=("rectools-lightfm", "numpy", "scipy"),
            support=RANKER,
            extra="lightfm",
            siblings=("_metadata",),
            presets={"default": {}, "report": {"factors": 30, "epochs": 30, "patience": 0}},
        ),
        AlgorithmSpec(
            name="lightfm-hybrid",
            target="algorithms.lightfm:LightFM",
            summary="LightFM whose users and items are sums of their own and their metadata's embeddings",
            packages=("rectools-lightfm", "numpy", "scipy"),
            support=RANKER,
            extra="lightfm",
            siblings=("_metadata",),
            presets={
                "default": {"metadata": True},
                "report": {"metadata": True, "numbers": False, "factors": 30, "epochs": 30, "patience": 0},
            },
        ),
        AlgorithmSpec(
            name="ease",
            target="algorithms.ease:EASE",
            summary="closed-form item weights, a linear autoencoder without self-weights",
            packages=("numpy", "scipy"),
            support=RANKER,
        ),
        AlgorithmSpec(
            name="content-cosine",
            target="algorithms.content_cosine:ContentCosine",
            summary="cosine of an item's metadata and the metadata of what the user rated",
            packages=("numpy", "scipy"),
            support=RANKER,
            siblings=("_metadata",),
            presets={"default": {}, "report": {"numbers": True}},
        ),
        AlgorithmSpec(
            name="bias",
            target="algorithms.bias:Bias",
            summary="global mean plus damped item and user means: what a rating model must beat",
            packages=("numpy",),
            support=RATER,
            control=True,
        ),
        AlgorithmSpec(
            name="item-knn",
            target="algorithms.item_knn:ItemKNN",
            summary="sum of cosine similarities to what the user rated (implicit)",
            packages=("implicit", "numpy", "scipy"),
            support=RANKER,
        ),
        AlgorithmSpec(
            name="biased-als",
            target="algorithms.biased_als:BiasedALS",
            summary="explicit matrix factorisation with biases by alternating ridge regressions",
            packages=("numpy",),
            support=RATER,
        ),
        AlgorithmSpec(
            name="tfrs-gmf",
            target="algorithms.tfrs_gmf:TFRSGMF",
            summary="generalised matrix factorisation, a weighted product of embeddings (TensorFlow Recommenders)",
            packages=("tensorflow-recommenders", "tensorflow", "tf-keras", "numpy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="tensorflow",
            devices=("cpu", "cuda"),
            siblings=("_tfrs_gmf", "gpu"),
            presets={
                "default": {},
                "report": {
                    "factors": 64,
                    "epochs": 50,
                    "patience": 0,
                    "learning_rate": 0.01,
                    "batch_size": 256,
                    "reg": 0.0,
                    "initial_accumulator": 0.1,
                    "initial_std": 0.03,
                    "biases": False,
                    "centred": False,
                },
            },
        ),
        AlgorithmSpec(
            name="keras-mf",
            target="algorithms.keras_mf:KerasMF",
            summary="matrix factorisation with user and item biases and a global mean (Keras)",
            packages=("keras", "tensorflow", "numpy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="tensorflow",
            devices=("cpu", "cuda"),
            other_packages={("backend", "torch"): ("keras", "torch", "numpy")},
            siblings=("_keras_common", "_keras_framework", "gpu"),
            presets={
                "default": {},
                "report": {
                    "epochs": 10,
                    "patience": 0,
                    "learning_rate": 0.005,
                    "reg": 0.001,  # of each row; over whole tables, ten epochs on ml-latest-small end at RMSE 1.5
                    "ranking_reg": 0.001,
                    "centred": False,
                },
            },
        ),
        AlgorithmSpec(
            name="keras-deep-mf",
            target="algorithms.keras_deep_mf:KerasDeepMF",
            summary="concatenated embeddings and metadata through a hidden layer (Keras)",
            packages=("keras", "tensorflow", "numpy", "scipy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="tensorflow",
            devices=("cpu", "cuda"),
            other_packages={("backend", "torch"): ("keras", "torch", "numpy", "scipy")},
            siblings=("_keras_common", "_keras_framework", "gpu"),
            presets={
                "default": {},
                "report": {
                    "units": 500,
                    "metadata": False,
                    "epochs": 10,
                    "patience": 0,
                    "batch_size": 2048,
                    "biases": False,
                    "centred": False,
                },
                "report-metadata": {
                    "units": 1000,
                    "connect_metadata": False,
                    "epochs": 10,
                    "patience": 0,
                    "learning_rate": 0.0005,
                    "batch_size": 2048,
                    "dropout": 0.5,
                    "biases": False,
                    "centred": False,
                },
            },
        ),
        AlgorithmSpec(
            name="ncf",
            target="algorithms.ncf:NCF",
            summary="neural collaborative filtering: a ReLU tower over concatenated embeddings (PyTorch Lightning)",
            packages=("torch", "pytorch-lightning", "numpy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="torch",
            devices=("cpu", "cuda"),
            siblings=("_ncf_torch", "_metadata"),
            presets={
                "default": {},
                "report": _NCF_REPORT_4,
                "report-3": _NCF_REPORT_3,
                "report-4": _NCF_REPORT_4,
            },
        ),
        AlgorithmSpec(
            name="neumf",
            target="algorithms.ncf:NeuMF",
            summary="generalised matrix factorisation joined with the tower of ncf (PyTorch Lightning)",
            packages=("torch", "pytorch-lightning", "numpy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="torch",
            devices=("cpu", "cuda"),
            siblings=("_ncf_torch", "_metadata"),
        ),
        AlgorithmSpec(
            name="ncf-diversity",
            target="algorithms.ncf:NCFDiversity",
            summary="ncf with a loss that lowers the similarity of genres within a list (PyTorch Lightning)",
            packages=("torch", "pytorch-lightning", "numpy", "scipy"),
            support={"ranking": NATIVE, "rating": NATIVE},
            extra="torch",
            devices=("cpu", "cuda"),
            siblings=("_ncf_torch", "_metadata"),
            presets={
                "default": {},
                "report": _NCF_DIVERSITY_REPORT_3,
                "report-3": _NCF_DIVERSITY_REPORT_3,
            },
        ),
        AlgorithmSpec(
            name="ncf-mmr",
            target="algorithms.ncf_mmr:NCFMMR",
            summary="ncf whose lists are re-ranked for varied genres after training: the control of ncf-diversity",
            packages=("torch", "pytorch-lightning", "numpy", "scipy"),
            support={"ranking": NATIVE},
            extra="torch",
            devices=("cpu", "cuda"),
            siblings=("_ncf_torch", "_metadata", "_mmr", "ncf"),
        ),
    )
}


def spec(name: str) -> AlgorithmSpec:
    """The entry called ``name``; a UserError lists the valid names."""
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def register(entry: AlgorithmSpec) -> None:
    """Add a plug-in's entry; a UserError when its name is taken, or a preset's name is reserved."""
    if entry.name in ALGORITHMS:
        raise UserError(f"algorithm '{entry.name}' is already registered: give the plug-in's entry another name")
    if TUNED in entry.presets:
        raise UserError(f"algorithm '{entry.name}': the preset '{TUNED}' is what tuning finds: give it another name")
    ALGORITHMS[entry.name] = entry


def load_class(entry: AlgorithmSpec) -> type[Recommender]:
    """Import the adapter's module and return its class; frameworks are loaded later, by its ``_fit``."""
    module, _, class_name = entry.target.partition(":")
    loaded: type[Recommender] = getattr(importlib.import_module(module), class_name)
    return loaded
