"""Where an export goes: what lies there stays, but for earlier exports."""

import contextlib
import json
import mmap
import os
import tempfile
import zipfile
from collections.abc import Callable

from effnet_jax.errors import UserError

# What a format may put beside the file that is named, by its ending.
_BESIDE = {'stablehlo': '.json', 'onnx': '.data'}
# ModelProto.producer_name, the second field of an ONNX file.
_ONNX_PRODUCER = b'\x12\neffnet_jax'


def check(path: str, format: str, overwrite: bool) -> None:
  """Looks at every path that an export may write to, `path` and beside it.

  Raises:
    UserError: there is something at one of them; with `overwrite`, something
      else than an earlier export in this format.
  """
  for target in _targets(path, format):
    if not os.path.lexists(target):
      continue
    if not _is_export(target, path, format):
      raise UserError(
        f'{target} exists and is no {format} export: give another path'
      )
    if not overwrite:
      raise UserError(
        f'{target} exists: give another path, or overwrite=True (--overwrite)'
      )


def write(
  writer: Callable[[str], None], path: str, format: str, overwrite: bool
) -> list[str]:
  """Lets it write in a folder of its own, then moves everything at once.

  Returns:
    The paths of what was written, `path` first.

  Raises:
    UserError: see `check`; the disk is full, the folder not ours, ...
  """
  parent, name = os.path.split(path)
  parent = parent or os.curdir
  try:
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{name}.', dir=parent) as folder:
      new = os.path.join(folder, 'new')
      os.mkdir(new)
      writer(os.path.join(new, name))
      check(path, format, overwrite)  # again: exports can take minutes
      return _move(new, path, format, os.path.join(folder, 'former'))
  except OSError as error:
    reason = error.strerror or error
    raise UserError(f'cannot write {path}: {reason}') from None


def _targets(path: str, format: str) -> list[str]:
  return [path, *(path + end for end in (_BESIDE.get(format),) if end)]


def _move(new: str, path: str, format: str, former: str) -> list[str]:
  """Moves all from the folder `new`; what `check` let pass makes room."""
  sources = {
    target: os.path.join(new, os.path.basename(target))
    for target in _targets(path, format)
  }
  written = [x for x, source in sources.items() if os.path.exists(source)]
  for target in reversed(written):  # `path` last: where it is, all is
    if os.path.isdir(target):
      os.replace(target, former)
    os.replace(sources[target], target)
  for target in sources.keys() - set(written):
    with contextlib.suppress(FileNotFoundError):
      os.unlink(target)  # weights beside an ONNX file that was larger
  return written


def _is_export(target: str, path: str, format: str) -> bool:
  """Whether an export to `path` has written what is at `target`."""
  if format == 'savedmodel':
    mark = os.path.join(target, 'saved_model.pb')
    return os.path.isfile(mark) and not os.path.islink(target)
  if not os.path.isfile(target):
    return False
  try:
    if format == 'stablehlo':
      return _is_description(f'{path}.json')
    if format == 'tflite':
      with zipfile.ZipFile(path) as archive:
        return 'effnet_jax.json' in archive.namelist()
    # ONNX: its weights beside it are those that it names.
    return _is_onnx(path, '' if target == path else os.path.basename(target))
  except (OSError, ValueError, zipfile.BadZipFile):
    return False


def _is_description(path: str) -> bool:
  with open(path, encoding='utf-8') as file:
    found = json.load(file)
  return isinstance(found, dict) and {'effnet_jax', 'sha256'} <= found.keys()


def _is_onnx(path: str, weights: str) -> bool:
  with (
    open(path, 'rb') as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
  ):
    ours = content.find(_ONNX_PRODUCER, 0, 64) >= 0
    return ours and content.find(weights.encode()) >= 0
