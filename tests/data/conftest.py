"""What the tests of bad examples share."""

import cv2
import numpy as np
import pytest
from absl import logging

from effnet_jax.data.sources import open_source


@pytest.fixture
def broken(tmp_path):
  """Ten images of class a, of which number 3 and 7 are no images."""
  folder = tmp_path / 'train' / 'a'
  folder.mkdir(parents=True)
  for i in range(10):
    image = np.full((4, 4, 3), 20 * i, np.uint8)
    data = cv2.imencode('.png', image)[1].tobytes()
    (folder / f'{i}.png').write_bytes(b'broken' if i in (3, 7) else data)
  return open_source('folder', 'train', path=str(tmp_path))


@pytest.fixture
def warned(monkeypatch):
  lines = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *args: lines.append(text % args)
  )
  return lines
