"""NCF, NeuMF and NCF with a diversity loss, against plainer programs and on real data.

What needs torch runs in one worker process: torch and TensorFlow must not meet in the process of the tests.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from algorithms.ncf import NCF, NCFDiversity, NeuMF
from algorithms.registry import ALGORITHMS
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import UserError
from datasets.types import Features, Interactions

ROOT = Path(__file__).parents[2]
SMALL = {"factors": 4, "layers": (16, 8), "batch_size": 100}


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., Any]]:
    """Call a function of this file in the worker; what it raises is raised here."""
    if find_spec("pytorch_lightning") is None:
        pytest.skip("PyTorch Lightning is not installed: pip install 'recgauge[torch]'")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result(timeout=120)


def _train_set(task: Task = Task.RANKING, names: tuple[str, ...] = ("genres=A", "genres=B", "genres=C")) -> TrainSet:
    """30 users × 40 items, a rating of 1 to 5 for every fifth pair; genres at random, some items without."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((30, 40)) < 0.2)
    values = rng.integers(1, 6, len(users)).astype(np.float32)
    rows = Interactions(users.astype(np.int32), items.astype(np.int32), values, None, 30, 40)
    genres = sparse.csr_matrix((rng.random((40, len(names))) < 0.4).astype(np.float32))
    return TrainSet(rows, task, Features(genres, names), rating_scale=(1, 5))


def _weights(model: NCF) -> dict[str, np.ndarray]:
    return dict(model._state())


def _same_weights(one: NCF, other: NCF) -> bool:
    return all(np.array_equal(array, _weights(other)[name]) for name, array in _weights(one).items())


# -- the network ------------------------------------------------------------------------------------------------------


def _naive_logits(weights: dict[str, np.ndarray], users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """He et al. (2017) as written: concatenate, then layer by layer, in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    hidden = np.concatenate([w["user.weight"][users], w["item.weight"][items]], axis=1)
    layers = ["first", *sorted({name.rpartition(".")[0] for name in w if name.startswith("rest.")})]
    for layer in layers:
        hidden = hidden @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
        if layer != layers[-1]:
            hidden = np.maximum(hidden, 0)
    logits = hidden[:, 0]
    if "gmf.weight" in w:
        logits = logits + (w["gmf_user.weight"][users] * w["gmf_item.weight"][items]) @ w["gmf.weight"][0]
    return logits


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("kind", [NCF, NeuMF])
def test_split_first_layer_scores_as_the_network_as_written(elsewhere, kind, task):
    elsewhere(_check_scores, kind, task)


def _check_scores(kind, task):
    model = kind(kind.Config(**SMALL, initial_std=1.0, epochs=2)).fit(_train_set(task), FitContext())
    users, items = (grid.ravel() for grid in np.meshgrid(np.arange(30), np.arange(40), indexing="ij"))
    expected = _naive_logits(_weights(model), users, items)
    if task is Task.RATING:
        expected += _train_set(task).interactions.values.mean()
    assert expected.std() > 0.1
    np.testing.assert_allclose(model._score(np.arange(30)).ravel(), expected, atol=1e-5)
    np.testing.assert_allclose(model._score_pairs(users, items), expected, atol=1e-5)


@pytest.mark.parametrize(("gmf_factors", "threads"), [(0, 1), (5, 1), (5, 2), (5, 5)])
def test_gradients_by_hand_are_those_of_autograd(elsewhere, gmf_factors, threads):
    """Two threads share the rows evenly, five cannot."""
    elsewhere(_check_gradients, gmf_factors, threads)


def _check_gradients(gmf_factors, threads):
    """The network as written against ``Network.forward``; in bfloat16 logits stay float32, and close."""
    import torch

    from algorithms import _ncf_torch as framework

    torch.set_num_threads(threads)
    design = {"n_users": 30, "n_items": 40, "factors": 6, "layers": (16, 8, 4), "gmf_factors": gmf_factors}
    network = framework.build({**design, "initial_std": 1.0}, "torch", 0)
    draw = torch.Generator().manual_seed(0)
    users, items = (torch.randint(30, shape, generator=draw).int() for shape in ((12,), (3, 12)))
    weight_of_logit = torch.randn(3, 12, generator=draw)

    def as_written():
        pairs = torch.cat([network.user(users).expand(3, -1, -1), network.item(items)], dim=2)
        logits = network.rest(network.first(pairs)).squeeze(2)
        return (
            logits
            if not gmf_factors
            else logits + network.gmf(network.gmf_user(users) * network.gmf_item(items)).squeeze(2)
        )

    def gradients(logits):
        network.zero_grad()
        (logits * weight_of_logit).sum().backward()
        return {name: weight.grad.clone() for name, weight in network.named_parameters()}

    expected, found = as_written(), network(users, items)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found), gradients(expected))

    with torch.autocast("cpu", torch.bfloat16):
        rough = network(users, items)
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, expected)
    torch.testing.assert_close(rough, expected, atol=0.05, rtol=0.05)
    for name, gradient in gradients(rough).items():
        assert gradient.dtype == torch.float32, name


def test_parameters_of_the_report(elsewhere):
    assert elsewhere(_layer_sizes, ALGORITHMS["ncf"].presets["report-3"]) == [544, 528, 136, 9]


def _layer_sizes(options):
    from algorithms import _ncf_torch as framework

    model = NCF(NCF.Config(**options))
    model.n_users, model.n_items = 5, 7
    network = framework.build(model._design(), "torch", 0)
    assert network.user.weight.shape == (5, 8)
    layers = [network.first, *(part for part in network.rest if hasattr(part, "weight"))]
    return [layer.weight.numel() + layer.bias.numel() for layer in layers]


def test_report_presets():
    """Checks that need no framework: each is the tower that its name says."""
    ncf, diversity = ALGORITHMS["ncf"].presets, ALGORITHMS["ncf-diversity"].presets
    assert ncf["report"] == ncf["report-4"]
    assert diversity["report"] == diversity["report-3"]
    assert {name: diversity["report"][name] for name in ncf["report-3"]} == ncf["report-3"]


def test_a_network_without_layers_is_refused():
    with pytest.raises(UserError, match="at least one hidden layer"):
        NCF.Config(layers=())


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table_pairs", [1 << 26, 0])
def test_negatives_are_unrated_and_fresh_each_epoch(elsewhere, table_pairs):
    elsewhere(_check_negatives, table_pairs)


def _check_negatives(table_pairs):
    """With a table of all pairs and without one.

    User 0 rated all 6 items, user 1 all but 2 and 5, user 2 nothing, user 3 item 4 alone (twice in the rows).
    """
    from algorithms import _ncf_torch as framework

    kept = framework.TABLE_PAIRS
    framework.TABLE_PAIRS = table_pairs
    try:
        _check_epochs_of_negatives(framework)
    finally:
        framework.TABLE_PAIRS = kept


def _check_epochs_of_negatives(framework):
    users = np.int32([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 3, 3])
    items = np.int32([0, 1, 2, 3, 4, 5, 0, 1, 3, 4, 4, 4])
    rows = Interactions(users, items, np.ones(12, np.float32), None, 4, 6)
    batches = framework.RankingBatches(rows, negatives=500, batch_size=2_000, device="cpu", seed=1)
    epochs = []
    for _ in range(2):
        parts = list(batches)
        assert len(parts) == len(batches)
        epochs.append([np.concatenate([part[column].T.numpy() for part in parts]) for column in range(3)])
        drawn_users, drawn, targets = epochs[-1]
        assert sorted(zip(drawn_users, drawn[:, 0], strict=True)) == [(1, 0), (1, 1), (1, 3), (1, 4), (3, 4), (3, 4)]
        assert targets[:, 0].tolist() == [1] * 6
        assert not targets[:, 1:].any()
        for user, unrated in ((1, [2, 5]), (3, [0, 1, 2, 3, 5])):
            found, counts = np.unique(drawn[drawn_users == user, 1:], return_counts=True)
            assert found.tolist() == unrated
            expected = counts.sum() / len(unrated)
            assert (np.square(counts - expected) / expected).sum() < 18.5  # chi², 4 degrees of freedom, p = .001
    assert not np.array_equal(epochs[0][1], epochs[1][1])


def test_an_epoch_of_ratings_is_every_row_once(elsewhere):
    elsewhere(_check_rating_batches)


def _check_rating_batches():
    from algorithms import _ncf_torch as framework

    rows = _train_set(Task.RATING).interactions
    batches = framework.RatingBatches(rows, 3.0, 10, "cpu", 0)
    orders = []
    for _ in range(2):
        users, items, targets = (np.concatenate(column, axis=-1) for column in zip(*batches, strict=True))
        orders.append(users * 40 + items[0])
        order = np.argsort(orders[-1])
        assert np.array_equal(users[order], rows.users)
        assert np.array_equal(items[0, order], rows.items)
        assert np.array_equal(targets[0, order], rows.values - 3)
    assert not np.array_equal(*orders)


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(Task))
def test_training_is_adam_on_the_loss_of_each_batch(elsewhere, task):
    elsewhere(_check_training, task)


def _check_training(task):
    """Lightning's loop against six lines of torch on the network as written."""
    import torch
    from torch.nn import functional

    from algorithms import _ncf_torch as framework

    train, config = _train_set(task), NCF.Config(**SMALL, initial_std=0.3, learning_rate=0.02, reg=0.01, epochs=3)
    model = NCF(config).fit(train, FitContext(seed=4))

    network = framework.build(model._design(), "glorot", 4)
    mean = float(train.interactions.values.mean())
    batches = (
        framework.RankingBatches(train.interactions, 4, 100, "cpu", 4)
        if task is Task.RANKING
        else framework.RatingBatches(train.interactions, mean, 100, "cpu", 4)
    )
    loss_of = functional.binary_cross_entropy_with_logits if task is Task.RANKING else functional.mse_loss
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(3):
        for users, items, targets in batches:
            pair = [network.user(users).expand(len(items), -1, -1), network.item(items)]
            loss = loss_of(network.rest(network.first(torch.cat(pair, dim=2))).squeeze(2), targets)
            penalty = 0.01 / 2 * (network.user.weight.square().sum() + network.item.weight.square().sum())
            optimizer.zero_grad()
            (loss + penalty).backward()
            optimizer.step()
    for name, weight in network.state_dict().items():
        np.testing.assert_allclose(_weights(model)[name], weight.numpy(), atol=2e-4, err_msg=name)


def test_seeds_matter_and_the_process_keeps_its_random_state(elsewhere):
    elsewhere(_check_seeds)


def _check_seeds():
    import torch

    state = torch.get_rng_state()
    models = [NCF(NCF.Config(**SMALL, epochs=1)).fit(_train_set(), FitContext(seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    assert _same_weights(models[0], models[1])
    assert not _same_weights(models[0], models[2])


def test_scoring_between_epochs_leaves_training_alone(elsewhere):
    elsewhere(_check_validation)


def _check_validation():
    """The first epochs of a longer fit that is scored all the time are those of a short one that is not."""
    seen: list[np.ndarray] = []

    def validate(step: int) -> bool:
        seen.append(model.score(np.arange(30)))
        model.score_pairs(np.arange(30), np.arange(30))
        return False

    model = NCFDiversity(NCFDiversity.Config(**SMALL, epochs=4))
    model.fit(_train_set(), FitContext(validate=validate))
    assert len(seen) == 4
    for steps in (1, 3, 4):
        short = NCFDiversity(model.config).fit(_train_set(), FitContext(fixed_steps=steps))
        assert np.array_equal(short.score(np.arange(30)), seen[steps - 1])


def test_what_validation_raises_comes_through(elsewhere):
    with pytest.raises(ValueError, match="from the harness"):
        elsewhere(_fail_in_validation)


def _fail_in_validation():
    def validate(step: int) -> bool:
        raise ValueError("from the harness")

    NCF(NCF.Config(**SMALL)).fit(_train_set(), FitContext(validate=validate))


@pytest.mark.parametrize("kind", [NCF, NeuMF])
def test_mixed_precision_is_an_option_that_changes_scores_little(elsewhere, kind):
    elsewhere(_check_mixed_precision, kind)


def _check_mixed_precision(kind):
    """In float32 and in bfloat16, which has a relative error of 2^-9: two fits, and the scores of the second one."""
    from algorithms import _ncf_torch as framework

    exact, same, mixed = (
        kind(kind.Config(factors=16, layers=(64, 32), batch_size=100, epochs=10, **more)).fit(
            _train_set(), FitContext()
        )
        for more in ({}, {"precision": "32"}, {"precision": "bf16-mixed"})
    )
    assert _same_weights(exact, same)
    assert not _same_weights(exact, mixed)
    assert np.corrcoef(exact.score(np.arange(30)).ravel(), mixed.score(np.arange(30)).ravel())[0, 1] > 0.8
    in_float32 = framework.Scorer(mixed._network, 0.0, 1).catalogue(np.arange(30))
    users, items = np.divmod(np.arange(1200), 40)
    for scores in (mixed.score(np.arange(30)).ravel(), mixed.score_pairs(users, items)):
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, in_float32.ravel(), atol=0.02 * in_float32.std())
        assert len(np.unique(scores)) > 0.9 * len(scores)  # rounded to bfloat16 they would be ties


def test_what_the_harness_asks_of_the_device(elsewhere):
    elsewhere(_check_device)


def _check_device():
    model = NCF(NCF.Config(**SMALL, epochs=1)).fit(_train_set(), FitContext())
    assert model.fitted_device == "cpu"
    NCF.reset_peak_gpu()
    assert NCF.peak_gpu_bytes() is None


def test_questions_about_the_gpu_load_no_framework():
    code = "import sys; from algorithms.ncf_mmr import NCFMMR as N; N.reset_peak_gpu(); "
    code += "assert N.peak_gpu_bytes() is None; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_fit_prints_nothing_and_writes_no_file(elsewhere, tmp_path):
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]; import test_ncf; "
    code += "test_ncf.NCF(test_ncf.NCF.Config(**test_ncf.SMALL, epochs=2)).fit(test_ncf._train_set(), "
    code += "test_ncf.FitContext())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# -- diversity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"formulation": "report", "diversity_weight": 1.0}, {"diversity_weight": 0.0}])
def test_report_formulation_leaves_the_weights_of_ncf(elsewhere, options):
    """The report's term has no gradient, whatever its weight; nor has the other one at weight 0."""
    elsewhere(_check_same_as_ncf, options)


def _check_same_as_ncf(options):
    plain = NCF(NCF.Config(**SMALL, epochs=3)).fit(_train_set(), FitContext(seed=2))
    diverse = NCFDiversity(NCFDiversity.Config(**SMALL, **options, epochs=3)).fit(_train_set(), FitContext(seed=2))
    assert _same_weights(plain, diverse)
    other = NCFDiversity(NCFDiversity.Config(**SMALL, diversity_weight=0.1, epochs=3))
    assert not _same_weights(plain, other.fit(_train_set(), FitContext(seed=2)))


def test_report_formulation_is_the_sum_of_correlations_of_genre_columns(elsewhere):
    value, expected = elsewhere(_report_term)
    assert value == pytest.approx(expected, rel=1e-5)


def _report_term():
    import pandas
    import torch

    from algorithms import _ncf_torch as framework

    rng = np.random.default_rng(3)
    genres = (rng.random((50, 4)) < 0.5).astype(np.float32)
    genres[:, 3] = 1  # a constant column correlates with nothing
    items, logits = rng.permutation(50)[:40].reshape(8, 5), rng.permutation(40).reshape(8, 5).astype(np.float32)
    term = framework.GenreCorrelation(genres, 0.5, "cpu")
    network = NCF(NCF.Config())
    value = term(network, torch.arange(8), torch.tensor(items), torch.tensor(logits, requires_grad=True))
    assert not value.requires_grad
    ten_best = items.ravel()[np.argsort(-logits.ravel())[:10]]
    return float(value), 0.5 * pandas.DataFrame(genres[ten_best]).corr().sum().sum()


def test_expected_similarity_is_that_of_two_different_draws(elsewhere):
    elsewhere(_check_expected_similarity)


def _check_expected_similarity():
    import torch

    from algorithms import _ncf_torch as framework

    rng = np.random.default_rng(5)
    scores, vectors = rng.normal(size=(3, 6)), rng.normal(size=(3, 6, 2))
    found = framework.expected_similarity(torch.tensor(scores), torch.tensor(vectors))
    for row in range(3):
        chance = np.exp(scores[row]) / np.exp(scores[row]).sum()
        pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
        weights = np.array([chance[i] * chance[j] for i, j in pairs])
        similarity = np.array([vectors[row, i] @ vectors[row, j] for i, j in pairs])
        np.testing.assert_allclose(found[row], (weights * similarity).sum() / weights.sum())

    same = torch.ones(1, 6, 1, dtype=torch.float64)
    peaked = torch.tensor([[50.0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    assert 0 <= float(framework.expected_similarity(peaked, same)) <= 1 + 1e-9  # no 0 / 0 for one certain item


@pytest.mark.parametrize("names", [("genres=A", "genres=B", "genres=C"), ("kind=A", "kind=B", "kind=C")])
def test_diversity_loss_makes_lists_more_diverse(elsewhere, names):
    plain, diverse = elsewhere(_similarities, names)
    assert diverse < 0.9 * plain


def _similarities(names):
    """Mean cosine of genres over the pairs of a top 5, by NCF and by NCF with the loss."""
    train = _train_set(names=names)
    options = {**SMALL, "epochs": 15, "learning_rate": 0.02}
    models = [NCF(NCF.Config(**options)), NCFDiversity(NCFDiversity.Config(**options, diversity_weight=1.0))]
    genres = train.item_features.matrix.toarray()
    lengths = np.linalg.norm(genres, axis=1, keepdims=True)
    unit = genres / np.where(lengths > 0, lengths, 1)
    found = []
    for model in models:
        lists = unit[model.fit(train, FitContext()).recommend(np.arange(30), 5)]
        cosines = lists @ lists.transpose(0, 2, 1)
        found.append(cosines[:, *np.triu_indices(5, 1)].mean())
    return found


@pytest.mark.parametrize("formulation", ["expected-similarity", "report"])
@pytest.mark.parametrize("names", [None, ("year", "year=missing")])
def test_data_without_genres_is_a_user_error(elsewhere, names, formulation):
    with pytest.raises(UserError, match="ncf-diversity needs item metadata"):
        elsewhere(_fit_without_genres, names, formulation)


def _fit_without_genres(names, formulation):
    train = replace(_train_set(), item_features=None) if names is None else _train_set(names=names)
    NCFDiversity(NCFDiversity.Config(**SMALL, formulation=formulation)).fit(train, FitContext())


# -- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "epochs", "lowest"), [(NCF, 9, 0.66), (NeuMF, 8, 0.68)])
def test_ranks_movielens_small(elsewhere, movielens, kind, epochs, lowest):
    """HR@10 on validation rows; .69 to .71 and .70 to .73 were seen with other seeds."""
    assert elsewhere(_validation_figures, kind, "leave-one-out", epochs)["hr@10"] >= lowest


@pytest.mark.parametrize("kind", [NCF, NeuMF])
def test_rates_movielens_small(elsewhere, movielens, kind):
    """RMSE on validation rows; damped means have .87, .857 to .868 were seen with other seeds."""
    assert elsewhere(_validation_figures, kind, "holdout", 4)["rmse"] <= 0.875


def _validation_figures(kind, protocol_name, epochs):
    from datasets.registry import make_loader, spec
    from datasets.store import load_cached
    from protocols.holdout import Holdout
    from protocols.leave_one_out import LeaveOneOut

    protocol = Holdout() if protocol_name == "holdout" else LeaveOneOut()
    entry = spec("ml-latest-small")
    loader = make_loader(entry.target, entry.options)
    part = protocol.split(load_cached(loader, loader.locate()), 42).for_validation()
    train = TrainSet(part.train, Task(protocol.task), rating_scale=part.rating_scale)
    model = kind().fit(train, FitContext(fixed_steps=epochs))
    question, labels = protocol.question(part), protocol.labels(part)
    return protocol.metrics(protocol.evaluate(model, question, labels, part.train.matrix()))
