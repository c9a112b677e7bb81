"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, in NumPy.

A CRC is the remainder of a polynomial over GF(2), and taking remainders is
linear: the message is laid out in rows of words, and row upon row is shifted
and added, all words of a row at once, until one row with the same remainder is
left. Shifting a word past a row is one linear map of 32 bits, two tables of
2^16. That gives hundreds of MB/s; one table look-up a byte, in Python, 10.
"""

import functools

import numpy as np

# Bit-reversed, as the bits of the message are: x^0 is the highest bit.
_POLYNOMIAL = 0x82F63B78
_ONE, _X = 1 << 31, 1 << 30
_ALL = 0xFFFFFFFF
# Words in a row: long rows for speed, then shorter ones for what these leave.
_WIDTHS = (8192, 1024, 128)


def crc32c(data: np.ndarray) -> int:
  """Returns the CRC-32C of uint8 [n].

  >>> hex(crc32c(np.frombuffer(b'123456789', np.uint8)))
  '0xe3069283'
  """
  state = _ALL
  for width in _WIDTHS:
    size = len(data) // (4 * width) * 4 * width
    if size > 4 * width:
      row = _fold(data[:size].view('<u4').reshape(-1, width), state)
      data = np.concatenate([row.view(np.uint8), data[size:]])
      state = 0
  return _serial(data.tobytes(), state) ^ _ALL


def unmask(stored: int) -> int:
  """Undoes LevelDB's disguise of a CRC that is itself part of a message."""
  rotated = stored - 0xA282EAD8 & _ALL
  return (rotated >> 17 | rotated << 15) & _ALL


def _fold(rows: np.ndarray, state: int) -> np.ndarray:
  """Returns the row that leaves the same remainder as all of them.

  Args:
    rows: uint32 [n, width].
    state: of the message before, which is added to its continuation.
  """
  low_table, high_table = _tables(rows.shape[1])
  row = rows[0].astype('<u4')
  row[0] ^= state
  halves = row.view('<u2')  # follows the row
  low, high = np.empty_like(row), np.empty_like(row)
  for following in rows[1:]:
    # 'clip' keeps NumPy from a copy of `out`; all indices are within.
    np.take(low_table, halves[0::2], out=low, mode='clip')
    np.take(high_table, halves[1::2], out=high, mode='clip')
    np.bitwise_xor(low, high, out=row)
    np.bitwise_xor(row, following, out=row)
  return row


def _serial(data: bytes, state: int) -> int:
  table = _byte_table()
  for byte in data:
    state = table[(state ^ byte) & 0xFF] ^ state >> 8
  return state


@functools.cache
def _byte_table() -> list[int]:
  x_8 = _power(8)
  return [_multiply(x_8, byte) for byte in range(256)]


@functools.cache
def _tables(width: int) -> np.ndarray:
  """What low and high halves of a word become `width` words later."""
  shift = _power(32 * width)
  tables = np.zeros((2, 1 << 16), np.uint32)
  for half, table in enumerate(tables):
    for bit in range(16):
      image = np.uint32(_multiply(shift, 1 << 16 * half + bit))
      table[1 << bit : 2 << bit] = table[: 1 << bit] ^ image
  return tables


def _power(exponent: int) -> int:
  """Returns x^exponent, a remainder."""
  result, square = _ONE, _X
  while exponent:
    if exponent & 1:
      result = _multiply(result, square)
    square = _multiply(square, square)
    exponent >>= 1
  return result


def _multiply(a: int, b: int) -> int:
  product = 0
  while b:
    if b & _ONE:
      product ^= a
    b = b << 1 & _ALL
    a = a >> 1 ^ (_POLYNOMIAL if a & 1 else 0)
  return product
