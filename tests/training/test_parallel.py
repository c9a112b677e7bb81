"""Placing, mapping, and the settings that devices rule out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import parallel


def _error(function, *args, **kwargs):
  with pytest.raises(UserError) as caught:
    function(*args, **kwargs)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_the_tests_have_four_devices():
  assert len(jax.devices()) == 4
  assert parallel.devices_or_all(None) == jax.devices()
  assert parallel.devices_or_all(jax.devices()[1:2]) == jax.devices()[1:2]


def test_one_process_needs_no_agreement():
  assert parallel.any_process(True, may_meet=False)
  assert not parallel.any_process(False, may_meet=True)


@pytest.mark.parametrize(
  ('batch_size', 'accumulate', 'devices', 'nearest'),
  [
    (10, 1, 4, '8 would'),
    (3, 1, 4, '4 would'),
    (0, 1, 4, '4 would'),
    (12, 2, 4, '8 would'),
    (8, 3, 4, '12 would'),
  ],
)
def test_a_batch_must_divide(batch_size, accumulate, devices, nearest):
  devices = jax.devices()[:devices]
  text = _error(parallel.check_batch, batch_size, accumulate, devices)
  assert f'config.batch_size={batch_size} ' in text
  assert text.endswith(nearest)
  assert ('config.accumulate' in text) == (accumulate > 1)
  good = int(nearest.split()[0])
  parallel.check_batch(good, accumulate, devices)


def test_a_batch_error_names_its_key():
  text = _error(parallel.check_batch, 9, 1, jax.devices(), 'evaluation.b')
  assert 'config.evaluation.b=9' in text
  # There is no dividing into no parts.
  _error(parallel.check_batch, 8, 0, jax.devices())


def test_batch_norm_groups_are_consecutive_devices():
  groups = lambda setting: parallel.bn_groups(setting, 8)
  assert groups('local') == {'bn_axis_name': None, 'bn_groups': None}
  assert groups('global') == {'bn_axis_name': 'batch', 'bn_groups': None}
  assert groups('4') == {
    'bn_axis_name': 'batch',
    'bn_groups': ((0, 1, 2, 3), (4, 5, 6, 7)),
  }
  assert groups('1')['bn_groups'] == tuple((i,) for i in range(8))
  assert groups('8')['bn_groups'] == (tuple(range(8)),)


def test_published_groups():
  # tensorflow/tpu, TpuBatchNormalization: local up to 8 shards, then groups of
  # max(8, shards // 8) consecutive ones.
  sizes = {}
  for devices in (1, 8, 16, 64, 128, 1024):
    groups = parallel.bn_groups('tpu', devices)['bn_groups']
    sizes[devices] = len(groups[0]) if groups else None
  assert sizes == {1: None, 8: None, 16: 8, 64: 8, 128: 16, 1024: 128}
  # google/automl, efficientnetv2: min(8, shards) consecutive ones.
  for devices, size in ((1, 1), (4, 4), (8, 8), (16, 8), (1024, 8)):
    groups = parallel.bn_groups('tpu_v2', devices)['bn_groups']
    assert {len(group) for group in groups} == {size}


@pytest.mark.parametrize('setting', ['3', '16', '0', '-2', '2.0', '', 'all'])
def test_impossible_batch_norm_groups(setting):
  text = _error(parallel.bn_groups, setting, 8)
  assert f'config.model.bn_groups={setting!r}' in text
  assert '8 devices' in text


def test_a_batch_is_dealt_out_in_order():
  devices = jax.devices()[1:3]
  batch = {'image': np.arange(24).reshape(6, 2, 2), 'label': np.arange(6)}
  placed = parallel.shard(batch, devices)
  assert placed['image'].shape == (2, 3, 2, 2)
  for i, device in enumerate(devices):
    (shard,) = (
      s for s in placed['label'].addressable_shards if s.device == device
    )
    assert np.array_equal(shard.data, [[3 * i, 3 * i + 1, 3 * i + 2]])


def test_a_state_is_placed_whole_on_every_device():
  devices = jax.devices()[:3]
  tree = {'w': jnp.arange(5.0), 'step': jnp.int32(7)}
  placed = parallel.replicate(tree, devices)
  for name, leaf in placed.items():
    assert leaf.shape == tree[name].shape  # no leading axis
    assert {s.device for s in leaf.addressable_shards} == set(devices)
    for shard in leaf.addressable_shards:
      assert np.array_equal(shard.data, tree[name])
  # One process may save it as it is.
  assert parallel.to_global(placed, devices) is placed
  sharding = parallel.global_sharding(devices)
  assert placed['w'].sharding.is_equivalent_to(sharding, 1)


def test_the_training_step_runs_on_the_given_devices_and_donates():
  devices = jax.devices()[2:]

  def step(state, batch, key):
    mean = jax.lax.pmean(batch.sum(), parallel.AXIS)
    return state + mean, (key + 1, jax.lax.psum(1, parallel.AXIS))

  mapped = parallel.pmap_train(step, devices)
  state = parallel.replicate(jnp.zeros(2), devices)
  batch = parallel.shard(np.arange(4.0, dtype=np.float32), devices)
  after, (key, count) = mapped(state, batch, jnp.float32(2))
  assert np.array_equal(after, [3, 3])  # ((0 + 1) + (2 + 3)) / 2
  assert (key, count) == (3, 2)
  assert after.shape == (2,)
  assert {s.device for s in after.addressable_shards} == set(devices)
  assert state.is_deleted()
  assert not batch.is_deleted()


def test_the_evaluation_step_adds_and_keeps_its_weights():
  devices = jax.devices()
  step = parallel.pmap_eval(
    lambda variables, batch: {'m': ((variables * batch).sum(), batch.size)},
    devices,
  )
  weights = parallel.replicate(jnp.float32(10), devices)
  batch = parallel.shard(np.arange(8.0, dtype=np.float32), devices)
  sums = step(weights, batch)
  assert sums['m'] == (280, 8)
  assert not weights.is_deleted()
