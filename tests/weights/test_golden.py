"""Logits of the peers themselves, without the peers.

`make parity` has filled timm's, torchvision's, lukemelas' and Keras' networks
with arrays that are a function of a seed, a name and a shape
(benchmarks/seeded.py), and kept a few of their logits. Here the same arrays are
made from our tables of names, read as a file of that peer would be, and run.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import seeded
from effnet_jax.models import efficientnet, variants
from effnet_jax.weights import conventions, copier
from effnet_jax.weights.layouts import keras, pytorch

GOLDEN = sorted(Path(__file__).with_name('golden').glob('*.json'))
LAYOUTS = {
  'timm': pytorch.TIMM,
  'torchvision': pytorch.TORCHVISION,
  'lukemelas': pytorch.LUKEMELAS,
  'keras': keras.NAMED,
}


def _spec(golden):
  spec = variants.get_spec(golden['variant'])
  fields = {}
  if golden['peer'] == 'timm':
    fields = conventions.timm([golden['network']], ())
  elif golden['peer'] == 'torchvision':
    fields = conventions.torchvision(spec.name)
  return variants.replace(spec, **fields)


def _shape_there(entry, shapes):
  leaf = shapes
  for name in entry.path:
    leaf = leaf[name]
  return entry.transform.write(np.empty(leaf.shape, np.float32)).shape


def test_every_peer_has_golden_logits():
  peers = {path.name.partition('_')[0] for path in GOLDEN}
  assert peers == set(LAYOUTS)


@pytest.mark.parametrize('path', GOLDEN, ids=lambda path: path.stem)
def test_logits_of_the_peer(path):
  golden = json.loads(path.read_text())
  spec, layout = _spec(golden), LAYOUTS[golden['peer']]
  model = efficientnet.build(spec, depthwise='grouped')
  shapes, entries = efficientnet.shapes(model), layout.entries(spec)
  arrays = {
    entry.key: seeded.array(
      golden['seed'], entry.key, _shape_there(entry, shapes)
    )
    for entry in entries
  }
  variables = copier.read(arrays, layout, entries, shapes, path.stem)
  count, size, _, _ = golden['images']
  images = seeded.images(golden['seed'], count, size)
  logits, endpoints = jax.jit(
    model.apply,
    compiler_options={'xla_backend_optimization_level': 0},
  )(variables, images)

  tolerance = 1e-4 * golden['logits_largest']
  first = np.asarray(golden['logits'])
  np.testing.assert_allclose(
    logits[:, : first.shape[1]], first, rtol=0, atol=tolerance
  )
  assert logits.argmax(axis=1).tolist() == golden['argmax']
  np.testing.assert_allclose(logits.std(), golden['logits_std'], rtol=1e-4)
  for name, std in golden['endpoint_std'].items():
    np.testing.assert_allclose(endpoints[name].std(), std, rtol=1e-4)
