"""Gradients of a whole network in training, with stochastic depth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.models import efficientnet, variants

# Compiling costs more than running here.
_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
  },
)


def _images(shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


@pytest.fixture(scope='module')
def micro_losses():
  """(params -> loss, gradient) of micro by formulation, and its variables."""
  model_spec = variants.get_spec('micro', num_classes=10)
  variables = efficientnet.init(efficientnet.build(model_spec))
  images = _images((8, 16, 16, 3))
  target = _images((8, 10), seed=1)

  def compiled(formulation):
    model = efficientnet.build(model_spec, depthwise=formulation)

    def loss(params):
      (logits, _), _ = model.apply(
        {**variables, 'params': params},
        images,
        True,
        mutable=['batch_stats'],
        rngs={'dropout': jax.random.key(0)},
      )
      return jnp.sum(jnp.tanh(logits) * target)

    return _jit(jax.value_and_grad(loss))

  return {f: compiled(f) for f in ('grouped', 'shifted')}, variables['params']


@pytest.mark.soak
def test_formulations_agree_on_a_whole_network(micro_losses):
  losses, params = micro_losses
  loss, grads = losses['grouped'](params)
  shifted_loss, shifted_grads = losses['shifted'](params)
  assert shifted_loss == pytest.approx(float(loss), rel=1e-4)
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(jax.device_get(grads)),
    jax.tree.leaves(jax.device_get(shifted_grads)),
    strict=True,
  ):
    # Shifts before another batch norm have no gradient but rounding errors.
    limit = 2e-4 * np.linalg.norm(a) + 2e-4
    assert np.linalg.norm(a - b) < limit, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
  'module',
  [
    ('stem_conv',),
    ('blocks_2', 'depthwise_conv'),
    ('blocks_3', 'se'),
    ('blocks_4', 'expand_bn'),
    ('blocks_1', 'project_conv'),
    ('classifier',),
  ],
  ids='/'.join,
)
def test_gradient_by_finite_differences(micro_losses, module):
  losses, params = micro_losses
  loss, params = losses['shifted'], jax.device_get(params)
  _, grads = loss(params)
  # Along the module's own gradient the slope is that gradient's norm.
  chosen = jax.tree_util.tree_map_with_path(
    lambda path, g: (
      g if tuple(k.key for k in path)[: len(module)] == module else 0 * g
    ),
    jax.device_get(grads),
  )
  norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(chosen)))
  assert norm > 1

  def at(change):  # of the loss, to first order
    step = np.float32(change / norm**2)
    moved = jax.tree.map(lambda p, g: p + step * g, params, chosen)
    return float(loss(moved)[0])

  assert at(0.1) - at(-0.1) == pytest.approx(0.2, rel=0.01)
