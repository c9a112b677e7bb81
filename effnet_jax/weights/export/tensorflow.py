"""TensorFlow: SavedModel folders and TFLite files."""

import contextlib
import dataclasses
import json
import os
import warnings
from typing import Any

import jax
import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.weights.export import tflite_metadata
from effnet_jax.weights.export.job import Job

SAVEDMODEL_DTYPES = ('float32', 'bfloat16', 'float16')
TFLITE_DTYPES = ('float32', 'float16')

# Where the SavedModel format keeps files that travel along without being read.
EXTRA_ASSETS = 'assets.extra'
# A TFLite file is a flatbuffer, which ends at 2 GiB: so much of it may be
# weights.
_MOST_BYTES = (1 << 31) - (1 << 24)


@dataclasses.dataclass(frozen=True)
class TensorFlowOperations:
  """See `inference.network.Operations`.

  What it makes takes a batch of any size. Operations are those that TFLite has
  as built in, and fuses.

  Attributes:
    tf: the module tensorflow.
    dtype: of convolutions and activations.
  """

  tf: Any
  dtype: str = 'float32'

  def _finish(self, x, bias, activation):
    x = self.tf.nn.bias_add(x, self.tf.cast(bias, x.dtype))
    if activation == 'silu':  # tf.nn.silu brings a gradient function of its own
      return x * self.tf.sigmoid(x)
    return getattr(self.tf.nn, activation)(x) if activation else x

  def _pad(self, x, size, stride, padding):
    """Returns the map, perhaps padded, and how TensorFlow is to pad it."""
    if padding == 'same' or stride == 1:  # the two are alike at stride 1
      return x, 'SAME'
    ends = [size // 2, size // 2]
    padded = self.tf.pad(x, [[0, 0], ends, ends, [0, 0]]) if size > 1 else x
    return padded, 'VALID'

  def _convolve(self, x, kernel, stride, padding):
    x = self.tf.cast(x, self.dtype)
    x, pads = self._pad(x, kernel.shape[0], stride, padding)
    return self.tf.nn.conv2d(x, self.tf.cast(kernel, x.dtype), stride, pads)

  def _convolve_depthwise(self, x, kernel, stride, padding):
    x = self.tf.cast(x, self.dtype)
    x, pads = self._pad(x, kernel.shape[0], stride, padding)
    # [k, k, c, 1] here: the same numbers in the same order.
    kernel = self.tf.reshape(kernel, [*kernel.shape[:2], kernel.shape[3], 1])
    return self.tf.nn.depthwise_conv2d(
      x, self.tf.cast(kernel, x.dtype), [1, stride, stride, 1], pads
    )

  def convolution(self, x, kernel, bias, stride, padding, activation):
    x = self._convolve(x, kernel, stride, padding)
    return self._finish(x, bias, activation)

  def depthwise(self, x, kernel, bias, stride, padding, activation):
    x = self._convolve_depthwise(x, kernel, stride, padding)
    return self._finish(x, bias, activation)

  def mixed_convolution(self, x, kernels, bias, routing, activation):
    """A batched product: every image has a matrix [c, filters] of its own."""
    tf = self.tf
    experts, *_, channels, filters = kernels.shape
    flat = tf.reshape(kernels, [experts, channels * filters])
    mixed = tf.matmul(routing, tf.cast(flat, routing.dtype))
    mixed = tf.cast(tf.reshape(mixed, [-1, channels, filters]), self.dtype)
    _, height, width, _ = x.shape
    pixels = tf.reshape(x, [-1, height * width, channels])
    x = tf.matmul(tf.cast(pixels, self.dtype), mixed)
    x = tf.reshape(x, [-1, height, width, filters])
    return self._finish(x, bias, activation)

  def mixed_depthwise(
    self, x, kernels, bias, routing, stride, padding, activation
  ):
    """Mixes what the experts give, so that nothing depends on the batch."""
    tf = self.tf
    shares = tf.cast(routing[:, None, None], self.dtype)
    shares = tf.split(shares, kernels.shape[0], axis=3)
    terms = [
      self._convolve_depthwise(x, kernels[expert], stride, padding) * share
      for expert, share in enumerate(shares)
    ]
    return self._finish(tf.add_n(terms), bias, activation)

  def pool(self, x):
    x = self.tf.cast(x, 'float32')
    return self.tf.reduce_mean(x, axis=[1, 2], keepdims=True)

  def flatten(self, x):
    return self.tf.squeeze(x, [1, 2])

  def dense(self, x, kernel, bias, activation):
    return self._finish(self.tf.matmul(x, kernel), bias, activation)

  def gate(self, x, kernel, factors):
    return x * self.tf.cast(factors, x.dtype), kernel

  def add(self, x, y):
    return x + y

  def normalize(self, pixels, mean, std):
    # As a depthwise convolution TFLite quantises it with a scale a channel and
    # a 32-bit bias; of a subtraction and a division it makes 8-bit steps, each
    # rounding the pixels once more (1.5 grey levels for Lite).
    x = self.tf.nn.depthwise_conv2d(
      self.tf.cast(pixels, 'float32'),
      (1 / std).reshape(1, 1, 3, 1),
      [1, 1, 1, 1],
      'VALID',
    )
    return self.tf.nn.bias_add(x, -mean / std)

  def softmax(self, logits):
    return self.tf.nn.softmax(logits)


def write_savedmodel(job: Job, path: str) -> None:
  """Writes a SavedModel folder of any batch size.

  The signature `serving_default` takes `images` [n, side, side, 3] and gives
  `logits` or `probabilities` [n, classes]; the loaded object is callable too.
  Weights are variables. What the reader should know is in
  `assets.extra/effnet_jax.json`, the class names in `assets.extra/labels.txt`.

  Raises:
    UserError: tensorflow is not installed; a dtype that it can't compute in.
  """
  job.check_dtype('savedmodel', SAVEDMODEL_DTYPES)
  tf = _tensorflow('savedmodel')
  with _writing(tf):
    module = _module(tf, job)
    tf.saved_model.save(module, path, signatures=module.signature)
  extra = os.path.join(path, EXTRA_ASSETS)
  os.makedirs(extra)
  for name, content in _companions(job).items():
    with open(os.path.join(extra, name), 'w', encoding='utf-8') as file:
      file.write(content)


def write_tflite(job: Job, path: str) -> None:
  """Writes a TFLite file of any batch size (`resize_tensor_input`).

  Its signature is that of `write_savedmodel`. `float16` halves the weights;
  CPUs compute in float32 all the same. `int8` quantises weights (a scale a
  channel) and activations by the ranges that the crops in `job.calibrate`
  span; inputs and outputs stay float32 or uint8. A hundred crops of photos are
  enough; it suits Lite and EdgeTPU: SiLU and the gates lose much more.
  Metadata are those of TFLite's own convention, with `labels.txt` and
  `effnet_jax.json` packed into the file (`unzip` shows them).

  Raises:
    UserError: tensorflow is not installed; a dtype that TFLite has no weights
      of; a network past the format's 2 GiB.
  """
  job.check_dtype('tflite', TFLITE_DTYPES)
  if job.quantize and job.dtype != 'float32':
    raise UserError(
      f'quantize {job.quantize} decides the dtype of weights: leave out '
      f'dtype {job.dtype}'
    )
  _check_size(job)
  tf = _tensorflow('tflite')
  with _writing(tf):
    # Smaller types are the converter's work: it has no float16 convolution.
    module = _module(tf, dataclasses.replace(job, dtype='float32'))
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
      [module.signature.get_concrete_function()], module
    )
    if job.dtype == 'float16':
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.target_spec.supported_types = [tf.float16]
    if job.quantize:
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.representative_dataset = lambda: _calibration_inputs(job)
      converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8
      ]
    content = converter.convert()
  with open(path, 'wb') as file:
    file.write(tflite_metadata.add(content, job.metadata, _companions(job)))


def _check_size(job: Job) -> None:
  bytes_each = 1 if job.quantize else np.dtype(job.dtype).itemsize
  count = sum(np.size(leaf) for leaf in jax.tree.leaves(job.folded))
  if count * bytes_each > _MOST_BYTES:
    raise UserError(
      f'{job.spec.name} passes the 2 GB that a TFLite file can hold: give '
      '--dtype float16, or --format savedmodel'
    )


def _tensorflow(format: str) -> Any:
  try:
    import tensorflow as tf  # pyrefly: ignore[missing-import]
  except ImportError:
    raise UserError(
      f'export to {format} needs tensorflow: '
      "pip install 'effnet_jax[tensorflow]'"
    ) from None
  return tf


@contextlib.contextmanager
def _writing(tf):
  """Keeps TensorFlow's progress and plans quiet; its errors become OSError."""
  logger = tf.get_logger()
  level = logger.level
  logger.setLevel('ERROR')
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      yield
  except tf.errors.OpError as error:  # of the disk: 'op and path; reason'
    raise OSError(
      error.message.partition('\n')[0].rpartition('; ')[2]
    ) from None
  finally:
    logger.setLevel(level)


def _module(tf: Any, job: Job) -> Any:
  """A tf.Module with `weights`, and `signature` from images to outputs."""

  def variable(path, leaf):
    names = [key.key for key in path]
    # What the network computes in float32 whatever the dtype.
    exact = {'classifier', 'routing'} & {*names}
    value = tf.cast(leaf, 'float32' if exact else job.dtype)
    return tf.Variable(value, name='/'.join(names))

  weights = jax.tree_util.tree_map_with_path(variable, job.folded)
  on_variables = dataclasses.replace(job, folded=weights)
  ops = TensorFlowOperations(tf, job.dtype)
  output = 'probabilities' if job.preprocess else 'logits'
  side = job.spec.resolution
  images = tf.TensorSpec(
    [None, side, side, 3],
    tf.uint8 if job.preprocess else tf.float32,
    name='images',
  )

  @tf.function(input_signature=[images])
  def signature(images):
    return {output: on_variables.outputs(images, ops)}

  module = tf.Module(name=job.spec.name)
  module.weights = weights
  module.signature = module.__call__ = signature
  return module


def _calibration_inputs(job: Job):
  """Yields the crops one by one, as the network takes them."""
  mean, std = (
    255 * np.asarray(value, np.float32)
    for value in (job.spec.mean, job.spec.std)
  )
  for crop in job.calibrate:
    yield [crop[None] if job.preprocess else ((crop - mean) / std)[None]]


def _companions(job: Job) -> dict[str, str]:
  """Text files that lie within the format, by their names."""
  files = {'effnet_jax.json': json.dumps(job.metadata, indent=2) + '\n'}
  if names := job.metadata.get('class_names'):
    lines = [name.replace('\n', ' ') for name in names]
    files[tflite_metadata.LABELS] = '\n'.join(lines) + '\n'
  return files
