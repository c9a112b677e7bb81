"""Checkpoints that are not as they were written: found, named, set aside."""

import hashlib
import json

from etils import epath

from effnet_jax import errors
from effnet_jax.training import parallel

_DIGESTS = 'digests.json'
# Orbax writes the time into it when the digests are there.
_LATER = '_CHECKPOINT_METADATA'
_CHUNK = 1 << 24  # bytes


def record(directory: epath.Path) -> None:
  """Writes size and SHA-256 of each file of what is being saved, beside them.

  Called when all files of a checkpoint are there and it has not yet its final
  name: a checkpoint and its digests appear together. On a bucket nothing is
  written: its service checks what it stores.

  Args:
    directory: of the checkpoints.
  """
  if '://' in str(directory):
    return
  for checkpoint in directory.iterdir():
    if checkpoint.name.isdigit() or not checkpoint.is_dir():
      continue
    found = {
      name: [path.stat().length, _digest(path)]
      for name, path in _files(checkpoint).items()
    }
    (checkpoint / _DIGESTS).write_text(json.dumps(found))


def problem(checkpoint: epath.Path) -> str:
  """Returns what differs from the digests; '' if nothing, or without any."""
  digests = checkpoint / _DIGESTS
  if not digests.exists():  # on a bucket, or saved by an earlier version
    return ''
  try:
    written = json.loads(digests.read_text())
  except ValueError:
    return f'{_DIGESTS} cannot be read'
  files = _files(checkpoint)
  for name, (size, digest) in written.items():
    if name not in files:
      return f'{name} is missing'
    length = files[name].stat().length
    if length != size:
      return f'{name} has {length:,} of {size:,} bytes'
    if _digest(files[name]) != digest:
      return f'{name} is not what was written'
  return ''


def set_aside(workdir: epath.Path) -> list[str]:
  """Moves damaged checkpoints to `workdir/damaged`; returns a line for each.

  Of several processes the first one does, and all return its lines.

  Raises:
    UserError: in every process, if no other checkpoint is left: a run never
      begins anew unasked.
  """
  lines, error = [], ''
  if parallel.process_index() == 0:
    directory, aside = workdir / 'checkpoints', workdir / 'damaged'
    for step in _steps(directory):
      why = problem(directory / str(step))
      if why:
        lines.append(f'Checkpoint {step} is damaged ({why})')
        try:
          aside.mkdir(exist_ok=True)
          (directory / str(step)).rename(_free(aside, step))
        except OSError as failed:
          error = f'{lines[-1]} and cannot be moved to {aside}: {failed}'
    lines = [f'{line}: moved to {aside}.' for line in lines]
    if not error and aside.exists() and not _steps(directory):
      error = ' '.join(
        [
          *lines,
          f'None is left in {directory}: give another --workdir to begin anew, '
          f'or delete {aside} to begin anew here',
        ]
      )
  lines, error = parallel.exchange([lines, error])[0]
  if error:
    raise errors.UserError(error)
  return lines


def _steps(directory: epath.Path) -> list[int]:
  if not directory.exists():
    return []
  names = (path.name for path in directory.iterdir())
  return sorted(int(name) for name in names if name.isdigit())


def _free(aside: epath.Path, step: int) -> epath.Path:
  """Returns a name that no earlier one has: a step can come again."""
  path, count = aside / str(step), 1
  while path.exists():
    count += 1
    path = aside / f'{step}-{count}'
  return path


def _files(checkpoint: epath.Path) -> dict[str, epath.Path]:
  """Returns the files that have digests, by their relative names."""
  found, left = {}, [checkpoint]
  while left:
    for path in left.pop().iterdir():
      if path.is_dir():
        left.append(path)
      elif path.name not in (_DIGESTS, _LATER):
        found[str(path.relative_to(checkpoint))] = path
  return dict(sorted(found.items()))


def _digest(path: epath.Path) -> str:
  digest = hashlib.sha256()
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()
