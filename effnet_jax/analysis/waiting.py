"""Long calls into a library: they say that they go on, and Ctrl-C ends them."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar('_Result')
_PATIENCE = 3  # seconds before anything is said
_INTERVAL = 30  # seconds between lines


def say_elapsed(what: str, function: Callable[[], _Result]) -> _Result:
  """Calls a function and says on stderr how long it has taken so far.

  It runs in a thread of its own, so that the main one stays free to be
  interrupted, which a compiler does not let happen for minutes.
  """
  outcome: dict[str, Any] = {}

  def run():
    try:
      outcome['result'] = function()
    except BaseException as error:
      outcome['error'] = error

  thread = threading.Thread(target=run, daemon=True)
  begun = time.monotonic()
  thread.start()
  thread.join(_PATIENCE)
  if thread.is_alive():
    print(f'{what} ...', file=sys.stderr, flush=True)
  while thread.is_alive():
    thread.join(_INTERVAL)
    if thread.is_alive():
      seconds = time.monotonic() - begun
      print(f'{what}: {seconds:.0f} s', file=sys.stderr, flush=True)
  if 'error' in outcome:
    raise outcome['error']
  return outcome['result']
