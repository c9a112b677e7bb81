"""TensorFlow's checkpoints, without TensorFlow.

PREFIX.index is a table (`sstable`) from names to where a tensor lies, in
protocol buffers; PREFIX.data-00000-of-00001 and further shards hold the bytes.
Format: tensorflow/core/protobuf/tensor_bundle.proto. Checkpoints of TF1 (Saver)
and TF2 (Checkpoint) are the same; only names differ.
"""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw
from effnet_jax.weights.crc32c import crc32c, unmask
from effnet_jax.weights.sstable import read_table, varint

INDEX = '.index'
# Thousands of tensors take one MB.
_MAX_INDEX = 1 << 24

# enum DataType of tensorflow/core/framework/types.proto.
_STRING = 7
_DTYPES = {
  **{1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16},
  **{6: np.int8, 9: np.int64, 10: np.bool_, 14: ml_dtypes.bfloat16},
  **{17: np.uint16, 19: np.float16, 22: np.uint32, 23: np.uint64},
}


@dataclasses.dataclass(frozen=True)
class Entry:
  """Where a tensor lies."""

  dtype: int
  shape: tuple[int, ...]
  shard: int
  offset: int
  size: int  # bytes
  checksum: int


def find_prefix(path: Path) -> Path | None:
  """Returns the prefix of the checkpoint that a path means, None without one.

  Args:
    path: the prefix, PREFIX.index, or a directory: of the latest checkpoint
      by its file `checkpoint`, else of the only one.

  Raises:
    UserError: the directory does not say which checkpoint, or one elsewhere.
  """
  if path.is_dir():
    return _latest(path)
  if path.name.endswith(INDEX):
    return path.with_name(path.name.removesuffix(INDEX))
  if not path.exists() and _index(path).is_file():
    return path
  return None


def read(prefix: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the arrays of a checkpoint by name, and no metadata.

  Strings, as TF2's graph of objects, are left out. Arrays are read-only and
  lie in the mapped shards.

  Raises:
    UserError: a file is missing or damaged, or a variable partitioned.
  """
  if not _index(prefix).is_file():
    raise UserError(f'no such file as {_index(prefix).name}; check the path')
  index = raw.map_file(_index(prefix))
  if len(index) > _MAX_INDEX:
    raise raw.damaged(f'an index of {len(index)} bytes is none of weights')
  table = read_table(index)
  key, header = next(table, (None, b''))
  if key != b'':
    raise raw.damaged('the index has no header')
  shards = _shard_count(header)
  arrays = {}
  opened: dict[int, np.ndarray] = {}
  left: dict[int, int] = {}
  for key, value in table:
    if key.startswith(b'\0'):
      continue  # a slice of a partitioned variable, which has its own entry
    name = key.decode()
    entry = _entry(name, value)
    if entry.dtype == _STRING:
      continue
    if entry.shard not in opened:
      opened[entry.shard] = _open_shard(prefix, entry.shard, shards)
      left[entry.shard] = len(opened[entry.shard])
    # Tensors do not overlap; else checksums could take for ever.
    left[entry.shard] -= entry.size
    if left[entry.shard] < 0:
      raise raw.damaged(f'tensors overlap up to {raw.quoted(name)}')
    arrays[name] = _tensor(name, entry, opened[entry.shard])
  return arrays, {}


def _index(prefix: Path) -> Path:
  return prefix.with_name(prefix.name + INDEX)


def _latest(folder: Path) -> Path | None:
  state = folder / 'checkpoint'
  if not state.is_file():
    found = sorted(folder.glob(f'*{INDEX}'))
    if len(found) > 1:
      raise UserError(
        f'{len(found)} checkpoints and no file `checkpoint` that says which: '
        f'name one, e.g. {found[-1]}'
      )
    return find_prefix(found[0]) if found else None
  with state.open('rb') as file:
    text = file.read(1 << 20).decode(errors='replace')
  match = re.search(r'^\s*model_checkpoint_path:\s*"([^"\\]+)"', text, re.M)
  if not match:
    raise UserError(
      'its file `checkpoint` names no model_checkpoint_path: name the '
      f'checkpoint itself, {folder}/NAME{INDEX}'
    )
  named = match[1]
  # Absolute paths are of the machine that saved; the files are here now.
  prefix = os.path.basename(named) if os.path.isabs(named) else named
  if '..' in Path(prefix).parts or not _index(folder / prefix).is_file():
    raise UserError(
      f'its file `checkpoint` names {raw.quoted(named)}, which is not in this '
      f'directory: name the checkpoint itself, {folder}/NAME{INDEX}'
    )
  return folder / prefix


def _open_shard(prefix: Path, shard: int, shards: int) -> np.ndarray:
  if not 0 <= shard < shards:
    raise raw.damaged(f'the index names shard {shard} of {shards}')
  name = f'{prefix.name}.data-{shard:05}-of-{shards:05}'
  path = prefix.with_name(name)
  if not path.is_file():
    raise UserError(f'{name} is not beside the index: copy all of its files')
  return raw.map_file(path)


def _tensor(name: str, entry: Entry, shard: np.ndarray) -> np.ndarray:
  shown = raw.quoted(name)
  if entry.dtype not in _DTYPES:
    raise UserError(
      f'{shown} is of TensorFlow type {entry.dtype}, which weights are not: '
      'save the checkpoint without it'
    )
  dtype = np.dtype(_DTYPES[entry.dtype])
  # Before the checksum, which takes time.
  if entry.size != raw.byte_size(entry.shape, dtype, shown):
    raise raw.damaged(
      f'{shown} has shape {list(entry.shape)} but {entry.size} bytes'
    )
  data = raw.cut(shard, entry.offset, entry.size, shown)
  if crc32c(data) != unmask(entry.checksum):
    raise raw.damaged(f'the checksum of {shown} is wrong')
  return raw.as_array(data, dtype, entry.shape, shown)


def _shard_count(header: bytes) -> int:
  """Reads BundleHeaderProto."""
  fields = dict(_fields(header))
  if fields.get(2, 0):
    raise UserError(
      'the checkpoint is of a big-endian machine, which is not read: load and '
      'save it with TensorFlow on this one'
    )
  shards = fields.get(1, 0)
  if not isinstance(shards, int) or not 1 <= shards <= 99_999:
    raise raw.damaged('the index does not say how many shards there are')
  return shards


def _entry(name: str, value: bytes) -> Entry:
  """Reads BundleEntryProto."""
  numbers, shape = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}, []
  for number, field in _fields(value):
    if number == 7:  # slices
      raise UserError(
        f'{raw.quoted(name)} is partitioned, which is not read: save the '
        'checkpoint again without a partitioner'
      )
    if number == 2 and isinstance(field, bytes):  # TensorShapeProto
      for inner, dimension in _fields(field):
        if inner == 2 and isinstance(dimension, bytes):
          shape.append(dict(_fields(dimension)).get(1, 0))
    elif number in numbers and isinstance(field, int):
      numbers[number] = field
  return Entry(
    dtype=numbers[1],
    shape=tuple(shape),
    shard=numbers[3],
    offset=numbers[4],
    size=numbers[5],
    checksum=numbers[6],
  )


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
  """Yields numbers and values of a protocol buffer's fields."""
  place = 0
  while place < len(message):
    tag, place = varint(message, place)
    wire = tag & 7
    if wire == 0:
      value, place = varint(message, place)
    elif wire in (1, 2, 5):  # 8 bytes, a length and as many, 4 bytes
      size, place = (
        varint(message, place) if wire == 2 else ({1: 8, 5: 4}[wire], place)
      )
      value = message[place : place + size]
      if len(value) < size:
        raise raw.damaged('an entry of the index is cut short')
      if wire != 2:
        value = int.from_bytes(value, 'little')
      place += size
    else:
      raise raw.damaged('an entry of the index is no protocol buffer')
    yield tag >> 3, value
