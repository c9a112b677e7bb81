"""Whose a run is: one file in its work directory, made by one process alone."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILE, _LOCK = 'claim.json', '.claim.lock'
# A process on another machine that has not touched its claim for so long is
# taken for dead. Every machine's clock sets and reads the file server's time.
STALE_SECONDS = 600.0


def take(workdir: Path, stale_seconds: float = STALE_SECONDS) -> bool:
  """Claims a work directory; False if a living process has it.

  Of processes that try at once one wins: they look and write one at a time.
  Where a file system has no locks, a new claim is still one's alone (O_EXCL),
  but a dead one's might be taken over twice.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / _FILE
  with _alone(workdir):
    if is_taken(workdir, stale_seconds):
      return False
    path.unlink(missing_ok=True)  # a dead one's
    try:
      descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
      return False
    with os.fdopen(descriptor, 'w') as file:
      json.dump(_owner(os.getpid()), file)
  return True


def hand_over(workdir: Path, pid: int) -> None:
  """Gives our claim to a process that we started.

  If we are killed meanwhile, it holds on this machine as long as that one
  lives; others see nobody `keep` it, and take it for dead when it is stale.
  """
  part = workdir / f'.{_FILE}'
  part.write_text(json.dumps(_owner(pid)))
  part.replace(workdir / _FILE)


def keep(workdir: Path) -> None:
  """Shows that the claim's process lives."""
  with contextlib.suppress(FileNotFoundError):  # deleted by hand
    os.utime(workdir / _FILE)


def release(workdir: Path) -> None:
  (workdir / _FILE).unlink(missing_ok=True)


def is_taken(workdir: Path, stale_seconds: float = STALE_SECONDS) -> bool:
  """Returns whether a living process has the claim."""
  path = workdir / _FILE
  return path.exists() and _alive(path, stale_seconds)


@contextlib.contextmanager
def _alone(workdir: Path) -> Iterator[None]:
  """Lets one process at a time in; the system lets go of a dead one's lock."""
  with (workdir / _LOCK).open('ab') as file:
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _owner(pid: int) -> dict[str, Any]:
  return {'host': socket.gethostname(), 'pid': pid, 'started': _started(pid)}


def _started(pid: int) -> str | None:
  """When a process began: numbers are used again. None where not known."""
  try:
    # Field 22; the second one may hold spaces, and ends with the last ')'.
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]
  except OSError:
    return None


def _alive(path: Path, stale_seconds: float) -> bool:
  try:
    age = time.time() - path.stat().st_mtime
    owner = json.loads(path.read_text())
  except FileNotFoundError:
    return False  # just released
  except ValueError:
    return age < stale_seconds  # being written, or torn
  if owner['host'] != socket.gethostname():
    return age < stale_seconds
  try:
    os.kill(owner['pid'], 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return _started(owner['pid']) == owner['started']
