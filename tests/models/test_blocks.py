"""MBConv, Fused-MBConv and a whole network against plain numpy in float64."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import blocks, efficientnet, spec, variants
from effnet_jax.models.norm import BatchNorm

# Compiling costs more than running here.
_QUICK = {
  'xla_backend_optimization_level': 0,
}

# The reference: formulas only, no code of the package.


def _convolve(x, kernel, stride, depthwise=False):
  k = kernel.shape[0]
  sides, paddings = [], []
  for size in x.shape[1:3]:
    side = math.ceil(size / stride)
    total = max((side - 1) * stride + k - size, 0)
    sides.append(side)
    paddings.append((total // 2, total - total // 2))
  x = np.pad(x, [(0, 0), *paddings, (0, 0)])
  filters = kernel.shape[-1]
  y = np.zeros((x.shape[0], *sides, filters))
  for row in range(sides[0]):
    for column in range(sides[1]):
      top, left = row * stride, column * stride
      window = x[:, top : top + k, left : left + k]
      if depthwise:
        y[:, row, column] = np.sum(window * kernel[:, :, 0], axis=(1, 2))
      else:
        y[:, row, column] = np.tensordot(window, kernel, 3)
  return y


def _silu(x):
  return x / (1 + np.exp(-x))


def _batch_norm(x, params, stats, train):
  if train:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  else:
    mean, var = stats['mean'], stats['var']
  return (x - mean) / np.sqrt(var + 1e-3) * params['scale'] + params['bias']


def _gate(x, params):
  pooled = x.mean((1, 2))
  reduced = _silu(
    pooled @ params['reduce']['kernel'][0, 0] + params['reduce']['bias']
  )
  expanded = (
    reduced @ params['expand']['kernel'][0, 0] + params['expand']['bias']
  )
  return x / (1 + np.exp(-expanded))[:, None, None]


def _block(x, params, stats, stride, residual, train):
  """What to do is read from the names and shapes of the parameters."""

  def layer(x, name, stride=1):
    y = _convolve(
      x, params[f'{name}_conv']['kernel'], stride, name == 'depthwise'
    )
    norm = f'{name}_bn'
    return _batch_norm(y, params[norm], stats[norm], train)

  y, mbconv = x, 'depthwise_conv' in params
  alone = not mbconv and 'expand_conv' not in params
  if 'expand_conv' in params:
    y = _silu(layer(y, 'expand', 1 if mbconv else stride))
  if mbconv:
    y = _silu(layer(y, 'depthwise', stride))
  if 'se' in params:
    y = _gate(y, params['se'])
  y = layer(y, 'project', stride if alone else 1)
  if alone:
    y = _silu(y)
  return x + y if residual else y


def _network(x, params, stats, strides):
  """`strides`: of the stem and of every block. For evaluation."""
  x = _convolve(x, params['stem_conv']['kernel'], strides[0])
  x = _silu(_batch_norm(x, params['stem_bn'], stats['stem_bn'], False))
  for index, stride in enumerate(strides[1:]):
    name = f'blocks_{index}'
    filters = params[name]['project_conv']['kernel'].shape[-1]
    residual = stride == 1 and filters == x.shape[-1]
    x = _block(x, params[name], stats[name], stride, residual, False)
  x = _convolve(x, params['head_conv']['kernel'], 1)
  x = _silu(_batch_norm(x, params['head_bn'], stats['head_bn'], False))
  classifier = params['classifier']
  return x.mean((1, 2)) @ classifier['kernel'] + classifier['bias']


def _random_variables(shapes, seed=0):
  """Every leaf random: scales and variances around 1, the others around 0."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key in ('scale', 'var'):
      return rng.uniform(0.5, 1.5, leaf.shape)
    fan_in = math.prod(leaf.shape[:-1]) if path[-1].key == 'kernel' else 4
    return rng.normal(size=leaf.shape) / math.sqrt(fan_in)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _as_float32(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


@pytest.mark.parametrize(
  'stage, in_filters, parts',
  [
    ('r1_k3_s1_e1_o8_se', 8, 'depthwise se project'),
    ('r1_k3_s2_e1_o6', 8, 'depthwise project'),
    ('r1_k5_s1_e6_o8_se', 8, 'expand depthwise se project'),
    ('r1_k3_s1_e4_o12', 8, 'expand depthwise project'),
    ('r1_k5_s2_e6_o8_se', 8, 'expand depthwise se project'),
    ('r1_k3_s1_e4_o8_fused', 8, 'expand project'),
    ('r1_k3_s2_e4_o8_fused_se', 8, 'expand se project'),
    ('r1_k3_s1_e1_o8_fused', 8, 'project'),
    ('r1_k5_s2_e1_o12_fused_se', 8, 'se project'),
  ],
)
def test_block_equals_numpy(stage, in_filters, parts):
  (block,) = spec.ModelSpec(
    'one', spec.parse_stages(stage), stem_filters=in_filters, depth_divisor=2
  ).blocks()

  def apply(variables, x, train):
    norm = functools.partial(
      BatchNorm, use_running_average=not train, epsilon=1e-3
    )
    module = blocks.Block(block, norm, nn.silu)
    return module.apply(variables, x, train, mutable=['batch_stats'])[0]

  x = np.random.default_rng(1).normal(size=(3, 7, 6, in_filters))
  norm = functools.partial(BatchNorm, use_running_average=True)
  shapes = jax.eval_shape(
    lambda: blocks.Block(block, norm, nn.silu).init(
      jax.random.key(0), jnp.asarray(x), False
    )
  )
  variables = _random_variables(shapes)
  params, stats = variables['params'], variables['batch_stats']
  names = {name.removesuffix('_conv') for name in params if 'bn' not in name}
  assert names == set(parts.split())

  both = jax.jit(
    lambda variables, x: [
      apply(variables, x, train) for train in (False, True)
    ],
    compiler_options=_QUICK,
  )(_as_float32(variables), jnp.asarray(x, jnp.float32))
  residual = '_s1_' in stage and f'_o{in_filters}' in stage
  stride = 2 if '_s2_' in stage else 1
  for train, ours in zip((False, True), both, strict=True):
    exact = _block(x, params, stats, stride, residual, train)
    assert ours.shape == exact.shape
    np.testing.assert_allclose(ours, exact, rtol=1e-4, atol=2e-5)


def test_micro_equals_numpy():
  shape = (2, 21, 18, 3)
  model = efficientnet.build(variants.get_spec('micro', num_classes=10))
  x = np.random.default_rng(2).normal(size=shape)
  shapes = jax.eval_shape(
    model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
  )
  variables = _random_variables(shapes)
  logits, _ = jax.jit(model.apply, compiler_options=_QUICK)(
    _as_float32(variables), jnp.asarray(x, jnp.float32)
  )
  # The stem's, then b0's in the first layer of each stage.
  exact = _network(
    x,
    variables['params'],
    variables['batch_stats'],
    strides=(1, 1, 2, 2, 2, 1, 2, 1, 1),
  )
  np.testing.assert_allclose(logits, exact, rtol=1e-4, atol=1e-5)
  assert np.std(exact) > 0.05  # the images reach the logits
