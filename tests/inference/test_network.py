"""Folding by hand, and what is refused. The whole is in `test_predictor`."""

import jax
import numpy as np
import pytest

from effnet_jax import errors
from effnet_jax.inference import network
from effnet_jax.models import efficientnet, spec

_STAGES = 'r1_k3_s1_e1_o8_fused r1_k3_s2_e2_o8_se_cc2'


@pytest.fixture(scope='module')
def tiny():
  """Specification and variables; the statistics are drawn."""
  tiny = spec.ModelSpec(
    'tiny',
    spec.parse_stages(_STAGES),
    stem_filters=8,
    head_filters=16,
    num_classes=4,
    bn_epsilon=0.5,
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32),
    efficientnet.shapes(efficientnet.build(tiny)),
  )
  return tiny, variables


def test_fold_by_hand(tiny):
  folded = network.fold(*tiny)
  params, stats = tiny[1]['params'], tiny[1]['batch_stats']
  # Filter 3 of the stem: w * g / sqrt(v + e), b - m * g / sqrt(v + e).
  gain = params['stem_bn']['scale'][3] / np.sqrt(
    np.float64(stats['stem_bn']['var'][3]) + 0.5
  )
  np.testing.assert_allclose(
    folded['stem_conv']['kernel'][..., 3],
    params['stem_conv']['kernel'][..., 3] * gain,
    rtol=2e-7,
  )
  np.testing.assert_allclose(
    folded['stem_conv']['bias'][3],
    params['stem_bn']['bias'][3] - stats['stem_bn']['mean'][3] * gain,
    rtol=2e-6,
  )


def test_experts_share_one_bias(tiny):
  folded = network.fold(*tiny)['blocks_1']
  params, stats = (tiny[1][c]['blocks_1'] for c in ('params', 'batch_stats'))
  for name in ('expand', 'depthwise', 'project'):
    gain = params[f'{name}_bn']['scale'] / np.sqrt(
      np.float64(stats[f'{name}_bn']['var']) + 0.5
    )
    kernel = params[f'{name}_conv']['kernel']
    assert kernel.shape[0] == 2
    np.testing.assert_allclose(
      folded[f'{name}_conv']['kernel'], kernel * gain, rtol=2e-7
    )
    assert folded[f'{name}_conv']['bias'].shape == kernel.shape[-1:]


def test_what_has_no_batch_norm_is_as_it_was(tiny):
  folded, params = network.fold(*tiny), tiny[1]['params']
  for old, new in (
    (params['classifier'], folded['classifier']),
    (params['blocks_1']['se'], folded['blocks_1']['se']),
    (params['blocks_1']['routing'], folded['blocks_1']['routing']),
  ):
    jax.tree.map(np.testing.assert_array_equal, old, new)


def test_names_and_dtypes(tiny):
  folded = network.fold(*tiny)
  assert {leaf.dtype for leaf in jax.tree.leaves(folded)} == {
    np.dtype('float32')
  }
  # e1 fused: its one convolution is the projection.
  assert {name: sorted(layer) for name, layer in folded.items()} == {
    'stem_conv': ['bias', 'kernel'],
    'blocks_0': ['project_conv'],
    'blocks_1': [
      *('depthwise_conv', 'expand_conv', 'project_conv', 'routing', 'se')
    ],
    'head_conv': ['bias', 'kernel'],
    'classifier': ['bias', 'kernel'],
  }


def _without(tree, *path):
  name, *rest = path
  if not rest:
    return {key: value for key, value in tree.items() if key != name}
  return {**tree, name: _without(tree[name], *rest)}


def test_variables_of_another_network(tiny):
  tiny, variables = tiny
  lost = _without(variables, 'params', 'blocks_1', 'se', 'reduce', 'bias')
  with pytest.raises(errors.UserError, match='se/reduce/bias is missing'):
    network.fold(tiny, lost)
  with pytest.raises(errors.UserError, match='batch_stats/.* is missing'):
    network.fold(tiny, {'params': variables['params']})
  wide = jax.tree.map(np.asarray, variables)
  wide['params']['classifier']['bias'] = np.zeros(5, np.float32)
  with pytest.raises(
    errors.UserError, match=r'4 classes: .*/bias is \[5\], should be \[4\]'
  ):
    network.fold(tiny, wide)
