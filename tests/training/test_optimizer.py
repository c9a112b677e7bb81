"""RMSProp as TensorFlow 1 has it, LARS, and which leaves decay."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, macs, variants
from effnet_jax.training import optimizer

CONSTANT = lambda step: 0.1


def _params(seed=0):
  """The leaves that the rules tell apart, under the network's names."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'stem_conv': {'kernel': draw(3, 2)},
    'stem_bn': {'scale': draw(2), 'bias': draw(2)},
    'blocks_0': {
      'se': {'reduce_conv': {'kernel': draw(2, 1), 'bias': draw(1)}},
      'project_bn': {'scale': draw(2), 'bias': draw(2)},
    },
    'classifier': {'kernel': draw(2, 3), 'bias': draw(3)},
  }


def _steps(tx, params, gradients):
  """The parameters after every step."""
  opt_state, trail = tx.init(params), []
  for gradient in gradients:
    updates, opt_state = tx.update(gradient, opt_state, params)
    params = optax.apply_updates(params, updates)
    trail.append(params)
  return trail


@pytest.mark.parametrize(
  ('momentum', 'decay', 'epsilon'), [(0.9, 0.9, 1e-3), (0.5, 0.99, 0.1)]
)
def test_rmsprop_is_that_of_tensorflow_1(momentum, decay, epsilon):
  rates = [0.0, 0.1, 0.4, 0.2, 0.02, 0.3]
  tx = optimizer.create(
    'rmsprop',
    lambda step: jnp.asarray(rates)[step],
    momentum=momentum,
    rms_decay=decay,
    epsilon=epsilon,
    weight_decay=0.0,
  )
  rng = np.random.default_rng(0)
  scales = 10.0 ** rng.integers(-3, 2, (len(rates), 5))
  gradients = (rng.normal(size=(len(rates), 5)) * scales).astype(np.float32)
  start = np.ones(5, np.float32)
  trail = _steps(tx, {'w': start}, [{'w': jnp.asarray(g)} for g in gradients])

  # The update of TF's ApplyRMSProp, in float64: the learning rate goes into the
  # momentum, so that a change of rate leaves earlier steps as they were.
  var, ms, mom = start.astype(np.float64), np.ones(5), np.zeros(5)
  for rate, gradient, ours in zip(rates, gradients, trail, strict=True):
    gradient = gradient.astype(np.float64)
    ms = decay * ms + (1 - decay) * gradient**2
    mom = momentum * mom + rate * gradient / np.sqrt(ms + epsilon)
    var = var - mom
    np.testing.assert_allclose(ours['w'], var, rtol=2e-6, atol=2e-6)
  assert np.abs(var - start).max() > 0.5


def test_sgd_has_nesterov_momentum():
  tx = optimizer.create('sgd', CONSTANT, momentum=0.5, weight_decay=0.0)
  trail = _steps(tx, {'w': jnp.float32(1)}, [{'w': jnp.float32(2)}] * 2)
  # Velocity 2, then 3; the step looks ahead: gradient + .5 * velocity.
  first = 1 - 0.1 * (2 + 0.5 * 2)
  expected = [first, first - 0.1 * (2 + 0.5 * 3)]
  np.testing.assert_allclose([p['w'] for p in trail], expected, rtol=1e-6)


def test_lars_is_that_of_the_published_large_batches():
  rates = [0.0, 2.0, 0.5]
  tx = optimizer.create(
    'lars',
    lambda step: jnp.asarray(rates)[step],
    momentum=0.9,
    weight_decay=0.2,
    mask='kernels',
    trust_coefficient=0.01,
  )
  start = _params()
  start['classifier']['kernel'] *= 0  # no norm, hence no ratio
  gradients = [_params(seed) for seed in (1, 2, 3)]
  gradients[1]['stem_conv']['kernel'] *= 0
  trail = _steps(tx, start, gradients)

  # TPU's lars_optimizer.py in float64: the skip list knows no decay and no
  # ratio, the rate goes into the momentum, the decay's norm is added apart.
  paths = jax.tree_util.tree_leaves_with_path(start)
  for leaf, (path, weight) in enumerate(paths):
    weight, momentum = np.asarray(weight, np.float64), 0.0
    for rate, gradient, ours in zip(rates, gradients, trail, strict=True):
      gradient = np.asarray(jax.tree.leaves(gradient)[leaf], np.float64)
      ratio = 1.0
      if path[-1].key == 'kernel':
        w, g = np.linalg.norm(weight), np.linalg.norm(gradient)
        if w > 0 and g > 0:
          ratio = 0.01 * w / (g + 0.2 * w)
        gradient = gradient + 0.2 * weight
      momentum = 0.9 * momentum + rate * ratio * gradient
      weight = weight - momentum
      np.testing.assert_allclose(
        jax.tree.leaves(ours)[leaf], weight, rtol=1e-5, atol=1e-6
      )


@pytest.mark.parametrize('rule', optimizer.DECAY_MASKS)
@pytest.mark.parametrize('name', ['rmsprop', 'sgd'])
def test_weight_decay_is_a_square_in_the_loss(name, rule):
  params = _params()
  decayed = {  # by hand, in the order of jax.tree.leaves
    'not_batch_norm': [False, False, True, True, True, True, False, False,
                       True],
    'kernels': [False, False, False, True, False, True, False, False, True],
  }[rule]  # fmt: skip

  def loss(params):
    return sum(jnp.sin(w * 3).sum() for w in jax.tree.leaves(params))

  def regularised(params):
    leaves = zip(jax.tree.leaves(params), decayed, strict=True)
    squares = sum((w**2 / 2).sum() for w, chosen in leaves if chosen)
    return loss(params) + 0.2 * squares

  def trained(loss, **options):
    tx = optimizer.create(name, CONSTANT, mask=rule, **options)

    @jax.jit
    def step(params, opt_state):
      updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
      return optax.apply_updates(params, updates), opt_state

    after, opt_state = params, tx.init(params)
    for _ in range(3):
      after, opt_state = step(after, opt_state)
    return after

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  ours = trained(loss, weight_decay=0.2)
  jax.tree.map(close, ours, trained(regularised, weight_decay=0.0))


@functools.cache
def _shapes(name):
  model = efficientnet.build(variants.get_spec(name))
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  return jax.eval_shape(model.init, jax.random.key(0), images)['params']


@pytest.mark.parametrize('name', variants.list_models())
def test_every_leaf_of_every_variant_is_decided(name):
  params, spec = _shapes(name), variants.get_spec(name)
  blocks = spec.blocks()

  def parameters(rule, chosen):
    mask = optimizer.decay_mask(params, rule)
    pairs = zip(jax.tree.leaves(mask), jax.tree.leaves(params), strict=True)
    return sum(p.size for decayed, p in pairs if decayed is chosen)

  # Worked out from the specification: a scale and a bias a channel of each
  # batch norm.
  batch_norm = 2 * (spec.stem_width + spec.head_width)
  for block in blocks:
    inner = block.expands + (block.operator == 'mbconv')  # expand, depthwise
    batch_norm += 2 * (block.filters + inner * block.expanded_filters)
  # Of the classifier, the gates and the routing.
  biases = spec.num_classes + sum(
    block.experts
    + (block.se_filters + block.expanded_filters if block.se_filters else 0)
    for block in blocks
  )
  total = macs.count(spec).params
  assert parameters('not_batch_norm', False) == batch_norm
  assert parameters('not_batch_norm', True) == total - batch_norm
  assert parameters('kernels', False) == batch_norm + biases
  assert parameters('kernels', True) == total - batch_norm - biases


def test_the_rules_differ_by_the_biases_outside_batch_norm():
  params = _shapes('micro')
  of = lambda rule: dict(
    jax.tree_util.tree_leaves_with_path(optimizer.decay_mask(params, rule))
  )
  v1, v2 = of('not_batch_norm'), of('kernels')
  for path, decayed in v1.items():
    module, leaf = path[-2].key, path[-1].key
    assert decayed is (not module.endswith('_bn'))
    assert leaf in ('kernel', 'bias') or not decayed
    assert v2[path] is (leaf == 'kernel')
  biases = {path[-2].key for path in v1 if v1[path] != v2[path]}
  assert biases == {'reduce', 'expand', 'classifier'}


def test_the_norm_is_clipped_before_weight_decay():
  params = {'classifier': {'kernel': jnp.asarray([3.0, 4.0])}}
  gradients = {'classifier': {'kernel': jnp.asarray([6.0, -8.0])}}  # norm 10

  def moved(**options):
    tx = optimizer.create('sgd', CONSTANT, momentum=0.0, **options)
    (after,) = _steps(tx, params, [gradients])
    kernels = params['classifier']['kernel'], after['classifier']['kernel']
    return (np.asarray(kernels[0]) - np.asarray(kernels[1])) / 0.1

  close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
  close(moved(weight_decay=0.0), [6, -8])
  close(moved(weight_decay=0.0, clip_norm=2.0), [1.2, -1.6])
  close(moved(weight_decay=0.0, clip_norm=20.0), [6, -8])
  close(moved(weight_decay=0.5, clip_norm=2.0), [1.2 + 1.5, -1.6 + 2])


def test_unknown_names():
  with pytest.raises(UserError, match=r"optimizer.name 'rmsprob': .* rmsprop"):
    optimizer.create('rmsprob', CONSTANT)
  with pytest.raises(UserError, match=r"decay_mask 'kernel': .* kernels"):
    optimizer.decay_mask(_params(), 'kernel')
  with pytest.raises(UserError, match=r"decay_mask 'kernel': .* kernels"):
    optimizer.create('rmsprop', CONSTANT, mask='kernel')
