"""Protocols by name. Standard library only, so that planning loads neither NumPy nor a protocol."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from datasets.errors import UserError, unknown_name


@dataclass(frozen=True)
class ProtocolSpec:
    """One line of the table.

    Attributes:
        name: kebab-case, as typed on the command line.
        target: ``"module:Class"`` of an ``EvaluationProtocol``.
        summary: one line for ``list``.
        task: what models are asked for.
        primary: the metric that orders the table.
    """

    name: str
    target: str
    summary: str
    task: Literal["ranking", "rating"]
    primary: str


PROTOCOLS: dict[str, ProtocolSpec] = {
    entry.name: entry
    for entry in (
        ProtocolSpec(
            name="leave-one-out",
            target="protocols.leave_one_out:LeaveOneOut",
            summary="rank each user's held-out item among 99 unrated ones, and in the full catalogue",
            task="ranking",
            primary="hr@10",
        ),
        ProtocolSpec(
            name="holdout",
            target="protocols.holdout:Holdout",
            summary="predict the ratings of a held-out fifth: random, k-fold or the latest by time",
            task="rating",
            primary="rmse",
        ),
    )
}


def spec(name: str) -> ProtocolSpec:
    """The protocol called ``name``; a ``UserError`` offers the nearest valid name."""
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def register(entry: ProtocolSpec) -> None:
    """Add a plug-in's protocol; a name that is taken is a ``UserError``."""
    if entry.name in PROTOCOLS:
        raise UserError(f"protocol '{entry.name}' is registered already: give the plug-in's protocol another name")
    PROTOCOLS[entry.name] = entry


def load_class(entry: ProtocolSpec) -> Any:
    """The ``EvaluationProtocol`` class that ``entry.target`` names."""
    module, _, name = entry.target.partition(":")
    return getattr(importlib.import_module(module), name)
