"""How the network behaves: endpoints, dtypes, errors, and what is random.

The layers' numbers are in `test_blocks`.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import effnet_jax
from effnet_jax import errors
from effnet_jax.models import blocks, efficientnet, spec, variants
from effnet_jax.models.norm import BatchNorm

# Compiling costs more than running here.
_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
  },
)


def _tiny(stages='r1_k3_s1_e2_o8_se', **fields):
  fields = {
    'stem_filters': 8,
    'head_filters': 16,
    'stem_stride': 1,
    'num_classes': 4,
    'dropout_rate': 0.0,
    'survival_probability': 1.0,
    **fields,
  }
  return spec.ModelSpec('tiny', spec.parse_stages(stages), **fields)


def _images(shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def _variables(model, seed=0):
  """Initial ones, but for random scales, biases and moving statistics."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key in ('scale', 'var'):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    if path[-1].key in ('bias', 'mean'):
      return jnp.asarray(rng.normal(size=leaf.shape) / 4, leaf.dtype)
    return leaf

  return jax.tree_util.tree_map_with_path(draw, efficientnet.init(model, seed))


def _train(model, variables, images, seed=0):
  """Returns (logits, endpoints), new batch statistics."""

  def apply(variables, images, key):
    outputs, updates = model.apply(
      variables, images, True, mutable=['batch_stats'], rngs={'dropout': key}
    )
    return outputs, updates['batch_stats']

  return _jit(apply)(variables, images, jax.random.key(seed))


def _shapes(model, shape):
  """Shapes and dtypes: (logits, endpoints), variables."""
  return jax.eval_shape(
    model.init_with_output,
    jax.random.key(0),
    jax.ShapeDtypeStruct(shape, jnp.float32),
  )


def test_endpoints_of_b0():
  model = efficientnet.build(variants.get_spec('b0'))
  (logits, endpoints), _ = _shapes(model, (2, 224, 224, 3))
  shapes = {name: x.shape[1:] for name, x in endpoints.items()}
  maps = {
    'stem': (112, 112, 32),
    'reduction_1': (112, 112, 16),
    'reduction_2': (56, 56, 24),
    'reduction_3': (28, 28, 40),
    'reduction_4': (14, 14, 112),
    'reduction_5': (7, 7, 320),
    'head': (7, 7, 1280),
    'pooled_features': (1280,),
  }
  assert {name: shapes[name] for name in maps} == maps
  assert set(shapes) == {*maps, *(f'block_{i}' for i in range(16))}
  assert shapes['block_0'] == shapes['reduction_1']
  assert shapes['block_11'] == (7, 7, 192)
  assert logits.shape == (2, 1000)


def test_endpoints_of_micro():
  # The stem keeps the resolution, so that level n has stride 2^(n - 1).
  model = efficientnet.build(variants.get_spec('micro', num_classes=10))
  (logits, endpoints), _ = _shapes(model, (2, 32, 48, 3))
  assert [endpoints[f'reduction_{n}'].shape[1:] for n in range(1, 6)] == [
    (32, 48, 8),
    (16, 24, 16),
    (8, 12, 24),
    (4, 6, 56),
    (2, 3, 160),
  ]
  assert endpoints['stem'].shape == (2, 32, 48, 16)
  assert 'reduction_6' not in endpoints and 'block_8' not in endpoints
  assert logits.shape == (2, 10)


def test_bfloat16_is_of_maps_only():
  model = efficientnet.build(variants.get_spec('micro'), 'bfloat16')
  (logits, endpoints), variables = _shapes(model, (2, 16, 16, 3))
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  assert logits.dtype == jnp.float32
  assert endpoints.pop('pooled_features').dtype == jnp.float32
  assert {x.dtype for x in endpoints.values()} == {jnp.dtype('bfloat16')}


def test_bfloat16_computes_nearly_the_same():
  model = efficientnet.build(_tiny())
  half = efficientnet.build(_tiny(), 'bfloat16')
  variables, images = _variables(model), _images((16, 8, 8, 3))
  (logits, _), stats = _train(model, variables, images)
  (half_logits, _), half_stats = _train(half, variables, images)
  # 8 bits of mantissa and ten layers.
  spread = np.std(logits)
  assert 0 < np.max(np.abs(logits - half_logits)) < 0.1 * spread
  for a, b in zip(*map(jax.tree.leaves, (stats, half_stats)), strict=True):
    assert b.dtype == jnp.float32
    np.testing.assert_allclose(a, b, rtol=0.01, atol=0.002)


def test_parameters_without_squeeze_and_excitation():
  def names(**overrides):
    model = efficientnet.build(variants.get_spec('micro', **overrides))
    _, variables = _shapes(model, (1, 16, 16, 3))
    return {
      tuple(key.key for key in path)
      for path, _ in jax.tree_util.tree_leaves_with_path(variables['params'])
    }

  with_se, without = names(), names(se_ratio=0)
  assert len(with_se) - len(without) == 8 * 4  # kernel and bias, twice a block
  assert {path for path in with_se if 'se' not in path} == without


@pytest.mark.parametrize('shape', [(16, 16, 3), (2, 16, 16, 1), (2, 3, 16, 16)])
def test_images_of_another_shape(shape):
  model = efficientnet.build(_tiny())
  with pytest.raises(errors.UserError, match=r'\[n, height, width, 3\], not'):
    model.init(jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'dtype': 'bfloat32'}, "unknown dtype 'bfloat32': did you mean.*bfloat16"),
    ({'activation': 'sillu'}, "unknown activation 'sillu': did you mean silu"),
    ({'depthwise': 'groupd'}, "unknown depthwise.*'groupd'.*grouped"),
    ({'num_class': 3}, "no field 'num_class': did you mean num_classes"),
  ],
)
def test_unknown_arguments_are_named(arguments, message):
  with pytest.raises(errors.UserError, match=message):
    effnet_jax.create_model('micro', **arguments)


@pytest.mark.parametrize('activation', ['relu', 'relu6'])
def test_activation(activation):
  model = efficientnet.build(_tiny('r1_k3_s1_e1_o8', activation=activation))
  variables = efficientnet.init(model)
  images = 10 * _images((2, 4, 4, 3))
  _, endpoints = _jit(model.apply)(variables, images)
  low, high = endpoints['stem'].min(), endpoints['stem'].max()
  assert low == 0
  assert high == pytest.approx(6) if activation == 'relu6' else high > 6


# Randomness


def test_stochastic_depth():
  # Five blocks, survival 1, .9, .8, .7, .6. The first would be dropped if it
  # counted from 1; the third changes the width, the fourth the resolution.
  model_spec = _tiny(
    'r2_k3_s1_e1_o8_se r1_k3_s1_e1_o16_se r1_k3_s2_e1_o16 r1_k3_s1_e1_o16_se',
    survival_probability=0.5,
  )
  model, n = efficientnet.build(model_spec), 4000
  variables, images = _variables(model), _images((n, 2, 2, 3))
  (_, endpoints), _ = _train(model, variables, images)
  norm = functools.partial(BatchNorm, use_running_average=False, epsilon=1e-3)
  masks = {}
  x = endpoints['stem']
  for block in model_spec.blocks():
    name = f'blocks_{block.index}'
    # The same block with every image kept.
    whole = blocks.Block(
      dataclasses.replace(block, survival_probability=1.0), norm, nn.silu
    )
    own = {k: variables[k][name] for k in ('params', 'batch_stats')}
    kept = _jit(
      lambda own, x, whole=whole: whole.apply(
        own, x, True, mutable=['batch_stats']
      )[0]
    )(own, x)
    y = endpoints[f'block_{block.index}']
    if block.residual and block.index > 0:
      branch, ours = np.asarray(kept - x), np.asarray(y - x)
      mask = np.max(np.abs(ours), axis=(1, 2, 3)) > 1e-3
      masks[block.index] = mask
      p = block.survival_probability
      assert p == pytest.approx(1 - 0.5 * block.index / 5)
      # A dropped image keeps its input, a kept one gains branch / p.
      np.testing.assert_allclose(
        ours, mask[:, None, None, None] * branch / p, rtol=1e-3, atol=1e-4
      )
      assert abs(mask.mean() - p) < 4 * np.sqrt(p * (1 - p) / n)
    else:
      np.testing.assert_allclose(y, kept, rtol=1e-4, atol=1e-5)
    x = y
  assert sorted(masks) == [1, 4]
  # Drawn apart: both kept as often as two independent draws would be.
  assert abs(np.mean(masks[1] & masks[4]) - 0.9 * 0.6) < 4 * np.sqrt(0.25 / n)


def test_dropout_is_before_the_classifier_only():
  model = efficientnet.build(_tiny(num_classes=16, dropout_rate=0.3))
  variables = _variables(model)
  # The classifier shows its input.
  variables['params']['classifier'] = {
    'kernel': jnp.eye(16),
    'bias': jnp.zeros(16),
  }
  images = _images((500, 4, 4, 3))
  (logits, endpoints), _ = _train(model, variables, images, seed=0)
  (other, same), _ = _train(model, variables, images, seed=1)
  for name, x in endpoints.items():
    np.testing.assert_array_equal(x, same[name])
  kept = np.asarray(logits) != 0
  pooled = np.asarray(endpoints['pooled_features'])
  np.testing.assert_allclose(logits, kept * pooled / 0.7, rtol=1e-5)
  assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / kept.size)
  assert np.any(kept != (np.asarray(other) != 0))


def test_no_randomness_in_evaluation():
  model = efficientnet.build(_tiny(dropout_rate=0.5, survival_probability=0.5))
  variables, images = _variables(model), _images((8, 4, 4, 3))
  logits = _jit(model.apply)(variables, images)[0]  # asks for no stream
  apply = _jit(
    lambda images, key: model.apply(variables, images, rngs={'dropout': key})[0]
  )
  first, second = (apply(images, jax.random.key(seed)) for seed in (0, 1))
  np.testing.assert_array_equal(first, second)
  np.testing.assert_allclose(first, logits, rtol=1e-5, atol=1e-6)
  # And an image's logits don't depend on its neighbours.
  others = apply(images.at[1:].multiply(2), jax.random.key(0))
  np.testing.assert_array_equal(others[0], first[0])
  assert np.all(others[1:] != first[1:])


def test_frozen_batch_norm_trains_as_it_evaluates():
  model = efficientnet.build(_tiny(), frozen_bn=True)
  rng = np.random.default_rng(0)
  variables = efficientnet.init(model)
  variables['batch_stats'] = jax.tree.map(
    lambda x: jnp.asarray(rng.uniform(0.5, 2, x.shape), jnp.float32),
    variables['batch_stats'],
  )
  images = jnp.asarray(rng.normal(size=(3, 8, 8, 3)), jnp.float32)

  def training(params):
    (logits, _), updated = model.apply(
      {**variables, 'params': params},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return (logits**2).sum(), (logits, updated['batch_stats'])

  step = _jit(jax.value_and_grad(training, has_aux=True))
  (_, (logits, statistics)), gradient = step(variables['params'])
  expected, _ = model.apply(variables, images, train=False)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  jax.tree.map(
    np.testing.assert_array_equal, statistics, variables['batch_stats']
  )
  # Scale and bias still learn.
  assert all(leaf.any() for leaf in jax.tree.leaves(gradient['head_bn']))
