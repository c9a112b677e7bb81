"""Networks out: one file or folder that another runtime runs.

What is written has batch norm folded away and the grouped depthwise form, takes
batches of any size at the specification's resolution, and says in its metadata
what it is and how to feed it.
"""

import functools
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effnet_jax.errors import UserError, near_names
from effnet_jax.inference import network
from effnet_jax.models.efficientnet import EfficientNet
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights.export import targets
from effnet_jax.weights.export.job import Job

# format -> its module here and its writer.
FORMATS = {
  'stablehlo': ('stablehlo', 'write_stablehlo'),
  'onnx': ('onnx', 'write_onnx'),
  'savedmodel': ('tensorflow', 'write_savedmodel'),
  'tflite': ('tensorflow', 'write_tflite'),
}
DTYPES = ('float32', 'bfloat16', 'float16')
QUANTIZED = ('int8',)


def export(
  model: EfficientNet,
  variables: Mapping[str, Any],
  path: str | os.PathLike[str],
  format: str,
  *,
  dtype: str = 'float32',
  preprocess: bool = False,
  class_names: Sequence[str] | None = None,
  quantize: str | None = None,
  calibrate: np.ndarray | None = None,
  overwrite: bool = False,
) -> list[str]:
  """Writes a network for another runtime; what fails leaves nothing behind.

  Args:
    model: the network; its input side will be `model.spec.resolution`.
    variables: `params` and `batch_stats`.
    path: of the file, of the folder with `savedmodel`.
    format: `stablehlo`, `onnx`, `savedmodel` or `tflite`.
    dtype: of weights and activations: `float32`, `bfloat16` or `float16`, as
      far as the format has it. Inputs and outputs stay float32 (or uint8).
    preprocess: take uint8 pixels [n, side, side, 3], cropped and resized, and
      give probabilities; otherwise normalised images, and give logits.
    class_names: for the metadata, one a class.
    quantize: `int8`, for tflite.
    calibrate: uint8 crops [n, side, side, 3] that fix its ranges.
    overwrite: replace an earlier export in the same format.

  Returns:
    The paths of what was written, the named one first.

  Raises:
    UserError: an unknown format or dtype (with near names), one that does not
      go with the other, a package that is missing, something at `path` or
      where the format puts a file beside it (`path`.json, `path`.data).

  Example:
    >>> export(model, variables, 'b0.onnx', 'onnx', preprocess=True)
    ['b0.onnx']
  """
  path = os.path.normpath(os.fspath(path))
  _check(model.spec, format, dtype, class_names)
  targets.check(path, format, overwrite)
  _check_quantization(model.spec, format, quantize, calibrate)
  job = Job(
    model.spec,
    network.fold(model.spec, variables),
    dtype,
    preprocess,
    quantize,
    calibrate,
    _metadata(model.spec, dtype, preprocess, class_names, quantize),
  )
  module, writer = FORMATS[format]
  module = importlib.import_module(f'effnet_jax.weights.export.{module}')
  write = functools.partial(getattr(module, writer), job)
  return targets.write(write, path, format, overwrite)


def _check(spec, format, dtype, class_names):
  for what, value, known in (
    ('format', format, FORMATS),
    ('dtype', dtype, DTYPES),
  ):
    if value not in known:
      near = near_names(value, known)
      raise UserError(f'unknown {what} {value!r}: {near}')
  if class_names is not None and len(class_names) != spec.num_classes:
    raise UserError(
      f'{len(class_names)} class names for {spec.num_classes} classes'
    )


def _check_quantization(spec, format, quantize, calibrate):
  if quantize is None:
    if calibrate is not None:
      raise UserError('calibration images are for quantize=int8')
    return
  if quantize not in QUANTIZED:
    near = near_names(quantize, QUANTIZED)
    raise UserError(f'unknown quantization {quantize!r}: {near}')
  if format != 'tflite':
    raise UserError(f'{quantize} is for tflite, not {format}')
  if calibrate is None:
    raise UserError(
      f'{quantize} needs calibration images: some hundred of the training set'
    )
  shape, side = calibrate.shape, spec.resolution
  if (
    calibrate.dtype != np.uint8
    or shape[1:] != (side, side, 3)
    or not len(calibrate)
  ):
    raise UserError(
      f'calibration images must be uint8 [n, {side}, {side}, 3], not '
      f'{calibrate.dtype} {list(shape)}'
    )


def _metadata(
  spec: ModelSpec,
  dtype: str,
  preprocess: bool,
  class_names: Sequence[str] | None,
  quantize: str | None,
) -> dict[str, Any]:
  """Returns what somebody who has only the export needs to feed it."""
  side = spec.resolution
  pixels = f'uint8 pixels [n, {side}, {side}, 3], RGB'
  return {
    'model': spec.name,
    'effnet_jax': sys.modules['effnet_jax'].__version__,
    'dtype': dtype,
    'quantize': quantize,
    'preprocess': preprocess,
    'input': pixels
    if preprocess
    else f'float32 [n, {side}, {side}, 3], RGB: (pixels / 255 - mean) / std',
    'output': 'probabilities' if preprocess else 'logits',
    'resolution': side,
    'mean': list(spec.mean),
    'std': list(spec.std),
    'resampling': spec.resampling,
    # The centre square of side resolution / (resolution + crop_padding) of the
    # short side; null: the whole image, squashed.
    'crop_padding': spec.crop_padding,
    'num_classes': spec.num_classes,
    'class_names': list(class_names) if class_names is not None else None,
  }
