"""Files of torch.save, without PyTorch and without running what they hold.

Since PyTorch 1.6 they are ZIP archives: NAME/data.pkl describes the objects,
NAME/data/KEY holds the bytes of a storage, into which tensors are views.
Before, they were pickles one after another: a magic number, the protocol, the
machine, the objects, the keys of the storages; then the storages themselves.
"""

import dataclasses
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw, state_dict
from effnet_jax.weights.pickled import HOW_TO_SAVE, Machine, Name

ZIP_MAGIC = b'PK\x03\x04'
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
# Protocol 2, a number of ten bytes.
LEGACY_MAGIC = b'\x80\x02\x8a\x0a' + _MAGIC_NUMBER.to_bytes(10, 'little')
_LEGACY_PROTOCOL = 1001

_STORAGES = {
  f'torch.{name}Storage': np.dtype(dtype)
  for name, dtype in {
    **{'Float': np.float32, 'Double': np.float64, 'Half': np.float16},
    **{'BFloat16': ml_dtypes.bfloat16, 'Long': np.int64, 'Int': np.int32},
    **{'Short': np.int16, 'Char': np.int8, 'Byte': np.uint8, 'Bool': np.bool_},
  }.items()
}


@dataclasses.dataclass(frozen=True)
class Storage:
  """A piece of memory that tensors are views into."""

  key: str
  dtype: np.dtype
  length: int  # elements


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A view into a storage; lengths in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read(
  data: np.ndarray, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the state dict of a file.

  Args:
    data: uint8 [size], the bytes of `path`.

  Returns:
    Read-only views by name, and metadata (see `state_dict.find`).

  Raises:
    UserError: the file is damaged, or holds more than weights.
  """
  if data[:4].tobytes() == ZIP_MAGIC:
    objects, storages = _read_archive(data, path)
  else:
    objects, storages = _read_legacy(data)
  tensors, metadata = state_dict.find(objects, Tensor)
  arrays = {name: _view(t, storages, name) for name, t in tensors.items()}
  return arrays, metadata


def _read_archive(
  data: np.ndarray, path: Path
) -> tuple[Any, dict[str, np.ndarray]]:
  """Returns the objects, tensors as `Tensor`, and the storages by key."""
  with zipfile.ZipFile(path) as archive:
    members = {info.filename: info for info in archive.infolist()}
  folder = _archive_folder(members)
  for name, info in members.items():
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
      raise UserError(
        f'{raw.quoted(name)} in the archive is compressed or encrypted, as '
        'torch.save writes none: unpack it and pack it again with zip -0'
      )
  # No member overlaps another; else checksums could take for ever.
  if sum(info.file_size for info in members.values()) > len(data):
    raise raw.damaged('the members of the archive are larger than it')

  def member(name: str) -> np.ndarray:
    return _member(data, members.get(f'{folder}/{name}'), name)

  if f'{folder}/byteorder' in members:
    _check_endian(member('byteorder').tobytes() == b'little')
  described: dict[str, Storage] = {}
  objects = Machine(member('data.pkl'), _CALLS, _describe(described)).run()
  storages = {
    key: raw.as_array(
      member(f'data/{key}'), storage.dtype, (storage.length,), f'data/{key}'
    )
    for key, storage in described.items()
  }
  return objects, storages


def _archive_folder(members: Collection[str]) -> str:
  """Returns the folder that all is in; raises where no weights are."""
  folders = [
    n.removesuffix('/data.pkl') for n in members if n.endswith('/data.pkl')
  ]
  if len(folders) == 1 and f'{folders[0]}/constants.pkl' in members:
    raise UserError(f'it is a TorchScript program, not weights: {HOW_TO_SAVE}')
  if len(folders) == 1:
    return folders[0]
  if 'model.weights.h5' in members:
    raise UserError(
      'it is a whole Keras model: take model.weights.h5 out of the archive '
      '(unzip) and name that'
    )
  if any(name.endswith('.npy') for name in members):
    raise UserError(
      'it is an archive of numpy arrays, which no known layout uses: save the '
      'weights as safetensors'
    )
  raise UserError(
    'it is a ZIP archive, but not of torch.save: unpack it and name the '
    'weights in it'
  )


def _member(
  data: np.ndarray, info: zipfile.ZipInfo | None, name: str
) -> np.ndarray:
  """Returns the bytes of a member, where they lie in the archive."""
  name = raw.quoted(name)
  if info is None:
    raise raw.damaged(f'the archive lacks {name}')
  header = raw.cut(data, info.header_offset, 30, name).tobytes()
  magic, name_length, extra_length = struct.unpack('<4s22x2H', header)
  if magic != ZIP_MAGIC:
    raise raw.damaged(f'{name} does not lie where the archive says')
  start = info.header_offset + len(header) + name_length + extra_length
  member = raw.cut(data, start, info.file_size, name)
  if zlib.crc32(member) != info.CRC:
    raise raw.damaged(f'the checksum of {name} is wrong')
  return member


def _read_legacy(data: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
  """Reads consecutive pickles; returns as `_read_archive`."""
  described: dict[str, Storage] = {}
  machine = Machine(data, _CALLS, _describe(described))
  magic, protocol, system = machine.run(), machine.run(), machine.run()
  if magic != _MAGIC_NUMBER or protocol != _LEGACY_PROTOCOL:
    raise raw.damaged('it does not begin as a file of torch.save')
  _check_endian(
    isinstance(system, dict) and system.get('little_endian') is True
  )
  objects, keys = machine.run(), machine.run()
  place, storages = machine.place, {}
  if not isinstance(keys, list):
    raise raw.damaged('it has no list of storages')
  for key in keys:
    storage = described.get(key) if isinstance(key, str) else None
    if storage is None:
      raise raw.damaged('its list of storages is wrong')
    what = f'storage {raw.quoted(key)}'
    length = int.from_bytes(raw.cut(data, place, 8, what).tobytes(), 'little')
    if length != storage.length:
      raise raw.damaged(f'{what} has {length}, not {storage.length} elements')
    size = length * storage.dtype.itemsize
    storages[key] = raw.as_array(
      raw.cut(data, place + 8, size, what), storage.dtype, (length,), what
    )
    place += 8 + size
  return objects, storages


def _check_endian(little: bool) -> None:
  if not little:
    raise UserError(
      'the file is of a big-endian machine, which is not read: load and save '
      'it with PyTorch on this one'
    )


def _describe(described: dict[str, Storage]) -> Callable[[Any], Storage]:
  """Returns what reads a persistent id, and notes its storage."""

  def persistent(identity: Any) -> Storage:
    # 'storage', type, key, device, elements; before PyTorch 1.6 also the part
    # of another storage that it is.
    fields = identity if isinstance(identity, tuple) else ()
    if len(fields) not in (5, 6) or fields[0] != 'storage':
      raise UserError(f'it refers to what is no storage: {HOW_TO_SAVE}')
    kind, key, length = fields[1], fields[2], fields[4]
    if not isinstance(kind, Name) or kind.text not in _STORAGES:
      raise UserError(f'it has a storage of no known type: {HOW_TO_SAVE}')
    if len(fields) == 6 and fields[5] is not None:
      raise UserError(f'a storage in it is part of another: {HOW_TO_SAVE}')
    if not isinstance(key, str) or not _are_lengths((length,)):
      raise raw.damaged('a storage in it has no name or no length')
    storage = Storage(key, _STORAGES[kind.text], length)
    if described.setdefault(key, storage) != storage:
      raise raw.damaged(f'storage {raw.quoted(key)} is described in two ways')
    return storage

  return persistent


def _are_lengths(numbers: Any) -> bool:
  return isinstance(numbers, tuple) and all(
    type(number) is int and number >= 0 for number in numbers
  )


def _rebuild_tensor(
  storage: Any, offset: Any, shape: Any, strides: Any, *others: Any
) -> Tensor:
  # The others: whether it has a gradient, hooks, metadata.
  fits = isinstance(storage, Storage) and _are_lengths((offset,))
  if not (fits and _are_lengths(shape) and _are_lengths(strides)):
    raise raw.damaged('a tensor in it has no storage or no shape')
  if len(shape) != len(strides) or len(others) > 3:
    raise raw.damaged('a tensor in it is described wrongly')
  return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: Any, *others: Any) -> Tensor:
  if not isinstance(tensor, Tensor) or len(others) > 2:
    raise raw.damaged('a parameter in it is described wrongly')
  return tensor


# All that a file may name, and what calling it gives here.
_CALLS: dict[str, Callable[..., Any] | None] = {
  'collections.OrderedDict': lambda: {},
  'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
  'torch._utils._rebuild_parameter': _rebuild_parameter,
  'torch.Size': lambda lengths: tuple(lengths),
  # The command line in the checkpoints of training scripts.
  'argparse.Namespace': lambda: {},
  **dict.fromkeys(_STORAGES),
}


def _view(
  tensor: Tensor, storages: Mapping[str, np.ndarray], name: str
) -> np.ndarray:
  """Returns a tensor, a read-only view that lies within its storage."""
  shown = raw.quoted(name)
  data = storages.get(tensor.storage.key)
  if data is None:
    raise raw.damaged(f'the storage of {shown} is missing')
  if 0 in tensor.shape:
    return data[:0].reshape(tensor.shape)
  count, last = 1, tensor.offset
  for length, stride in zip(tensor.shape, tensor.strides, strict=True):
    count *= length
    last += (length - 1) * stride
    # As by torch.expand, and without end.
    if count > len(data):
      raise raw.damaged(f'{shown} has more elements than its storage')
  if last >= len(data):
    raise raw.damaged(f'{shown} reaches beyond its storage')
  return np.lib.stride_tricks.as_strided(
    data[tensor.offset :],
    tensor.shape,
    tuple(stride * data.itemsize for stride in tensor.strides),
    writeable=False,
  )
