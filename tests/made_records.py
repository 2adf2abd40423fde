"""Whole records for tests, as the harness makes them, and outcomes whose figures are known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.environment import digest

N_USERS, N_ITEMS = 20_000, 500
LOO = {"held_out": "latest", "negatives": 99, "positive_min": None}
HOLDOUT = {"folds": 0, "fold": 0, "by": "random"}


def record(algorithm: str, status: str = "ok", **changes: Any) -> dict[str, Any]:
    """A record's data but for what ``records.write`` adds. ``changes`` replace parts of it, by their short names."""
    protocol, config = changes.get("protocol", "leave-one-out"), changes.get("config", LOO)
    seed, split, label = changes.get("seed", 0), changes.get("split", "a" * 64), changes.get("label", "default")
    ranks = protocol == "leave-one-out"
    data: dict[str, Any] = {
        "key": digest([algorithm, label, protocol, config, seed, split, changes.get("code", "")]),
        "status": status,
        "reason": None if status == "ok" else "it broke",
        "created": changes.get("created", "2025-01-01T00:00:00.000+00:00"),
        "dataset": {
            **{"name": changes.get("dataset", "toy"), "fingerprint": "d" * 64, "notes": {}},
            **{"n_users": N_USERS, "n_items": N_ITEMS, "n_rows": 20_000},
        },
        "protocol": {
            **{"name": protocol, "config": config, "task": "ranking" if ranks else "rating"},
            "primary": "hr@10" if ranks else "rmse",
        },
        "split": {
            **{"seed": changes.get("split_seed", 42), "fingerprint": split, "notes": {}},
            **{"n_train": 100, "n_valid": 10, "n_test": 10},
        },
        "algorithm": {
            **{"name": algorithm, "label": label, "config": {}, "support": changes.get("support", "native")},
            **({"tuned": changes["tuned"]} if "tuned" in changes else {}),
        },
        **{"seed": seed, "threads": 1, "device": "cpu"},
        "metrics": changes.get("metrics", {}) if status == "ok" else None,
        "timings": timings(search_s=changes.get("search_s", 0.0)) if status == "ok" else None,
        "memory": {"peak_group_rss_bytes": 2**22},
        "wall_s": 1.5,
        "limits": {"budget": "default", "seconds": 600, "memory_bytes": 2**33},
        "hardware": {"cpu": "a CPU", "cores": 2, "gpus": [], "os": "Linux x86_64"},
        "hardware_fingerprint": changes.get("hardware", "e") * 64,
        "environment": {"packages": {}, "variables": {}, "commit": None, "code": "c" * 64},
    }
    if status == "ok":
        data["memory"] |= {"peak_rss_fit_bytes": 2**20, "peak_rss_score_bytes": 2**21}
    if label == "external":
        about = {"fit_s": changes.get("fit_s"), "ranked_users": 0, "not_measured": changes.get("not_measured", {})}
        data |= {"timings": None, "limits": None}
        data["external"] = {"files": [{"what": "scores", "format": "csv", "sha256": "f" * 64}], **about}
        data["memory"] = {"peak_group_rss_bytes": None}
    return data


def timings(**changes: Any) -> dict[str, Any]:
    return {
        **{"fit_s": [0.25], "search_s": 0.0, "pairs_s": 0.1, "rank_s": 0.5, "pairs": 10, "ranked_users": 50},
        **{"train_rows": 100, "steps": None, "epochs": 1, "samples_per_epoch": None},
        **{"throughput": None, "host": None, "stages": None},
        **changes,
    }


def hits(*sampled: int, full: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    """Leave-one-out outcomes: 1 for a user whose item is first of its candidates, 0 for one whose item is last."""
    full = sampled if full is None else full
    outcomes = {"n_items": np.array([N_ITEMS], dtype=np.int32), "novelty": np.full(len(full), np.nan)}
    outcomes["top_items"] = np.full((len(full), 10), -1, dtype=np.int32)
    for suffix, row in (("", sampled), ("_full", full)):
        better = np.where(np.array(row) == 1, 0, 99).astype(np.int32)
        outcomes |= {
            f"users{suffix}": np.arange(len(row), dtype=np.int32),
            f"positive_score{suffix}": np.zeros(len(row), dtype=np.float32),
            f"n_better{suffix}": better,
            f"n_tied{suffix}": np.zeros_like(better),
            f"n_candidates{suffix}": np.full_like(better, 100),
        }
    return outcomes


def errors(squared: list[float], n: list[int], users: list[int] | None = None) -> dict[str, np.ndarray]:
    """Holdout outcomes: each user's sum of squared errors over so many rows."""
    count = np.array(n, dtype=np.float64)
    sums = {"n": count, "sse": np.array(squared, float), "sae": count * 0.5, "sum_y": 3 * count, "sum_y2": 10 * count}
    cold = {f"cold_{name}": np.zeros_like(value) for name, value in sums.items()}
    own = np.arange(len(n)) if users is None else np.array(users)
    return {"users": own.astype(np.int32), **sums, **cold}
