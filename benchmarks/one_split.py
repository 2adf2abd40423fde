"""The one split that a command of files from elsewhere is about: what ``split export`` writes and ``score`` judges."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks import plan, split_store
from benchmarks.cli import PROTOCOL_FLAGS
from benchmarks.plugins import load_plugin
from benchmarks.progress import Display
from benchmarks.run import PrepareRequest, prepare
from datasets import registry as dataset_registry
from datasets.errors import UserError
from datasets.store import load_cached
from datasets.types import Dataset
from protocols import registry as protocol_registry
from protocols.types import EvaluationProtocol, Question


@dataclass(frozen=True)
class OneSplit:
    """A prepared split of one data set; ``meta`` is what its folder says of itself."""

    preparation: plan.Preparation
    meta: dict[str, Any]

    @property
    def protocol(self) -> EvaluationProtocol:
        protocol_class = protocol_registry.load_class(self.preparation.protocol)
        protocol: EvaluationProtocol = protocol_class(protocol_class.Config(**self.preparation.protocol_config))
        return protocol

    def dataset(self) -> Dataset:
        """The data set itself, with raw ids and metadata. It holds the test rows: nothing but ids may leave it."""
        spec = self.preparation.dataset
        loader = dataset_registry.make_loader(spec.target, spec.options)
        return load_cached(loader, list(self.preparation.sources))


@dataclass(frozen=True, eq=False)
class Asked:
    """What a model is asked, in raw ids, and what it was given; no label.

    Attributes:
        user_ids, item_ids: raw ids by inner index, int64 or unicode.
        seen: (n_users, n_items) CSR of the training rows, which no list may hold.
    """

    question: Question
    user_ids: npt.NDArray[np.generic]
    item_ids: npt.NDArray[np.generic]
    seen: sparse.csr_matrix

    @classmethod
    def of(cls, split: OneSplit) -> Asked:
        dataset, folder = split.dataset(), split.preparation.folder
        question, seen = split_store.load_question(folder), split_store.load_seen(folder / "fit")
        return cls(question, dataset.user_ids, dataset.item_ids, seen)


def one_split(options: argparse.Namespace, command: str) -> OneSplit:
    """The split that ``--dataset``, ``--protocol`` and their options name, prepared now where it is not yet.

    Raises:
        UserError: an unknown name or option, several splits, or a protocol that the data set cannot serve.
    """
    for path in options.plugin:
        load_plugin(path)
    protocol_registry.spec(options.protocol)
    overrides = plan.parse_assignments([*options.set, *_assignments(options)])
    plan.require_all_used(overrides, [options.protocol])
    own = plan.OwnFileFlags(options.columns, options.items, options.users, options.scale)
    found, _ = plan.find_datasets(plan.choose_datasets([options.dataset], own), named_by_user=True)
    chosen = plan.preparations(found, [options.protocol], [options.split_seed], overrides)
    if len(chosen) > 1:
        raise UserError(f"{command}: --folds makes {len(chosen)} splits, and this is about one: leave it out")
    prepared = prepare(PrepareRequest(chosen, options.plugin, {}), Display())
    for reason in prepared.not_measured.values():
        raise UserError(f"{command}: {reason}")
    ((preparation, meta),) = prepared.splits
    return OneSplit(preparation, meta)


def _assignments(options: argparse.Namespace) -> list[str]:
    """The protocol's own flags in the form of ``--set``; one that it does not have goes to a protocol that has it."""
    return [
        f"{options.protocol if options.protocol in owners else owners[0]}.{option}={value}"
        for option, owners in PROTOCOL_FLAGS.items()
        if (value := getattr(options, option)) is not None
    ]
