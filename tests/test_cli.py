"""The commands: dispatch, exit status, one line for each mistake."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import effnet_jax
from effnet_jax import cli, errors

ROOT = Path(__file__).parents[1]


def _line(capsys, argv):
  """The one line on stderr that a mistake ends in."""
  assert cli.main(argv) == 2
  out, err = capsys.readouterr()
  assert out == ''
  assert err.startswith('error: ') and err.count('\n') == 1
  return err.removeprefix('error: ').strip()


def test_help_names_every_command(capsys):
  for argv in (['--help'], ['-h'], ['help']):
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ''
    for command, (_, what) in cli.COMMANDS.items():
      assert f'\n  {command} ' in out and what in out
    assert max(map(len, out.splitlines())) <= 80


def test_version(capsys):
  assert cli.main(['--version']) == 0
  assert capsys.readouterr().out == f'effnet_jax {effnet_jax.__version__}\n'


def test_mistakes_name_near_commands(capsys):
  assert "command 'modles': did you mean models?" in _line(capsys, ['modles'])
  every = f'known: {", ".join(cli.COMMANDS)}'
  assert f'no command: {every}' in _line(capsys, [])
  assert f"'--json': {every}" in _line(capsys, ['--json'])


@pytest.mark.parametrize('command', cli.COMMANDS)
def test_a_commands_help_teaches(command, capsys):
  assert cli.main([command, '--help']) == 0
  out, err = capsys.readouterr()
  assert err == ''
  assert out.startswith(f'usage: python -m effnet_jax {command} ')
  examples = out[out.index('\nexamples:') :]
  assert f'\n  python -m effnet_jax {command} ' in examples
  assert not re.search(r'^ *effnet ', examples, re.MULTILINE)
  line = _line(capsys, [command, '--no-such-option'])
  assert line.startswith('unknown option --no-such-option: ')


@pytest.fixture
def taste(monkeypatch):
  """A command `taste` that does what its module's `does` does."""
  module = types.ModuleType('effnet_jax.kitchen')
  module.does = lambda argv: None
  module.taste = lambda argv: module.does(argv)
  monkeypatch.setitem(sys.modules, module.__name__, module)
  monkeypatch.setitem(cli.COMMANDS, 'taste', (module.__name__, 'tastes'))
  return module


def test_a_command_gets_its_arguments_and_sets_the_status(taste):
  seen = []
  taste.does = seen.append
  assert cli.main(['taste', 'a', '--b']) == 0
  assert seen == [['a', '--b']]
  taste.does = lambda argv: 3
  assert cli.main(['taste']) == 3


def test_how_a_command_can_end(taste, capsys):
  def fail(argv):
    raise errors.UserError('too salty: add water')

  def interrupt(argv):
    raise KeyboardInterrupt

  def crash(argv):
    raise ZeroDivisionError

  taste.does = fail
  assert _line(capsys, ['taste']) == 'too salty: add water'
  taste.does = interrupt
  assert cli.main(['taste']) == 130
  assert capsys.readouterr() == ('', '\ninterrupted\n')
  # A mistake of ours is no mistake of the user's.
  taste.does = crash
  with pytest.raises(ZeroDivisionError):
    cli.main(['taste'])


def _run(*arguments, **kwargs):
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
    check=False,
    **kwargs,
  )


def test_the_module_runs_and_loads_what_it_needs_only():
  run = _run('-m', 'effnet_jax', 'modles', stdout=subprocess.PIPE)
  assert (run.returncode, run.stdout) == (2, '')
  assert run.stderr.startswith('error: ') and run.stderr.count('\n') == 1
  code = (
    'import json, sys\n'
    'from effnet_jax import cli\n'
    'loaded = lambda: [m for m in ("jax", "numpy", "absl") if m in sys.modules]'
    '\n'
    'statuses = [cli.main([c]) for c in ("--help", "models")]\n'
    'print(json.dumps([statuses, loaded()]))\n'
  )
  run = _run('-c', code, stdout=subprocess.PIPE)
  assert json.loads(run.stdout.splitlines()[-1]) == [[0, 0], []]


def test_a_closed_pipe_is_quiet():
  # As in `| head -0`: the reader is gone before anything is written.
  code = (
    'import os, subprocess, sys\n'
    'read, write = os.pipe()\n'
    'os.close(read)\n'
    'command = [sys.executable, "-m", "effnet_jax", "models", "--json"]\n'
    'sys.exit(subprocess.run(command, stdout=write).returncode)\n'
  )
  run = _run('-c', code)
  assert (run.returncode, run.stderr) == (141, '')
