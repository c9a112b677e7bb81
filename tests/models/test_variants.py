"""Every registered variant against published numbers and two counters.

Sizes of b0 to b7: trainable parameters and moving statistics as Keras,
torchvision and timm give them, MACs as torch's FlopCounterMode gives them.
"""

import math
from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import pytest

from effnet_jax import errors
from effnet_jax.models import efficientnet, macs, spec, variants


class Row(NamedTuple):
  params: int  # trainable
  bn_stats: int  # moving means and variances
  macs: int  # at the native resolution
  activations: float  # outputs of convolutions, millions (timm's Macts)
  resolution: int
  dropout_rate: float
  blocks: int
  bn_layers: int
  final_map: int
  stem: int
  stages: str  # output filters x repeats
  head: int


# fmt: off
TABLE = {
  'b0': Row(5_288_548, 42_016, 385_814_752, 6.75, 224, 0.2, 16, 49, 7,
            32, '16x1 24x2 40x2 80x3 112x3 192x4 320x1', 1280),
  'b1': Row(7_794_184, 62_048, 686_802_832, 10.88, 240, 0.2, 23, 69, 8,
            32, '16x2 24x3 40x3 80x4 112x4 192x5 320x2', 1280),
  'b2': Row(9_109_994, 67_568, 993_561_872, 13.83, 260, 0.3, 23, 69, 9,
            32, '16x2 24x3 48x3 88x4 120x4 208x5 352x2', 1408),
  'b3': Row(12_233_232, 87_296, 1_827_141_392, 23.83, 300, 0.3, 26, 78, 10,
            40, '24x2 32x3 48x3 96x5 136x5 232x6 384x2', 1536),
  'b4': Row(19_341_616, 125_200, 4_393_771_024, 49.49, 380, 0.4, 32, 96, 12,
            48, '24x2 32x4 56x4 112x6 160x6 272x8 448x2', 1792),
  'b5': Row(30_389_784, 172_736, 10_266_384_752, 98.86, 456, 0.4, 39, 116, 15,
            48, '24x3 40x5 64x5 128x7 176x7 304x9 512x3', 2048),
  'b6': Row(43_040_704, 224_432, 19_067_593_536, 167.39, 528, 0.5, 45, 134, 17,
            56, '32x3 40x6 72x6 144x8 200x8 344x11 576x3', 2304),
  'b7': Row(66_347_960, 310_720, 37_745_884_192, 289.94, 600, 0.5, 55, 163, 19,
            64, '32x4 48x7 80x7 160x10 224x10 384x13 640x4', 2560),
  # By hand, in test_micro_by_hand.
  'micro': Row(1_213_424, 10_400, 1_936_848, 0.05, 16, 0.2, 8, 25, 1,
               16, '8x1 16x1 24x1 40x1 56x1 96x2 160x1', 640),
}
# fmt: on


def _trace(model_spec, resolution):
  """Shapes of variables and outputs, and the network's jaxpr."""
  model = efficientnet.build(model_spec, depthwise='grouped')
  images = jax.ShapeDtypeStruct((1, resolution, resolution, 3), jnp.float32)
  jaxpr, ((logits, endpoints), variables) = jax.make_jaxpr(
    model.init_with_output, return_shape=True
  )(jax.random.key(0), images)
  return variables, logits, endpoints, jaxpr.jaxpr


def _is_jaxpr(x):
  return isinstance(x, jax.extend.core.Jaxpr | jax.extend.core.ClosedJaxpr)


def _products(jaxpr):
  """Multiply-adds and outputs of every convolution and matrix product."""
  multiply_adds, outputs = 0, 0
  for eqn in jaxpr.eqns:
    for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
      if not _is_jaxpr(inner):
        continue
      inner_multiply_adds, inner_outputs = _products(
        getattr(inner, 'jaxpr', inner)
      )
      multiply_adds += inner_multiply_adds
      outputs += inner_outputs
    if eqn.primitive.name == 'conv_general_dilated':
      kernel = eqn.invars[1].aval.shape
      filters = kernel[eqn.params['dimension_numbers'].rhs_spec[0]]
      terms = math.prod(kernel) // filters
    elif eqn.primitive.name == 'dot_general':
      (contracted, _), _ = eqn.params['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      terms = math.prod(shape[axis] for axis in contracted)
    else:
      continue
    size = math.prod(eqn.outvars[0].aval.shape)
    multiply_adds += size * terms
    outputs += size
  return multiply_adds, outputs


def _size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_every_variant_is_in_the_table():
  assert set(TABLE) == set(variants.list_models())


@pytest.mark.parametrize('name', variants.list_models())
def test_counted_from_the_specification(name):
  row, model_spec = TABLE[name], variants.get_spec(name)
  counts = macs.count(model_spec)
  assert counts.params == row.params
  assert counts.bn_stats == row.bn_stats
  assert counts.macs == row.macs
  assert round(counts.activations / 1e6, 2) == row.activations
  assert macs.final_map(model_spec) == row.final_map
  blocks = model_spec.blocks()
  assert len(blocks) == row.blocks
  stages = [[] for _ in model_spec.stages]
  for block in blocks:
    stages[block.stage].append(block.filters)
  assert all(len(set(filters)) == 1 for filters in stages)
  assert ' '.join(f'{f[0]}x{len(f)}' for f in stages) == row.stages
  assert model_spec.stem_width == row.stem
  assert model_spec.head_width == row.head
  assert model_spec.resolution == row.resolution
  assert model_spec.dropout_rate == row.dropout_rate


@pytest.mark.parametrize('name', variants.list_models())
def test_counted_from_the_network(name):
  row = TABLE[name]
  variables, logits, endpoints, jaxpr = _trace(
    variants.get_spec(name), row.resolution
  )
  assert _size(variables['params']) == row.params
  assert _size(variables['batch_stats']) == row.bn_stats
  paths = jax.tree_util.tree_leaves_with_path(variables['batch_stats'])
  assert sum(path[-1].key == 'mean' for path, _ in paths) == row.bn_layers
  multiply_adds, outputs = _products(jaxpr)
  assert multiply_adds == row.macs
  assert round(outputs / 1e6, 2) == row.activations
  assert endpoints['head'].shape == (1, row.final_map, row.final_map, row.head)
  assert endpoints['pooled_features'].shape == (1, row.head)
  assert logits.shape == (1, 1000)
  assert sum(name.startswith('block_') for name in endpoints) == row.blocks


# The Fused-MBConv of V2 in all its forms, which no registered variant has yet.
_FUSED = spec.ModelSpec(
  'fused',
  spec.parse_stages(
    'r2_k3_s1_e1_o16_fused r2_k3_s2_e4_o32_fused r1_k5_s2_e1_o32_fused_se '
    'r2_k3_s1_e2_o40_fused_se r1_k3_s2_e4_o48_se r1_k5_s1_e1_o48'
  ),
  num_classes=10,
)


@pytest.mark.parametrize(
  'model_spec, resolution',
  [
    (variants.get_spec('b0'), 193),
    (variants.get_spec('b3', num_classes=7, se_ratio=0), 97),
    (variants.get_spec('micro', stem_stride=2), 45),
    (variants.get_spec('micro'), 13),
    (_FUSED, 224),
    (_FUSED, 75),
  ],
  ids=['b0', 'b3 without SE', 'micro stride 2', 'micro', 'fused', 'fused odd'],
)
def test_the_two_counters_agree_away_from_the_table(model_spec, resolution):
  variables, _, endpoints, jaxpr = _trace(model_spec, resolution)
  counts = macs.count(model_spec, resolution)
  assert counts.params == _size(variables['params'])
  assert counts.bn_stats == _size(variables['batch_stats'])
  assert (counts.macs, counts.activations) == _products(jaxpr)
  side = macs.final_map(model_spec, resolution)
  assert endpoints['head'].shape[1:3] == (side, side)


def test_micro_by_hand():
  # Half of b0's widths, rounded to eights: 16 -> 8, 24 -> 12 -> 16 (12 + 4 is a
  # multiple of 8), 40 -> 20 -> 24, 80 -> 40, 112 -> 56, 192 -> 96, 320 -> 160.
  # Repeats 1 2 2 3 3 4 1 -> ceil(.3 r).
  rows = [
    # in, expanded, kernel, gate, out, map before, map after
    (16, 16, 3, 4, 8, 16, 16),
    (8, 48, 3, 2, 16, 16, 8),
    (16, 96, 5, 4, 24, 8, 4),
    (24, 144, 3, 6, 40, 4, 2),
    (40, 240, 5, 10, 56, 2, 2),
    (56, 336, 5, 14, 96, 2, 1),
    (96, 576, 5, 24, 96, 1, 1),
    (96, 576, 3, 24, 160, 1, 1),
  ]
  weights, gate_biases, channels = 3 * 3 * 3 * 16, 0, 16  # the stem
  multiply_adds = 3 * 3 * 3 * 16 * 16**2
  for i, e, k, s, o, before, after in rows:
    if e != i:
      weights += i * e
      multiply_adds += i * e * before**2
      channels += e
    weights += k * k * e + e * s + s * e + e * o
    multiply_adds += k * k * e * after**2 + 2 * e * s + e * o * after**2
    gate_biases += s + e
    channels += e + o
  weights += 160 * 640 + 640 * 1000
  multiply_adds += 160 * 640 + 640 * 1000
  channels += 640
  row = TABLE['micro']
  assert row.params == weights + gate_biases + 2 * channels + 1000
  assert row.bn_stats == 2 * channels
  assert row.macs == multiply_adds


def test_without_the_ninety_percent_rule():
  # Totals (trainable + moving statistics) of google/automl, which has no such
  # rule. Its b3 is the one that the published checkpoint does not fit:
  # 12,314,268 where the rule gives 12,320,528.
  for name, total in {
    'b0': 5_330_564,
    'b1': 7_856_232,
    'b2': 9_177_562,
    'b3': 12_314_268,
    'b4': 19_466_816,
    'b5': 30_562_520,
    'b6': 43_265_136,
  }.items():
    counts = macs.count(variants.get_spec(name, ninety_percent=False))
    assert counts.params + counts.bn_stats == total, name
  counts = macs.count(variants.get_spec('b3'))
  assert counts.params + counts.bn_stats == 12_320_528


@pytest.mark.parametrize(
  'alias, name',
  [
    ('efficientnet_b0', 'b0'),
    ('tf_efficientnet_b7', 'b7'),
    ('efficientnet-b3', 'b3'),
    ('EfficientNetB4', 'b4'),
    ('B1', 'b1'),
  ],
)
def test_names_that_people_know(alias, name):
  assert variants.get_spec(alias) == variants.VARIANTS[name]


def test_aliases_hide_no_variant():
  assert not set(variants.ALIASES) & set(variants.VARIANTS)
  assert set(variants.ALIASES.values()) <= set(variants.VARIANTS)


@pytest.mark.parametrize(
  'name, near', [('b00', 'b0'), ('efficientnet_b11', 'efficientnet_b1')]
)
def test_unknown_variant_names_near_ones(name, near):
  with pytest.raises(
    errors.UserError, match=f"'{name}': did you mean .*{near}"
  ):
    variants.get_spec(name)


def test_overrides():
  published = macs.count(variants.get_spec('b0'))
  ten = macs.count(variants.get_spec('b0', num_classes=10))
  # 990 columns of 1280 weights and a bias.
  assert published.params - ten.params == 990 * 1281
  assert published.macs - ten.macs == 990 * 1280
  # Without the stem's stride, half the side makes the same maps.
  assert macs.count(variants.get_spec('b0', stem_stride=1), 112) == published
  assert variants.get_spec('b0').num_classes == 1000


def test_unknown_field_names_near_ones():
  with pytest.raises(errors.UserError, match="'widht': did you mean width"):
    variants.get_spec('b0', widht=1.1)
