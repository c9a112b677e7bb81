"""Initial weights: distributions, seeds, and what two networks share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import effnet_jax
from effnet_jax.models import efficientnet, spec


def _leaves(tree):
  """Pairs of (path as a tuple of names, array)."""
  return [
    (tuple(key.key for key in path), np.asarray(leaf, np.float64))
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


@pytest.fixture(scope='module')
def b0():
  return effnet_jax.create_model('b0', seed=3)[1]


def test_kernels_of_b0(b0):
  kernels = [(p, x) for p, x in _leaves(b0['params']) if p[-1] == 'kernel']
  # Stem, head, classifier; 16 x (depthwise, two of the gate, project); 15
  # expansions.
  assert len(kernels) == 3 + 16 * 4 + 15
  for path, kernel in kernels:
    if path[-2] == 'classifier':
      # Uniform in +-1 / sqrt(classes).
      bound = 1000**-0.5
      assert 0.999 * bound < np.abs(kernel).max() <= bound
      std = bound / math.sqrt(3)
    elif path[-2] == 'depthwise_conv':
      k, _, ones, _ = kernel.shape
      assert ones == 1
      std = math.sqrt(2 / (k * k))
    else:
      k, _, _, filters = kernel.shape
      std = math.sqrt(2 / (k * k * filters))
    n = kernel.size
    # Five standard errors of the mean and of the standard deviation.
    assert abs(kernel.mean()) < 5 * std / math.sqrt(n), path
    assert abs(kernel.std() - std) < 5 * std / math.sqrt(2 * n), path


def test_normal_is_not_truncated(b0):
  # P(|z| > 2) is .0455; a truncated normal has none there.
  kernel = np.asarray(b0['params']['head_conv']['kernel'])
  z = kernel / math.sqrt(2 / 1280)
  assert np.mean(np.abs(z) > 2) == pytest.approx(0.0455, rel=0.05)


def test_other_leaves_of_b0(b0):
  counts = {}
  for path, leaf in _leaves(b0):
    name = path[-1]
    if name != 'kernel':
      expected = 1.0 if name in ('scale', 'var') else 0.0
      assert np.all(leaf == expected), path
      counts[name] = counts.get(name, 0) + 1
  # 49 batch norms; beside them 32 biases of the gates and the classifier's.
  assert counts == {'scale': 49, 'bias': 49 + 33, 'mean': 49, 'var': 49}


def test_same_distributions_as_flax_draws():
  model = efficientnet.build(
    spec.ModelSpec(
      'one', spec.parse_stages('r1_k5_s1_e2_o64_se'), num_classes=100
    )
  )
  ours = efficientnet.init(model)
  flax = jax.jit(
    model.init,
    compiler_options={
      'xla_backend_optimization_level': 0,
    },
  )(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
  assert jax.tree.structure(ours) == jax.tree.structure(flax)
  for (path, a), (_, b) in zip(_leaves(ours), _leaves(flax), strict=True):
    assert a.shape == b.shape
    if path[-1] != 'kernel':
      np.testing.assert_array_equal(a, b)
      continue
    # The ratio's standard error is 1 / sqrt(n) for a normal.
    assert a.std() / b.std() == pytest.approx(1, abs=5 / math.sqrt(a.size))
    assert not np.array_equal(a, b)


def test_seeds():
  model = efficientnet.build(
    spec.ModelSpec('one', spec.parse_stages('r1_k3_s1_e2_o16_se'))
  )

  def params(seed):
    return dict(_leaves(efficientnet.init(model, seed)['params']))

  first, again, other = params(0), params(0), params(1)
  for path, leaf in first.items():
    np.testing.assert_array_equal(leaf, again[path])
    if path[-1] == 'kernel':
      assert not np.array_equal(leaf, other[path]), path


def test_twin_layers_differ(b0):
  # Layers 6 and 7 have the same shapes.
  twins = [dict(_leaves(b0['params'][f'blocks_{i}'])) for i in (6, 7)]
  for path, leaf in twins[0].items():
    if path[-1] == 'kernel':
      assert leaf.shape == twins[1][path].shape
      assert abs(np.corrcoef(leaf.ravel(), twins[1][path].ravel())[0, 1]) < 0.2


def test_networks_start_alike_where_they_are_alike():
  thousand = dict(_leaves(effnet_jax.create_model('micro')[1]))
  ten = dict(_leaves(effnet_jax.create_model('micro', num_classes=10)[1]))
  assert thousand.keys() == ten.keys()
  differ = {p for p, x in thousand.items() if not np.array_equal(x, ten[p])}
  assert differ == {
    ('params', 'classifier', 'kernel'),
    ('params', 'classifier', 'bias'),
  }


def test_all_float32():
  _, variables = effnet_jax.create_model('micro', dtype='bfloat16')
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
