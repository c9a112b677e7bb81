"""Exact size and cost of a network, from its specification alone.

A MAC is one multiply-add; papers of this family print MACs as "FLOPs". Counted
are all convolutions (the two of squeeze-and-excitation too) and the classifier,
for one image, as if no tap fell on padding. Not counted: batch norm,
activations, pooling, the gate's multiplication, residual sums, biases. Of
CondConv the routing and the mixing of kernels count too.
"""

import dataclasses

from effnet_jax.models.spec import BlockSpec, ModelSpec


@dataclasses.dataclass(frozen=True)
class Counts:
  """Sizes of a network, or of a part of one (they add)."""

  params: int = 0  # trainable
  bn_stats: int = 0  # moving means and variances
  macs: int = 0
  activations: int = 0  # elements that convolutions and classifier write

  def __add__(self, other: 'Counts') -> 'Counts':
    pairs = zip(
      dataclasses.astuple(self), dataclasses.astuple(other), strict=True
    )
    return Counts(*(a + b for a, b in pairs))


def output_size(size: int, stride: int) -> int:
  """Returns the side of the map after a 'SAME' convolution."""
  return -(-size // stride)


def _conv(
  kernel, in_filters, filters, size, groups=1, bias=False, bn=True, experts=0
):
  weights = kernel * kernel * in_filters // groups * filters
  return Counts(
    params=weights * max(1, experts)
    + (2 if bn else 0) * filters
    + (filters if bias else 0),
    bn_stats=2 * filters if bn else 0,
    macs=weights * (size * size + experts),
    activations=filters * size * size,
  )


def count_block(block: BlockSpec, size: int) -> Counts:
  """Counts one block whose input map is `size` pixels a side."""
  out = output_size(size, block.stride)
  kernel, expanded = block.kernel_size, block.expanded_filters
  experts, fused = block.experts, block.operator == 'fused_mbconv'
  total = Counts()
  if experts:
    total += Counts(
      params=(block.in_filters + 1) * experts,
      macs=block.in_filters * experts,
      activations=experts,
    )
  if fused and block.expands:
    side = size if block.stride_in == 'project' else out
    total += _conv(kernel, block.in_filters, expanded, side)
  elif not fused:
    if block.expands:
      total += _conv(1, block.in_filters, expanded, size, experts=experts)
    total += _conv(
      kernel, expanded, expanded, out, groups=expanded, experts=experts
    )
  if block.se_filters:
    total += _conv(1, expanded, block.se_filters, 1, bias=True, bn=False)
    total += _conv(1, block.se_filters, expanded, 1, bias=True, bn=False)
  # Without expansion a fused block is this one convolution alone.
  alone = fused and not block.expands
  return total + _conv(
    kernel if alone else 1, expanded, block.filters, out, experts=experts
  )


def count(spec: ModelSpec, resolution: int | None = None) -> Counts:
  """Counts a whole network at `resolution` pixels a side (native if None)."""
  size = output_size(resolution or spec.resolution, spec.stem_stride)
  total = _conv(3, 3, spec.stem_width, size)
  filters = spec.stem_width
  for block in spec.blocks():
    total += count_block(block, size)
    size, filters = output_size(size, block.stride), block.filters
  total += _conv(1, filters, spec.head_width, size)
  classifier = spec.head_width * spec.num_classes
  return total + Counts(
    params=classifier + spec.num_classes,
    macs=classifier,
    activations=spec.num_classes,
  )


def final_map(spec: ModelSpec, resolution: int | None = None) -> int:
  """Returns the side in pixels of the map before global pooling."""
  size = output_size(resolution or spec.resolution, spec.stem_stride)
  for block in spec.blocks():
    size = output_size(size, block.stride)
  return size
