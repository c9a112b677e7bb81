"""Configs through flags.parse: what is set, and what is wrong in one line.

In processes of their own, for absl's flags are global.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _parse(*arguments):
  """What flags.parse makes of a command line, as JSON; its one line if none."""
  code = (
    'import json, sys\n'
    'from effnet_jax import errors, flags\n'
    'try:\n'
    '  config = flags.parse(sys.argv)\n'
    '  print(json.dumps([config.is_locked, config.to_dict()]))\n'
    'except errors.UserError as error:\n'
    '  print(json.dumps(str(error)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  return json.loads(done.stdout)


def test_keys_are_set_on_the_command_line():
  locked, config = _parse(
    '--config=configs/b0.py:baseline',
    '--config.batch_size=1024',
    '--config.duration=100 epochs',
    '--config.data.crop_area=(0.25, 1.0)',
    '--config.data.flip=false',
    '--config.model.overrides.se_ratio=0',
    '--config.optimizer.clip_norm=1.5',
  )
  assert locked
  _, expected = _parse('--config=configs/b0.py')
  expected['batch_size'] = 1024
  expected['duration'] = '100 epochs'
  expected['data'] |= {'crop_area': [0.25, 1.0], 'flip': False}
  expected['model']['overrides']['se_ratio'] = 0
  expected['optimizer']['clip_norm'] = 1.5
  assert config == expected


@pytest.mark.parametrize(
  ('arguments', 'text'),
  [
    ('', '--config is missing'),
    (
      '--config=configs/b0.py --config.batch_sise=1',
      'unknown key config.batch_sise: did you mean batch_size?',
    ),
    (
      '--config=configs/b0.py --config.model.overrides.widht=1',
      'unknown key config.model.overrides.widht',
    ),
    (
      '--config=configs/b0.py --config.modle.name=b1',
      'unknown key config.modle.name: did you mean model?',
    ),
    ('--config=configs/b0.py --config.batch_size=big', '--config.batch_size'),
    ('--config=configs/b0.py --config.data.flip=maybe', '--config.data.flip'),
    ('--config=configs/b99.py', "no config file 'configs/b99.py'"),
    ('--config configs/b99.py', "no config file 'configs/b99.py'"),
    ('--config=configs/imagenet.py', '--config=configs/imagenet.py: '),
    ('--config=configs/b0.py:best', "b0.py has no recipe 'best': known"),
    ('--config=configs/b0.py --workdri=x', "'workdri'"),
    ('--config=configs/b0.py batch_size=1', "'batch_size=1' is no flag"),
  ],
)
def test_a_wrong_command_line_is_one_line(arguments, text):
  line = _parse(*arguments.split())
  assert text in line
  assert '\n' not in line
