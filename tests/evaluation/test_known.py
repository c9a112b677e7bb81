"""Published accuracies beside what was measured."""

import dataclasses

import pytest

from effnet_jax.evaluation.known import known_results
from effnet_jax.models import published
from effnet_jax.models.variants import get_spec


def _top1(source, variant, tag=None, data='imagenet', resolution=None):
  spec = get_spec(variant)
  if resolution:
    spec = dataclasses.replace(spec, resolution=resolution)
  results = known_results(data, source, spec, tag)
  return [result.top1 for result in results]


# Values by hand, from the tables of timm, torchvision, Keras and the authors.
@pytest.mark.parametrize(
  'source, variant, tag, top1',
  [
    ('hf://timm/tf_efficientnet_b0.ns_jft_in1k', 'b0', None, [78.68]),
    ('hf://timm/tf_efficientnet_b0.aa_in1k@main/x.bin', 'b0', None, [76.882]),
    ('/data/tf_efficientnet_b0.ap_in1k.safetensors', 'b0', None, [77.1]),
    ('copies/tf_efficientnet_b0.ap_in1k/model.safetensors', 'b0', None, [77.1]),
    ('copies/mine', 'b0', 'ns_jft_in1k', [78.68]),
    ('efficientnet_b1-c27df63c.pth', 'b1', None, [79.838]),
    ('efficientnetb0.h5', 'b0', None, [77.1]),
    ('efficientnetv2-b0.weights.h5', 'v2_b0', None, [78.7]),
    ('lite1', 'lite1', None, [76.7]),
    ('efficientnet-lite2-9656183e.pth', 'lite2', None, [77.6]),
    ('hf://timm/tf_efficientnet_es.in1k', 'edgetpu_s', None, [76.608, 77.284]),
    ('runs/b0', 'b0', None, []),
    ('tf_efficientnet_b0.aa_in1k', 'b1', None, []),  # something else then
    ('runs/b0', 'b0', 'mine', []),
    ('b0', 'b0', None, []),
    ('', 'b0', None, []),
  ],
)  # fmt: skip
def test_on_imagenet(source, variant, tag, top1):
  assert _top1(source, variant, tag) == top1


@pytest.mark.parametrize(
  'resolution, top1',
  [(None, [78.568]), (224, [78.568]), (256, [79.364]), (240, [])],
)
def test_only_of_the_same_resolution(resolution, top1):
  source = 'hf://timm/efficientnet_b0.ra4_e3600_r224_in1k'
  assert _top1(source, 'b0', resolution=resolution) == top1
  source, data = 'tf_efficientnet_b0.in1k', 'imagenet_v2'
  found = _top1(source, 'b0', data=data, resolution=resolution)
  assert found == ([63.54] if resolution in (None, 224) else [])


def test_on_other_label_sets():
  source = 'hf://timm/tf_efficientnet_b7.ns_jft_in1k'
  assert _top1(source, 'b7') == [86.85]
  assert _top1(source, 'b7', data='imagenet_a') == [67.19]
  assert _top1(source, 'b7', data='imagenet_real') == [90.159]
  assert _top1(source, 'b7', data='imagenet_v2') == [77.94]
  assert _top1(source, 'b7', data='imagenet_v2/topimages') == []
  assert _top1(source, 'b7', data='photos/') == []
  assert _top1('elsewhere', 'b7', 'ns_jft_in1k', 'imagenet_a') == [67.19]


def test_every_name_is_one_of_the_table():
  from effnet_jax.evaluation import known, label_sets

  for data, rows in known._ELSEWHERE.items():
    assert data in label_sets.BENCHMARKS
    for name in rows:
      (result,) = published.find(name)
      assert _top1(f'hf://timm/{name}', result.variant, data=data) == [
        rows[name]
      ]
