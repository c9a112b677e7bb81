"""Copies of a data set have one digest, other data have another."""

import cv2
import numpy as np

from effnet_jax.data.fingerprint import fingerprint
from effnet_jax.data.sources import ArraySource, open_source


def _folder(root, names, level=10):
  for name in names:
    path = root / 'train' / 'a' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((4, 4, 3), level, np.uint8))
  return fingerprint(open_source('folder', 'train', path=str(root)))


def test_a_folder_wherever_it_lies(tmp_path):
  names = [f'{i}.png' for i in range(40)]
  first = _folder(tmp_path / 'one', names)
  assert _folder(tmp_path / 'two', names) == first
  # One file of forty, another name: no sample needs to hit it.
  assert _folder(tmp_path / 'three', [*names[1:], 'x.png']) != first
  assert _folder(tmp_path / 'four', names, level=11) != first


def test_arrays():
  images = np.zeros((20, 4, 4), np.uint8)
  labels = np.arange(20) % 2
  first = fingerprint(ArraySource(images, labels, 'ab'))
  assert fingerprint(ArraySource(images.copy(), labels, 'ab')) == first
  assert fingerprint(ArraySource(images, 1 - labels, 'ab')) != first
  assert fingerprint(ArraySource(images, labels, 'ac')) != first
  assert fingerprint(ArraySource(images[:19], labels[:19], 'ab')) != first
  assert fingerprint(ArraySource(images + 1, labels, 'ab')) != first
