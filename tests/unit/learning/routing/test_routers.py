"""Properties of every router (plug-in check, purity, tensors), and of each router."""

import numpy as np
import pytest
import torch

from emulator.core.types.data import Question
from emulator.learning.backbone.load import Backbone, Tiny
from emulator.learning.routing import Arrow, BagOfWords, Cosine, Oracle, RidgeLda, Uniform
from emulator.learning.routing.bag_of_words import SMOOTHING
from emulator.learning.routing.confusion import ABSTAINED, auroc, route_shares

ROUTERS = (RidgeLda, Cosine, Arrow, BagOfWords, Uniform, Oracle)
READING = (RidgeLda, Cosine, BagOfWords)
TEXTS = ("tag01 : a b c ->", "tag02 : a b c ->", "tag01 : d e ->", "tag02 : g h i j ->")
QUESTIONS = [Question(text, index % 2) for index, text in enumerate(TEXTS)]
TASK_OF = [0, 1, 0, 1]

every = pytest.mark.parametrize("kind", ROUTERS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Tiny().load()


def learnt(router, backbone):
    own = router.features(backbone, QUESTIONS, 1)
    return router.fit(router.statistics(own, TASK_OF, 2), own, 2), own


@every
def test_a_fitted_router_is_its_tensors_and_answers_the_same_from_them(kind, backbone):
    router = kind()
    fitted, own = learnt(router, backbone)
    assert fitted
    assert {tensor.dtype for tensor in fitted.values()} == {np.dtype(np.float32)}
    copied = {name: tensor.copy() for name, tensor in fitted.items()}
    gates = router.gates(copied, router.features(backbone, QUESTIONS, 1))
    assert gates.shape == (4, 2)
    assert gates.dtype == np.float32
    np.testing.assert_array_equal(gates, router.gates(fitted, own))
    assert router.familiarity(fitted, own).shape == (4,)


@every
def test_statistics_are_the_same_whatever_order_questions_come_in(kind, backbone):
    router = kind()
    own = router.features(backbone, QUESTIONS, 1)
    turned = router.features(backbone, QUESTIONS[::-1], 1)
    parts, again = router.statistics(own, TASK_OF, 2), router.statistics(turned, TASK_OF[::-1], 2)
    assert list(parts) == list(again)
    for name, part in parts.items():
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, again[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [RidgeLda, BagOfWords, Oracle], ids=lambda kind: kind.__name__)
def test_training_questions_go_home(kind, backbone):
    router = kind()
    fitted, own = learnt(router, backbone)
    np.testing.assert_array_equal(router.gates(fitted, own).argmax(axis=1), TASK_OF)


@pytest.mark.parametrize("kind", READING, ids=lambda kind: kind.__name__)
def test_abstaining_closes_every_gate_of_unfamiliar_questions(kind, backbone):
    router = kind(abstain=0.5)
    fitted, own = learnt(router, backbone)
    familiarity = router.familiarity(fitted, own)
    unfamiliar = familiarity < np.float32(np.median(familiarity))
    np.testing.assert_array_equal(~router.gates(fitted, own).any(axis=1), unfamiliar)


@pytest.mark.parametrize("kind", READING, ids=lambda kind: kind.__name__)
def test_a_task_without_samples_gets_no_gate(kind, backbone):
    router = kind(top_m=3)
    own = router.features(backbone, QUESTIONS, 1)
    gates = router.gates(router.fit(router.statistics(own, [0, 2, 0, 2], 3), own, 3), own)
    assert not gates[:, 1].any()
    np.testing.assert_allclose(gates.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("kind", READING, ids=lambda kind: kind.__name__)
def test_nothing_to_learn_from_is_refused(kind, backbone):
    router = kind()
    own = router.features(backbone, QUESTIONS, 1)
    nothing = {n: 0 * part for n, part in router.statistics(own, TASK_OF, 2).items()}
    with pytest.raises(ValueError, match="router statistics: got no"):
        router.fit(nothing, own, 2)


def test_a_cosine_has_no_length():
    router = Cosine()
    states = np.array([[1.0, 0.1], [0.1, 1.0]])
    fitted = router.fit(router.statistics(states, [0, 1], 2), states, 2)
    asked = np.array([[5.0, 4.0], [-1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(router.gates(fitted, 1e3 * asked), router.gates(fitted, asked))
    exact = states / np.linalg.norm(states, axis=1, keepdims=True) @ asked[0] / np.hypot(5, 4)
    assert router.familiarity(fitted, asked)[0] == pytest.approx(exact.max(), rel=1e-6)
    assert router.familiarity(fitted, asked)[2] == 0


def test_words_are_counted_and_weighed_as_naive_bayes_does(backbone):
    router = BagOfWords()
    own = router.features(backbone, QUESTIONS, 1)
    counts = router.statistics(own, TASK_OF, 2)["token_counts"]
    ids = [backbone.tokenizer(text)["input_ids"] for text in TEXTS]
    slow = np.zeros((2, len(backbone.tokenizer)))
    for task, row in zip(TASK_OF, ids, strict=True):
        for token in row:
            slow[task, token] += 1
    np.testing.assert_array_equal(counts, slow)
    fitted = router.fit({"token_counts": counts}, own, 2)
    smooth = (slow + SMOOTHING) / (slow + SMOOTHING).sum(axis=1, keepdims=True)
    wanted = [max(np.log(smooth)[:, row].sum(axis=1)) / len(row) for row in ids]
    np.testing.assert_allclose(router.familiarity(fitted, own), wanted, rtol=1e-5)


def test_the_oracle_sees_the_label_and_knows_when_there_is_none(backbone):
    router = Oracle()
    asked = [Question("x", 1), Question("x", None), Question("x", 0)]
    features = router.features(backbone, asked, 1)
    fitted = router.fit({}, features, 2)
    np.testing.assert_array_equal(router.gates(fitted, features), [[0, 1], [0, 0], [1, 0]])
    assert router.familiarity(fitted, features).tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", [Uniform, Arrow, Oracle], ids=lambda kind: kind.__name__)
def test_routers_that_learn_nothing_send_nothing(kind, backbone):
    assert kind().statistics(kind().features(backbone, QUESTIONS, 1), TASK_OF, 2) == {}


@pytest.mark.parametrize("kind", [*READING, Uniform, Oracle], ids=lambda kind: kind.__name__)
def test_only_arrow_gates_layers(kind):
    assert kind().layer_gate([(torch.ones(1, 2), torch.ones(2, 1), 1.0)]) is None


# ── shares of routes ─────────────────────────────────────────────────────────────────────────────


def test_routes_are_shares_of_all_questions():
    gates = np.array([[1, 0], [0.4, 0.6], [0, 0], [0.5, 0.5]], dtype=np.float32)
    assert route_shares(gates, ("a", "b")) == {"a": 0.5, "b": 0.25, ABSTAINED: 0.25}


def test_gates_that_are_all_open_are_no_route():
    assert route_shares(np.ones((3, 2), dtype=np.float32), ("a", "b")) == {}
    assert route_shares(np.zeros((3, 2), dtype=np.float32), ("a", "b"))[ABSTAINED] == 1


def test_auroc_counts_pairs():
    draws = np.random.default_rng(1)
    known, unseen = draws.integers(0, 9, 40) + 2.0, draws.integers(0, 9, 30) * 1.0
    pairs = [(k > u) + (k == u) / 2 for k in known for u in unseen]
    assert auroc(known, unseen) == pytest.approx(np.mean(pairs))
    assert auroc(np.ones(3), np.ones(5)) == 0.5
    assert auroc(np.array([2.0, 3.0]), np.array([1.0])) == 1
