"""One comparison with a peer, in a process of its own.

    python benchmarks/peer_comparison.py outputs PEER NETWORK VARIANT OUT.json
    python benchmarks/peer_comparison.py gradients PEER NETWORK VARIANT OUT.json

The peer writes its file of seeded weights, both read it, both compute. A
network and its file are freed with the process.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import seeded

import effnet_jax

SEED = 0
ODD = 139  # sides of 139, 70, 35, 18, 9 and 5: padded one way and the other
# Native is too large for this machine; the weights are the same.
REDUCED = {'l2': 320, 'v2_xl': 320}
LARGE = 300  # pixels: above, one image; below, two
GRADIENT_IMAGES, GRADIENT_RESOLUTION = 8, 128

GOLDEN = Path(__file__).resolve().parents[1] / 'tests' / 'weights' / 'golden'
GOLDEN_RESOLUTION = 65  # odd, and light enough for every test run
# Of each kind of network and each layout the lightest.
GOLDEN_NETWORKS = (
  *('tf_efficientnet_b0', 'tf_efficientnet_lite0', 'tf_efficientnet_es'),
  *('tf_efficientnet_cc_b0_4e', 'tf_efficientnetv2_b0', 'efficientnet_b0'),
  *('efficientnet-b0', 'EfficientNetB0', 'EfficientNetV2B0'),
)


def outputs(
  peer: str, network: str, variant: str, folder: Path
) -> dict[str, Any]:
  """Compares logits and endpoints at native resolution and an odd one."""
  module = peers.get(peer)
  name = module.model_name(network, variant)
  spec = effnet_jax.get_spec(variant)
  path, model, variables = _files(module, network, name, folder)
  forward = jax.jit(lambda v, images: model.apply(v, images, train=False))
  rows = []
  for resolution in (REDUCED.get(variant, spec.resolution), ODD):
    count = 1 if resolution > LARGE else 2
    images = seeded.images(SEED, count, resolution)
    theirs, their_endpoints = module.outputs(network, path, images)
    ours, endpoints = forward(variables, images)
    differences = _compare_endpoints(endpoints, their_endpoints)
    worst = max(differences, key=differences.get)
    rows.append(
      {
        'resolution': resolution,
        'images': count,
        'logits_std': round(seeded.check_logits(theirs), 3),
        'logits': difference(ours, theirs),
        'endpoints': len(differences),
        'largest': differences[worst],
        'at': worst,
      }
    )
  if network in GOLDEN_NETWORKS:
    _write_golden(peer, network, name, variant, path)
  return {'formats': list(module.FORMATS), 'outputs': rows}


def gradients(
  peer: str, network: str, variant: str, folder: Path
) -> dict[str, Any]:
  """Compares the gradient of every parameter, in training mode.

  The peer's gradients, in its own naming and layout, are read as if they were
  weights: what turns a kernel turns its gradient.
  """
  import safetensors.numpy

  module = peers.get(peer)
  name = module.model_name(network, variant)
  path = folder / 'weights.safetensors'
  module.write(network, SEED, path)
  images = seeded.images(SEED, GRADIENT_IMAGES, GRADIENT_RESOLUTION)
  labels = np.arange(GRADIENT_IMAGES) * 97 % 1000
  theirs = module.gradients(network, path, images, labels)
  arrays = safetensors.numpy.load_file(path)
  as_weights = folder / 'gradients.safetensors'
  safetensors.numpy.save_file(arrays | theirs, as_weights)
  _, expected = effnet_jax.create_model(name, pretrained=as_weights)

  model, variables = effnet_jax.create_model(
    name, pretrained=path, dropout_rate=0.0, survival_probability=1.0
  )

  @jax.jit
  def gradient(params):
    def loss(params):
      (logits, _), _ = model.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, jnp.asarray(labels)
      ).mean()

    return jax.grad(loss)(params)

  ours = gradient(variables['params'])
  differences = _compare_gradients(ours, expected['params'])
  if len(differences) != len(theirs):
    raise AssertionError(f'{len(differences)} leaves, {len(theirs)} gradients')
  worst = max(differences, key=differences.get)
  return {
    'gradients': {
      'resolution': GRADIENT_RESOLUTION,
      'images': GRADIENT_IMAGES,
      'leaves': len(differences),
      'largest': differences[worst],
      'at': worst,
    }
  }


def difference(ours: Any, theirs: Any, scale: float | None = None) -> float:
  """Returns max|ours - theirs| / max|theirs|, infinite for other shapes."""
  ours, theirs = np.asarray(ours), np.asarray(theirs)
  if ours.shape != theirs.shape:
    return float('inf')
  scale = scale or float(np.abs(theirs).max())
  worst = float(np.abs(ours - theirs).max()) / scale
  return worst if np.isfinite(worst) else float('inf')


def _files(module, network, name, folder):
  """Returns a file of the peer's, and our network of it.

  Every format that the peer writes must give the same variables, bit for bit.
  """
  first = None
  for suffix in reversed(module.FORMATS):
    path = folder / f'weights{suffix}'
    module.write(network, SEED, path)
    model, variables = effnet_jax.create_model(name, pretrained=path)
    leaves = jax.tree.leaves(variables)
    for leaf, other in zip(leaves, first or leaves, strict=True):
      if not np.array_equal(leaf, other):
        raise AssertionError(f'{suffix} gives other weights than the others')
    first = leaves
  return path, model, variables


def _compare_endpoints(ours, theirs):
  """Returns {endpoint: difference} over all that the peer has."""
  blocks = lambda names: {name for name in names if name.startswith('block_')}
  if blocks(ours) != blocks(theirs):
    raise AssertionError(
      f'{len(blocks(ours))} blocks, and the peer has {len(blocks(theirs))}'
    )
  return {name: difference(ours[name], theirs[name]) for name in theirs}


def _compare_gradients(ours, theirs):
  """Returns {leaf: difference}, each on the scale of the peer's gradient.

  The batch statistics after the next convolution take a constant away, so that
  the gradient of the bias before it is zero, and in float32 rounding noise. A
  bias of a norm is measured on the scale of its sibling's gradient, if larger.
  """
  flat = lambda tree: {
    '/'.join(key.key for key in path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  ours, theirs = flat(ours), flat(theirs)
  if ours.keys() != theirs.keys():
    raise AssertionError('the gradients are of other leaves')
  largest = lambda name: float(np.abs(theirs.get(name, np.zeros(1))).max())
  return {
    name: difference(
      ours[name],
      theirs[name],
      max(largest(name), largest(name.replace('_bn/bias', '_bn/scale'))),
    )
    for name in ours
  }


def _write_golden(peer, network, name, variant, path):
  """Writes what the test suite checks without the peer."""
  images = seeded.images(SEED, 2, GOLDEN_RESOLUTION)
  logits, endpoints = peers.get(peer).outputs(network, path, images)
  rounded = lambda values: [float(f'{value:.6g}') for value in values]
  golden = {
    'peer': peer,
    'network': network,
    'name': name,
    'variant': variant,
    'seed': SEED,
    'images': list(images.shape),
    'logits': [rounded(row[:16]) for row in logits],
    'logits_largest': rounded([np.abs(logits).max()])[0],
    'logits_mean': rounded([logits.mean()])[0],
    'logits_std': rounded([logits.std()])[0],
    'argmax': logits.argmax(axis=-1).tolist(),
    'endpoint_std': {
      key: rounded([value.std()])[0] for key, value in endpoints.items()
    },
  }
  file = GOLDEN / f'{peer}_{network}.json'
  file.write_text(json.dumps(golden, indent=2) + '\n')


def main() -> None:
  kind, peer, network, variant, out = sys.argv[1:]
  compare = {'outputs': outputs, 'gradients': gradients}[kind]
  with tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
    result = compare(peer, network, variant, Path(folder))
  Path(out).write_text(json.dumps(result))


if __name__ == '__main__':
  main()
