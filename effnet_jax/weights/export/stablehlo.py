"""StableHLO files: the compiled language of JAX, for CPU, GPU and TPU at once.

They need no effnet_jax to run: `jax.export.deserialize(bytearray(data)).call`
does. JAX reads them for at least six months after the version that wrote them.
"""

import dataclasses
import hashlib
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from effnet_jax.errors import UserError
from effnet_jax.inference.jax_operations import JaxOperations
from effnet_jax.weights.export.job import Job

DTYPES = ('float32', 'bfloat16', 'float16')
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')
# The file is a flatbuffer, which ends at 2 GiB.
_MOST_BYTES = (1 << 31) - (1 << 20)


def write_stablehlo(job: Job, path: str) -> None:
  """Writes a file of any batch size, and its metadata as `path`.json.

  Raises:
    UserError: a dtype that is not of JAX; weights above 2 GB.
  """
  job.check_dtype('stablehlo', DTYPES)
  # The grouped form: fast on accelerators, and one program for all of them.
  ops = JaxOperations(jnp.dtype(job.dtype), 'grouped')
  side = job.spec.resolution
  images = jax.ShapeDtypeStruct(
    (*export.symbolic_shape('n'), side, side, 3),
    jnp.uint8 if job.preprocess else jnp.float32,
  )
  program = export.export(
    jax.jit(lambda images: job.outputs(images, ops)), platforms=PLATFORMS
  )(images)
  if len(program.mlir_module_serialized) > _MOST_BYTES:
    raise UserError(
      f'{job.spec.name} in {job.dtype} passes the 2 GB that a StableHLO file '
      'can hold: give --dtype bfloat16, or --format onnx'
    )
  data = program.serialize()
  with open(path, 'wb') as file:
    file.write(data)
  description = {**job.metadata, 'sha256': hashlib.sha256(data).hexdigest()}
  with open(f'{path}.json', 'w') as file:
    json.dump(description, file, indent=2)


@dataclasses.dataclass(frozen=True)
class Program:
  """An exported network, to call.

  Attributes:
    call: the compiled function of `jax.export`, without checks.
    shape: of the images, the batch as None.
    dtype: of the images.
    metadata: what was written beside the file, {} where nothing was.
  """

  call: Any
  shape: tuple[int | None, ...]
  dtype: str
  metadata: dict[str, Any]

  def __call__(self, images: Any) -> jax.Array:
    """Returns logits or probabilities [n, classes], see `metadata`."""
    shape, dtype = jnp.shape(images), str(jnp.result_type(images))
    if (dtype, len(shape), *shape[1:]) != (self.dtype, 4, *self.shape[1:]):
      raise UserError(
        f'this program takes {self.dtype} images [n, '
        f'{", ".join(map(str, self.shape[1:]))}], not {dtype} {list(shape)}'
      )
    return self.call(images)


def load(path: str | os.PathLike[str]) -> Program:
  """Reads what `export(..., 'stablehlo')` wrote.

  It is a program: run those only whose origin you trust.

  Raises:
    UserError: no such file; a damaged one, or none of `jax.export`.

  Example:
    >>> program = stablehlo.load('b0.stablehlo')
    >>> logits = program(images)
  """
  path = os.fspath(path)
  try:
    with open(path, 'rb') as file:
      data = file.read()
  except OSError as error:
    raise UserError(f'cannot read {path}: {error.strerror}') from None
  metadata = _metadata(f'{path}.json')
  wanted = metadata.get('sha256')
  if wanted and wanted != hashlib.sha256(data).hexdigest():
    raise UserError(
      f'{path} is damaged: its sha256 is not that of {path}.json; export again'
    )
  try:
    program = export.deserialize(bytearray(data))
    (images,) = program.in_avals
    batch, *sides = images.shape
    return Program(
      jax.jit(program.call), (None, *sides), str(images.dtype), metadata
    )
  except Exception as error:  # the reader of flatbuffers checks nothing
    raise UserError(
      f'{path} is no StableHLO file of jax.export, or damaged '
      f'({type(error).__name__})'
    ) from None


def _metadata(path: str) -> dict[str, Any]:
  try:
    with open(path) as file:
      metadata = json.load(file)
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise UserError(f'cannot read {path}: {error}') from None
  return metadata if isinstance(metadata, dict) else {}
