"""Prints where the datasets of an HDF5 file lie, as JSON: a script.

HDF5 is read by a C library that a damaged file can hang or crash, so that
`hdf5_file` runs this in a process of its own, with limits. No data is read
here, so that none of the filters run that a file may ask for.
"""

import contextlib
import json
import re
import resource
import sys
from typing import Any

_MAX_ITEMS = 100_000
_MAX_PATH = 1024
_MAX_REPORT = 1 << 26  # bytes

_SAVE_AGAIN = 'load it with Keras or h5py and save plain arrays'


class Refused(Exception):
  """What a file has that weights have not, and the way out."""


def main(path: str, memory: int, seconds: int) -> None:
  """Prints {'datasets': [[name, dtype, shape, offset]...], 'metadata': {...}}.

  Args:
    path: the file.
    memory: bytes of address space to do with.
    seconds: of processor time to do with.
  """
  for limit, most in (
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_CORE, 0),
  ):
    with contextlib.suppress(ValueError, OSError):  # lower already
      resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
  import h5py

  try:
    with h5py.File(path, 'r', locking=False) as file:
      report = json.dumps(_walk(file))
    if len(report) > _MAX_REPORT:
      raise Refused('it has longer names than weights have')
  except Refused as error:
    report = json.dumps({'refused': str(error)})
  print(report)


def _walk(file: Any) -> dict[str, Any]:
  import h5py

  datasets, metadata = [], {}
  groups, seen = [('', file)], set()
  for prefix, group in groups:  # which grows
    metadata.update(_attributes(group))
    for name in group:
      path = f'{prefix}{name}'
      shown = repr(path[:80])
      if len(path) > _MAX_PATH or len(seen) > _MAX_ITEMS:
        raise Refused('it has more or longer names than weights have')
      if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise Refused(
          f'{shown} is a link to elsewhere, which is not followed: '
          f'{_SAVE_AGAIN}'
        )
      item = group[name]
      address = h5py.h5o.get_info(item.id).addr
      if address in seen:
        raise Refused(f'{shown} has a second name: {_SAVE_AGAIN}')
      seen.add(address)
      if isinstance(item, h5py.Group):
        groups.append((f'{path}/', item))
      elif isinstance(item, h5py.Dataset):
        datasets.append((path, *_dataset(item, shown)))
      else:
        raise Refused(f'{shown} is no array: {_SAVE_AGAIN}')
  return {'datasets': datasets, 'metadata': metadata}


def _dataset(item: Any, shown: str) -> tuple[str, tuple[int, ...], int]:
  """Returns dtype, shape and place in the file."""
  import h5py

  properties = item.id.get_create_plist()
  if item.is_virtual or properties.get_external_count():
    raise Refused(
      f'the data of {shown} are in another file, which is not followed: '
      f'{_SAVE_AGAIN}'
    )
  if properties.get_layout() != h5py.h5d.CONTIGUOUS:
    raise Refused(
      f'{shown} is compressed or in pieces: unpack it by h5repack -f NONE '
      '-l CONTI IN OUT, and name OUT'
    )
  dtype = item.dtype
  plain = dtype.kind in 'fiub' and dtype.itemsize <= 8
  if plain and item.id.get_type().equal(h5py.h5t.py_create(dtype)):
    name = dtype.str
  elif dtype.str == '|V2' and item.attrs.get('dtype') == 'bfloat16':  # Keras'
    name = 'bfloat16'
  else:
    raise Refused(f'{shown} holds {dtype}, no numbers: {_SAVE_AGAIN}')
  if item.shape is None:
    raise Refused(f'{shown} has no shape: {_SAVE_AGAIN}')
  offset = item.id.get_offset()
  if offset is None and item.size:
    raise Refused(f'{shown} was never written: {_SAVE_AGAIN}')
  return name, item.shape, offset or 0


def _attributes(group: Any) -> dict[str, str]:
  """Returns what Keras says of the weights in a group."""
  found = {}
  for name in ('keras_version', 'backend'):
    if name in group.attrs:
      found[name] = _text(group.attrs[name])
  # Many names are in several attributes: layer_names0, layer_names1, ...
  parts = [n for n in group.attrs if re.fullmatch(r'layer_names\d*', n)]
  parts.sort(key=lambda name: int(name.removeprefix('layer_names') or 0))
  if parts:
    names = [_text(name) for part in parts for name in group.attrs[part]]
    found['layer_names'] = json.dumps(names)
  return found


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
