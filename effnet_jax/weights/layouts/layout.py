"""What a layout of weights is: a table of names, and how arrays lie in it.

A network is a list of modules (convolution, batch norm, ...), each with a few
arrays. A layout says what it calls every module, and for each kind of array the
name and the order of axes. From both comes one list of `Entry`, read in either
direction.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Set

import numpy as np

from effnet_jax.models.spec import ModelSpec

Path = tuple[str, ...]  # of a leaf: ('params', 'stem_conv', 'kernel')
Arrays = Mapping[str, np.ndarray]


def modules(spec: ModelSpec) -> Iterator[tuple[str, str]]:
  """Yields (path, kind) of every module that has variables, in order.

  Kinds: conv, depthwise (with experts: conv_experts, depthwise_experts), gate
  (1x1 convolution with bias), norm, routing, dense.
  """
  yield from (('stem_conv', 'conv'), ('stem_bn', 'norm'))
  for block in spec.blocks():
    prefix = f'blocks_{block.index}/'
    experts = '_experts' if block.experts else ''
    fused = block.operator == 'fused_mbconv'
    if block.experts:
      yield prefix + 'routing', 'routing'
    if block.expands:
      yield prefix + 'expand_conv', 'conv' + experts
      yield prefix + 'expand_bn', 'norm'
    if not fused:
      yield prefix + 'depthwise_conv', 'depthwise' + experts
      yield prefix + 'depthwise_bn', 'norm'
    if block.se_filters:
      yield prefix + 'se/reduce', 'gate'
      yield prefix + 'se/expand', 'gate'
    yield prefix + 'project_conv', 'conv' + experts
    yield prefix + 'project_bn', 'norm'
  yield from (('head_conv', 'conv'), ('head_bn', 'norm'))
  yield 'classifier', 'dense'


# The arrays of each kind of module.
LEAVES = {
  'conv': ('kernel',),
  'conv_experts': ('kernel',),
  'depthwise': ('kernel',),
  'depthwise_experts': ('kernel',),
  'gate': ('kernel', 'bias'),
  'norm': ('scale', 'bias', 'mean', 'var'),
  'routing': ('kernel', 'bias'),
  'dense': ('kernel', 'bias'),
}


@dataclasses.dataclass(frozen=True)
class Transform:
  """How one array of a layout becomes ours, and back; nothing is computed.

  Attributes:
    read: (theirs, our shape) -> ours; ValueError where it cannot be.
    write: ours -> theirs.
  """

  read: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]
  write: Callable[[np.ndarray], np.ndarray]


def _axes(*order: int) -> Transform:
  back = tuple(int(axis) for axis in np.argsort(order))
  return Transform(
    lambda theirs, _: np.transpose(theirs, order),
    lambda ours: np.transpose(ours, back),
  )


def _flat_experts(order: tuple[int, ...]) -> Transform:
  """Experts as rows [experts, all else]; `order`: from their axes to ours."""
  back = tuple(int(axis) for axis in np.argsort(order))

  def read(theirs, shape):
    experts, *kernel = shape
    inner = [kernel[axis] for axis in back]
    if theirs.shape != (experts, math.prod(inner)):
      raise ValueError
    theirs = theirs.reshape(experts, *inner)
    return np.transpose(theirs, (0, *(1 + axis for axis in order)))

  def write(ours):
    theirs = np.transpose(ours, (0, *(1 + axis for axis in back)))
    return theirs.reshape(len(theirs), -1)

  return Transform(read, write)


SAME = Transform(lambda theirs, _: theirs, lambda ours: ours)
# PyTorch's [filters, in, k, k] to [k, k, in, filters]; of a depthwise kernel
# [channels, 1, k, k] to [k, k, 1, channels].
OIHW = _axes(2, 3, 1, 0)
OIHW_EXPERTS = _flat_experts((2, 3, 1, 0))
HWIO_EXPERTS = _flat_experts((0, 1, 2, 3))
# TensorFlow's depthwise [k, k, channels, 1] to [k, k, 1, channels].
HWC1 = _axes(0, 1, 3, 2)
HWC1_EXPERTS = _flat_experts((0, 1, 3, 2))
TRANSPOSED = _axes(1, 0)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One array: where it is with us, its key there, how its axes turn."""

  path: Path
  key: str
  transform: Transform = SAME


@dataclasses.dataclass(frozen=True)
class Layout:
  """A layout of weights.

  Attributes:
    name: as `convert` prints it.
    recognises: whether these keys are of this layout.
    names: the table: what it calls each of our modules.
    leaves: by kind of module and array: (what follows the module's name,
      transform).
    ignored: keys that hold no weights, such as counters of steps.
    prepare: arrays as in the file -> arrays by the keys of the table (scopes
      taken off, averages put in place of raw weights).
  """

  name: str
  recognises: Callable[[Set[str]], bool]
  names: Callable[[ModelSpec], dict[str, str]]
  leaves: Mapping[str, Mapping[str, tuple[str, Transform]]]
  ignored: re.Pattern[str] = re.compile('(?!)')
  prepare: Callable[[Arrays], Arrays] = lambda arrays: arrays

  def entries(self, spec: ModelSpec) -> list[Entry]:
    """Returns the table of a network: one entry an array."""
    names = self.names(spec)
    entries = []
    for module, kind in modules(spec):
      for leaf in LEAVES[kind]:
        collection = 'batch_stats' if leaf in ('mean', 'var') else 'params'
        suffix, transform = self.leaves[kind][leaf]
        entries.append(
          Entry(
            (collection, *module.split('/'), leaf),
            names[module] + suffix,
            transform,
          )
        )
    return entries


# Modules whose arrays TensorFlow and Keras call alike.
TENSORFLOW_LEAVES = {
  'conv': {'kernel': ('/kernel', SAME)},
  'gate': {'kernel': ('/kernel', SAME), 'bias': ('/bias', SAME)},
  'norm': {
    'scale': ('/gamma', SAME),
    'bias': ('/beta', SAME),
    'mean': ('/moving_mean', SAME),
    'var': ('/moving_variance', SAME),
  },
  'dense': {'kernel': ('/kernel', SAME), 'bias': ('/bias', SAME)},
}
