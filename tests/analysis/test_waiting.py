"""Lines about a call that takes long, and its end."""

import io
import re
import signal
import sys
import threading
import time

import pytest

from effnet_jax.analysis import waiting
from effnet_jax.errors import UserError


@pytest.fixture
def impatient(monkeypatch):
  monkeypatch.setattr(waiting, '_PATIENCE', 0.01)
  monkeypatch.setattr(waiting, '_INTERVAL', 0.01)


def test_a_long_call_says_that_it_goes_on(impatient, monkeypatch):
  said_twice = threading.Event()

  class Log(io.StringIO):
    def write(self, text):
      written = super().write(text)
      if len(re.findall(r': \d+ s\n', self.getvalue())) >= 2:
        said_twice.set()
      return written

  log = Log()
  monkeypatch.setattr(sys, 'stderr', log)
  # It goes on until two lines have come.
  assert waiting.say_elapsed('compiling', lambda: said_twice.wait(60))
  first, *lines = log.getvalue().splitlines()
  assert first == 'compiling ...' and len(lines) >= 2
  assert all(re.fullmatch(r'compiling: \d+ s', line) for line in lines)


def test_a_short_call_says_nothing(capsys):
  assert waiting.say_elapsed('compiling', lambda: 3) == 3
  assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('error', [UserError('no'), SystemExit(2)], ids=repr)
def test_errors_come_through(error):
  def function():
    raise error

  with pytest.raises(type(error)) as found:
    waiting.say_elapsed('compiling', function)
  assert found.value is error


def test_it_can_be_interrupted(monkeypatch):
  # Whatever runs the tests may have left SIGINT to itself.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  end = threading.Event()

  def function():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    end.wait(60)

  begun = time.monotonic()
  try:
    with pytest.raises(KeyboardInterrupt):
      waiting.say_elapsed('compiling', function)
  finally:
    signal.signal(signal.SIGINT, before)
    end.set()
  assert time.monotonic() < begun + 60  # it did not wait for the function
