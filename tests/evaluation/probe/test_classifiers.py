"""Linear probe and neighbours: by hand, and against scikit-learn's own."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from effnet_jax.errors import UserError
from effnet_jax.evaluation.probe import classifiers


@pytest.fixture(scope='module')
def digits():
  images, labels = load_digits(n_class=4, return_X_y=True)
  images = images + np.random.default_rng(0).normal(0, 6, images.shape)
  return images[:160], labels[:160], images[160:320], labels[160:320]


def test_neighbours_by_hand():
  known = np.array([[1.0, 0], [10, 1], [0, 2], [0.1, 1]])
  labels = np.array([0, 0, 1, 1])
  asked = np.array([[5.0, 0.5], [0, 0.1], [1, 1]])
  assert classifiers.neighbours(known, labels, asked, 1).tolist() == [0, 1, 1]
  # Cosines of the last with them: .7071, .7740, .7071 and .7740 but for the
  # fourth digit, (0.1 + 1) / sqrt(2 * 1.01) = .77396 and 11 / sqrt(2 * 101) =
  # .77396: a tie of two, which the first in order wins.
  assert classifiers.neighbours(known, labels, asked, 4)[0] == 0


def test_neighbours_vote_by_their_similarity():
  # One at cosine 1 against two at cosine .6: e^(1/.07) > 2 e^(.6/.07).
  known = np.array([[1.0, 0], [0.6, 0.8], [0.6, -0.8]])
  labels = np.array([1, 0, 0])
  asked = np.array([[2.0, 0]])
  assert classifiers.neighbours(known, labels, asked, 3).tolist() == [1]
  # Against two at .99: e^(1/.07) < 2 e^(.99/.07).
  known[1:] = [[0.99, 0.14], [0.99, -0.14]]
  assert classifiers.neighbours(known, labels, asked, 3).tolist() == [0]


def test_neighbours_are_scikit_learns(digits):
  known, labels, asked, _ = digits
  theirs = KNeighborsClassifier(
    20,
    metric='cosine',
    algorithm='brute',
    weights=lambda distance: np.exp((1 - distance) / 0.07),
  )
  expected = theirs.fit(known, labels).predict(asked)
  found = classifiers.neighbours(known, labels, asked, 20)
  np.testing.assert_array_equal(found, expected)


def test_the_linear_probe_by_hand(digits):
  known, labels, asked, truth = digits
  mean, std = known.mean(0), known.std(0)
  known, asked = (known - mean) / std, (asked - mean) / std
  found, strength = classifiers.linear(known * 7 + 3, labels, asked * 7 + 3)
  theirs = LogisticRegression(C=strength, max_iter=10_000).fit(known, labels)
  np.testing.assert_array_equal(found, theirs.predict(asked))
  assert np.mean(found == truth) > 0.7
  # The strength is none that cross-validation within training finds far worse.
  scores = {
    c: cross_val_score(
      LogisticRegression(C=c, max_iter=10_000), known, labels, cv=5
    ).mean()
    for c in classifiers.STRENGTHS
  }
  assert scores[strength] > max(scores.values()) - 0.05
  assert strength < max(classifiers.STRENGTHS)  # of noise, less is better


def test_folds_are_scikit_learns():
  labels = np.repeat([0, 1], [10, 15])
  folds = classifiers.stratified_folds(labels, ('a', 'b'), 5)
  tested = np.concatenate([fold.test for fold in folds])
  assert sorted(tested) == list(range(25))
  for fold in folds:
    assert np.bincount(labels[fold.test]).tolist() == [2, 3]
    assert not set(fold.train) & set(fold.test)


def test_mistakes():
  labels = np.repeat([0, 1], [10, 3])
  with pytest.raises(UserError, match='--folds 5 needs 5 .* cat has 3'):
    classifiers.stratified_folds(labels, ('dog', 'cat'), 5)
  with pytest.raises(UserError, match='one class only'):
    classifiers.stratified_folds(np.zeros(9, int), ('dog',), 5)
  with pytest.raises(UserError, match='needs 2 images of each class'):
    classifiers.linear(np.eye(3), np.array([0, 0, 1]), np.eye(3))


def test_without_scikit_learn(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn', None)
  with pytest.raises(UserError, match=r"pip install 'effnet-jax\[quickstart"):
    classifiers.check_scikit_learn()
