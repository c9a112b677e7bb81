"""LevelDB's sorted table, as TensorFlow's checkpoints use it for their index.

Blocks, each followed by a byte that says how it is packed and a CRC; the last
block names the others; 48 bytes at the end say where it lies. A block holds
entries in the order of their keys, each key by what it shares with the last.
Format: LevelDB, doc/table_format.md.
"""

from collections.abc import Iterator

import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw
from effnet_jax.weights.crc32c import crc32c, unmask

MAGIC = 0xDB4775248B80FB57.to_bytes(8, 'little')
_FOOTER, _TRAILER = 48, 5
# Names share all but a few bytes with the last one: without a limit a small
# file could hold much longer keys than itself.
_MAX_KEY = 1024


def read_table(data: np.ndarray) -> Iterator[tuple[bytes, bytes]]:
  """Yields keys and values of a table, uint8 [size], in order.

  Raises:
    UserError: the table is damaged or compressed.
  """
  if len(data) < _FOOTER or data[-8:].tobytes() != MAGIC:
    raise raw.damaged('the index does not end as a table does')
  footer = data[-_FOOTER:].tobytes()
  _, place = _handle(footer, 0)  # of a block about the table, not used
  index, _ = _handle(footer, place)
  before = b''
  # Damage aside, blocks do not overlap: no more is read than there is.
  left = len(data)
  for _, value in _entries(_block(data, *index)):
    handle, _ = _handle(value, 0)
    left -= handle[1]
    if left < 0:
      raise raw.damaged('the blocks of the index overlap')
    for key, entry in _entries(_block(data, *handle)):
      if key < before:
        raise raw.damaged('the names in the index are out of order')
      before = key
      yield key, entry


def varint(data: bytes, start: int) -> tuple[int, int]:
  """Returns the number that starts at a place, and the place behind it."""
  number = 0
  for place in range(start, min(start + 10, len(data))):
    number |= (data[place] & 0x7F) << 7 * (place - start)
    if data[place] < 0x80:
      return number, place + 1
  raise raw.damaged('a number in the index does not end')


def _handle(data: bytes, start: int) -> tuple[tuple[int, int], int]:
  offset, place = varint(data, start)
  size, place = varint(data, place)
  return (offset, size), place


def _block(data: np.ndarray, offset: int, size: int) -> bytes:
  found = raw.cut(data, offset, size + _TRAILER, 'a block of the index')
  block, packing = found[:size].tobytes(), int(found[size])
  stored = int.from_bytes(found[size + 1 :].tobytes(), 'little')
  if unmask(stored) != crc32c(found[: size + 1]):
    raise raw.damaged('the checksum of a block of the index is wrong')
  if packing:
    raise UserError(
      'the index is compressed (snappy), as TensorFlow writes none: save the '
      'checkpoint again with tf.train.Saver or tf.train.Checkpoint'
    )
  return block


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
  # At the end, where keys are stored whole, for searching: uint32 each, and
  # how many there are.
  restarts = int.from_bytes(block[-4:], 'little')
  end = len(block) - 4 * (restarts + 1)
  if end < 0:
    raise raw.damaged('a block of the index is too short')
  place, key = 0, b''
  while place < end:
    shared, place = varint(block, place)
    unshared, place = varint(block, place)
    size, place = varint(block, place)
    stop = place + unshared + size
    if shared > len(key) or stop > end or shared + unshared > _MAX_KEY:
      raise raw.damaged('an entry of the index does not fit its block')
    key = key[:shared] + block[place : place + unshared]
    yield key, block[place + unshared : stop]
    place = stop
