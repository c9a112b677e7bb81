"""The step under the real pmap: replicas, sharding, batch norm, averages.

The network is tiny and every compiled step is shared, for compiling is most of
the time here. Each run of three steps is recorded once and looked at often.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from effnet_jax.models import efficientnet, normalize, spec
from effnet_jax.training import optimizer, parallel, schedules, state, step
from effnet_jax.training.objectives import supervised

STEPS = 3
IMAGES = 16
CLASSES = 8  # so that not everything is among the top five
EMA_LIMIT = 0.15  # reached at the second step: (1 + 1) / (10 + 1) > .15


def _model(**attributes):
  stages = 'r1_k3_s1_e2_o8_se'
  return efficientnet.build(
    spec.ModelSpec(
      'tiny',
      spec.parse_stages(stages),
      stem_filters=8,
      head_filters=16,
      stem_stride=1,
      num_classes=CLASSES,
      dropout_rate=0.0,
      survival_probability=1.0,
      bn_momentum=0.9,
    ),
    **attributes,
  )


def _objective(model):
  to_input = functools.partial(normalize.normalize, spec=model.spec)
  return supervised.supervised(model.apply, to_input, 0.1)


def _optimizer(weight_decay=1e-4):
  schedule = schedules.learning_rate(
    'cosine', 0.05, warmup_steps=0, total_steps=STEPS
  )
  return optimizer.create('rmsprop', schedule, weight_decay=weight_decay)


def _batch(number):
  """Noise whose level and contrast differ much from image to image."""
  rng = np.random.default_rng(number)
  noise = rng.uniform(-1, 1, (IMAGES, 8, 8, 3))
  level = rng.uniform(60, 190, (IMAGES, 1, 1, 3))
  contrast = rng.uniform(10, 60, (IMAGES, 1, 1, 1))
  return {
    'image': np.rint(level + contrast * noise).astype(np.uint8),
    'label': rng.integers(0, CLASSES, IMAGES).astype(np.int32),
  }


@dataclasses.dataclass
class Run:
  """What three steps left behind."""

  states: list[Any]  # numpy, before the first step and after each
  metrics: list[Any]  # numpy
  last: Any  # the state as it came from the step
  last_metrics: Any
  donated: list[bool]  # for every leaf that the first step was given
  compilations: int


def _run(num_devices, bn='local', accumulate=1):
  devices = jax.devices()[:num_devices]
  model = _model(**parallel.bn_groups(bn, num_devices))
  tx = _optimizer()
  mapped = parallel.pmap_train(
    functools.partial(
      step.train_step,
      objective=_objective(model),
      optimizer=tx,
      ema_limit=EMA_LIMIT,
      accumulate=accumulate,
      axis_name=parallel.AXIS,
    ),
    devices,
  )
  key = jax.random.key(0)
  current = parallel.replicate(
    state.create(efficientnet.init(model, 0), tx), devices
  )
  # A copy: on CPU device_get returns views of buffers that get donated.
  fetch = functools.partial(jax.tree.map, lambda x: np.array(x))
  states, all_metrics, metrics, donated = [fetch(current)], [], None, []
  compiled = []

  def count(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(duration)

  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    for number in range(STEPS):
      batch = parallel.shard(_batch(number), devices)
      given = jax.tree.leaves(current)
      current, metrics = mapped(current, batch, key)
      donated = donated or [leaf.is_deleted() for leaf in given]
      states.append(fetch(current))
      all_metrics.append(fetch(metrics))
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  return Run(states, all_metrics, current, metrics, donated, len(compiled))


@pytest.fixture(scope='module')
def one():
  return _run(1)


@pytest.fixture(scope='module')
def two_local():
  return _run(2)


@pytest.fixture(scope='module')
def two_global():
  return _run(2, 'global')


@pytest.fixture(scope='module')
def four_grouped():
  return _run(4, '2')


def _gap(left, right):
  """The largest difference of any two numbers."""
  assert jax.tree.structure(left) == jax.tree.structure(right)
  return max(
    np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  )


@pytest.fixture(scope='module', autouse=True)
def _compile_fast():
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


FIELDS = ('params', 'batch_stats', 'ema_params', 'ema_batch_stats')


def test_replicas_stay_equal_bit_for_bit(two_local):
  # Local batch norm: each device has other statistics and other gradients.
  for leaf in jax.tree.leaves((two_local.last, two_local.last_metrics)):
    shards = [np.asarray(s.data) for s in leaf.addressable_shards]
    assert len(shards) == 2
    assert shards[0].shape == leaf.shape
    assert np.array_equal(*shards)


@pytest.mark.parametrize('field', FIELDS)
def test_two_devices_with_global_batch_norm_equal_one(
  one, two_local, two_global, field
):
  # The same sums in another order are off by some 1e-7 of numbers around 1, and
  # three steps of one block don't amplify that. Statistics over half the images
  # move the state by 1e-2.
  of = lambda run: getattr(run.states[-1], field)
  assert _gap(of(one), getattr(one.states[0], field)) > 1e-2
  assert _gap(of(one), of(two_global)) < 2e-6
  assert _gap(of(one), of(two_local)) > 5e-3


def test_two_devices_report_the_metrics_of_one(one, two_local, two_global):
  for alone, together in zip(one.metrics, two_global.metrics, strict=True):
    for name in ('loss', 'cross_entropy', 'top1', 'top5', 'gradient_norm'):
      np.testing.assert_allclose(
        together[name], alone[name], rtol=1e-5, err_msg=name
      )
      assert alone[name][1] == (1 if name == 'gradient_norm' else IMAGES)
  assert abs(one.metrics[0]['loss'][0] - two_local.metrics[0]['loss'][0]) > 0.05


def test_batch_norm_in_groups_is_a_whole_batch_norm_of_each_group(four_grouped):
  model, tx, batch = _model(), _optimizer(), _batch(0)
  first = state.create(efficientnet.init(model, 0), tx)

  @jax.jit
  def alone(part):
    """Gradient, metrics and statistics of one group on one device."""
    (_, (metrics, batch_stats)), grads = jax.value_and_grad(
      lambda params: _objective(model)(
        {'params': params, 'batch_stats': first.batch_stats},
        part,
        jax.random.key(0),
      ),
      has_aux=True,
    )(first.params)
    return grads, metrics, batch_stats

  halves = [
    alone(jax.tree.map(lambda x, i=i: x[i * 8 : i * 8 + 8], batch))
    for i in range(2)
  ]
  (grads, metrics, batch_stats), other = halves
  assert _gap(batch_stats, other[2]) > 1e-2
  grads, batch_stats = jax.tree.map(
    lambda a, b: (np.asarray(a) + np.asarray(b)) / 2,
    (grads, batch_stats),
    (other[0], other[2]),
  )

  @jax.jit
  def update(grads):
    updates, _ = tx.update(grads, first.opt_state, first.params)
    return optax.apply_updates(first.params, updates)

  params = update(grads)

  after = four_grouped.states[1]
  # Sums in another order again, over one step.
  assert _gap(after.batch_stats, batch_stats) < 2e-6
  assert _gap(after.params, params) < 2e-6
  reported = four_grouped.metrics[0]
  for name, (total, count) in metrics.items():
    np.testing.assert_allclose(
      reported[name], (total + other[1][name][0], 16), rtol=1e-5
    )
    assert count == 8
  norm = np.sqrt(
    sum(np.square(g, dtype=np.float64).sum() for g in jax.tree.leaves(grads))
  )
  np.testing.assert_allclose(reported['gradient_norm'], (norm, 1), rtol=1e-5)


def test_a_placed_state_compiles_once_and_is_donated(
  one, two_local, two_global, four_grouped
):
  for run in (one, two_local, two_global, four_grouped):
    assert run.compilations == 1
    assert len(run.donated) > 50
    assert all(run.donated)


def test_steps_are_counted(one):
  assert [int(s.step) for s in one.states] == [0, 1, 2, 3]


@pytest.mark.parametrize('field', ['params', 'batch_stats'])
def test_averages_follow_the_recurrence(two_local, field):
  averages = [getattr(s, f'ema_{field}') for s in two_local.states]
  values = [getattr(s, field) for s in two_local.states]
  assert _gap(averages[0], values[0]) == 0
  expected = averages[0]
  for n, decay in enumerate((0.1, 0.15, 0.15)):  # 1 / 10, then the limit
    expected = jax.tree.map(
      lambda old, new, d=decay: d * old.astype(np.float64) + (1 - d) * new,
      expected,
      values[n + 1],
    )
    assert _gap(averages[n + 1], expected) < 1e-6
    assert _gap(averages[n + 1], values[n + 1]) > 1e-4


def test_parts_of_one_device_train_as_devices_do(two_local):
  # Local batch norm sees half of the images either way.
  parts = _run(1, accumulate=2)
  assert parts.compilations == 1
  assert _gap(parts.states[1].params, two_local.states[1].params) < 2e-6
  for name, (total, count) in two_local.metrics[0].items():
    np.testing.assert_allclose(
      parts.metrics[0][name], (total, count), rtol=1e-5, err_msg=name
    )


# A linear network without batch norm, whose step is worked out by numpy.


def _linear(variables, batch, rng):
  """Least squares; reports its random draw for every example."""
  kernel = variables['params']['kernel']
  error = batch['x'] @ kernel - batch['y']
  loss = 0.5 * jnp.square(error).sum(1).mean()
  draw = jnp.zeros(8).at[batch['index']].set(jax.random.uniform(rng))
  count = jnp.float32(error.shape[0])
  seen = 0.5 * variables['batch_stats']['seen'] + batch['x'].mean(0)
  metrics = {'loss': (loss * count, count), 'draw': (draw, count)}
  return loss, (metrics, {'seen': seen})


def _linear_batch():
  rng = np.random.default_rng(0)
  return {
    'x': rng.normal(size=(8, 3)).astype(np.float32),
    'y': rng.normal(size=(8, 2)).astype(np.float32),
    'index': np.arange(8),
  }


@pytest.fixture(scope='module')
def linear():
  """Two devices, two parts each: (a new state, the step, the batch)."""
  devices = jax.devices()[:2]
  tx = optax.sgd(0.1)
  mapped = parallel.pmap_train(
    functools.partial(
      step.train_step,
      objective=_linear,
      optimizer=tx,
      ema_limit=0.9,
      accumulate=2,
    ),
    devices,
  )

  def start():
    variables = {
      'params': {'kernel': jnp.ones((3, 2))},
      'batch_stats': {'seen': jnp.ones(3)},
    }
    return parallel.replicate(state.create(variables, tx), devices)

  return start, mapped, parallel.shard(_linear_batch(), devices)


def test_parts_are_averaged(linear):
  start, mapped, batch = linear
  after, metrics = mapped(start(), batch, jax.random.key(0))
  arrays = {k: v.astype(np.float64) for k, v in _linear_batch().items()}
  x, kernel = arrays['x'], np.ones((3, 2))
  error = x @ kernel - arrays['y']
  # Equal parts: the mean of their gradients is that of all eight examples.
  gradient = x.T @ error / 8
  np.testing.assert_allclose(
    after.params['kernel'], kernel - 0.1 * gradient, rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['gradient_norm'][0], np.linalg.norm(gradient), rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['update_norm'][0], 0.1 * np.linalg.norm(gradient), rtol=1e-5
  )
  np.testing.assert_allclose(
    metrics['loss'], (0.5 * np.square(error).sum(), 8), rtol=1e-5
  )
  # The second part starts from the first's statistics, on each device.
  means = x.reshape(2, 2, 2, 3).mean(2)  # device, part
  seen = 0.5 * (0.5 * np.ones(3) + means[:, 0]) + means[:, 1]
  np.testing.assert_allclose(
    after.batch_stats['seen'], seen.mean(0), rtol=1e-5, atol=1e-6
  )


def test_chance_differs_by_step_device_and_part_alone(linear):
  start, mapped, batch = linear

  def draws(key, steps=1):
    current, metrics = start(), None
    for _ in range(steps):
      current, metrics = mapped(current, batch, key)
    return np.asarray(metrics['draw'][0])

  first = draws(jax.random.key(0))
  assert np.array_equal(first[::2], first[1::2])  # two examples a part
  assert len(set(first.tolist())) == 4  # two devices of two parts
  assert np.array_equal(draws(jax.random.key(0)), first)
  others = draws(jax.random.key(0), steps=2), draws(jax.random.key(1))
  assert len({*first.tolist(), *others[0].tolist(), *others[1].tolist()}) == 12
