"""NCF re-ranked by MMR: what is lifted, what stays, and that the lists are those of ``mmr``. Needs no torch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from algorithms._mmr import mmr
from algorithms.ncf import NCF
from algorithms.ncf_mmr import NCFMMR
from algorithms.types import Task

N_USERS, N_ITEMS = 6, 30
SCORES = np.random.default_rng(0).random((N_USERS, N_ITEMS)).astype(np.float32)
GENRES = np.eye(3, dtype=np.float32)[np.arange(N_ITEMS) % 3]
SEEN = sparse.csr_matrix((np.random.default_rng(1).random((N_USERS, N_ITEMS)) < 0.2).astype(np.float32))


def reranked(monkeypatch: pytest.MonkeyPatch, trade_off: float) -> NCFMMR:
    """A fitted model whose network answers ``SCORES``."""
    monkeypatch.setattr(NCF, "_score", lambda self, users: SCORES[users].copy())
    model = NCFMMR(NCFMMR.Config(trade_off=trade_off))
    model.n_users, model.n_items, model.task = N_USERS, N_ITEMS, Task.RANKING
    model._genres, model._seen, model._scorable = GENRES, SEEN, True
    return model


@pytest.mark.parametrize("trade_off", [1.0, 0.7, 0.0])
def test_the_recommended_lists_are_those_of_mmr(monkeypatch: pytest.MonkeyPatch, trade_off: float) -> None:
    users = np.arange(N_USERS)
    unseen = np.where(SEEN.toarray() > 0, -np.inf, SCORES)
    expected = mmr(unseen, GENRES, 10, trade_off)
    lists = reranked(monkeypatch, trade_off).recommend(users, 10, exclude=SEEN)
    assert np.array_equal(lists, expected)
    plain = np.argsort(-unseen, axis=1)[:, :10]
    assert np.array_equal(lists, plain) == (trade_off == 1.0)


def test_what_is_not_listed_keeps_its_score_below_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reranked(monkeypatch, 0.5)
    scores = model.score(np.arange(N_USERS))
    lifted = scores != SCORES
    assert (lifted.sum(axis=1) == 10).all() and not (lifted & (SEEN.toarray() > 0)).any()
    assert (np.where(lifted, scores, np.inf).min(axis=1) > SCORES.max(axis=1)).all()


def test_pairs_score_as_in_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reranked(monkeypatch, 0.5)
    users, items = np.repeat(np.arange(N_USERS), N_ITEMS), np.tile(np.arange(N_ITEMS), N_USERS)
    assert np.array_equal(model.score_pairs(users, items), model.score(np.arange(N_USERS)).ravel())
