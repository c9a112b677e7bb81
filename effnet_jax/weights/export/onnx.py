"""ONNX files: the network's operations written as nodes, channels first.

A converter from JAX would do (jax2onnx gives the right numbers), but it keeps
channels last: 1x1 convolutions become Einsum nodes and every other one stands
between two transposes, which no runtime fuses.
"""

import dataclasses
import json
import os
import shutil
from typing import Any

import numpy as np

from effnet_jax.errors import UserError
from effnet_jax.models.depthwise import pixels
from effnet_jax.weights.export.job import Job

DTYPES = ('float32', 'float16')
OPSET = 17
_IR_VERSION = 8  # of the release that brought opset 17
# A protobuf message ends at 2 GiB; the weights of larger networks lie beside.
_MOST_BYTES = 3 << 29


@dataclasses.dataclass(frozen=True)
class Value:
  """A tensor of the graph: [n, channels, height, width], or [n, channels]."""

  name: str
  channels: int
  height: int = 0
  width: int = 0
  dtype: str = 'float32'


class OnnxOperations:
  """See `inference.network.Operations`; collects nodes and initializers."""

  def __init__(self, dtype: str, names: dict[int, str]):
    """`names`: what to call the weights, by their `id`."""
    self.nodes, self.initializers = [], []
    self._dtype, self._names = dtype, names
    self._constants: dict[Any, str] = {}
    self._count = 0

  def node(self, kind: str, *inputs: str, **attributes) -> str:
    import onnx

    self._count += 1
    output = f'{kind.lower()}_{self._count}'
    self.nodes.append(
      onnx.helper.make_node(
        kind, list(inputs), [output], name=output, **attributes
      )
    )
    return output

  def _constant(self, value, name=None) -> str:
    """Adds an initializer; equal small ones without a name are one."""
    import onnx

    value = np.ascontiguousarray(value)
    key = name or (value.dtype.str, value.shape, value.tobytes())
    if key not in self._constants:
      name = name or f'constant_{len(self._constants)}'
      self._constants[key] = name
      self.initializers.append(onnx.numpy_helper.from_array(value, name))
    return self._constants[key]

  def _weight(self, array, value) -> str:
    """Adds what was made of one of the network's arrays."""
    return self._constant(value, self._names[id(array)])

  def cast(self, name: str, dtype: str) -> str:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return self.node('Cast', name, to=kind)

  def _input(self, x: Value, dtype: str) -> str:
    return x.name if x.dtype == dtype else self.cast(x.name, dtype)

  def _activate(self, name: str, activation: str | None, dtype: str) -> str:
    if activation is None:
      return name
    if activation == 'silu':
      return self.node('Mul', name, self.node('Sigmoid', name))
    if activation == 'relu6':
      ends = (self._constant(np.array(end, dtype)) for end in (0, 6))
      return self.node('Clip', name, *ends)
    return self.node({'relu': 'Relu', 'sigmoid': 'Sigmoid'}[activation], name)

  def _convolve(self, x, weight, bias, kernel_size, groups, stride, padding):
    """Returns the output's name, height and width."""
    ends = [
      pixels(size, kernel_size, stride, padding) for size in (x.height, x.width)
    ]
    inputs = [self._input(x, self._dtype), weight]
    if bias is not None:
      inputs.append(self._weight(bias, bias.astype(self._dtype)))
    output = self.node(
      'Conv',
      *inputs,
      kernel_shape=[kernel_size, kernel_size],
      strides=[stride, stride],
      pads=[before for before, _ in ends] + [after for _, after in ends],
      group=groups,
    )
    return output, -(-x.height // stride), -(-x.width // stride)

  def _finish(self, name, channels, height, width, activation):
    name = self._activate(name, activation, self._dtype)
    return Value(name, channels, height, width, self._dtype)

  def convolution(self, x, kernel, bias, stride, padding, activation):
    weight = self._weight(
      kernel, kernel.transpose(3, 2, 0, 1).astype(self._dtype)
    )
    output, *size = self._convolve(
      x, weight, bias, kernel.shape[0], 1, stride, padding
    )
    return self._finish(output, kernel.shape[-1], *size, activation)

  def depthwise(self, x, kernel, bias, stride, padding, activation):
    weight = self._weight(
      kernel, kernel.transpose(3, 2, 0, 1).astype(self._dtype)
    )
    output, *size = self._convolve(
      x, weight, bias, kernel.shape[0], x.channels, stride, padding
    )
    return self._finish(output, x.channels, *size, activation)

  def mixed_convolution(self, x, kernels, bias, routing, activation):
    """A batched product: every image has a matrix [filters, c] of its own."""
    experts, _, _, channels, filters = kernels.shape
    flat = kernels[:, 0, 0].transpose(0, 2, 1).reshape(experts, -1)
    mixed = self.node('MatMul', routing.name, self._weight(kernels, flat))
    mixed = self._reshape(mixed, filters, channels)
    if self._dtype != 'float32':
      mixed = self.cast(mixed, self._dtype)
    columns = self._reshape(
      self._input(x, self._dtype), channels, x.height * x.width
    )
    output = self._reshape(
      self.node('MatMul', mixed, columns), filters, x.height, x.width
    )
    output = self._add_bias(output, bias)
    return self._finish(output, filters, x.height, x.width, activation)

  def mixed_depthwise(
    self, x, kernels, bias, routing, stride, padding, activation
  ):
    """All experts' outputs, then their sum: nothing depends on the batch."""
    experts, size, _, _, channels = kernels.shape
    # [channels * experts, 1, k, k], a channel's experts side by side.
    weight = (
      kernels[:, :, :, 0]
      .transpose(3, 0, 1, 2)
      .reshape(channels * experts, 1, size, size)
    )
    weight = self._weight(kernels, weight.astype(self._dtype))
    output, height, width = self._convolve(
      x, weight, None, size, channels, stride, padding
    )
    output = self._reshape(output, channels, experts, height * width)
    shares = self._reshape(self._input(routing, self._dtype), 1, 1, experts)
    output = self._reshape(
      self.node('MatMul', shares, output), channels, height, width
    )
    output = self._add_bias(output, bias)
    return self._finish(output, channels, height, width, activation)

  def _reshape(self, name, *shape):
    """To [n, *shape]."""
    return self.node('Reshape', name, self._constant(np.array([0, *shape])))

  def _add_bias(self, name, bias):
    column = bias.astype(self._dtype)[:, None, None]
    return self.node('Add', name, self._weight(bias, column))

  def pool(self, x):
    name = self.node('GlobalAveragePool', self._input(x, 'float32'))
    return Value(name, x.channels, 1, 1)

  def flatten(self, x):
    return Value(self.node('Flatten', x.name, axis=1), x.channels)

  def dense(self, x, kernel, bias, activation):
    weights = self._weight(kernel, kernel), self._weight(bias, bias)
    name = self.node('Gemm', x.name, *weights)
    name = self._activate(name, activation, 'float32')
    return Value(name, kernel.shape[-1])

  def gate(self, x, kernel, factors):
    name = self.node('Mul', x.name, self._input(factors, x.dtype))
    return dataclasses.replace(x, name=name), kernel

  def add(self, x, y):
    return dataclasses.replace(x, name=self.node('Add', x.name, y.name))

  def normalize(self, pixels, mean, std):
    name = self.cast(pixels.name, 'float32')
    for kind, value in (('Sub', mean), ('Div', std)):
      column = self._constant(value[:, None, None])
      name = self.node(kind, name, column)
    return dataclasses.replace(pixels, name=name, dtype='float32')

  def softmax(self, logits):
    return Value(self.node('Softmax', logits.name, axis=1), logits.channels)


def write_onnx(job: Job, path: str) -> None:
  """Writes an ONNX file of any batch size; large weights in `path`.data.

  The input is `images` [n, side, side, 3], the output `logits` or
  `probabilities`; the metadata is in the file.

  Raises:
    UserError: onnx is not installed; a dtype that ONNX has no convolution for.
  """
  try:
    import onnx
  except ImportError:
    raise UserError(
      "export to onnx needs onnx: pip install 'effnet_jax[onnx]'"
    ) from None
  job.check_dtype('onnx', DTYPES)
  model = _model(job)
  size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
  large = size > _MOST_BYTES
  onnx.save_model(
    model,
    path,
    save_as_external_data=large,
    location=f'{os.path.basename(path)}.data' if large else None,
  )
  if large:
    shutil.copymode(path, f'{path}.data')  # onnx makes it the owner's alone
  # Of the file: the checker cannot serialise what is too large for protobuf.
  onnx.checker.check_model(path, full_check=not large)


def _model(job: Job):
  import jax
  import onnx

  names = {
    id(leaf): jax.tree_util.keystr(key, simple=True, separator='/')
    for key, leaf in jax.tree_util.tree_leaves_with_path(job.folded)
  }
  ops = OnnxOperations(job.dtype, names)
  side = job.spec.resolution
  dtype = 'uint8' if job.preprocess else 'float32'
  name = ops.node('Transpose', 'images', perm=[0, 3, 1, 2])
  result = job.outputs(Value(name, 3, side, side, dtype), ops)
  output = 'probabilities' if job.preprocess else 'logits'
  ops.nodes[-1].output[0] = output

  def value(name, dtype, *shape):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, ['n', *shape])

  graph = onnx.helper.make_graph(
    ops.nodes,
    job.spec.name,
    [value('images', dtype, side, side, 3)],
    [value(output, 'float32', result.channels)],
    ops.initializers,
  )
  model = onnx.helper.make_model(
    graph,
    opset_imports=[onnx.helper.make_opsetid('', OPSET)],
    ir_version=_IR_VERSION,
    producer_name='effnet_jax',
  )
  onnx.helper.set_model_props(
    model,
    {
      key: item if isinstance(item, str) else json.dumps(item)
      for key, item in job.metadata.items()
    },
  )
  return model
