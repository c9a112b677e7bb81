"""Foreign files of weights: read as data, whatever they claim to be."""

import contextlib
import dataclasses
import difflib
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from effnet_jax.errors import UserError, near_names
from effnet_jax.weights import (
  hdf5_file,
  raw,
  safetensors_file,
  sstable,
  tf_checkpoint,
  torch_file,
)

_NAMED_SHA256 = r'-([0-9a-f]{8,64})\.(pth|pt|safetensors|h5|npz)$'

Content = tuple[dict[str, np.ndarray], dict[str, str]]
Reader = Callable[[np.ndarray, Path], Content]

_KNOWN = 'safetensors, HDF5 (.h5), torch.save (.pth), a TensorFlow checkpoint'
# By how a file begins.
_FORMATS: dict[bytes, tuple[str, Reader]] = {
  hdf5_file.MAGIC: ('hdf5', hdf5_file.read),
  torch_file.ZIP_MAGIC: ('torch', torch_file.read),
  torch_file.LEGACY_MAGIC: ('torch', torch_file.read),
}
_HEAD = 512  # bytes to tell a kind of file by
# Other kinds, and what to do.
_UNREAD = {
  b'version https://git-lfs.github.com/spec/': (
    'a git-LFS pointer, not the weights: run `git lfs pull` where it was cloned'
  ),
  b'\x93NUMPY': 'one numpy array without a name: save safetensors instead',
  **dict.fromkeys(
    (b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'\x28\xb5\x2f\xfd'),
    'a packed archive: unpack it (tar xf) and name what is in it',
  ),
  **dict.fromkeys(
    (b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05'),
    'a plain pickle, which could run anything and is not read: where you '
    'trust it, load it and save its arrays as safetensors',
  ),
}


@dataclasses.dataclass(frozen=True)
class WeightFile:
  """What a file holds.

  Attributes:
    format: 'safetensors', 'hdf5', 'torch' or 'tensorflow'.
    arrays: by their names in the file; an HDF5 dataset by its path. Most are
      read-only views of the mapped file, so that a large one takes no memory:
      copy what is to outlive the file.
    metadata: what the format has, see its reader.
  """

  format: str
  arrays: dict[str, np.ndarray]
  metadata: dict[str, str]


def read(
  path: str | os.PathLike, sha256_prefix: str | None = None
) -> WeightFile:
  """Reads a file of weights; the format is told by what is in it.

  Args:
    path: a file; of a TensorFlow checkpoint the prefix, PREFIX.index or the
      directory.
    sha256_prefix: how the published sha256 of the file begins. None: as its
      name says, if that ends as PyTorch's do (`b0-355c32eb.pth`). Digits alone
      may be a date, and are not taken for one.

  Raises:
    UserError: nothing there; not what was published; of another kind; damaged;
      or holding more than arrays. Nothing in it is executed.
  """
  path = Path(os.path.expanduser(path))
  try:
    prefix = tf_checkpoint.find_prefix(path)
    if prefix is None:
      return _read_file(path, sha256_prefix)
    if sha256_prefix:
      raise UserError('a sha256 is of one file, a TensorFlow checkpoint is two')
    return _parse('tensorflow', lambda: tf_checkpoint.read(prefix))
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error.strerror}') from error


def write_safetensors(
  path: str | os.PathLike,
  arrays: Mapping[str, np.ndarray],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes arrays and metadata; the file is there whole, or not at all.

  Raises:
    UserError: it cannot be written.
  """
  with _replacing(path) as temporary:
    safetensors_file.write(temporary, arrays, metadata or {})


def write_hdf5(
  path: str | os.PathLike, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes arrays by their paths in the file, which is there whole or not.

  Raises:
    UserError: it cannot be written.
  """
  hdf5_file.require_h5py()
  with _replacing(path) as temporary:
    hdf5_file.write(temporary, arrays)


def _read_file(path: Path, sha256_prefix: str | None) -> WeightFile:
  _check_kind(path)
  _check_sha256(path, sha256_prefix)
  data = raw.map_file(path)
  name, reader = _recognise(data)
  return _parse(name, lambda: reader(data, path))


def _check_kind(path: Path) -> None:
  if path.is_dir():
    raise UserError(
      'a directory without weights: a training run has checkpoints/, a '
      'conversion model.safetensors, TensorFlow a file named checkpoint'
    )
  if path.exists() and not path.is_file():
    raise UserError('no ordinary file: name a file of weights')
  if not path.exists():
    found = os.listdir(path.parent) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, found)
    hint = near_names(path.name, near) if near else 'check the path'
    raise UserError(f'no such file; {hint}')


def _check_sha256(path: Path, prefix: str | None) -> None:
  if prefix is not None and not re.fullmatch('[0-9a-fA-F]{8,64}', prefix):
    raise UserError(
      f'{prefix!r} is not how a sha256 begins: give 8 to 64 hexadecimal digits'
    )
  match = re.search(_NAMED_SHA256, path.name)
  named = match[1] if match and not match[1].isdigit() else None
  expected = (prefix or named or '').lower()
  if not expected:
    return
  with path.open('rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()[: len(expected)]
  if found != expected:
    way_out = '' if prefix else ', or rename it where that is no checksum'
    raise UserError(
      f'its sha256 begins {found}, not {expected}: download it again{way_out}'
    )


def _recognise(data: np.ndarray) -> tuple[str, Reader]:
  """Returns the format of a file and its reader, or raises what it is."""
  head = data[:_HEAD].tobytes()
  if not head:
    raise UserError('empty: fetch it again')
  for magic, form in _FORMATS.items():
    if head.startswith(magic):
      return form
  for magic, unread in _UNREAD.items():
    if head.startswith(magic):
      raise UserError(unread)
  if not any(byte < 32 and byte not in b'\t\n\f\r' for byte in head):
    raise UserError(
      f'text (it begins {raw.quoted(head.decode(errors="replace"), 30)}), '
      'often an error page that was saved: download the weights again'
    )
  if head[8:9] == b'{':
    return 'safetensors', safetensors_file.read
  if data[-8:].tobytes() == sstable.MAGIC:
    raise UserError(
      'a TensorFlow index by another name, or a checkpoint of the format '
      'before 2017: give an index its name PREFIX.index'
    )
  raise UserError(
    f'begins {head[:8].hex(" ")}, so none of {_KNOWN}: name weights in '
    'one of these'
  )


def _parse(name: str, read_content: Callable[[], Content]) -> WeightFile:
  try:
    return WeightFile(name, *read_content())
  except UserError:
    raise
  except Exception as error:
    # Decoders fail in many ways over bytes that are not what they expect.
    raise raw.damaged(f'no readable {name} ({raw.one_line(error)})') from error


@contextlib.contextmanager
def _replacing(where: str | os.PathLike) -> Iterator[Path]:
  """Gives a path to write to, that takes the place of another when done."""
  path = Path(os.path.expanduser(where))
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}')
  try:
    yield temporary
    with temporary.open('rb') as file:
      os.fsync(file.fileno())
    temporary.replace(path)
  # HDF5 has its own errors for a full disk.
  except (OSError, RuntimeError) as error:
    reason = getattr(error, 'strerror', None) or raw.one_line(error)
    raise UserError(
      f'{path} cannot be written ({reason}): make room, or name another place'
    ) from error
  finally:
    with contextlib.suppress(OSError):  # not made, or in its place by now
      temporary.unlink()
