"""Competitors in processes of their own."""

import pytest

from benchmarks import workers

_SCRIPT = """
import sys
sys.path.insert(0, 'benchmarks')
import workers
def add(a, b):
  print('a library talks')
  return a + b
def refuse():
  raise workers.WorkerError('torch is not installed')
def fail():
  raise ValueError('two\\nlines')
def die():
  print('no memory', file=sys.stderr)
  sys.exit(3)
workers.serve({'add': add, 'refuse': refuse, 'fail': fail, 'die': die})
"""


def test_a_worker_answers_until_it_ends():
  with workers.Worker(['-c', _SCRIPT]) as worker:
    assert worker.ask('add', a=2, b=3) == 5
    with pytest.raises(workers.WorkerError, match='^torch is not installed$'):
      worker.ask('refuse')
    with pytest.raises(workers.WorkerError, match='^ValueError: two lines$'):
      worker.ask('fail')
    assert worker.ask('add', a=1, b=1) == 2
    with pytest.raises(workers.WorkerError, match='^exit status 3: no memory$'):
      worker.ask('die')
    with pytest.raises(workers.WorkerError, match='exit status 3'):
      worker.ask('add', a=1, b=1)
