"""What is kept on disk, and that it comes back bit for bit."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import effnet_jax
from effnet_jax.errors import UserError
from effnet_jax.training import parallel, state
from effnet_jax.training.checkpoint import Checkpoints

TX = optax.sgd(0.1, momentum=0.9)


def _devices():
  return jax.devices()[:2]


def _state(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  created = state.create(
    {'params': {'w': draw(3, 2)}, 'batch_stats': {'m': draw(2)}}, TX
  ).replace(step=jnp.int32(seed), ema_params={'w': draw(3, 2)})
  return parallel.replicate(created, _devices())


def _restored(checkpoints, step, like=None):
  abstract = jax.eval_shape(lambda: _state() if like is None else like)
  sharding = parallel.global_sharding(_devices())
  return checkpoints.state(step, abstract, sharding)


def _on_disk(workdir):
  return sorted(int(p.name) for p in (workdir / 'checkpoints').iterdir())


def _one_line(caught):
  text = str(caught.value)
  assert '\n' not in text
  return text


def test_a_state_comes_back_bit_for_bit(tmp_path):
  saved = _state(3)
  run = {
    'config': {'seed': 0, 'data': {'crop': [0.08, 1.0], 'path': None}},
    'data': {'examples': 123, 'bad': ['a']},
    'history': [{'step': 1, 'loss': 0.1 + 0.2}],
    'seconds': 12.5,
    'window': {'loss': (1 / 3, 2.0)},
  }
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(3, saved, run)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() == 3
    restored = _restored(checkpoints, 3)
    # Through JSON: tuples are lists, floats exact.
    assert checkpoints.run(3) == json.loads(json.dumps(run))
  assert jax.tree.structure(restored) == jax.tree.structure(saved)
  for before, after in zip(
    jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True
  ):
    assert after.dtype == before.dtype
    assert np.asarray(after).tobytes() == np.asarray(before).tobytes()
    # On both devices, as the step wants it.
    assert {s.device for s in after.addressable_shards} == set(_devices())


def test_a_save_is_of_the_state_as_it_was(tmp_path):
  # Training goes on, and reuses the buffers, while it is written.
  saved = _state(1)
  expected = np.array(saved.params['w'])
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, saved, {})
    for leaf in jax.tree.leaves(saved):
      leaf.delete()
    checkpoints.wait()
    restored = _restored(checkpoints, 1)
  assert np.array_equal(restored.params['w'], expected)


def test_the_last_ones_and_the_best_are_kept(tmp_path):
  scores = {1: 0.1, 2: 0.9, 3: None, 4: 0.3, 5: None}
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.latest() is None
    assert checkpoints.best() is None
    for step, score in scores.items():
      checkpoints.save(step, _state(step), {'n': step}, score)
    checkpoints.wait()
    assert checkpoints.latest() == 5
    assert checkpoints.best() == 2
  assert _on_disk(tmp_path) == [2, 4, 5]
  # A resumed run knows it still, and keeps it.
  with Checkpoints(tmp_path, keep=2) as checkpoints:
    assert checkpoints.best() == 2
    checkpoints.save(6, _state(6), {}, 0.2)
    checkpoints.save(7, _state(7), {}, 0.3)
    checkpoints.wait()
    assert _on_disk(tmp_path) == [2, 6, 7]
    assert checkpoints.best() == 2
    # Until a better one comes.
    checkpoints.save(8, _state(8), {}, 0.95)
    checkpoints.save(9, _state(9), {})
    checkpoints.save(10, _state(10), {})
  assert _on_disk(tmp_path) == [8, 9, 10]
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.best() == 8
    assert _restored(checkpoints, 8).step == 8


def test_no_best_without_an_evaluation(tmp_path):
  with Checkpoints(tmp_path, keep=1) as checkpoints:
    checkpoints.save(1, _state(1), {})
    checkpoints.save(2, _state(2), {})
    checkpoints.wait()
    assert checkpoints.best() is None
  assert _on_disk(tmp_path) == [2]


def test_a_step_that_is_there_is_left_alone(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), {'first': True})
    checkpoints.wait()
    checkpoints.save(1, _state(2), {'first': False})
    checkpoints.wait()
    assert checkpoints.run(1) == {'first': True}
    assert _restored(checkpoints, 1).step == 1


def _other(**params):
  variables = {'params': params, 'batch_stats': {'m': jnp.ones(2)}}
  return state.create(variables, TX)


@pytest.mark.parametrize(
  ('params', 'difference'),
  [
    ({'w': jnp.ones((3, 4))}, 'w is [3, 2] there, [3, 4] here'),
    ({}, 'w is [3, 2] there, None here'),
    ({'v': jnp.ones(3), 'w': jnp.ones((3, 2))}, 'v is None there, [3] here'),
  ],
)
def test_a_state_of_another_network_is_one_line(tmp_path, params, difference):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), {})
    checkpoints.wait()
    with pytest.raises(UserError) as caught:
      _restored(checkpoints, 1, like=_other(**params))
  text = _one_line(caught)
  assert 'checkpoint 1' in text
  assert f'.{difference}' in text
  assert '--workdir' in text


def test_a_state_of_another_optimizer_is_one_line(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), {})
    checkpoints.wait()
    other = state.create(_state().variables(), optax.adam(0.1))
    with pytest.raises(UserError, match=r'opt_state\.0\.') as caught:
      _restored(checkpoints, 1, like=other)
  _one_line(caught)


def test_a_reader_leaves_what_is_being_written(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, _state(1), {})
  half = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
  half.mkdir()
  with Checkpoints(tmp_path, writing=False) as checkpoints:
    assert checkpoints.latest() == 1
    assert checkpoints.run(1) == {}
  assert half.exists()
  # The run itself clears up what an earlier part of it left.
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.latest() == 1
    checkpoints.save(2, _state(2), {})
  assert _on_disk(tmp_path) == [1, 2]


def test_a_work_directory_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='work directory') as caught:
    Checkpoints(tmp_path / 'file')
  _one_line(caught)


def test_loading_what_is_not_there(tmp_path):
  with pytest.raises(UserError, match='a directory without weights') as caught:
    effnet_jax.load(tmp_path)
  assert str(tmp_path) in _one_line(caught)
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(UserError, match='no finished checkpoint') as caught:
    effnet_jax.load(tmp_path)
  assert str(tmp_path) in _one_line(caught)
