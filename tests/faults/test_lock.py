"""Two runs in one work directory: the second is refused."""

import os
import signal
import subprocess
import sys

import pytest
from etils import epath

from effnet_jax.errors import UserError
from effnet_jax.training import lock

HOLD = """
import sys
from etils import epath
from effnet_jax.training import lock
with lock.held(epath.Path(sys.argv[1])):
  print('held', flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that has the work directory."""
  with subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path / 'run')],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


def test_the_second_is_told_who_has_it(holder, tmp_path):
  with (
    pytest.raises(UserError) as caught,
    lock.held(epath.Path(tmp_path / 'run')),
  ):
    pass
  said = str(caught.value)
  assert '\n' not in said
  assert f'process {holder.pid} on ' in said
  assert '--workdir' in said


def test_a_killed_process_has_nothing(holder, tmp_path):
  os.kill(holder.pid, signal.SIGKILL)
  holder.wait()
  with lock.held(epath.Path(tmp_path / 'run')) as said:
    assert said == ''


def test_one_after_another(tmp_path):
  for _ in range(2):
    with lock.held(epath.Path(tmp_path / 'new' / 'run')) as said:
      assert said == ''
      with (
        pytest.raises(UserError, match=f'process {os.getpid()} on'),
        lock.held(epath.Path(tmp_path / 'new' / 'run')),
      ):
        pass


def test_where_there_are_no_locks_it_is_said(tmp_path, monkeypatch):
  def unsupported(*_):
    raise OSError(95, 'Operation not supported')

  with lock.held(epath.Path('gs://bucket/run')) as said:
    assert 'no locks' in said
  monkeypatch.setattr(lock.fcntl, 'flock', unsupported)
  with lock.held(epath.Path(tmp_path)) as said:
    assert 'no locks (Operation not supported)' in said


def test_what_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(UserError, match='cannot be written'),
    lock.held(epath.Path(tmp_path / 'file')),
  ):
    pass
