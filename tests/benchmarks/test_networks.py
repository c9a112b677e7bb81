"""The networks that ours are timed against."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks.networks import amoebanet, layers, resnet
from effnet_jax.inference.jax_operations import JaxOperations


def _parameters(module):
  return sum(layer.parameters for layer in module.layers_of().values())


def test_resnet152_has_torchvisions_parameters():
  assert _parameters(resnet) == 60_192_808


def test_amoebanet_has_the_published_size_and_its_readings_differ():
  first, *others = [
    amoebanet.parameters(reading)
    for reading in amoebanet.readings()
    if reading.first_width == 1 and reading.stem_cells
  ]
  assert first == _parameters(amoebanet) == 557_333_736
  assert amoebanet.counts(first)
  assert not any(map(amoebanet.counts, others))


def test_a_reduction_cell_by_hand():
  # Width 8 of maps of 12 channels, of 4x4 and (the one before) 8x8 pixels.
  taken = layers.Layers(JaxOperations())
  cell = amoebanet._Cell(taken, 'cell', amoebanet.Reading(), 8)
  maps = (jnp.ones((1, 4, 4, 12)), jnp.ones((1, 8, 8, 12)))
  output = cell(amoebanet.REDUCTION, *maps)
  assert output.shape == (1, 2, 2, 16)  # two states of the five
  counts = {name: layer.parameters for name, layer in taken.asked.items()}
  assert counts == {
    'cell/current': 12 * 8 + 16,
    'cell/previous_0': 12 * 4 + 8,
    'cell/previous_1': 12 * 4 + 8,
    'cell/3_3x3/reduce': 8 * 2 + 4,
    'cell/3_3x3/conv': 9 * 2 * 2 + 4,
    'cell/3_3x3/expand': 2 * 8 + 16,
    'cell/4_dil_2_separable_5x5_2/depthwise_0': 25 * 8,
    'cell/4_dil_2_separable_5x5_2/pointwise_0': 8 * 8 + 16,
    'cell/4_dil_2_separable_5x5_2/depthwise_1': 25 * 8,
    'cell/4_dil_2_separable_5x5_2/pointwise_1': 8 * 8 + 16,
    'cell/7_separable_3x3_2/depthwise_0': 9 * 8,
    'cell/7_separable_3x3_2/pointwise_0': 8 * 8 + 16,
    'cell/7_separable_3x3_2/depthwise_1': 9 * 8,
    'cell/7_separable_3x3_2/pointwise_1': 8 * 8 + 16,
    'cell/9_1x1': 8 * 8 + 16,
  }


def test_a_network_runs_on_drawn_weights_and_uses_each_once():
  forward = lambda taken, images: amoebanet.forward(
    taken, images, cells=3, filters=16
  )
  asked = layers.layers_of(forward, 32)
  images = np.random.default_rng(1).standard_normal((2, 32, 32, 3), np.float32)
  logits = layers.predictor(forward, layers.random_weights(asked))(images)
  assert logits.shape == (2, 1000) and np.isfinite(logits).all()
  assert np.abs(logits[0] - logits[1]).max() > 1e-3
  with pytest.raises(ValueError, match='two layers have the name a'):
    taken = layers.Layers(JaxOperations())
    taken.dense('a', taken.dense('a', jnp.ones((1, 2)), 3), 3)


def test_folded_batch_norm_is_batch_norm():
  rng = np.random.default_rng(0)
  names = resnet.layers_of()
  state = {}
  for name, layer in names.items():
    if name == 'fc':
      state |= {'fc.weight': np.ones(layer.kernel[::-1]), 'fc.bias': np.ones(1)}
      continue
    norm = name.replace('conv', 'bn').replace('sample.0', 'sample.1')
    # Stand-ins of the right shape: only the first layer is looked at.
    zero = np.broadcast_to(np.float32(1), layer.kernel).transpose(3, 2, 0, 1)
    state[f'{name}.weight'] = zero
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
      state[f'{norm}.{leaf}'] = rng.uniform(0.5, 1.5, layer.kernel[-1])
  state['conv1.weight'] = rng.standard_normal((64, 3, 7, 7))
  folded = resnet.fold(state)
  assert folded.keys() == names.keys()

  x = rng.standard_normal((1, 9, 9, 3))
  convolve = lambda kernel: lax.conv_general_dilated(
    *(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), (2, 2)),
    ((3, 3), (3, 3)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  y = convolve(state['conv1.weight'].transpose(2, 3, 1, 0))
  y = (y - state['bn1.running_mean']) / np.sqrt(state['bn1.running_var'] + 1e-5)
  expected = y * state['bn1.weight'] + state['bn1.bias']
  given = convolve(folded['conv1']['kernel']) + folded['conv1']['bias']
  np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('size', [6, 7])
def test_dilated_is_a_dilated_convolution(size):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, size, size + 1, 4), np.float32)
  kernel = rng.standard_normal((5, 5, 1, 4), np.float32)
  expected = lax.conv_general_dilated(
    *(x, kernel, (1, 1), 'SAME'),
    rhs_dilation=(2, 2),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=4,
  )
  bias = np.zeros(4, np.float32)
  given = layers.dilated(
    jnp.asarray(x),
    2,
    lambda x: JaxOperations().depthwise(x, kernel, bias, 1, 'same', None),
  )
  np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)


def test_pools_by_hand():
  x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)  # rows 1 2 3, 4 5 6, 7 8 9
  square = lambda y: np.asarray(y)[0, :, :, 0].tolist()
  assert square(layers.max_pool(x, 3, 2)) == [[5, 6], [8, 9]]
  assert square(layers.max_pool(x, 2, 2)) == [[5, 6], [8, 9]]
  assert square(layers.max_pool(-x, 3, 2, padding=(1, 1))) == [
    [-1, -2],
    [-4, -5],
  ]
  # Corners: the mean of four pixels, padding left out.
  assert square(layers.average_pool(x, 3, 2)) == [[3, 4], [6, 7]]
  assert jax.eval_shape(
    lambda x: layers.average_pool(x, 3, 2), jnp.ones((1, 4, 5, 1))
  ).shape == (1, 2, 3, 1)
