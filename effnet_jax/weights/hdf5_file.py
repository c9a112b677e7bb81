"""HDF5 files, as Keras writes them."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights import raw

MAGIC = b'\x89HDF\r\n\x1a\n'

# Of the process that looks through a file. Thousands of arrays take a second;
# the clock may run longer, where the file is on another machine.
MEMORY = 1 << 29  # bytes
CPU_SECONDS = 20
SECONDS = 120

_SCRIPT = Path(__file__).with_name('hdf5_tree.py')


def read(
  data: np.ndarray, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Reads the datasets of a file.

  Args:
    data: uint8 [size], the bytes of `path`.

  Returns:
    Read-only arrays by their paths in the file, and as metadata, where Keras
    wrote them, `keras_version`, `backend` and `layer_names` (JSON).

  Raises:
    UserError: the file is damaged, or holds links, compressed data or objects.
  """
  require_h5py()
  report = _look_through(path)
  if 'refused' in report:
    raise UserError(report['refused'])
  arrays, left = {}, len(data)
  for name, dtype_name, shape, offset in report['datasets']:
    shown = raw.quoted(name)
    bfloat16 = dtype_name == 'bfloat16'
    dtype = np.dtype(ml_dtypes.bfloat16 if bfloat16 else dtype_name)
    size = raw.byte_size(shape, dtype, shown)
    left -= size
    if left < 0:
      raise raw.damaged(f'arrays overlap up to {shown}')
    array = raw.as_array(
      raw.cut(data, offset, size, shown), dtype, shape, shown
    )
    arrays[name] = array.astype(dtype.newbyteorder('='), copy=False)
  return arrays, report['metadata']


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by their paths in the file."""
  import h5py

  with h5py.File(path, 'w') as file:
    for name, array in arrays.items():
      file.create_dataset(name, data=array)


def require_h5py() -> None:
  if importlib.util.find_spec('h5py') is None:
    raise UserError("HDF5 needs h5py: pip install 'effnet_jax[weights]'")


def _look_through(path: Path) -> dict[str, Any]:
  """Runs the script that says where the arrays lie."""
  # Threads of its linear algebra would take address space, and do nothing.
  environment = {**os.environ, 'OPENBLAS_NUM_THREADS': '1'}
  command = [sys.executable, '-P', _SCRIPT, path, MEMORY, CPU_SECONDS]
  try:
    run = subprocess.run(
      [str(part) for part in command],
      stdin=subprocess.DEVNULL,
      capture_output=True,
      timeout=SECONDS,
      env=environment,
    )
  except subprocess.TimeoutExpired:
    raise raw.damaged(f'no end of it after {SECONDS} s') from None
  if run.returncode < 0:
    name = signal.Signals(-run.returncode).name
    raise raw.damaged(f'the HDF5 library gave up ({name})')
  if run.returncode:
    last = run.stderr.decode(errors='replace').strip().splitlines()[-1:]
    raise raw.damaged(f'no readable HDF5 ({raw.quoted("".join(last), 200)})')
  return json.loads(run.stdout)
