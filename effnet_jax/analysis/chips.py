"""What an accelerator holds and how fast it can be at best."""

import dataclasses
import os
from typing import Any

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One JAX device, by its maker's data sheet.

  Attributes:
    name: as people say it.
    hbm_bytes: memory that a program may have.
    bytes_per_second: between memory and processor.
    flops_per_second: dense, bfloat16; a multiply-add counts two.
    source: of the figures.
  """

  name: str
  hbm_bytes: int
  bytes_per_second: float | None
  flops_per_second: float | None
  source: str


_TPU = 'docs.cloud.google.com/tpu/docs/{}'
_NVIDIA = 'data sheet of the {} (SXM)'


def _tpu(name, gib, gigabytes, teraflops):
  return Chip(
    name, int(gib * GIB), gigabytes * 1e9, teraflops * 1e12, _TPU.format(name)
  )


def _gpu(name, gigabytes_held, gigabytes, teraflops):
  return Chip(
    name,
    int(gigabytes_held * 1e9),
    gigabytes * 1e9,
    teraflops * 1e12,
    _NVIDIA.format(name),
  )


# Rates by Google's documentation; of the memory what XLA leaves a program, by
# its message to one that is too large (libtpu 0.0.42); of v6e this is not read
# off but the 32 GB less what v5e lacks of its 16, twice over.
# A v4 or v5p chip has two cores that one JAX device drives together
# (megacore), a v5e or v6e chip has one: always a device a chip.
TPUS = {
  chip.name: chip
  for chip in (
    _tpu('v4', 30.75, 1200, 275),
    _tpu('v5e', 15.75, 819, 197),
    _tpu('v5p', 95.74, 2765, 459),
    _tpu('v6e', 31.25, 1638, 918),
  )
}
# What JAX calls them.
_TPU_KINDS = {
  'TPU v4': 'v4',
  'TPU v5 lite': 'v5e',
  'TPU v5': 'v5p',
  'TPU v5p': 'v5p',
  'TPU v6 lite': 'v6e',
}
# Parts of JAX's names: the PCIe cards are slower.
_GPUS = {
  'H200': _gpu('H200', 141, 4800, 989),
  'H100 80GB HBM3': _gpu('H100', 80, 3350, 989),
  'A100-SXM4-80GB': _gpu('A100', 80, 2039, 312),
}


def of_device(device: Any, devices_here: int = 1) -> Chip:
  """Returns what is known of a JAX device.

  Args:
    device: of the machine, or of a described topology.
    devices_here: of its kind that share its machine's memory, on a CPU.

  Returns:
    Without rates where nothing is known of them. The memory of a device that
    is there is what its runtime says, of a CPU its part of the machine's.
  """
  kind = device.device_kind
  if device.platform == 'cpu':
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return Chip('CPU', memory // devices_here, None, None, 'the machine')
  if kind in _TPU_KINDS:
    return TPUS[_TPU_KINDS[kind]]
  known = next((chip for name, chip in _GPUS.items() if name in kind), None)
  limit = (device.memory_stats() or {}).get('bytes_limit')
  if known is None:
    return Chip(kind, limit or 0, None, None, 'the machine')
  return dataclasses.replace(known, hbm_bytes=limit or known.hbm_bytes)
