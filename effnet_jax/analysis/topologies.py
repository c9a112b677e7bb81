"""TPU pods that are not there, as libtpu describes them to the compiler."""

import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from effnet_jax.errors import UserError, first_line

if TYPE_CHECKING:  # JAX must not start before `prepare`
  import jax

# libtpu looks for the TPU of its host, its name and its neighbours, and allows
# one process a host: none of it is meant where there is no TPU. The worker and
# the type are any: without them it complains on stderr.
_ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}
# Axes of the torus, and the most chips of one pod.
_PODS = {'v4': (3, 4096), 'v5e': (2, 256), 'v5p': (3, 8960), 'v6e': (2, 256)}
_FORMS = 'v4:2x2x1, v4:4x8x8, v5e:2x2, v5e:16x16, v5p:4x8x8, v6e:16x16'
_KNOWN = 'v5e:2x2'  # to every libtpu
INSTALL = "pip install --upgrade 'effnet_jax[tpu-compile]'"


def check(name: str) -> None:
  """Raises `UserError` for what is no topology, or without libtpu."""
  match = re.fullmatch(r'(\w+):(\d+(?:x\d+)*)', name)
  if not match or match[1] not in _PODS:
    raise UserError(f'unknown topology {name!r}: write it like {_FORMS}')
  axes, most = _PODS[match[1]]
  layout = _layout(name)
  if len(layout) != axes or not 1 <= math.prod(layout) <= most:
    raise UserError(
      f'no topology {name!r}: {match[1]} has {axes} axes and up to {most} '
      f'chips; write it like {_FORMS}'
    )
  library = importlib.util.find_spec('libtpu')
  if library is None or library.origin is None:  # or an empty directory
    raise UserError(f'compiling for a TPU takes libtpu: {INSTALL}')


def prepare() -> None:
  """Sets the environment for compiling, to be called before JAX starts."""
  os.environ.update(_ENVIRONMENT)


def devices(name: str) -> Sequence['jax.Device']:
  """Returns the devices of a topology, one a chip, on any machine.

  Raises:
    UserError: a layout that libtpu does not know, or no libtpu that works.
  """
  check(name)
  try:
    return _described(name).devices
  except Exception as error:  # of several types, by version
    raise UserError(_what_is_wrong(name, first_line(error))) from error


def _described(name):
  from jax.experimental import topologies

  options = {}
  if name.startswith('v4'):
    options['chip_config_name'] = 'megacore'
  if math.prod(_layout(name)) == 1:
    options['chips_per_host_bounds'] = (1, 1, 1)  # a host of four otherwise
  return topologies.get_topology_desc(
    platform='tpu', topology_name=name, **options
  )


def _what_is_wrong(name, why):
  """The name, or libtpu, if that does not know what every one knows."""
  try:
    _described(_KNOWN)
  except Exception:  # whatever it is, `why` has told of the first
    return (
      f'libtpu does not work with this JAX ({why}): install the one that '
      f'fits, {INSTALL}'
    )
  return f'libtpu has no topology {name!r} ({why}): write it like {_FORMS}'


def _layout(name):
  return tuple(map(int, name.partition(':')[2].split('x')))
