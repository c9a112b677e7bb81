"""JPEG by libjpeg-turbo (simplejpeg), no further down than it is needed.

Huffman coding has no random access: what lies above and beside a crop must be
read, but not what lies below it.
"""

import numpy as np
import simplejpeg

from effnet_jax.data import scratch

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_BASELINE = (0xC0, 0xC1)  # rows in order, in one scan or in one a colour
_COLOURS = ('Gray', 'RGB', 'YCbCr')


def shape(data: bytes) -> tuple[int, int] | None:
  """Returns (height, width), None for what `decode` would leave to others.

  That is what is no JPEG, one in printing colours, and one without its end: a
  cut file gives an image that is grey from there on.
  """
  if data[:2] != b'\xff\xd8' or b'\xff\xd9' not in data[-256:]:
    return None
  try:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
  except ValueError:
    return None
  return (height, width) if colours in _COLOURS and height and width else None


def decode(data: bytes) -> np.ndarray | None:
  """Returns uint8 [height, width, 3] RGB, None where the library refuses."""
  return _decode(data)


def decode_rows(data: bytes, rows: int | None) -> np.ndarray | None:
  """As `decode`, into memory that the thread's next call writes over.

  Args:
    data: what `shape` knows the size of.
    rows: how many from the top are wanted, None for all; the result may have
      more, and those are not to be looked at.
  """
  if rows is not None:
    # The colours of the last row are smoothed with the row below it.
    data = _shortened(data, rows + 1)
  height, width, *_ = simplejpeg.decode_jpeg_header(data)
  return _decode(data, scratch.array('jpeg', (height, width, 3), np.uint8))


def _decode(data, buffer=None):
  try:
    # Not strict: damage that others pass over with a warning is passed over.
    return simplejpeg.decode_jpeg(data, 'RGB', buffer=buffer, strict=False)
  except ValueError:
    return None


def _shortened(data: bytes, rows: int) -> bytes | bytearray:
  """Writes a smaller height into the header, where that means to stop there.

  Not in a progressive image, nor where the colours come one after another:
  each of their scans goes through the whole image.
  """
  at, height_at, components = 2, 0, 0
  while at + 9 < len(data) and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF:  # padding
      at += 1
      continue
    if marker in _BASELINE and not height_at:
      height_at, components = at + 5, data[at + 9]
    elif marker == _SCAN:
      if not height_at or data[at + 4] != components:
        return data
      if int.from_bytes(data[height_at : height_at + 2], 'big') <= rows:
        return data
      short = bytearray(data)
      short[height_at : height_at + 2] = rows.to_bytes(2, 'big')
      return short
    elif 0xC0 <= marker <= 0xCF and marker != 0xC4:
      return data  # another kind of frame
    elif marker in (_START, _END):
      return data
    at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
  return data
