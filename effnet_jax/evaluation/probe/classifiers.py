"""Classifiers on fixed features: logistic regression, nearest neighbours."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from effnet_jax.errors import UserError

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C
INNER_FOLDS = 5
TEMPERATURE = 0.07  # of the weights of neighbours (Wu et al. 2018, Eq. 7)


@dataclasses.dataclass(frozen=True)
class Fold:
  """Indices [n] of the examples that are learned from and tested on."""

  train: np.ndarray
  test: np.ndarray


def stratified_folds(
  labels: np.ndarray, class_names: Sequence[str], count: int
) -> list[Fold]:
  """Returns scikit-learn's StratifiedKFold(count, shuffle, random_state=0).

  Raises:
    UserError: a class with fewer examples than folds; no scikit-learn.
  """
  check_scikit_learn()
  from sklearn.model_selection import StratifiedKFold

  _check_counts(labels, class_names, count, f'--folds {count}')
  splitter = StratifiedKFold(count, shuffle=True, random_state=0)
  return [Fold(*fold) for fold in splitter.split(labels, labels)]


def linear(
  features: np.ndarray, labels: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, float]:
  """Returns the labels that logistic regression gives, and its C.

  Features are scaled to mean 0 and variance 1 as in training. C, the inverse of
  the regularisation, is that of `STRENGTHS` which does best in stratified
  cross-validation within the training examples.

  Args:
    features: [n, c] of training.
    labels: [n].
    others: [m, c], to be classified.

  Raises:
    UserError: a class with a single example; no scikit-learn.
  """
  check_scikit_learn()
  from sklearn.linear_model import LogisticRegression
  from sklearn.model_selection import GridSearchCV, StratifiedKFold
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  names = [f'number {number}' for number in range(int(labels.max()) + 1)]
  _check_counts(labels, names, 2, 'choosing the regularisation')
  smallest = np.unique(labels, return_counts=True)[1].min()
  inner = StratifiedKFold(
    int(min(INNER_FOLDS, smallest)), shuffle=True, random_state=0
  )
  search = GridSearchCV(
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)),
    {'logisticregression__C': STRENGTHS},
    cv=inner,
  )
  search.fit(features, labels)
  chosen = search.best_params_['logisticregression__C']
  return search.predict(others), float(chosen)


def neighbours(
  features: np.ndarray, labels: np.ndarray, others: np.ndarray, count: int
) -> np.ndarray:
  """Returns the labels that the nearest training examples vote for.

  Each of the `count` of the highest cosine similarity s has exp(s / .07) votes.

  Args:
    features: [n, c] of training.
    labels: [n].
    others: [m, c], to be classified.
    count: no more than n.
  """
  known, asked = _unit(features), _unit(others)
  one_hot = np.eye(int(labels.max()) + 1)[labels]
  found = []
  for start in range(0, len(asked), 1024):  # similarities take n times as much
    similarity = asked[start : start + 1024] @ known.T
    nearest = np.argsort(-similarity, axis=1, kind='stable')[:, :count]
    near = np.take_along_axis(similarity, nearest, axis=1)
    weights = np.exp((near - near.max(1, keepdims=True)) / TEMPERATURE)
    found.append(np.einsum('mk,mkc->mc', weights, one_hot[nearest]).argmax(1))
  return np.concatenate(found)


def check_scikit_learn() -> None:
  """Raises `UserError` where scikit-learn is not installed."""
  try:
    import sklearn
  except ImportError:
    raise UserError(
      'the probe needs scikit-learn, which is not installed: '
      "pip install 'effnet-jax[quickstart]'"
    ) from None
  del sklearn


def _unit(features):
  norm = np.linalg.norm(features, axis=1, keepdims=True)
  return features / np.maximum(norm, 1e-12)


def _check_counts(labels, class_names, needed, what):
  present, counts = np.unique(labels, return_counts=True)
  if len(present) < 2:
    raise UserError('images of one class only: a probe needs two or more')
  smallest = counts.argmin()
  if counts[smallest] < needed:
    raise UserError(
      f'{what} needs {needed} images of each class, but '
      f'{class_names[present[smallest]]} has {counts[smallest]}: leave that '
      'class out, add images, or give fewer folds'
    )
