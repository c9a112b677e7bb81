"""Published results: spot values from the sources, and rules that all obey."""

import pytest

from effnet_jax.models import published, variants
from effnet_jax.models.published import RESULTS


def test_every_published_variant_is_registered_and_back():
  stated = {result.variant for result in RESULTS}
  assert stated == set(variants.list_models()) - {'micro'}
  with_recipe = {r.variant for r in RESULTS if r.kind == 'published'}
  assert with_recipe == stated


def test_rows_are_well_formed():
  for result in RESULTS:
    assert 70 < result.top1 < 90, result
    assert result.top5 is None or result.top1 + 8 < result.top5 < 99, result
    # Given only where it is another than the variant's own.
    own = variants.get_spec(result.variant).resolution
    assert result.resolution != own, result
    assert (result.kind == 're-evaluated') == (result.weights is not None)


def test_a_recipe_is_stated_once():
  published_rows = [r for r in RESULTS if r.kind == 'published']
  assert len({(r.variant, r.recipe) for r in published_rows}) == len(
    published_rows
  )
  ways = [
    (r.weights, r.resolution, r.note)
    for r in RESULTS
    if r.kind == 're-evaluated'
  ]
  assert len(set(ways)) == len(ways)


# From the tables that the module names, cell by cell.
@pytest.mark.parametrize(
  'variant, expected',
  [
    (
      'b5',
      {
        'baseline': 83.1,
        'autoaugment': 83.6,
        'randaugment': 83.7,
        'advprop': 84.3,
        'noisy_student': 86.1,
      },
    ),
    ('b6', {'autoaugment': 84.0, 'advprop': 84.8, 'noisy_student': 86.4}),
    ('b8', {'advprop': 85.5}),
    ('l2_475', {'noisy_student': 88.2}),
    ('lite2', {'in1k': 77.6, 'in1k_int8': 77.0}),
    ('edgetpu_m', {'in1k': 78.69, 'in1k_int8': 78.6}),
    ('condconv_b1_8e', {'in1k': 79.5}),
    ('v2_b3', {'in1k': 82.1}),
    ('v2_xl', {'in21k_ft_in1k': 87.2}),
    ('micro', {}),
  ],
)
def test_top1_by_recipe(variant, expected):
  assert published.top1_by_recipe(variant) == expected


@pytest.mark.parametrize(
  'weights, variant, top1, top5',
  [
    ('tf_efficientnet_b0.ns_jft_in1k', 'b0', 78.680, None),
    ('hf://timm/tf_efficientnet_b7.ap_in1k', 'b7', 85.132, None),
    ('tf_efficientnet_l2.ns_jft_in1k_475', 'l2_475', 88.246, 98.554),
    ('tf_efficientnetv2_b3.in21k_ft_in1k', 'v2_b3', 82.634, None),
    ('tf_efficientnetv2_xl.in21k_ft_in1k', 'v2_xl', 86.754, None),
    ('tf_efficientnet_cc_b0_8e.in1k', 'condconv_b0_8e', 77.956, None),
    ('efficientnet_b5.sw_in12k_ft_in1k', 'b5', 85.894, None),
    ('EfficientNet_B1_Weights.IMAGENET1K_V2', 'b1', 79.838, 94.934),
    ('efficientnet_v2_l-59c71312.pth', 'v2_l', 85.808, 97.788),
    ('EfficientNetV2M', 'v2_m', 85.3, 97.4),
    ('efficientnetv2-b2.h5', 'v2_b2', 80.5, 95.1),
    ('efficientnet-lite1-77cc7160', 'lite1', 76.7, None),
  ],
)
def test_find_by_the_weights_name(weights, variant, top1, top5):
  (result,) = published.find(weights)
  assert (result.variant, result.top1, result.top5) == (variant, top1, top5)


def test_find_gives_every_way_of_evaluating():
  now, before = published.find('tf_efficientnet_es.in1k')
  assert (now.top1, before.top1) == (76.608, 77.284)
  assert 'expansion' in now.note and 'projection' in before.note
  native, larger = published.find('efficientnet_b0.ra4_e3600_r224_in1k')
  assert (native.resolution, larger.resolution) == (None, 256)
  assert (native.top1, larger.top1) == (78.568, 79.364)
  assert published.find('tf_efficientnet_b0.mine') == ()
  assert published.find('efficientnet_b1') == ()  # of timm or torchvision?


def test_reevaluations_are_near_what_was_published():
  recipes = {
    'in1k': 'baseline',
    'aa_in1k': 'autoaugment',
    'ra_in1k': 'randaugment',
    'ap_in1k': 'advprop',
    'ns_jft_in1k': 'noisy_student',
    'ns_jft_in1k_475': 'noisy_student',
  }
  compared = 0
  for result in RESULTS:
    if not (result.weights or '').startswith('tf_'):
      continue
    top1 = published.top1_by_recipe(result.variant)
    recipe = recipes.get(result.recipe, result.recipe)
    stated = top1.get(recipe) or top1.get(result.recipe)
    if stated:
      compared += 1
      assert abs(stated - result.top1) < 0.7, result
  # All but b8 with RandAugment and v2_b3 from ImageNet-21k.
  assert compared == sum(
    (r.weights or '').startswith('tf_') for r in RESULTS
  ) - len(('tf_efficientnet_b8.ra_in1k', 'tf_efficientnetv2_b3.in21k_ft_in1k'))


def test_hub_names():
  assert published.hub_names('v2_s') == (
    'tf_efficientnetv2_s.in1k',
    'tf_efficientnetv2_s.in21k_ft_in1k',
  )
  assert published.hub_names('edgetpu_s') == (
    'tf_efficientnet_es.in1k',
    'efficientnet_es.ra_in1k',
  )
  assert published.hub_names('micro') == ()
