"""From a sweep to its runs, by hand; and every ablation that is here."""

import copy
import importlib
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import quickstart
from effnet_jax.errors import UserError
from effnet_jax.sweep import plan

ROOT = Path(__file__).parents[2]
ABLATIONS = sorted((ROOT / 'configs' / 'ablations').glob('*.py'))
SE, WIDTH = 'model.overrides.se_ratio', 'model.overrides.width'


def _sweep(**fields):
  return plan.Sweep('configs/quickstart.py', **fields)


def test_named_variants_by_seeds():
  runs = plan.runs(
    _sweep(
      runs={'gates': {}, 'no gates': {SE: 0.0}},
      seeds=(3, 4),
      shared={'ema': 0.5, SE: 0.5},
    )
  )
  assert [run.name for run in runs] == [
    *('gates-seed3', 'gates-seed4', 'no_gates-seed3', 'no_gates-seed4'),
  ]
  assert runs[3].variant == 'no gates'
  assert runs[1].overrides == {'ema': 0.5, SE: 0.5, 'seed': 4}
  assert runs[3].overrides == {'ema': 0.5, SE: 0.0, 'seed': 4}


def test_the_command_line_stands_over_what_is_shared():
  sweep = _sweep(
    shared={'ema': 0.5, 'batch_size': 8},
    runs={'a': {SE: 0.0}},
    grid={WIDTH: (1.0,)},
  )
  changed = plan.without(sweep, ['--config.ema=0.9', '--config.log.every=1'])
  assert changed.shared == {'batch_size': 8}
  (run,) = plan.runs(changed)
  arguments = plan.arguments(changed, run, ['--config.ema=0.9'])
  assert [a for a in arguments if 'ema' in a] == ['--config.ema=0.9']
  for key in (SE, WIDTH, 'seed'):
    with pytest.raises(UserError, match=f'{key}: the runs of this sweep'):
      plan.without(sweep, [f'--config.{key}=1'])


def test_a_grid_is_every_combination():
  runs = plan.runs(_sweep(grid={WIDTH: (0.5, 1.0), SE: (0.0, 0.25)}))
  assert [run.name for run in runs] == [
    'width=0.5_se_ratio=0.0-seed0',
    'width=0.5_se_ratio=0.25-seed0',
    'width=1.0_se_ratio=0.0-seed0',
    'width=1.0_se_ratio=0.25-seed0',
  ]
  assert runs[2].overrides == {WIDTH: 1.0, SE: 0.0, 'seed': 0}


def test_equal_ends_of_keys_are_told_apart():
  (run,) = plan.runs(
    _sweep(grid={'checkpoint.every': ('1 epoch',), 'log.every': ('2 steps',)})
  )
  assert run.variant == 'checkpoint.every=1 epoch log.every=2 steps'
  assert run.name == 'checkpoint.every=1_epoch_log.every=2_steps-seed0'


def test_variants_at_every_point_of_a_grid():
  runs = plan.runs(_sweep(runs={'a': {}, 'b': {SE: 0.0}}, grid={WIDTH: (1.0,)}))
  assert [run.variant for run in runs] == ['a width=1.0', 'b width=1.0']


def test_shards_are_a_partition():
  runs = plan.runs(_sweep(seeds=range(7)))
  shares = [plan.shard(runs, f'{i}/3') for i in range(3)]
  assert sorted(len(share) for share in shares) == [2, 2, 3]
  assert {run.name for share in shares for run in share} == {
    run.name for run in runs
  }
  for spec in ('3/3', '1', 'a/b', '-1/3', '0/0'):
    with pytest.raises(UserError, match='--shard='):
      plan.shard(runs, spec)


@pytest.mark.parametrize(
  ('fields', 'text'),
  [
    ({'runs': {'a/b': {}, 'a b': {}}}, 'two runs would be called a_b-seed0'),
    ({'seeds': ()}, 'a sweep of no run'),
  ],
)
def test_runs_have_names_of_their_own(fields, text):
  with pytest.raises(UserError, match=text):
    plan.runs(_sweep(**fields))


@pytest.mark.parametrize(
  ('overrides', 'text'),
  [
    ({'model.overides.width': 1.0}, 'unknown key .* did you mean'),
    ({'batch_sise': 8}, 'unknown key batch_sise: did you mean batch_size'),
    ({'batch_size.x': 8}, 'unknown key batch_size.x'),
    ({'batch_size': '8'}, "batch_size='8'"),
    ({SE: 'none'}, "se_ratio='none'"),
  ],
)
def test_a_wrong_override_is_one_line(overrides, text):
  (run,) = plan.runs(_sweep(runs={'wrong': overrides}))
  with pytest.raises(UserError, match=text) as caught:
    plan.check(quickstart.get_config(), run)
  assert '\n' not in str(caught.value) and 'wrong' in str(caught.value)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (None, 'no sweep'),
    ('x = 1', 'get_sweep'),
    ('def get_sweep(): return {}', 'returns no Sweep'),
    ('def get_sweep(:', 'SyntaxError'),
  ],
)
def test_what_is_no_sweep(tmp_path, text, message):
  path = tmp_path / 'sweep.py'
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=message):
    plan.load(str(path))


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_every_ablation_is_valid_and_its_commands_say_all(path, monkeypatch):
  sweep = plan.load(str(path))
  assert f'--config=configs/ablations/{path.name}' in path.read_text()
  module = sweep.base.removesuffix('.py').replace('/', '.')
  base = importlib.import_module(module).get_config()
  runs = plan.runs(sweep)
  assert len({run.variant for run in runs}) > 1
  for run in runs:
    config = plan.check(base, run)
    # As train.py reads the command that --list prints.
    command = ['train.py', *plan.arguments(sweep, run, [])[1:]]
    monkeypatch.setattr('sys.argv', command)  # ml_collections looks there
    read = _parsed(base, command)
    assert read.to_dict() == config.to_dict()


def _parsed(base: ConfigDict, command: list[str]) -> ConfigDict:
  """A config with `--config.key=value` set, by absl's own parsers."""
  from absl import flags as absl_flags
  from ml_collections import config_flags

  values = absl_flags.FlagValues()
  holder = config_flags.DEFINE_config_dict(
    'config', copy.deepcopy(base), flag_values=values
  )
  values(command)
  return holder.value
