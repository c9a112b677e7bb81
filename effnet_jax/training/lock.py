"""One run in one work directory at a time."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator

from etils import epath

from effnet_jax import errors
from effnet_jax.training import parallel

_FILE = '.lock'


@contextlib.contextmanager
def held(workdir: epath.Path) -> Iterator[str]:
  """Keeps a work directory to this run; gives a line to be said, or ''.

  The system lets go of a lock when the process that has it ends, however it
  ends. Of several processes the first has it. On a bucket, and on a file system
  without locks, there is none: the line says so.

  Raises:
    UserError: in every process, if another run has it, or it cannot be written.
  """
  with contextlib.ExitStack() as stack:
    said, error = '', ''
    if parallel.process_index() == 0:
      try:
        said = _take(workdir, stack)
      except errors.UserError as refused:
        error = str(refused)
    if refusal := parallel.exchange(error)[0]:
      raise errors.UserError(refusal)
    yield said


def _take(workdir: epath.Path, stack: contextlib.ExitStack) -> str:
  if '://' in str(workdir):
    return (
      'A bucket has no locks: see that no other run writes to this work '
      'directory.'
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(open(workdir / _FILE, 'a+'))
  except OSError as error:
    raise errors.UserError(
      f'the work directory cannot be written: {error}'
    ) from error
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    raise errors.UserError(
      f'{workdir} belongs to a run that is under way{_holder(file.read())}: '
      'wait for it, stop it (on SIGTERM it saves first), or give another '
      '--workdir'
    ) from None
  except OSError as error:
    return (
      f'This file system has no locks ({error.strerror}): see that no other '
      'run writes to this work directory.'
    )
  file.truncate(0)
  began = time.strftime('%Y-%m-%d %H:%M:%S')
  holder = {'host': socket.gethostname(), 'pid': os.getpid(), 'began': began}
  json.dump(holder, file)
  file.flush()
  return ''


def _holder(text: str) -> str:
  try:
    holder = json.loads(text)
    return (
      f' (process {holder["pid"]} on {holder["host"]}, since {holder["began"]})'
    )
  except (ValueError, KeyError, TypeError):  # it is about to write this
    return ''
