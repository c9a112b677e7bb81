"""Files of safetensors: a header of JSON, then the bytes of the arrays.

Eight bytes say how long the header is. It gives each array its type, shape and
place among the bytes behind it, which the arrays fill without overlap or gap.
Format: the README of huggingface/safetensors. Its package is not used: it
copies what need only be mapped, writes metadata in random order, so that no two
files are equal, and writes views wrongly.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw

# The header of the largest network takes half a MB.
MAX_HEADER = 1 << 22
_METADATA = '__metadata__'
_DTYPES = {
  name: np.dtype(dtype).newbyteorder('<')
  for name, dtype in {
    **{'F64': np.float64, 'F32': np.float32, 'F16': np.float16},
    **{'I64': np.int64, 'I32': np.int32, 'I16': np.int16, 'I8': np.int8},
    **{'U64': np.uint64, 'U32': np.uint32, 'U16': np.uint16, 'U8': np.uint8},
    **{'BF16': ml_dtypes.bfloat16, 'BOOL': np.bool_},
  }.items()
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read(
  data: np.ndarray, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads a file.

  Args:
    data: uint8 [size], the bytes of `path`.

  Returns:
    Read-only arrays by name, and the metadata of the header.

  Raises:
    UserError: the header contradicts itself or the file.
  """
  length = int.from_bytes(data[:8].tobytes(), 'little')
  if length > MAX_HEADER:
    raise raw.damaged(f'a header of {length} bytes is none of weights')
  text = raw.cut(data, 8, length, 'the header').tobytes()
  header = json.loads(text, object_pairs_hook=_without_repetition)
  metadata = header.pop(_METADATA, {})
  if not all(isinstance(value, str) for value in metadata.values()):
    raise raw.damaged('the metadata are no text')
  data, end, arrays = data[8 + length :], 0, {}
  for name, entry in sorted(header.items(), key=_offset):
    shown = raw.quoted(name)
    if entry['dtype'] not in _DTYPES:
      raise UserError(
        f'{shown} is of type {raw.quoted(entry["dtype"])}, which weights are '
        f'not: save it as one of {", ".join(_DTYPES)}'
      )
    start, stop = entry['data_offsets']
    if start != end:
      raise raw.damaged(f'{shown} begins at {start}, not at {end}')
    arrays[name] = raw.as_array(
      raw.cut(data, start, stop - start, shown),
      _DTYPES[entry['dtype']],
      entry['shape'],
      shown,
    )
    end = stop
  if end != len(data):
    raise raw.damaged(f'its arrays have {end} of {len(data)} bytes')
  return {name: arrays[name] for name in header}, metadata


def write(
  path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
  """Writes a file: the same bytes for the same arrays."""
  little = {
    name: np.asarray(array, array.dtype.newbyteorder('<'))
    for name, array in arrays.items()
  }
  # The widest first, so that all lie aligned.
  order = sorted(little, key=lambda name: (-little[name].itemsize, name))
  header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
  end = 0
  for name in order:
    start, end = end, end + little[name].nbytes
    header[name] = {
      'dtype': _NAMES[little[name].dtype],
      'shape': little[name].shape,
      'data_offsets': [start, end],
    }
  text = json.dumps(header, separators=(',', ':')).encode()
  text += b' ' * (-len(text) % 8)
  with path.open('xb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for name in order:
      file.write(little[name].reshape(-1).view(np.uint8))


def _offset(item: tuple[str, Any]) -> tuple[int, int]:
  start, stop = item[1]['data_offsets']
  return start, stop


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  if len(dict(pairs)) != len(pairs):
    raise raw.damaged('its header names something twice')
  return dict(pairs)
