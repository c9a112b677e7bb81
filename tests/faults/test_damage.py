"""Damaged checkpoints are named and set aside; the one before is used."""

import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from configs import quickstart
from effnet_jax import pretrained
from effnet_jax.errors import UserError
from effnet_jax.training import damage, loop


def _config():
  config = quickstart.get_config()
  config.model.overrides.stages = 'r1_k3_s2_e1_o8'
  config.model.overrides.resolution = 8
  config.data.train_split = 'train[:128]'
  config.data.eval_split = 'test[:60]'
  config.data.test_split = 'test[:60]'
  config.evaluation.batch_size = 60
  config.duration = '6 steps'
  config.schedule.warmup = '2 steps'
  config.checkpoint.every = '2 steps'
  config.checkpoint.keep = 2
  config.evaluation.every = '6 steps'
  config.log.every = '2 steps'
  return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run of 6 steps: its directory and its weights."""
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  state, _ = loop.train_and_evaluate(_config(), workdir)
  return workdir, jax.device_get(state.params)


@pytest.fixture
def run(whole, tmp_path):
  """A copy that was cut off before its last evaluation."""
  shutil.copytree(whole[0], tmp_path / 'run')
  (tmp_path / 'run' / 'summary.json').unlink()
  return tmp_path / 'run'


def _largest(folder):
  files = [p for p in (folder / 'state').rglob('*') if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(bytes(content))


def _remove(path):
  path.unlink()


DAMAGES = {
  'bytes)': _truncate,
  'is not what was written': _flip,
  'is missing': _remove,
}


def _steps(folder):
  return sorted(p.name for p in folder.iterdir() if p.name.isdigit())


@pytest.mark.parametrize('why', DAMAGES)
def test_the_one_before_is_used(whole, run, capsys, why):
  assert _steps(run / 'checkpoints') == ['4', '6']
  DAMAGES[why](_largest(run / 'checkpoints' / '6'))
  with pytest.raises(UserError, match='checkpoint 6 .* is damaged') as caught:
    pretrained.read(run)
  assert '\n' not in str(caught.value)
  assert _steps(run / 'checkpoints') == ['4', '6']  # a reader moves nothing
  state, history = loop.train_and_evaluate(_config(), run)
  said = capsys.readouterr().out
  line = next(x for x in said.splitlines() if 'is damaged' in x)
  assert line.startswith('Checkpoint 6 is damaged (state/')
  assert why in line
  assert 'resumed after step 4' in said
  assert _steps(run / 'damaged') == ['6']
  assert _steps(run / 'checkpoints') == ['4', '6']
  jax.tree.map(np.testing.assert_array_equal, state.params, whole[1])
  assert history[-1]['step'] == 6


def test_without_digests_it_is_taken_as_it_is(run):
  newest = run / 'checkpoints' / '6'
  assert damage.problem(epath.Path(newest)) == ''
  _flip(_largest(newest))
  assert damage.problem(epath.Path(newest)).endswith('is not what was written')
  _truncate(newest / 'digests.json')
  assert 'digests.json' in damage.problem(epath.Path(newest))
  (newest / 'digests.json').unlink()
  assert damage.problem(epath.Path(newest)) == ''


def test_a_run_never_begins_anew_unasked(run):
  for step in (4, 6):
    _flip(_largest(run / 'checkpoints' / str(step)))
  for _ in range(2):  # the second finds none, and the damaged ones
    with pytest.raises(UserError, match='None is left') as caught:
      loop.train_and_evaluate(_config(), run)
    assert '\n' not in str(caught.value)
  assert _steps(run / 'damaged') == ['4', '6']
  shutil.rmtree(run / 'damaged')
  _, history = loop.train_and_evaluate(_config(), run)
  assert history[0]['step'] == 2


def test_a_step_damaged_twice_is_kept_twice(run):
  for names in (['6'], ['6', '6-2']):
    _flip(_largest(run / 'checkpoints' / '6'))
    loop.train_and_evaluate(_config(), run)
    assert sorted(p.name for p in (run / 'damaged').iterdir()) == names


def test_digests_are_of_every_file(run):
  newest = run / 'checkpoints' / '6'
  digests = json.loads((newest / 'digests.json').read_text())
  files = {str(p.relative_to(newest)) for p in newest.rglob('*') if p.is_file()}
  later = {'digests.json', '_CHECKPOINT_METADATA'}
  later |= {name for name in files if name.endswith('commit_success.txt')}
  assert set(digests) - later == files - later
  assert any(name.startswith('state/') for name in digests)
  assert any(name.startswith('run/') for name in digests)
  for name, (size, _) in digests.items():
    assert (newest / name).stat().st_size == size
