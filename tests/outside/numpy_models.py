"""Three recommenders that know nothing of RecGauge: plain NumPy on the files of ``split export``.

    python -m benchmarks split export --dataset ml-latest-small --protocol leave-one-out --out split
    python tests/outside/numpy_models.py split ease --scores scores.csv --lists lists.csv
    python -m benchmarks score scores.csv --lists lists.csv --name my-ease --dataset ml-latest-small \\
        --protocol leave-one-out

An example to start from, and the proof that a file's figures are those of the same model as an adapter
(``tests/integration/test_external.py``).
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

K = 10


@dataclass
class Train:
    """``train.csv`` by place: users and items in the order of their ids, ratings beside them."""

    user_ids: list[str]
    item_ids: list[str]
    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray

    def matrix(self, values: np.ndarray | float = 1.0) -> np.ndarray:
        """(n_users, n_items) float64, dense: enough for a small data set."""
        dense = np.zeros((len(self.user_ids), len(self.item_ids)))
        dense[self.users, self.items] = values
        return dense


def popularity(train: Train) -> np.ndarray:
    """(n_users, n_items) scores: how many rated an item."""
    counts = np.bincount(train.items, minlength=len(train.item_ids))
    return np.tile(counts, (len(train.user_ids), 1))


def ease(train: Train, l2: float = 500.0) -> np.ndarray:
    """EASE (Steck 2019) in its dual: P = (XᵀX + l2 I)⁻¹, scores XB = X − XP / diag(P), and XP = (XXᵀ + l2 I)⁻¹ X."""
    x = train.matrix()
    solved = np.linalg.solve(x @ x.T + l2 * np.eye(len(x)), x)
    diagonal = (1 - np.einsum("ui,ui->i", x, solved)) / l2
    return x - solved / diagonal


def biased_als(train: Train, factors: int = 50, reg: float = 10.0, damping: float = 5.0, sweeps: int = 8) -> np.ndarray:
    """Damped means, and factors for what they leave over, by ridge regressions in turn (Koren, Bell, Volinsky 2009)."""
    mean = train.ratings.mean()
    item_bias = damped(train.items, train.ratings - mean, len(train.item_ids), damping)
    rest = train.ratings - mean - item_bias[train.items]
    user_bias = damped(train.users, rest, len(train.user_ids), damping)
    residual = train.matrix(rest - user_bias[train.users])
    known = train.matrix() > 0
    item_factors = np.random.default_rng(0).normal(0, 0.1, (len(train.item_ids), factors))
    for _ in range(sweeps):
        user_factors = ridge_rows(residual, known, item_factors, reg)
        item_factors = ridge_rows(residual.T, known.T, user_factors, reg)
    return mean + user_bias[:, None] + item_bias + user_factors @ item_factors.T


def damped(groups: np.ndarray, values: np.ndarray, n: int, damping: float) -> np.ndarray:
    return np.bincount(groups, values, n) / (np.bincount(groups, minlength=n) + damping)


def ridge_rows(residual: np.ndarray, known: np.ndarray, other: np.ndarray, reg: float) -> np.ndarray:
    found = np.zeros((len(residual), other.shape[1]))
    for row in np.flatnonzero(known.any(axis=1)):
        inputs = other[known[row]]
        if len(inputs) < other.shape[1]:  # whichever system of equations is the smaller one
            solved = np.linalg.solve(inputs @ inputs.T + reg * np.eye(len(inputs)), residual[row, known[row]])
            found[row] = inputs.T @ solved
        else:
            gram = inputs.T @ inputs + reg * np.eye(other.shape[1])
            found[row] = np.linalg.solve(gram, inputs.T @ residual[row, known[row]])
    return found


MODELS = {"popularity": popularity, "ease": ease, "biased-als": biased_als}


# --- files -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load(folder: Path) -> tuple[Train, list[dict[str, str]]]:
    """The training rows, and the pairs that are asked."""
    rows = read(folder / "train.csv")
    task = json.loads((folder / "split.json").read_text(encoding="utf-8"))["protocol"]["task"]
    asked = read(folder / ("candidates.csv" if task == "ranking" else "pairs.csv"))
    item_ids = [row["item"] for row in read(folder / "items.csv")]
    user_ids = sorted({row["user"] for row in (*rows, *asked)}, key=int)
    user_of, item_of = ({each: place for place, each in enumerate(ids)} for ids in (user_ids, item_ids))
    users = np.array([user_of[row["user"]] for row in rows])
    items = np.array([item_of[row["item"]] for row in rows])
    return Train(user_ids, item_ids, users, items, np.array([float(row["rating"]) for row in rows])), asked


def write_scores(path: Path, scores: np.ndarray, train: Train, asked: list[dict[str, str]]) -> None:
    """Every asked pair, all digits: a rounded score may tie with another."""
    user_of, item_of = ({each: place for place, each in enumerate(ids)} for ids in (train.user_ids, train.item_ids))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "score"])
        for row in asked:
            score = float(scores[user_of[row["user"]], item_of[row["item"]]])
            writer.writerow([row["user"], row["item"], repr(score)])


def write_lists(path: Path, scores: np.ndarray, train: Train, asked: list[dict[str, str]]) -> None:
    """Each asked user's best items of the whole catalogue, without what the user has; ties to the first."""
    unseen = np.where(train.matrix() > 0, -np.inf, scores)
    askers = {row["user"] for row in asked}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "rank"])
        for user, row in zip(train.user_ids, unseen, strict=True):
            if user in askers:
                best = np.argsort(-row, kind="stable")[:K]
                writer.writerows((user, train.item_ids[item], rank) for rank, item in enumerate(best, start=1))


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit one model on the files of 'split export', write its answers.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--sweeps", type=int, default=8, help="of biased-als")
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--lists", type=Path)
    options = parser.parse_args()
    train, asked = load(options.folder)
    scores = biased_als(train, sweeps=options.sweeps) if options.model == "biased-als" else MODELS[options.model](train)
    if options.scores:
        write_scores(options.scores, scores, train, asked)
    if options.lists:
        write_lists(options.lists, scores, train, asked)


if __name__ == "__main__":
    main()
