"""Our batch norm against flax's: outputs, statistics, gradients."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models.norm import BatchNorm

MOMENTUM, EPSILON = 0.9, 1e-3
PROJECTED = 3  # channels


class _Gate(nn.Module):
  """A gate, with variables of its own."""

  @nn.compact
  def __call__(self, pooled):
    assert pooled.dtype == jnp.float32
    return nn.sigmoid(nn.Dense(pooled.shape[-1])(jnp.tanh(pooled)))


class _Project(nn.Module):
  """To another number of channels, linear."""

  @nn.compact
  def __call__(self, x):
    kernel = self.param(
      'kernel', nn.initializers.ones, (x.shape[-1], PROJECTED)
    )
    return x @ kernel.astype(x.dtype)


class _Ours(nn.Module):
  norm: BatchNorm
  activation: Any = None
  after: tuple[str, ...] = ()

  @nn.compact
  def __call__(self, x, kernel):
    gate = _Gate(name='gate') if 'gate' in self.after else None
    project = _Project(name='project') if 'project' in self.after else None
    return self.norm(x, self.activation, kernel, gate, project)


class _Flax(nn.Module):
  norm: nn.BatchNorm
  activation: Any = None
  after: tuple[str, ...] = ()

  @nn.compact
  def __call__(self, x, kernel):
    if kernel is not None:
      x = jnp.dot(x, kernel.astype(x.dtype))
    x = self.norm(x)
    x = self.activation(x) if self.activation else x
    if 'gate' in self.after:
      mean = x.mean((1, 2), dtype=jnp.float32)
      x = (x * _Gate(name='gate')(mean)[:, None, None]).astype(x.dtype)
    return _Project(name='project')(x) if 'project' in self.after else x


ACTIVATIONS = {'none': None, 'silu': nn.silu, 'relu6': nn.relu6}


def _pair(dtype=jnp.float32, activation=None, after=(), **axis):
  """Our layer and flax's."""
  ours = BatchNorm(False, MOMENTUM, EPSILON, dtype, **axis)
  flaxs = nn.BatchNorm(
    False, momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype, **axis
  )
  return _Ours(ours, activation, after), _Flax(flaxs, activation, after)


def _arguments(dtype, product, after, shape=(4, 6, 6, 5), offset=1.0, seed=0):
  """((map, kernel or None, params), weights of the outputs in the loss)."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  channels = 12 if product else shape[-1]
  params = {
    'norm': {'scale': 1 + normal(channels) / 4, 'bias': normal(channels)}
  }
  if 'gate' in after:
    kernel = normal(channels, channels)
    params['gate'] = {'Dense_0': {'kernel': kernel, 'bias': normal(channels)}}
  if 'project' in after:
    params['project'] = {'kernel': normal(channels, PROJECTED)}
  x = (normal(*shape) + offset).astype(dtype)
  kernel = normal(shape[-1], channels) if product else None
  out = PROJECTED if 'project' in after else channels
  return (x, kernel, params), normal(*shape[:-1], out)


def _loss(layer, weights, x, kernel, params):
  channels = params['norm']['bias'].size
  stats = {'mean': jnp.full(channels, 0.5), 'var': jnp.full(channels, 2.0)}
  out, updates = layer.apply(
    {'params': params, 'batch_stats': {'norm': stats}},
    x,
    kernel,
    mutable=['batch_stats'],
  )
  return jnp.sum(out.astype(jnp.float32) * weights), (out, updates)


def _gradients(layer, arguments, weights):
  argnums = tuple(i for i, a in enumerate(arguments) if a is not None)
  loss = functools.partial(_loss, layer, weights)
  return jax.jit(jax.value_and_grad(loss, argnums, has_aux=True))(*arguments)


def _assert_near(found, expected, tolerance):
  """Each leaf, against its largest value."""
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    np.testing.assert_allclose(a, b, 0, tolerance * np.abs(b).max())


KINDS = {
  'plain': (False, ()),
  'product': (True, ()),
  'gate': (False, ('gate',)),
  'projection': (False, ('gate', 'project')),
}
KIND = pytest.mark.parametrize(('product', 'after'), KINDS.values(), ids=KINDS)


@KIND
@pytest.mark.parametrize('activation', ACTIVATIONS)
@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [(jnp.float32, 1e-5), (jnp.bfloat16, 1.5e-2)]
)
def test_against_flax(dtype, tolerance, activation, product, after):
  # flax in float32 either way: in bfloat16 it rounds more than ours does, by
  # what XLA fuses on the machine at hand up to 2 %.
  arguments, weights = _arguments(dtype, product, after)
  ours, flaxs = _pair(dtype, ACTIVATIONS[activation], after)
  _, exact = _pair(jnp.float32, ACTIVATIONS[activation], after)
  in_float32 = jax.tree.map(lambda x: x.astype(jnp.float32), arguments)
  (_, found), found_gradients = _gradients(ours, arguments, weights)
  (_, right), right_gradients = _gradients(exact, in_float32, weights)
  (_, types), gradient_types = jax.eval_shape(
    functools.partial(_gradients, flaxs), arguments, weights
  )
  expected = jax.tree.map(
    lambda x, like: x.astype(like.dtype),
    (right, right_gradients),
    (types, gradient_types),
  )
  _assert_near((found, found_gradients), expected, tolerance)


@KIND
def test_in_evaluation(product, after):
  (x, kernel, params), _ = _arguments(jnp.float32, product, after)
  channels = params['norm']['bias'].size
  stats = {'mean': jnp.full(channels, 0.5), 'var': jnp.full(channels, 2.0)}
  variables = {'params': params, 'batch_stats': {'norm': stats}}
  out, expected = (
    layer(norm(True, epsilon=EPSILON), nn.silu, after).apply(
      variables, x, kernel
    )
    for layer, norm in ((_Ours, BatchNorm), (_Flax, nn.BatchNorm))
  )
  _assert_near(out, expected, 1e-6)


@KIND
@pytest.mark.parametrize('groups', [None, ((0, 1), (2, 3))])
def test_statistics_of_several_devices(groups, product, after):
  (x, *rest), weights = _arguments(
    jnp.float32, product, after, shape=(8, 4, 4, 5)
  )
  split = lambda x: x.reshape(4, 2, *x.shape[1:])
  pair = _pair(
    activation=nn.silu,
    after=after,
    axis_name='batch',
    axis_index_groups=groups,
  )
  found, expected = (
    jax.pmap(
      lambda x, weights, layer=layer: _gradients(layer, (x, *rest), weights),
      'batch',
    )(split(x), split(weights))
    for layer in pair
  )
  _assert_near(found, expected, 1e-5)


@KIND
def test_a_large_mean_costs_no_accuracy(product, after):
  # A product's gradient is made of sums that cancel where its input is far
  # from zero; float64 is the measure.
  arguments, weights = _arguments(
    jnp.float32, product, after, shape=(8, 8, 8, 5), offset=20.0
  )
  found, plain = (
    _gradients(layer, arguments, weights)[1]
    for layer in _pair(activation=nn.silu, after=after)
  )
  with jax.enable_x64(True):
    _, exact_layer = _pair(jnp.float64, nn.silu, after)
    as_float64 = jax.tree.map(lambda x: x.astype(jnp.float64), arguments)
    exact = _gradients(exact_layer, as_float64, weights)[1]
  for leaves in zip(*map(jax.tree.leaves, (found, plain, exact)), strict=True):
    ours, flaxs, right = (np.asarray(leaf) for leaf in leaves)
    assert right.dtype == np.float64
    error, allowed = np.abs(ours - right).max(), np.abs(flaxs - right).max()
    assert error < 10 * allowed + 1e-6 * np.abs(right).max()


def test_variables_are_flaxs():
  x = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)
  ours, flaxs = (
    jax.eval_shape(norm.init, jax.random.key(0), x)
    for norm in (BatchNorm(False), nn.BatchNorm(False))
  )
  assert ours == flaxs


@pytest.mark.parametrize(
  ('after', 'kernel', 'match'),
  [
    (('gate',), np.ones((3, 6)), 'a gate or a kernel'),
    (('project',), None, 'only what it gates'),
  ],
)
def test_what_does_not_go_together_is_refused(after, kernel, match):
  layer, x = _Ours(BatchNorm(True), after=after), np.ones((2, 4, 4, 3))
  with pytest.raises(ValueError, match=match):
    jax.eval_shape(layer.init, jax.random.key(0), x, kernel)


@KIND
def test_one_map_waits_for_the_backward_pass(product, after):
  # In the dtype of the convolution, and beside it nothing of a map's size but
  # the product's input.
  shape = (4, 8, 8, 12)
  arguments, weights = _arguments(jnp.bfloat16, product, after, shape)
  ours, _ = _pair(jnp.bfloat16, nn.silu, after)
  backward = jax.eval_shape(
    lambda *a: jax.vjp(lambda *a: _loss(ours, weights, *a)[1][0], *a)[1],
    *arguments,
  )
  maps = [leaf for leaf in jax.tree.leaves(backward) if leaf.shape == shape]
  assert [leaf.dtype for leaf in maps] == [jnp.bfloat16] * (1 + product)
