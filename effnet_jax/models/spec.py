"""What a network is, as data: stages, the model they make, its blocks.

A `ModelSpec` says everything about a variant; `ModelSpec.blocks()` works it out
into one `BlockSpec` a layer, the only thing that the network, the counter and
the drawings read. Standard library only.
"""

import dataclasses
import itertools
import math
import numbers
import re
from collections.abc import Iterable

from effnet_jax import errors
from effnet_jax.models import scaling

OPERATORS = ('mbconv', 'fused_mbconv')
PADDINGS = ('same', 'symmetric')
RESAMPLINGS = ('tf1', 'pillow', 'tf_bilinear', 'pillow_bilinear')
MAX_LAYERS = 1000  # the deepest published network has 100
STRIDES_IN = ('expand', 'project')


@dataclasses.dataclass(frozen=True)
class StageSpec:
  """Layers of one kind at one resolution, before scaling (paper, Table 1).

  The first layer has the stride and changes the width; the others repeat it at
  stride 1. A stage's input width is the output width of the one before.
  """

  repeats: int
  kernel_size: int
  stride: int
  expand_ratio: int
  filters: int
  operator: str = 'mbconv'
  squeeze_excite: bool = True
  experts: int = 0
  nominal_filters: int | None = None
  residual: bool = True

  def __str__(self) -> str:
    tokens = [
      f'r{self.repeats}',
      f'k{self.kernel_size}',
      f's{self.stride}',
      f'e{self.expand_ratio}',
      f'o{self.filters}',
    ]
    tokens += ['fused'] if self.operator == 'fused_mbconv' else []
    tokens += ['se'] if self.squeeze_excite else []
    tokens += [f'cc{self.experts}'] if self.experts else []
    tokens += [f'i{self.nominal_filters}'] if self.nominal_filters else []
    tokens += [] if self.residual else ['noskip']
    return '_'.join(tokens)


_STAGE = re.compile(
  r'r(\d+)_k(\d+)_s(\d+)_e(\d+)_o(\d+)'
  r'(_fused)?(_se)?(?:_cc(\d+))?(?:_i(\d+))?(_noskip)?'
)


def parse_stages(text: str) -> tuple[StageSpec, ...]:
  """Reads stages from their strings, separated by spaces.

  The inverse of `' '.join(map(str, stages))`, for configs and command lines.

  >>> parse_stages('r2_k5_s2_e6_o40_se')[0].kernel_size
  5
  """
  stages = []
  for token in text.split():
    match = _STAGE.fullmatch(token)
    if not match:
      raise errors.UserError(
        f'{token!r} is no stage: write r<repeats>_k<kernel>_s<stride>_e<expand '
        'ratio>_o<filters>[_fused][_se][_cc<experts>][_i<nominal input '
        'filters>][_noskip], as in r2_k5_s2_e6_o40_se'
      )
    *numbers, fused, se, experts, nominal, noskip = match.groups()
    stages.append(
      StageSpec(
        *map(int, numbers),
        operator='fused_mbconv' if fused else 'mbconv',
        squeeze_excite=bool(se),
        experts=int(experts or 0),
        nominal_filters=int(nominal) if nominal else None,
        residual=not noskip,
      )
    )
  return tuple(stages)


@dataclasses.dataclass(frozen=True)
class BlockSpec:
  """One layer after scaling: all widths are final."""

  index: int  # over the whole network, from 0
  stage: int  # from 0
  operator: str
  kernel_size: int
  stride: int
  in_filters: int
  expanded_filters: int
  se_filters: int  # 0: no squeeze and excitation
  filters: int
  survival_probability: float
  # The level whose last block this is (1 to 5 in the family, stride 2^level
  # with the stem's own stride of 2), None for the others.
  reduction: int | None
  residual: bool
  experts: int = 0  # 0: ordinary convolutions
  stride_in: str = 'expand'  # where a Fused-MBConv has its stride

  @property
  def expands(self) -> bool:
    return self.expanded_filters != self.in_filters


def _as_int(value):
  whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  return int(value) if whole else None


def _as_float(value):
  real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return float(value) if real and math.isfinite(value) else None


def _as_triple(values):
  if isinstance(values, str) or not isinstance(values, Iterable):
    return None
  triple = tuple(map(_as_float, values))
  return triple if len(triple) == 3 and None not in triple else None


# By the beginning of a field's type; None where the value is none of it.
_COERCIONS = {
  'int': _as_int,
  'float': _as_float,
  'tuple': _as_triple,
  'bool': lambda value: value if isinstance(value, bool) else None,
  'str': lambda value: (
    value if isinstance(value, str) and value.isprintable() else None
  ),
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
  """A network of the family, complete. Published values are in `variants`."""

  name: str
  stages: tuple[StageSpec, ...]
  width: float = 1.0
  depth: float = 1.0
  resolution: int = 224  # pixels a side, in evaluation
  train_resolution: int | None = None  # None: as in evaluation
  dropout_rate: float = 0.2  # before the classifier
  survival_probability: float = 0.8  # what the last block would have
  se_ratio: float = 0.25  # of the block's input; 0 leaves them all out
  activation: str = 'silu'
  stem_filters: int = 32
  stem_stride: int = 2  # 1 for small images
  head_filters: int = 1280
  depth_divisor: int = 8
  min_filters: int | None = None
  ninety_percent: bool = True
  # Stem and head keep their width, the first and last stage their depth.
  fix_head_stem: bool = False
  # same (TensorFlow: asymmetric where the total is odd) or symmetric (PyTorch).
  # At stride 2 on even maps the windows of the two lie one pixel apart.
  padding: str = 'same'
  # Where a Fused-MBConv that expands has its stride: in the expand convolution
  # or, as the released EdgeTPU weights were trained, in the 1x1 projection.
  stride_in: str = 'expand'
  bn_momentum: float = 0.99  # share of the old value, as in TF and Flax
  bn_epsilon: float = 1e-3
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of pixels in 0..1
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  # How an image becomes the network's square, see data.preprocess.
  resampling: str = 'tf1'
  crop_padding: int | None = 32  # None: the whole image, squashed
  num_classes: int = 1000

  def __post_init__(self):
    named = isinstance(self.name, str) and self.name.isprintable()

    def check(holds, what):
      if not holds:
        raise errors.UserError(f'{self.name if named else "model"}: {what}')

    self._coerce(check)
    check(self.stages, 'a network needs at least one stage')
    check(sum(self.repeats()) <= MAX_LAYERS, f'more than {MAX_LAYERS} layers')
    for field in ('width', 'depth'):
      check(getattr(self, field) > 0, f'{field} must be above 0')
    check(
      self.train_resolution is None or self.train_resolution >= 1,
      'train_resolution must be 1 or more',
    )
    check(
      self.crop_padding is None or self.crop_padding >= 0,
      'crop_padding must be 0 or more',
    )
    for field, known in (
      ('padding', PADDINGS),
      ('stride_in', STRIDES_IN),
      ('resampling', RESAMPLINGS),
    ):
      value = getattr(self, field)
      check(
        value in known,
        f'unknown {field} {value!r}: {errors.near_names(value, known)}',
      )
    for field in (
      'resolution',
      'stem_filters',
      'head_filters',
      'depth_divisor',
      'num_classes',
    ):
      check(getattr(self, field) >= 1, f'{field} must be 1 or more')
    for field in ('dropout_rate', 'bn_momentum'):
      check(0 <= getattr(self, field) < 1, f'{field} must be in [0, 1)')
    check(
      0 < self.survival_probability <= 1,
      'survival_probability must be in (0, 1]',
    )
    check(self.se_ratio >= 0, 'se_ratio must be 0 or more')
    check(self.stem_stride in (1, 2), 'stem_stride must be 1 or 2')
    check(self.bn_epsilon > 0, 'bn_epsilon must be above 0')
    check(all(std > 0 for std in self.std), 'every std must be above 0')
    for stage in self.stages:
      check(
        stage.operator in OPERATORS,
        f'unknown operator {stage.operator!r}, known: {", ".join(OPERATORS)}',
      )
      check(stage.stride in (1, 2), f'{stage}: the stride must be 1 or 2')
      check(
        not stage.experts or stage.operator == 'mbconv',
        f'{stage}: only mbconv takes experts',
      )
      check(
        min(stage.repeats, stage.expand_ratio, stage.filters) >= 1
        and stage.kernel_size % 2,
        f'{stage}: repeats, expand ratio and filters must be 1 or more, the '
        'kernel size odd',
      )

  def _coerce(self, check) -> None:
    """Makes every field of its type: numbers may come from numpy or JSON."""
    check(
      isinstance(self.stages, tuple)
      and all(isinstance(stage, StageSpec) for stage in self.stages),
      'stages must be a tuple of StageSpec',
    )
    for field in dataclasses.fields(self):
      value, kind = getattr(self, field.name), field.type
      text = kind.__name__ if isinstance(kind, type) else str(kind)
      if field.name == 'stages' or (value is None and 'None' in text):
        continue
      coerced = _COERCIONS[re.split(r'\W', text)[0]](value)
      check(coerced is not None, f'{field.name}={value!r} is no {text}')
      object.__setattr__(self, field.name, coerced)

  def round_filters(self, filters: int) -> int:
    return scaling.round_filters(
      filters,
      self.width,
      self.depth_divisor,
      self.min_filters,
      self.ninety_percent,
    )

  @property
  def stem_width(self) -> int:
    fixed = self.fix_head_stem
    return self.stem_filters if fixed else self.round_filters(self.stem_filters)

  @property
  def head_width(self) -> int:
    fixed = self.fix_head_stem
    return self.head_filters if fixed else self.round_filters(self.head_filters)

  def repeats(self) -> tuple[int, ...]:
    """Returns the layers of every stage after scaling."""
    ends = (0, len(self.stages) - 1)
    return tuple(
      stage.repeats
      if self.fix_head_stem and index in ends
      else scaling.round_repeats(stage.repeats, self.depth)
      for index, stage in enumerate(self.stages)
    )

  def blocks(self) -> tuple[BlockSpec, ...]:
    """Returns every layer between stem and head, in order."""
    layers = []  # (stage index, stage, first of its stage, stride)
    for s, (stage, repeats) in enumerate(
      zip(self.stages, self.repeats(), strict=True)
    ):
      for r in range(repeats):
        layers.append((s, stage, r == 0, stage.stride if r == 0 else 1))
    # A level ends before the next stride of 2, and with the last block.
    ends = [
      i + 1 == len(layers) or layers[i + 1][3] > 1 for i in range(len(layers))
    ]
    levels = list(itertools.accumulate(map(int, ends)))
    blocks = []
    in_filters = self.stem_width
    for i, (s, stage, first, stride) in enumerate(layers):
      filters = self.round_filters(stage.filters)
      use_se = stage.squeeze_excite and self.se_ratio > 0
      nominal = in_filters
      if first and stage.nominal_filters:
        nominal = self.round_filters(stage.nominal_filters)
      blocks.append(
        BlockSpec(
          index=i,
          stage=s,
          operator=stage.operator,
          kernel_size=stage.kernel_size,
          stride=stride,
          in_filters=in_filters,
          expanded_filters=nominal * stage.expand_ratio,
          # Of the block's input, not of its expanded width.
          se_filters=max(1, int(in_filters * self.se_ratio)) if use_se else 0,
          filters=filters,
          survival_probability=1
          - (1 - self.survival_probability) * i / len(layers),
          reduction=levels[i] if ends[i] else None,
          residual=stage.residual and stride == 1 and in_filters == filters,
          experts=stage.experts,
          stride_in=self.stride_in,
        )
      )
      in_filters = filters
    return tuple(blocks)
