"""Batch norm over groups of devices that lie in different processes."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

CODE = """
import sys
import jax, numpy as np
from effnet_jax.models.norm import BatchNorm
from effnet_jax.training import parallel
port, count, index, group, path = sys.argv[1:]
parallel.initialize(f'127.0.0.1:{port}', int(count), int(index), 60)
devices = parallel.devices_or_all(None)
names = parallel.bn_groups(group, len(devices))
norm = BatchNorm(
  use_running_average=False, momentum=0.5,
  axis_name=names['bn_axis_name'], axis_index_groups=names['bn_groups'],
)
x = np.load(f'{path}/x.npy')  # [devices, n, h, w, c]
local = len(devices) // int(count)
mine = x[int(index) * local:(int(index) + 1) * local]
# Its moving statistics begin with 0 and 1.
variables = BatchNorm(use_running_average=True).init(jax.random.key(0), x[0])
apply = parallel.pmap_each(
  lambda v, b: norm.apply(v, b, mutable='batch_stats'), devices
)
out, state = apply(
  parallel.replicate(variables, devices),
  parallel.shard(mine.reshape(-1, *x.shape[2:]), devices),
)
rows = lambda a: np.concatenate([s.data for s in a.addressable_shards])
np.savez(
  f'{path}/{index}.npz', out=rows(out),
  **{k: rows(v) for k, v in state['batch_stats'].items()},
)
"""


@pytest.mark.parametrize(
  'processes, group',
  [(2, 4), pytest.param(4, 2, marks=pytest.mark.soak)],
)
def test_statistics_are_those_of_each_group(tmp_path, processes, group):
  devices = 4
  rng = np.random.default_rng(0)
  x = rng.normal(2, 3, (devices, 2, 3, 3, 5)).astype(np.float32)
  x += 10 * np.arange(devices)[:, None, None, None, None]  # groups differ
  np.save(tmp_path / 'x.npy', x)
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  started = [
    subprocess.Popen(
      [
        *(sys.executable, '-c', CODE, str(port), str(processes), str(index)),
        *(str(group), str(tmp_path)),
      ],
      env={**os.environ, 'JAX_NUM_CPU_DEVICES': str(devices // processes)},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(processes)
  ]
  for process in started:
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
  parts = [np.load(tmp_path / f'{i}.npz') for i in range(processes)]
  found = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
  out = found['out'].reshape(x.shape)
  mean, var = found['mean'].reshape(-1, 5), found['var'].reshape(-1, 5)
  for first in range(0, devices, group):
    kept = slice(first, first + group)
    pixels = x[kept].reshape(-1, 5).astype(np.float64)
    m, v = pixels.mean(0), pixels.var(0)
    expected = (x[kept] - m) / np.sqrt(v + 1e-3)
    np.testing.assert_allclose(out[kept], expected, rtol=1e-4, atol=1e-4)
    for device in range(first, first + group):
      np.testing.assert_allclose(mean[device], 0.5 * m, rtol=1e-4)
      np.testing.assert_allclose(var[device], 0.5 + 0.5 * v, rtol=1e-4)
