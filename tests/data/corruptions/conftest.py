"""Real photos, at the size that the corruptions were made for."""

import numpy as np
import pytest
import skimage.data

from effnet_jax.data.preprocess import Preprocess, eval_image


@pytest.fixture(scope='module')
def photos():
  names = ('chelsea', 'coffee')
  crop = Preprocess(224)
  return [eval_image(getattr(skimage.data, n)(), crop) for n in names]


@pytest.fixture(scope='module')
def piece(photos):
  return np.ascontiguousarray(photos[0][60:97, 40:93])  # 37 x 53
