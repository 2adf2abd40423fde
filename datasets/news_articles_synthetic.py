"""``news-articles-synthetic``: four generated files in the format of ``news-articles``, for all who lack the contest's.

Users, articles, rows and their overlap are exactly as many as in the contest's files; longest and median histories, the
share of empty ages and articles without metadata are about theirs. Everything else is drawn, none of it from the
contest's data: see ``datasets.news_articles_generator`` for what, and for the planted variance of the ratings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datasets.cache import atomic_folder, cache_root
from datasets.download import data_roots, find
from datasets.loader import Progress
from datasets.news_articles import NewsArticles


@dataclass(frozen=True)
class NewsArticlesSynthetic(NewsArticles):
    """The generated files, read as the contest's are, with the same options."""

    base_name: ClassVar[str] = "news-articles-synthetic"
    licence: ClassVar[str] = "generated, free of terms"

    def locate(self, progress: Progress | None = None) -> list[Path]:
        """The four files where a data root has them, else in the cache, generated there within seconds."""
        folder = self.generated()
        if found := find([*(root / self.base_name for root in data_roots()), folder], self.files):
            return found
        from datasets.news_articles_generator import generate, write

        with atomic_folder(folder) as scratch:
            write(scratch, generate())
        return [folder / name for name in self.files]

    def generated(self) -> Path:
        """Named by the generator's code: what other code wrote is another data set."""
        code = Path(__file__).with_name("news_articles_generator.py").read_bytes()
        return cache_root() / "data" / f"{self.base_name}-{hashlib.sha256(code).hexdigest()[:12]}"
