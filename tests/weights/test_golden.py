"""Logits that the peers gave, without the peers.

`make parity` leaves golden/PEER_NETWORK.json: what a peer computed from seeded
weights, which our table of names and `benchmarks.seeded` make again.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import effnet_jax
from benchmarks import seeded
from effnet_jax.models import efficientnet, variants
from effnet_jax.weights import files
from effnet_jax.weights.layouts import keras, pytorch

_FILES = sorted((Path(__file__).parent / 'golden').glob('*_*.json'))
_LAYOUTS = {
  'timm': pytorch.TIMM,
  'torchvision': pytorch.TORCHVISION,
  'lukemelas': pytorch.LUKEMELAS,
  'keras': keras.NAMED,
}


@pytest.mark.parametrize('file', _FILES, ids=lambda file: file.stem)
def test_logits_are_the_peers(file, tmp_path):
  golden = json.loads(file.read_text())
  path = tmp_path / 'weights.safetensors'
  files.write_safetensors(path, _peer_arrays(golden), {})
  model, variables = effnet_jax.create_model(golden['name'], pretrained=path)
  images = seeded.images(golden['seed'], *golden['images'][:2])

  @jax.jit
  def forward(variables, images):
    return model.apply(variables, images, train=False)

  logits, endpoints = map(jax.device_get, forward(variables, images))
  within = 1e-4 * golden['logits_largest']
  expected = np.asarray(golden['logits'])
  np.testing.assert_allclose(
    logits[:, : expected.shape[1]], expected, 0, within
  )
  assert logits.argmax(axis=-1).tolist() == golden['argmax']
  assert abs(logits.mean() - golden['logits_mean']) <= within
  for name, std in golden['endpoint_std'].items():
    assert endpoints[name].std() == pytest.approx(std, rel=1e-4), name


def test_every_kind_of_network_and_layout_is_there():
  golden = [json.loads(file.read_text()) for file in _FILES]
  assert {row['peer'] for row in golden} == set(_LAYOUTS)
  assert {'b0', 'lite0', 'edgetpu_s', 'condconv_b0_4e', 'v2_b0'} <= {
    row['variant'] for row in golden
  }


def _peer_arrays(golden):
  """Returns the weights that the peer had, in its naming."""
  spec = variants.get_spec(golden['variant'])
  shapes = efficientnet.shapes(efficientnet.build(spec))
  arrays = {}
  for entry in _LAYOUTS[golden['peer']].entries(spec):
    leaf = shapes
    for name in entry.path:
      leaf = leaf[name]
    # Ours turned into theirs: the shape is all that is wanted of it.
    theirs = entry.transform.write(np.broadcast_to(np.float32(0), leaf.shape))
    arrays[entry.key] = seeded.array(golden['seed'], entry.key, theirs.shape)
  return arrays
