"""The one module that knows devices, processes and pmap.

`jax.pmap` is in maintenance mode and is, since jax 0.10, a jit of shard_map. It
is kept here, behind plain functions, in the form that its own migration guide
asks for: state in one replicated piece (no leading device axis), placed before
the first step, donated by position.
"""

import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# JAX has no public name for these two; Orbax and multihost_utils use them too.
from jax._src import clusters, distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from effnet_jax import errors
from effnet_jax.training import meeting

AXIS = 'batch'
EXCHANGE_SECONDS = 600  # a cold network disk lists a million files slowly

_exchanges = itertools.count()


def initialize(
  coordinator: str | None = None,
  process_count: int | None = None,
  process_id: int | None = None,
  seconds: float = 300,
) -> None:
  """Joins the other processes; what is None is read from the environment.

  Args:
    coordinator: host:port of process 0.
    process_count: processes in all.
    process_id: of this one.
    seconds: that the others have to come.

  Raises:
    UserError: the environment is of no cluster, or the others are not there.
  """
  try:
    # As JAX itself finds them, who must be known before, for the meeting.
    address, count, index, _ = (
      clusters.ClusterEnv.auto_detect_unset_distributed_params(
        coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS'),
        process_count,
        process_id,
        None,
        None,
        int(seconds),
      )
    )
    if address is None or count is None or index is None:
      raise ValueError('no TPU pod, SLURM or Open MPI here')
    meeting.meet(address, count, index, seconds)
    jax.distributed.initialize(
      coordinator,
      process_count,
      process_id,
      initialization_timeout=60,  # all have just met
    )
  except (ValueError, RuntimeError) as error:
    raise errors.UserError(
      f'the processes could not be joined ({error}). Without a cluster give '
      '--coordinator=HOST:PORT --process_count=N --process_id=I, or leave '
      '--distributed out to train on this machine alone'
    ) from error


def exchange(mine: Any) -> list[Any]:
  """Returns what each process gives, by its index: anything that JSON holds.

  All must call it, in the same order. It goes through JAX's coordinator, not
  the devices: so it works where processes would run different programs.

  Raises:
    UserError: a process does not come within `EXCHANGE_SECONDS`.
  """
  count = jax.process_count()
  if count == 1:
    return [mine]
  client = distributed.global_state.client
  key = f'effnet_jax/{next(_exchanges)}'
  client.key_value_set(f'{key}/{jax.process_index()}', json.dumps(mine))
  given = []
  for index in range(count):
    try:
      text = client.blocking_key_value_get(
        f'{key}/{index}', EXCHANGE_SECONDS * 1000
      )
    except RuntimeError as error:
      raise errors.UserError(
        f'process {index} did not open config and data within '
        f'{EXCHANGE_SECONDS} seconds ({errors.first_line(error)[:200]}): see '
        'its error'
      ) from error
    given.append(json.loads(text))
  return given


def leave(status: int) -> None:
  """Ends a process that failed, if it is one of several.

  The ordinary way out would wait for the others, who wait for this one. What
  is no `UserError` is printed with its traceback, as Python would.
  """
  if jax.distributed.is_initialized():
    if not isinstance(sys.exception(), errors.UserError):
      traceback.print_exc()
    if jax.process_index() == 0:
      time.sleep(3)  # the others' coordinator: they have to read why
    os._exit(status)


def process_index() -> int:
  return jax.process_index()


def process_count() -> int:
  return jax.process_count()


def local_device_count() -> int:
  """Returns the devices of this process."""
  return jax.local_device_count()


def any_process(flag: bool, may_meet: bool) -> bool:
  """Returns whether `flag` is set in any process.

  With several processes they exchange it, which all must do at the same step:
  where `may_meet` is true.
  """
  if jax.process_count() == 1:
    return flag
  if not may_meet:
    return False
  return bool(multihost_utils.process_allgather(np.array([flag])).any())


def devices_or_all(devices: Sequence[jax.Device] | None) -> list[jax.Device]:
  return list(devices) if devices is not None else jax.devices()


def check_batch(
  batch_size: int,
  accumulate: int,
  devices: Sequence[jax.Device],
  key: str = 'batch_size',
) -> None:
  """Raises `UserError` unless every device gets equal parts of a batch."""
  parts = len(devices) * accumulate
  if batch_size < 1 or accumulate < 1 or batch_size % parts:
    nearest = max(batch_size // parts, 1) * parts if parts > 0 else 1
    times = f' x {accumulate} parts (config.accumulate)' * (accumulate != 1)
    raise errors.UserError(
      f'config.{key}={batch_size} does not divide over {len(devices)} '
      f'devices{times}; {nearest} would'
    )


def bn_groups(setting: str, num_devices: int) -> dict[str, Any]:
  """Returns the network's attributes for a batch norm setting.

  Args:
    setting: whose images the training statistics are taken over: `local` (each
      device its own), `global` (all devices), a number n (groups of n
      consecutive devices), `tpu`, the rule of the authors' V1 code: local up
      to 8 devices, then groups of max(8, devices // 8); or `tpu_v2`, of their
      V2 code: groups of min(8, devices).
    num_devices: over all processes.
  """
  if setting == 'local' or (setting == 'tpu' and num_devices <= 8):
    return {'bn_axis_name': None, 'bn_groups': None}
  if setting == 'global':
    return {'bn_axis_name': AXIS, 'bn_groups': None}
  if setting == 'tpu':
    size = max(8, num_devices // 8)
  elif setting == 'tpu_v2':
    size = min(8, num_devices)
  else:
    size = int(setting) if setting.isdecimal() else 0
  if size < 1 or num_devices % size:
    raise errors.UserError(
      f'config.model.bn_groups={setting!r}: write local, global, tpu, tpu_v2 '
      f'or a number that divides the {num_devices} devices'
    )
  groups = np.arange(num_devices).reshape(-1, size)
  return {
    'bn_axis_name': AXIS,
    'bn_groups': tuple(map(tuple, groups.tolist())),
  }


def pmap_train(step: Callable, devices: Sequence[jax.Device]) -> Callable:
  """Maps `step(state, batch, key)` over devices; the state is donated."""
  return jax.pmap(
    step,
    axis_name=AXIS,
    in_axes=(None, 0, None),
    out_axes=None,
    donate_argnums=0,
    devices=devices,
  )


def pmap_eval(step: Callable, devices: Sequence[jax.Device]) -> Callable:
  """Maps `step(variables, batch) -> sums` over devices and adds the sums."""
  return jax.pmap(
    lambda variables, batch: jax.lax.psum(step(variables, batch), AXIS),
    axis_name=AXIS,
    in_axes=(None, 0),
    out_axes=None,
    devices=devices,
  )


def pmap_each(
  function: Callable, devices: Sequence[jax.Device]
) -> Callable[[Any, Any], Any]:
  """Maps `function(variables, batch)`; what it gives is [devices, ...]."""
  return jax.pmap(
    function,
    axis_name=AXIS,
    in_axes=(None, 0),
    devices=devices,
  )


def _local(devices):
  return [d for d in devices if d.process_index == jax.process_index()]


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Places one copy on each of this process's devices.

  A state that was not placed compiles the step twice, and with several
  processes and donation fails.
  """
  mesh = Mesh(np.asarray(_local(devices)), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shard(batch: Any, devices: Sequence[jax.Device]) -> Any:
  """Places this process's batch: [n, ...] -> [devices, n / devices, ...]."""
  local = _local(devices)
  sharding = NamedSharding(
    Mesh(np.asarray(local), (AXIS,)), PartitionSpec(AXIS)
  )
  return jax.tree.map(
    lambda x: jax.device_put(x.reshape(len(local), -1, *x.shape[1:]), sharding),
    batch,
  )


def to_global(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Turns replicated arrays into ones that every process may save."""
  if jax.process_count() == 1:
    return tree
  sharding = global_sharding(devices)
  return jax.tree.map(
    lambda x: jax.make_array_from_single_device_arrays(
      x.shape, sharding, [shard.data for shard in x.addressable_shards]
    ),
    tree,
  )


def global_sharding(devices: Sequence[jax.Device]) -> NamedSharding:
  """Returns the sharding of an array that all devices hold whole."""
  return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())
