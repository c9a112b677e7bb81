"""Batch norm inside the network, by hand on its first layer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import efficientnet, spec

# Compiling costs more than running here.
_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
  },
)


def _build(bn_axis_name=None, bn_groups=None, **fields):
  model_spec = spec.ModelSpec(
    'tiny',
    spec.parse_stages('r1_k3_s1_e2_o8_se'),
    stem_filters=8,
    head_filters=16,
    stem_stride=1,
    num_classes=4,
    dropout_rate=0.0,
    survival_probability=1.0,
    **fields,
  )
  return efficientnet.build(
    model_spec, bn_axis_name=bn_axis_name, bn_groups=bn_groups
  )


def _images(shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def _stem(model, variables, images):
  """The stem's map and new statistics. Under jit nothing else is compiled."""
  (_, endpoints), updates = model.apply(
    variables, images, True, mutable=['batch_stats']
  )
  return endpoints['stem'], updates['batch_stats']['stem_bn']


def _train_stem(model, variables, images):
  return jax.jit(functools.partial(_stem, model))(variables, images)


def _pointwise_stem(variables, scale=1.0):
  """A stem that is a product with the returned matrix, for hand computation."""
  matrix = scale * _images((3, 8), seed=7)
  kernel = jnp.zeros((3, 3, 3, 8)).at[1, 1].set(matrix)
  params = {**variables['params'], 'stem_conv': {'kernel': kernel}}
  return {**variables, 'params': params}, np.asarray(matrix, np.float64)


def _silu(x):
  return x / (1 + np.exp(-x))


@pytest.mark.parametrize(
  'fields, momentum, epsilon',
  [({}, 0.99, 0.001), ({'bn_momentum': 0.75, 'bn_epsilon': 0.5}, 0.75, 0.5)],
  ids=['published', 'others'],
)
def test_batch_norm_in_training(fields, momentum, epsilon):
  model = _build(**fields)
  # Activations of a variance near .001, so that the epsilon shows.
  variables, matrix = _pointwise_stem(efficientnet.init(model), 0.03)
  images = _images((5, 6, 6, 3)) + 1
  stem, stats = _train_stem(model, variables, images)
  x = np.asarray(images, np.float64) @ matrix
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  assert np.all(var < 0.01)
  np.testing.assert_allclose(
    stem, _silu((x - mean) / np.sqrt(var + epsilon)), rtol=1e-4, atol=1e-5
  )
  # From 0 and 1, part of the way: a hundredth by default.
  np.testing.assert_allclose(
    stats['mean'], (1 - momentum) * mean, rtol=1e-4, atol=1e-7
  )
  np.testing.assert_allclose(
    stats['var'], momentum + (1 - momentum) * var, rtol=3e-7
  )


def test_variance_is_biased():
  # Of two numbers it is a quarter of the squared difference, not a half.
  model = _build()
  variables, matrix = _pointwise_stem(efficientnet.init(model))
  images = 3 * _images((2, 1, 1, 3))
  _, stats = _train_stem(model, variables, images)
  a, b = np.asarray(images, np.float64)[:, 0, 0] @ matrix
  assert np.max((a - b) ** 2) > 1
  np.testing.assert_allclose(
    stats['var'], 0.99 + 0.01 * (a - b) ** 2 / 4, rtol=1e-6
  )


def test_batch_norm_in_evaluation():
  model = _build()
  variables, matrix = _pointwise_stem(efficientnet.init(model))
  variables['batch_stats']['stem_bn'] = {
    'mean': jnp.full(8, 2.0),
    'var': jnp.full(8, 0.003),
  }
  images = _images((2, 6, 6, 3))
  stem = jax.jit(lambda v, x: model.apply(v, x)[1]['stem'])(variables, images)
  normal = (np.asarray(images, np.float64) @ matrix - 2) / np.sqrt(0.004)
  np.testing.assert_allclose(stem, _silu(normal), rtol=1e-4, atol=1e-4)


def test_constant_batch():
  model = _build()
  variables, _ = _pointwise_stem(efficientnet.init(model))
  variables['params']['stem_bn']['bias'] = jnp.full(8, 0.5)

  def loss(params, images):
    (logits, endpoints), updates = model.apply(
      {**variables, 'params': params}, images, True, mutable=['batch_stats']
    )
    return jnp.sum(logits**2), (endpoints['stem'], updates)

  step = _jit(jax.grad(loss, has_aux=True))
  for value in (0.0, 100.0):
    grads, (stem, updates) = step(
      variables['params'], jnp.full((4, 6, 6, 3), value)
    )
    # No variance: what is left is the shift.
    shift = _silu(np.asarray(variables['params']['stem_bn']['bias']))
    np.testing.assert_allclose(
      stem, np.broadcast_to(shift, stem.shape), 0, 0.01
    )
    for leaf in jax.tree.leaves((grads, updates)):
      assert np.all(np.isfinite(leaf))
    # The mean of the squares less the squared mean, which rounds to below 0.
    var = np.asarray(updates['batch_stats']['stem_bn']['var'])
    assert np.all(var >= np.float32(0.99))


def test_statistics_over_a_mapped_axis():
  alone = _build()
  synced = _build('batch')
  variables, images = efficientnet.init(alone), _images((8, 6, 6, 3))
  halves = images.reshape(2, 4, 6, 6, 3)

  def loss(model, params, images):
    (logits, _), updates = model.apply(
      {**variables, 'params': params}, images, True, mutable=['batch_stats']
    )
    return jnp.mean(jnp.sin(logits)), (logits, updates['batch_stats'])

  def half(images):
    grads, aux = jax.grad(functools.partial(loss, synced), has_aux=True)(
      variables['params'], images
    )
    return jax.lax.pmean(grads, 'batch'), *aux

  grads, (logits, stats) = _jit(
    jax.grad(functools.partial(loss, alone), has_aux=True)
  )(variables['params'], images)
  split = _jit(jax.vmap(half, axis_name='batch'))(halves)
  np.testing.assert_allclose(split[1].reshape(8, 4), logits, atol=2e-5)
  for which in (0, 1):
    for both, one in zip(
      jax.tree.leaves((split[2], split[0])),
      jax.tree.leaves((stats, grads)),
      strict=True,
    ):
      np.testing.assert_allclose(both[which], one, rtol=1e-3, atol=2e-5)


def test_statistics_of_groups():
  model = _build('batch', ((0, 1), (2, 3)))
  variables, matrix = _pointwise_stem(efficientnet.init(model))
  images = _images((4, 2, 3, 3, 3)) + jnp.arange(4.0).reshape(4, 1, 1, 1, 1)
  _, stats = jax.pmap(
    functools.partial(_stem, model), 'batch', in_axes=(None, 0)
  )(variables, images)
  x = (np.asarray(images, np.float64) @ matrix).reshape(2, -1, 8)
  for device, group in enumerate((0, 0, 1, 1)):
    np.testing.assert_allclose(
      stats['mean'][device], 0.01 * x[group].mean(0), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(
      stats['var'][device], 0.99 + 0.01 * x[group].var(0), rtol=1e-6
    )


def test_evaluation_needs_no_mapped_axis():
  model = _build('batch', ((0, 1), (2, 3)))
  variables, images = efficientnet.init(model), _images((2, 6, 6, 3))
  logits, _ = jax.eval_shape(model.apply, variables, images)
  assert logits.shape == (2, 4)
  with pytest.raises(NameError, match='batch'):
    jax.eval_shape(
      functools.partial(model.apply, train=True, mutable=['batch_stats']),
      variables,
      images,
    )
