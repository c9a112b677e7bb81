"""AmoebaNet-B (N, F) for ImageNet, as far as it is published.

Genotype: the authors' (Real et al., 2019); size: GPipe's (18, 512) at 480
pixels, of 557 M parameters (Huang et al., 2019). What the genotype leaves open
is a `Reading`; the first one below is the authors' convention (NASNet's cells)
and has the published size.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from . import layers as layers_lib

RESOLUTION = 480
PUBLISHED_PARAMETERS, TOLERANCE = 557e6, 0.005


@dataclasses.dataclass(frozen=True)
class Genotype:
  """Ten operations, summed in pairs into five new states.

  Attributes:
    operations: by name.
    inputs: the state that each of them reads; 0 and 1 are the cell's inputs.
    outputs: the states that are concatenated.
  """

  operations: tuple[str, ...]
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]


NORMAL = Genotype(
  (
    *('1x1', 'max_pool_3x3', 'none', 'separable_3x3_2', '1x1'),
    *('separable_3x3_2', '1x1', 'none', 'avg_pool_3x3', '1x1'),
  ),
  (1, 1, 1, 0, 1, 0, 2, 2, 1, 5),
  (0, 3, 4, 6),
)
REDUCTION = Genotype(
  (
    *('max_pool_2x2', 'max_pool_3x3', 'none', '3x3', 'dil_2_separable_5x5_2'),
    *('max_pool_3x3', 'none', 'separable_3x3_2', 'avg_pool_3x3', '1x1'),
  ),
  (0, 0, 2, 1, 2, 2, 3, 1, 4, 3),
  (5, 6),
)


@dataclasses.dataclass(frozen=True)
class Reading:
  """What the published tables leave open.

  Attributes:
    bottleneck: 3x3 convolutions are between two 1x1, at a quarter of the width.
    stacked_dilated: the dilated separable convolution comes twice, as the 2 at
      the end of its name says.
    stem_cells: two reduction cells, of F / 4 and F / 2, follow the stem.
    first_width: of the first group of cells, as a part of F.
  """

  bottleneck: bool = True
  stacked_dilated: bool = True
  stem_cells: bool = True
  first_width: float = 1.0


def readings() -> Iterator[Reading]:
  """Yields all combinations."""
  flags = ((True, False),) * 3
  for values in itertools.product(*flags, (1.0, 0.5, 0.25)):
    yield Reading(*values)


def forward(
  layers: layers_lib.Layers,
  images: jax.Array,
  reading: Reading = Reading(),
  cells: int = 18,
  filters: int = 512,
) -> jax.Array:
  """Returns logits of normalised images [n, h, w, 3]."""
  width = int(filters * reading.first_width)
  previous = current = layers.convolution('stem', images, filters // 4, 3, 2)
  count = 0

  def add_cell(genotype, width):
    nonlocal previous, current, count
    cell = _Cell(layers, f'cell_{count}', reading, width)
    previous, current = current, cell(genotype, current, previous)
    count += 1

  if reading.stem_cells:
    add_cell(REDUCTION, width // 4)
    add_cell(REDUCTION, width // 2)
  for group in range(3):
    if group:
      width *= 2
      add_cell(REDUCTION, width)
    for _ in range(cells // 3):
      add_cell(NORMAL, width)
  x = layers.ops.flatten(layers.ops.pool(jax.nn.relu(current)))
  return layers.dense('classifier', x, 1000)


class _Cell:
  """One cell. Every convolution is relu, convolution, batch norm."""

  def __init__(self, layers, name, reading, width):
    self.layers, self.name = layers, name
    self.reading, self.width = reading, width

  def __call__(self, genotype, current, previous):
    states = [
      self._convolution('current', current),
      self._fit('previous', previous, current.shape),
    ]
    inputs, stride = len(states), 2 if genotype is REDUCTION else 1
    results = []
    for index, (operation, state) in enumerate(
      zip(genotype.operations, genotype.inputs, strict=True)
    ):
      result = self._apply(
        f'{index}_{operation}',
        operation,
        states[state],
        stride if state < inputs else 1,
      )
      results.append(result)
      if index % 2:
        states.append(self.layers.ops.add(*results[-2:]))
    return jnp.concatenate([states[i] for i in genotype.outputs], axis=-1)

  def _convolution(self, name, x, size=1, stride=1, filters=None):
    return self.layers.convolution(
      f'{self.name}/{name}', jax.nn.relu(x), filters or self.width, size, stride
    )

  def _fit(self, name, x, shape):
    """Brings an earlier map to the size of `shape` and the cell's width."""
    if x.shape[1:3] != shape[1:3]:
      return self._factorized_reduction(name, x)
    return self._convolution(name, x) if x.shape[-1] != self.width else x

  def _factorized_reduction(self, name, x):
    """Half of the filters read the even pixels, half the odd ones."""
    shifted = jnp.pad(x[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))
    halves = [
      self._convolution(f'{name}_{i}', x, stride=2, filters=self.width // 2)
      for i, x in enumerate((x, shifted))
    ]
    return jnp.concatenate(halves, axis=-1)

  def _apply(self, name, operation, x, stride):
    match operation:
      case 'none':
        return x if stride == 1 else self._convolution(name, x, 1, stride)
      case 'max_pool_2x2' | 'max_pool_3x3':
        return layers_lib.max_pool(x, int(operation[-1]), stride)
      case 'avg_pool_3x3':
        return layers_lib.average_pool(x, 3, stride)
      case '1x1':
        return self._convolution(name, x, 1, stride)
      case '3x3':
        return self._convolution_3x3(name, x, stride)
      case 'separable_3x3_2':
        return self._separable(name, x, 3, stride, times=2)
      case 'dil_2_separable_5x5_2':
        times = 2 if self.reading.stacked_dilated else 1
        return self._separable(name, x, 5, stride, times, dilation=2)
    raise ValueError(operation)

  def _convolution_3x3(self, name, x, stride):
    if not self.reading.bottleneck:
      return self._convolution(name, x, 3, stride)
    narrow = self.width // 4
    x = self._convolution(f'{name}/reduce', x, filters=narrow)
    x = self._convolution(f'{name}/conv', x, 3, stride, filters=narrow)
    return self._convolution(f'{name}/expand', x)

  def _separable(self, name, x, size, stride, times, dilation=1):
    for i in range(times):
      x = self.layers.depthwise(
        f'{self.name}/{name}/depthwise_{i}',
        jax.nn.relu(x),
        size,
        1 if i else stride,
        dilation,
      )
      x = self.layers.convolution(
        f'{self.name}/{name}/pointwise_{i}', x, self.width
      )
    return x


def layers_of(
  reading: Reading = Reading(), cells: int = 18, filters: int = 512
) -> dict[str, layers_lib.Layer]:
  return layers_lib.layers_of(
    lambda layers, images: forward(layers, images, reading, cells, filters),
    RESOLUTION,
  )


def parameters(reading: Reading = Reading()) -> int:
  return sum(layer.parameters for layer in layers_of(reading).values())


def counts(total: int) -> bool:
  """Returns whether a reconstruction has the published size."""
  return abs(total / PUBLISHED_PARAMETERS - 1) <= TOLERANCE
