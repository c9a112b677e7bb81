"""Competitors in processes of their own, which take turns.

A worker reads requests from its standard input and answers on its standard
output, one line of JSON each. Between two requests it does nothing: several
stay alive, each with its networks compiled, and are timed one after another,
round by round. What it or its libraries print goes to a log.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Threads of a pool spin for a while after the work is done; a competitor that
# begins meanwhile would share the cores with them.
_REST = 0.3  # seconds


class WorkerError(Exception):
  """What a worker could not do, in one line."""


class Worker:
  """A process that answers requests.

  Args:
    command: what it runs, after the Python interpreter.
    environment: added to this process's.
  """

  def __init__(
    self, command: Sequence[str], environment: Mapping[str, str] | None = None
  ):
    self._log = tempfile.TemporaryFile('w+')
    self._process = subprocess.Popen(
      [sys.executable, *command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._log,
      text=True,
      env={**os.environ, **(environment or {})},
    )

  def ask(self, request: str, **arguments: Any) -> Any:
    """Returns what the worker answers.

    Raises:
      WorkerError: it failed; if it has ended, no further request is answered.
    """
    line = json.dumps({'request': request, 'arguments': arguments})
    with contextlib.suppress(BrokenPipeError):  # there is no answer either
      self._process.stdin.write(line + '\n')
      self._process.stdin.flush()
    answer = self._process.stdout.readline()
    if not answer:
      raise WorkerError(self._last_words())
    answer = json.loads(answer)
    if 'error' in answer:
      raise WorkerError(answer['error'])
    return answer['result']

  def _last_words(self):
    status = self._process.wait()
    self._log.seek(0)
    lines = [line.strip() for line in self._log if line.strip()]
    return f'exit status {status}: {lines[-1] if lines else "no output"}'

  def close(self) -> None:
    """Ends the process, and with it all the memory that it has."""
    if self._process.poll() is None:
      self._process.stdin.close()
      try:
        self._process.wait(timeout=30)
      except subprocess.TimeoutExpired:
        self._process.kill()
        self._process.wait()
    for file in (self._process.stdin, self._process.stdout, self._log):
      with contextlib.suppress(BrokenPipeError):  # of what was not read
        file.close()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def rest() -> None:
  """Lets the threads of the last competitor fall asleep."""
  time.sleep(_REST)


def serve(handlers: Mapping[str, Callable[..., Any]]) -> None:
  """Answers requests by name until the input ends: a worker's main loop."""
  answers = os.fdopen(os.dup(1), 'w')
  os.dup2(2, 1)  # what libraries print is no answer
  for line in sys.stdin:
    request = json.loads(line)
    try:
      result = handlers[request['request']](**request['arguments'])
      answer = {'result': result}
    except Exception as error:
      known = isinstance(error, WorkerError)
      answer = {'error': str(error) if known else one_line(error)}
    answers.write(json.dumps(answer) + '\n')
    answers.flush()


def run(main: Callable[[], Any]) -> None:
  """Runs a script; what a worker could not do is the last line it says."""
  try:
    sys.exit(main())
  except WorkerError as error:
    sys.exit(f'{Path(sys.argv[0]).stem}: {error}')


def one_line(error: BaseException) -> str:
  """Returns an exception as one line of at most 300 characters."""
  text = ' '.join(str(error).split())
  return f'{type(error).__name__}: {text}'[:300]
