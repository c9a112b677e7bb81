"""Folders without splits, and the splits that are chosen of a folder."""

import numpy as np
import pytest

from effnet_jax.data.folder_source import choose_splits
from effnet_jax.data.sources import open_source
from effnet_jax.errors import UserError

SPLITS = ('train', 'validation', 'test')


def _touch(folder, count):
  folder.mkdir(parents=True)
  for i in range(count):
    (folder / f'{i}.jpg').touch()


@pytest.fixture
def classes(tmp_path):
  """100 of a, 20 of b, 3 of a class that is called train."""
  for name, count in (('a', 100), ('b', 20), ('train', 3)):
    _touch(tmp_path / name, count)
  (tmp_path / 'a' / 'notes.txt').touch()
  return tmp_path


def _names(path, split):
  source = open_source('folder', split, path=str(path))
  return {source[i]['name']: source[i]['label'] for i in range(len(source))}


def test_classes_are_divided_class_by_class(classes):
  found = {split: _names(classes, split) for split in SPLITS}
  # 15 % of 100 and of 20 each, one of 3 at least; the rest is for training.
  for split, counts in (
    ('train', [70, 14, 1]),
    ('validation', [15, 3, 1]),
    ('test', [15, 3, 1]),
  ):
    assert np.bincount(list(found[split].values())).tolist() == counts
  together = [name for names in found.values() for name in names]
  assert len(together) == len(set(together)) == 123
  source = open_source('folder', 'validation', path=str(classes))
  assert source.class_names == ('a', 'b', 'train')
  # A sample, not the first in the alphabet.
  test = sorted(name.rpartition('/')[2] for name in found['test'])
  assert test != sorted(f'{i}.jpg' for i in range(15))


def test_the_same_folder_is_divided_alike_anywhere(classes, tmp_path_factory):
  other = tmp_path_factory.mktemp('other') / 'moved'
  before = _names(classes, 'test')
  classes.rename(other)
  moved = _names(other, 'test')
  strip = lambda names, root: {n.removeprefix(str(root)) for n in names}
  assert strip(moved, other) == strip(before, classes)


def test_a_new_image_changes_the_splits_little(classes):
  before = _names(classes, 'test')
  (classes / 'a' / 'new.jpg').touch()
  assert len(before.keys() - _names(classes, 'test').keys()) <= 1


def test_a_made_split_can_be_sliced(classes):
  first = _names(classes, 'train[:20]')
  rest = _names(classes, 'train[20:]')
  assert (len(first), len(rest)) == (20, 65)
  assert not first.keys() & rest.keys()
  with pytest.raises(UserError, match="no split 'val' .* train, validation"):
    _names(classes, 'val')


def test_a_class_of_two_images_cannot_be_divided(classes):
  _touch(classes / 'rare', 2)
  with pytest.raises(UserError, match='2 images in .*rare, 3 are needed'):
    choose_splits(str(classes))


@pytest.mark.parametrize(
  ('folders', 'expected'),
  [
    (('train', 'val', 'test'), ('train', 'val', 'test')),
    (('train', 'test'), ('train[15%:]', 'train[:15%]', 'test')),
    (('train', 'valid'), ('train[15%:]', 'train[:15%]', 'valid')),
    (('train',), ('train[30%:]', 'train[15%:30%]', 'train[:15%]')),
  ],
)
def test_what_is_missing_is_held_out_of_train(tmp_path, folders, expected):
  for split in folders:
    _touch(tmp_path / split / 'a', 20)
    _touch(tmp_path / split / 'b', 20)
  chosen = choose_splits(str(tmp_path))
  assert (chosen.train, chosen.evaluation, chosen.test) == expected
  assert not chosen.made
  names = [n for split in expected for n in _names(tmp_path, split)]
  assert len(names) == len(set(names)) == 40 * len(folders)
  assert str(tmp_path) in chosen.said and '\n' not in chosen.said


def test_what_was_divided_is_said(classes):
  chosen = choose_splits(str(classes))
  assert (chosen.train, chosen.evaluation, chosen.test) == SPLITS
  assert chosen.made
  assert '85 for train, 19 for validation, 19 for test' in chosen.said


def test_a_folder_of_other_splits_is_not_taken_for_classes(tmp_path):
  _touch(tmp_path / 'val' / 'a', 5)
  with pytest.raises(UserError, match="no split 'train'"):
    choose_splits(str(tmp_path))
