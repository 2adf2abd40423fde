"""``planted-genres``: generated from tastes that are known, so that the best possible score is known too."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from datasets.errors import UserError
from datasets.loader import Loader, Progress, name_with_options

if TYPE_CHECKING:
    from datasets.types import Dataset


@dataclass(frozen=True)
class PlantedGenres(Loader):
    """Users draw a genre from their own taste, then an item of it; ratings are user + item + taste + noise.

    Every user has ``n_ratings / n_users`` distinct items; where that is not whole, the first users have one more.
    ``datasets._planted_genres`` says how they are drawn. Times are the order of the draws, a draw a day.
    """

    n_users: Annotated[int, "users"] = 2_000
    n_items: Annotated[int, "items; those that nobody draws are not in the data set"] = 1_000
    n_ratings: Annotated[int, "ratings, the same number for every user"] = 60_000
    noise: Annotated[float, "standard deviation of the Gaussian noise of a rating"] = 0.8
    seed: Annotated[int, "of all that is random"] = 0

    def __post_init__(self) -> None:
        for name, low in (("n_users", 1), ("n_items", 1), ("n_ratings", 1), ("noise", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"planted-genres.{name} must be at least {low}, got {getattr(self, name)}")
        if self.n_ratings > self.n_users * self.n_items:
            raise UserError(
                f"planted-genres.n_ratings must be at most n_users × n_items = {self.n_users * self.n_items}, "
                f"got {self.n_ratings}"
            )

    def options(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def locate(self, progress: Progress | None = None) -> list[Path]:
        return []

    def load(self, sources: list[Path]) -> Dataset:
        import numpy as np

        from datasets._planted_genres import generate
        from datasets.canonical import Metadata, build_dataset
        from datasets.types import Column, Truth

        drawn = generate(**self.options())
        dataset = build_dataset(
            name=name_with_options("planted-genres", self),
            users=drawn.users,
            items=drawn.items,
            values=drawn.ratings,
            times=drawn.times,
            rating_scale=None,
            licence="generated, free of terms",
            citation="",
            item_metadata=Metadata(np.arange(self.n_items), {"genres": Column("categories", drawn.genres)}),
        )
        # Raw ids are the indices of the universe, of which users and items without a rating are no part any more.
        kept = (dataset.user_ids, dataset.item_ids)
        truth = Truth(drawn.truth.ranking.select(*kept), drawn.truth.rating.select(*kept), drawn.truth.noise)
        return dataclasses.replace(dataset, truth=truth)
