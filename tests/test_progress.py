"""Progress: lines for logs, a bar for people, nothing for short work."""

import io
import sys
import types

import pytest

from effnet_jax import progress


class _Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """A clock that the test turns."""
  now = types.SimpleNamespace(seconds=0.0)
  monkeypatch.setattr(
    progress, 'time', types.SimpleNamespace(monotonic=lambda: now.seconds)
  )
  return now


def test_a_line_now_and_then(clock, capsys):
  with progress.progress(1000, 'evaluating') as advance:
    for seconds in (10, 20, 40, 50, 75, 100):
      clock.seconds = seconds
      advance(100)
  # The third after 40 s, the fifth 35 s later; done are 300 and 500.
  assert capsys.readouterr().err.splitlines() == [
    'evaluating: 300 of 1,000 images, 7.5 images/s, 01:33 left',
    'evaluating: 500 of 1,000 images, 6.7 images/s, 01:15 left',
  ]


def test_short_work_says_nothing(clock, capsys):
  with progress.progress(2, 'predicting') as advance:
    clock.seconds = 20
    advance(1)
    clock.seconds = 60
    advance(1)
  assert capsys.readouterr() == ('', '')


def test_results_stand_above_the_bar(monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  monkeypatch.setattr(sys, 'stdout', terminal)
  monkeypatch.setattr(progress, '_PATIENCE', 0)
  with progress.progress(4, 'predicting') as advance:
    advance(1)
    progress.say('cat.png')
    advance(1)
  text = terminal.getvalue()
  assert 'predicting:' in text and '/4 ' in text and 'images' in text
  assert 'cat.png\n' in text
  # The bar is wiped out before, and at the end.
  assert text[: text.index('cat.png')].rstrip(' ').endswith('\r')
  assert text.endswith('\r')
