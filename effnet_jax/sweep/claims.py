"""Whose a run is: one file in its work directory, made by one process alone."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

_FILE = 'claim.json'
# A process on another machine that has not touched its claim for so long is
# taken for dead. Every machine's clock sets and reads the file server's time.
STALE_SECONDS = 600.0


def take(workdir: Path, stale_seconds: float = STALE_SECONDS) -> bool:
  """Claims a work directory; False if a living process has it.

  Of processes that try at once one wins: a file is created that must not be
  there (O_EXCL, atomic on network file systems too). A dead one's claim is
  moved away first, which also succeeds once.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / _FILE
  for _ in range(2):
    try:
      descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
      if _alive(path, stale_seconds) or not _moved_away(path):
        return False
      continue
    with os.fdopen(descriptor, 'w') as file:
      json.dump(_self(), file)
    return True
  return False


def keep(workdir: Path) -> None:
  """Shows that the claim's process lives."""
  os.utime(workdir / _FILE)


def release(workdir: Path) -> None:
  (workdir / _FILE).unlink(missing_ok=True)


def is_taken(workdir: Path, stale_seconds: float = STALE_SECONDS) -> bool:
  """Returns whether a living process has the claim."""
  path = workdir / _FILE
  return path.exists() and _alive(path, stale_seconds)


def _self() -> dict[str, Any]:
  pid = os.getpid()
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


def _moved_away(path: Path) -> bool:
  gone = path.with_name(f'{_FILE}.{socket.gethostname()}.{os.getpid()}')
  try:
    path.rename(gone)
  except FileNotFoundError:
    return True  # somebody else did; who creates the new one wins
  gone.unlink()
  return True
