"""Rounding, stages as strings, and the blocks that a specification makes."""

import numpy as np
import pytest

from effnet_jax import errors
from effnet_jax.data import resample
from effnet_jax.models import scaling, spec, variants

B0_STAGES = (
  'r1_k3_s1_e1_o16_se r2_k3_s2_e6_o24_se r2_k5_s2_e6_o40_se '
  'r3_k3_s2_e6_o80_se r3_k5_s1_e6_o112_se r4_k5_s2_e6_o192_se '
  'r1_k3_s1_e6_o320_se'
)


@pytest.mark.parametrize(
  'filters, width, with_rule, without_rule',
  [
    (32, 1.0, 32, 32),
    (20, 1.0, 24, 24),  # a width of 1 still rounds: 20 + 4 is 3 eights
    (32, 1.1, 32, 32),  # 35.2 is nearer to 32 than to 40
    (40, 1.1, 48, 48),  # 44 is half-way: up
    (24, 1.1, 24, 24),  # 26.4 -> 24 loses 9.1 %
    (16, 1.2, 24, 16),  # 19.2 -> 16 loses 16.7 %: the case of b3
    (8, 0.25, 8, 8),  # never under one divisor
    (1280, 2.0, 2560, 2560),
  ],
)
def test_round_filters(filters, width, with_rule, without_rule):
  assert scaling.round_filters(filters, width) == with_rule
  assert (
    scaling.round_filters(filters, width, ninety_percent=False) == without_rule
  )


def test_round_filters_by_another_divisor():
  assert scaling.round_filters(18, 1.0, divisor=4) == 20
  assert scaling.round_filters(8, 0.5, min_filters=16) == 16


@pytest.mark.parametrize(
  'repeats, depth, scaled',
  [(1, 1.0, 1), (2, 1.1, 3), (4, 3.1, 13), (3, 2.6, 8), (4, 0.25, 1)],
)
def test_round_repeats(repeats, depth, scaled):
  assert scaling.round_repeats(repeats, depth) == scaled


def test_depth_makes_plateaus():
  def widths(depth):
    blocks = variants.get_spec('b0', depth=depth).blocks()
    return [block.filters for block in blocks]

  assert widths(1.01) == widths(1.25)
  assert widths(1.0) != widths(1.01)
  assert widths(1.25) != widths(1.26)


@pytest.mark.parametrize('name', variants.list_models())
def test_stage_strings_round_trip(name):
  stages = variants.get_spec(name).stages
  assert spec.parse_stages(' '.join(map(str, stages))) == stages


def test_stage_strings_of_b0():
  assert ' '.join(map(str, variants.get_spec('b0').stages)) == B0_STAGES
  fused = spec.StageSpec(4, 3, 2, 4, 48, 'fused_mbconv', squeeze_excite=False)
  assert str(fused) == 'r4_k3_s2_e4_o48_fused'
  assert spec.parse_stages('r4_k3_s2_e4_o48_fused') == (fused,)


@pytest.mark.parametrize(
  'token', ['r2', 'r2_k5_s22_e6_o40', 'r2_k5_s2_e6_o40_se_fused', 'r2k5s2e6o40']
)
def test_no_stage_is_named(token):
  text = f'r1_k3_s1_e1_o16_se {token}'
  if token == 'r2_k5_s22_e6_o40':  # the original's stride, once a direction
    with pytest.raises(errors.UserError, match='s22.*stride must be 1 or 2'):
      spec.ModelSpec('mine', spec.parse_stages(text))
    return
  with pytest.raises(errors.UserError, match=f"'{token}' is no stage.*r2_k5"):
    spec.parse_stages(text)


def test_blocks_of_b0():
  blocks = variants.get_spec('b0').blocks()
  assert [block.index for block in blocks] == list(range(16))
  assert [block.stage for block in blocks] == [
    *(0, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6)
  ]
  in_filters = [
    *(32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192)
  ]
  assert [block.in_filters for block in blocks] == in_filters
  assert [block.filters for block in blocks] == [*in_filters[1:], 320]
  # No expansion in the first; the gate is a quarter of the block's input.
  assert [block.expanded_filters for block in blocks] == [
    32,
    *(6 * filters for filters in in_filters[1:]),
  ]
  assert [block.se_filters for block in blocks] == [
    *(8, 4, 6, 6, 10, 10, 20, 20, 20, 28, 28, 28, 48, 48, 48, 48)
  ]
  assert [block.stride for block in blocks] == [
    *(1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
  ]
  assert [block.kernel_size for block in blocks] == [
    *(3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3)
  ]
  residual = [block.index for block in blocks if block.residual]
  assert residual == [2, 4, 6, 7, 9, 10, 12, 13, 14]
  # Strides 2, 4, 8, 16 end before the next stride of 2; 32 ends the network.
  levels = {b.reduction: b.index for b in blocks if b.reduction is not None}
  assert levels == {1: 0, 2: 2, 3: 4, 4: 10, 5: 15}


@pytest.mark.parametrize('name', variants.list_models())
def test_survival_falls_linearly_over_all_blocks(name):
  blocks = variants.get_spec(name).blocks()
  for index, block in enumerate(blocks):
    assert block.survival_probability == pytest.approx(
      1 - 0.2 * index / len(blocks), abs=1e-12
    )


def test_survival_of_b0():
  blocks = variants.get_spec('b0').blocks()
  assert blocks[0].survival_probability == 1
  assert blocks[8].survival_probability == pytest.approx(0.9)
  assert blocks[15].survival_probability == pytest.approx(0.8125)
  blocks = variants.get_spec('b0', survival_probability=1.0).blocks()
  assert {block.survival_probability for block in blocks} == {1.0}


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'stages': ()}, 'at least one stage'),
    ({'width': 0}, 'width must be above 0'),
    ({'depth': -1.0}, 'depth must be above 0'),
    ({'resolution': 0}, 'resolution must be 1 or more'),
    ({'num_classes': 0}, 'num_classes must be 1 or more'),
    ({'stem_filters': 0}, 'stem_filters must be 1 or more'),
    ({'head_filters': 0}, 'head_filters must be 1 or more'),
    ({'dropout_rate': 1.0}, r'dropout_rate must be in \[0, 1\)'),
    ({'bn_momentum': -0.1}, r'bn_momentum must be in \[0, 1\)'),
    ({'bn_epsilon': 0.0}, 'bn_epsilon must be above 0'),
    ({'survival_probability': 0.0}, 'survival_probability must be in'),
    ({'se_ratio': -0.25}, 'se_ratio must be 0 or more'),
    ({'stem_stride': 4}, 'stem_stride must be 1 or 2'),
    ({'std': (0.2, 0.0, 0.2)}, 'every std must be above 0'),
    (
      {'stages': (spec.StageSpec(1, 3, 1, 1, 8, 'mbconf'),)},
      "unknown operator 'mbconf', known: mbconv, fused_mbconv",
    ),
    ({'stages': (spec.StageSpec(0, 3, 1, 1, 8),)}, 'repeats.*1 or more'),
    ({'stages': (spec.StageSpec(1, 4, 1, 1, 8),)}, 'kernel size odd'),
  ],
)
def test_impossible_values_are_named(overrides, message):
  with pytest.raises(errors.UserError, match=f'^b0: .*{message}'):
    variants.get_spec('b0', **overrides)


def test_numbers_are_made_of_their_fields_types():
  """What configs, JSON and numpy give becomes one hashable thing."""
  given = variants.get_spec(
    'b0',
    width=1,
    resolution=np.int64(64),
    mean=[0.5, 0.5, 0.5],
    std=np.full(3, 0.25, np.float64),
  )
  plain = variants.get_spec(
    'b0', width=1.0, resolution=64, mean=(0.5,) * 3, std=(0.25,) * 3
  )
  assert given == plain and hash(given) == hash(plain)
  assert type(given.resolution) is int and type(given.std[0]) is float


@pytest.mark.parametrize(
  'field, value',
  [
    *(('resolution', value) for value in ('224', None, 32.5, (224, 224), True)),
    *(('width', value) for value in ('1', None, float('inf'))),
    *(('mean', value) for value in (0.5, 'abc', (0.5, 0.5), (0.5, 0.5, '.5'))),
    *(('num_classes', value) for value in (7.5, None)),
    *(('ninety_percent', value) for value in (1, 'no')),
    *(('padding', value) for value in (1, None)),
  ],
)
def test_values_of_another_type_are_named(field, value):
  with pytest.raises(errors.UserError, match=f'^b0: {field}=.* is no '):
    variants.get_spec('b0', **{field: value})


@pytest.mark.parametrize('name', [None, 3, ()])
def test_no_name(name):
  with pytest.raises(errors.UserError, match='is no variant: give its name'):
    variants.get_spec(name)


def test_resamplings_are_those_of_the_data():
  assert spec.RESAMPLINGS == resample.METHODS


def test_gate_is_at_least_one_wide():
  (block,) = spec.ModelSpec(
    'mine', spec.parse_stages('r1_k3_s1_e1_o8_se'), se_ratio=0.01
  ).blocks()
  assert block.se_filters == 1
