"""The training step compiled for devices, there or not: does it fit, how fast?

What is compiled is `training.program.build(config, devices).train_step` with
shapes for arguments; nothing is computed and no data is read.
"""

import dataclasses
import re
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from effnet_jax import errors
from effnet_jax.analysis import chips, hlo, topologies
from effnet_jax.training import program

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
_SIZE = r'\(?([\d.]+)([KMGT]?)\)?'
_NO_ROOM = (
  re.compile(rf'Used {_SIZE} of {_SIZE} hbm'),
  re.compile(rf'temporaries {_SIZE} exceeds available HBM {_SIZE}'),
)


@dataclasses.dataclass(frozen=True)
class Check:
  """What compiling one training step has shown.

  Counts and times are of one chip and one step; a count is None where the step
  does not fit, for then there is no program to count.

  Attributes:
    fits: whether the step's memory is there.
    chips: JAX devices, one a chip.
    hbm_bytes: a chip's memory; of a TPU what the compiler allows, once it has
      said it.
    peak_bytes: memory that the step takes; None where XLA does not say.
    flops: arithmetic, as XLA counts it.
    bytes_accessed: as XLA counts them: of each operation its operands and
      results, wherever they are, and copies too.
    images_per_second_bound: of all chips, by the slower of arithmetic and
      these bytes at the chip's peak rates; None without rates.
    hbm_traffic_bytes: the part of the bytes that crosses between chip and
      memory, see `hlo.memory_bytes`.
    images_per_second_by_hbm: as the bound, by this part: what no step can be
      faster than.
    compile_seconds: here, on this machine.
    collective_bytes: what goes into all-reduces and the like.
    arithmetic_seconds, traffic_seconds: of flops and bytes accessed, at the
      chip's peak rates.
    bound_by: `arithmetic` or `memory traffic`, the slower.
    batch_size: images a step, over all chips.
    batch_per_chip: of them a chip's.
    remat: what the backward pass computes again.
    model, resolution, dtype: the network and its training images.
    topology: as given, or what devices are there.
    versions: of what compiled.
  """

  fits: bool
  chips: int
  hbm_bytes: int
  peak_bytes: int | None
  flops: float | None
  bytes_accessed: float | None
  images_per_second_bound: float | None
  hbm_traffic_bytes: int | None
  images_per_second_by_hbm: float | None
  compile_seconds: float
  collective_bytes: int | None
  arithmetic_seconds: float | None
  traffic_seconds: float | None
  bound_by: str | None
  batch_size: int
  batch_per_chip: int
  remat: str
  model: str
  resolution: int
  dtype: str
  topology: str
  versions: dict[str, str]

  def json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)


def check(
  config: ConfigDict,
  devices: Sequence[jax.Device],
  topology: str | None = None,
) -> Check:
  """Compiles a config's training step for devices.

  Args:
    config: complete, the sizes of the data set given.
    devices: one a chip.
    topology: what to call them.

  Raises:
    UserError: what `program.build` refuses, or XLA for want of anything else
      than memory.
  """
  config = config.copy_and_resolve_references()
  config.evaluation.batch_size = len(devices)  # not compiled: any will do
  built = program.build(config, devices)
  chip = chips.of_device(devices[0], len(devices))
  spec = built.model.spec
  known = {
    'chips': len(devices),
    'batch_size': config.batch_size,
    'batch_per_chip': config.batch_size // len(devices),
    'remat': config.remat,
    'model': spec.name,
    'resolution': spec.train_resolution or spec.resolution,
    'dtype': config.model.dtype,
    'topology': topology or f'{len(devices)} x {devices[0].device_kind}',
    'versions': _versions(),
  }
  student = config.objective.name == 'noisy_student'
  shapes = step_shapes(
    built,
    known['batch_per_chip'],
    known['resolution'],
    config.data.unlabelled_ratio if student else 0,
  )
  lowered = built.train_step.lower(*shapes)
  begun = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    needed, there = _no_room(error)
    return Check(
      fits=False,
      hbm_bytes=there or chip.hbm_bytes,
      peak_bytes=needed,
      compile_seconds=time.monotonic() - begun,
      **known,
      **dict.fromkeys(_COUNTS),
    )
  return _counted(compiled, chip, time.monotonic() - begun, known)


# Of a program that there is.
_COUNTS = (
  'flops',
  'bytes_accessed',
  'images_per_second_bound',
  'hbm_traffic_bytes',
  'images_per_second_by_hbm',
  'collective_bytes',
  'arithmetic_seconds',
  'traffic_seconds',
  'bound_by',
)


def step_shapes(
  built: program.Program,
  batch_per_chip: int,
  resolution: int,
  unlabelled_ratio: int = 0,
) -> tuple[Any, ...]:
  """Returns the shapes of a training step's arguments.

  Args:
    built: whose step it is.
    batch_per_chip: labelled images of each chip.
    resolution: of the images.
    unlabelled_ratio: of a student, images with soft labels for each of those.
  """
  pixels = (resolution, resolution, 3)
  lead = (len(built.devices), batch_per_chip)
  batch = {
    'image': jax.ShapeDtypeStruct((*lead, *pixels), jnp.uint8),
    'label': jax.ShapeDtypeStruct(lead, jnp.int32),
  }
  if unlabelled_ratio:
    lead = (len(built.devices), unlabelled_ratio * batch_per_chip)
    soft = (*lead, built.model.spec.num_classes)
    batch['unlabelled_image'] = jax.ShapeDtypeStruct((*lead, *pixels), 'uint8')
    batch['unlabelled_label'] = jax.ShapeDtypeStruct(soft, jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return built.abstract_state(), batch, key


def _counted(compiled, chip, seconds, known):
  costs, memory = compiled.cost_analysis(), compiled.memory_analysis()
  costs = costs[0] if isinstance(costs, list) else costs
  flops, accessed = costs.get('flops'), costs.get('bytes accessed')
  peak = _peak_bytes(memory) if memory is not None else None
  arithmetic = _divide(flops, chip.flops_per_second)
  traffic = _divide(accessed, chip.bytes_per_second)
  text = compiled.as_text()
  crossing = hlo.memory_bytes(text)
  by_hbm = bound = bound_by = None
  if arithmetic is not None and traffic is not None:
    bound = known['batch_size'] / max(arithmetic, traffic)
    bound_by = 'arithmetic' if arithmetic > traffic else 'memory traffic'
    by_hbm = known['batch_size'] / max(
      arithmetic, crossing / chip.bytes_per_second
    )
  return Check(
    # It is compiled; of some devices the memory is not known.
    fits=not peak or not chip.hbm_bytes or peak <= chip.hbm_bytes,
    hbm_bytes=chip.hbm_bytes,
    peak_bytes=peak,
    flops=flops,
    bytes_accessed=accessed,
    images_per_second_bound=bound,
    hbm_traffic_bytes=crossing,
    images_per_second_by_hbm=by_hbm,
    compile_seconds=seconds,
    collective_bytes=hlo.collective_bytes(text),
    arithmetic_seconds=arithmetic,
    traffic_seconds=traffic,
    bound_by=bound_by,
    **known,
  )


def _peak_bytes(memory):
  """Arguments, results that are not written over them, and temporaries."""
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )


def _divide(amount, rate):
  return None if amount is None or rate is None else amount / rate


def _no_room(error):
  """Bytes needed and there, by what XLA says; (None, None) if it names none.

  Raises:
    UserError: the compiler failed for another reason.
  """
  if 'RESOURCE_EXHAUSTED' not in str(error):
    versions = ', '.join(f'{k} {v}' for k, v in _versions().items())
    raise errors.UserError(
      f'XLA could not compile the step ({versions}): '
      f'{errors.first_line(error)}. Another config.batch_size, config.remat or '
      'config.model.depthwise may compile; for a TPU, libtpu must fit JAX: '
      f'{topologies.INSTALL}'
    ) from error
  for pattern in _NO_ROOM:
    if match := pattern.search(str(error)):
      needed, there = (
        int(float(number) * _UNITS[unit])
        for number, unit in (match.group(1, 2), match.group(3, 4))
      )
      return needed, there
  return None, None


def _versions():
  versions = {'jax': jax.__version__}
  for name in ('jaxlib', 'libtpu'):
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      pass
  return versions


def changed(
  config: ConfigDict,
  chips: int,
  batch_per_chip: int | None = None,
  remat: str | None = None,
) -> ConfigDict:
  """Returns a config with another batch (in whole parts) or remat."""
  config = config.copy_and_resolve_references()
  if batch_per_chip is not None:
    parts = max(1, batch_per_chip // config.accumulate)
    config.batch_size = chips * parts * config.accumulate
  if remat is not None:
    config.remat = remat
  return config


def title(config: ConfigDict, chips: int, topology: str | None = None) -> str:
  """Returns what is compiled, before it is."""
  remat = '' if config.remat == 'none' else f', remat={config.remat}'
  return (
    f'{config.model.name}, {config.batch_size // chips} images a chip{remat}, '
    f'for {topology or "the devices here"}'
  )
