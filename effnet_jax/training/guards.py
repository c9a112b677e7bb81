"""Signals that ask a run to save and leave."""

import contextlib
import os
import signal
from types import FrameType


class Interrupted(Exception):
  """A signal ended the run; it was saved and can be resumed."""

  def __init__(self, message: str, number: signal.Signals | None):
    super().__init__(message)
    # None: another process was told to stop.
    self.signal = number or signal.SIGTERM


class Interruption:
  """Turns SIGINT and SIGTERM into a flag that the loop reads between steps.

  A second signal is not held back. Outside the main thread, where Python allows
  no handlers, it does nothing.

  Example:
    >>> with Interruption() as interruption:
    ...   interruption.caught
    False
  """

  SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __init__(self):
    self.signal: signal.Signals | None = None
    self._before = {}

  @property
  def caught(self) -> bool:
    return self.signal is not None

  def __enter__(self) -> 'Interruption':
    try:
      self._before = {s: signal.signal(s, self._catch) for s in self.SIGNALS}
    except ValueError:  # not in the main thread
      self._before = {}
    return self

  def __exit__(self, *_) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def _catch(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.signal = signal.Signals(number)
    self.__exit__()
    # Not print: a signal may come while something else is printing.
    text = f'\n{self.signal.name}: saving soon (once more: leave at once)\n'
    with contextlib.suppress(OSError):  # nobody reads it any more
      os.write(1, text.encode())
