"""The seeded weights of the comparisons with peers."""

import numpy as np
import pytest

from benchmarks import seeded

# Of every world of names: key, shape, role, expected deviation of the entries.
# Projections have gain 2.6, in a residual branch 0.016 of it; what follows an
# activation 2.2; other kernels 1; the classifier 3; all over the fan-in.
_KERNELS = (
  ('conv_stem.weight', (32, 3, 3, 3), 'kernel', (1 / 27) ** 0.5),
  ('stem_conv/kernel', (3, 3, 3, 32), 'kernel', (1 / 27) ** 0.5),
  ('blocks.1.0.conv_pw.weight', (96, 16, 1, 1), 'kernel', (1 / 16) ** 0.5),
  ('blocks_1/conv2d/kernel', (1, 1, 16, 96), 'kernel', (1 / 16) ** 0.5),
  ('blocks.1.0.conv_dw.weight', (96, 1, 3, 3), 'depthwise', (2.2 / 9) ** 0.5),
  ('block2a_dwconv2/kernel', (3, 3, 96, 1), 'depthwise', (2.2 / 9) ** 0.5),
  (
    'blocks_1/depthwise_conv2d/depthwise_kernel',
    (5, 5, 96, 1),
    'depthwise',
    (2.2 / 25) ** 0.5,
  ),
  ('blocks.1.0.conv_pwl.weight', (40, 96, 1, 1), 'kernel', (2.6 / 96) ** 0.5),
  (
    'block2b_project_conv/kernel',
    (1, 1, 144, 24),
    'kernel',
    (2.6 * 0.016 / 144) ** 0.5,
  ),
  # Of widths like those, but EdgeTPU's first blocks have no residual.
  ('blocks.0.0.conv_pwl.weight', (24, 96, 1, 1), 'kernel', (2.6 / 96) ** 0.5),
  ('blocks.1.0.se.conv_reduce.weight', (40, 96, 1, 1), 'gate', 96**-0.5),
  ('features.2.0.block.2.fc2.weight', (96, 40, 1, 1), 'gate', 40**-0.5),
  ('_blocks.1._se_expand.weight', (96, 40, 1, 1), 'gate', 40**-0.5),
  ('block2a_se_reduce/kernel', (1, 1, 96, 40), 'gate', 96**-0.5),
  ('classifier.weight', (1000, 1280), 'dense', (3 / 1280) ** 0.5),
  ('predictions/kernel', (1280, 1000), 'dense', (3 / 1280) ** 0.5),
  (
    'blocks.5.1.conv_pw.weight',
    (4, 1152 * 192),
    'experts',
    (1 / 0.27 / 4 / 192) ** 0.5,
  ),
  (
    'blocks.5.1.conv_dw.weight',
    (8, 1152 * 25),
    'experts',
    (2.2 / 0.27 / 8 / 25) ** 0.5,
  ),
)


@pytest.mark.parametrize('key, shape, role, std', _KERNELS)
def test_kernels_have_the_gain_of_their_role(key, shape, role, std):
  assert seeded.role(key, shape) == role
  array = seeded.array(0, key, shape)
  assert array.shape == shape and array.dtype == np.float32
  # Five standard errors of a standard deviation.
  assert array.std() == pytest.approx(std, rel=5 / (2 * array.size) ** 0.5)


@pytest.mark.parametrize(
  'key, role, low, high, mean',
  [
    ('bn1.weight', 'scale', 0.5, 1.5, 1),
    ('block1a_bn/gamma', 'scale', 0.5, 1.5, 1),
    ('bn1.running_var', 'variance', 0.5, 1.5, 1),
    ('top_bn/moving_variance', 'variance', 0.5, 1.5, 1),
    ('bn1.bias', 'bias', -0.6, 0.6, 0),
    ('stem/tpu_batch_normalization/beta', 'bias', -0.6, 0.6, 0),
    ('_bn0.running_mean', 'mean', -0.6, 0.6, 0),
    ('blocks.1.0.se.conv_reduce.bias', 'bias', -0.6, 0.6, 0),
    ('blocks.1.0.se.conv_expand.bias', 'gate_bias', 0.9, 2.1, 1.5),
    ('blocks_1/se/conv2d_1/bias', 'gate_bias', 0.9, 2.1, 1.5),
    ('features.2.0.block.2.fc2.bias', 'gate_bias', 0.9, 2.1, 1.5),
  ],
)
def test_vectors_are_far_from_trivial(key, role, low, high, mean):
  assert seeded.role(key, (2000,)) == role
  array = seeded.array(0, key, (2000,))
  assert low <= array.min() < mean - 0.2 and mean + 0.2 < array.max() <= high
  assert array.mean() == pytest.approx(mean, abs=0.05)


def test_pure_function_of_seed_key_and_shape():
  first = seeded.array(0, 'bn1.weight', (64,))
  np.testing.assert_array_equal(first, seeded.array(0, 'bn1.weight', (64,)))
  assert not np.array_equal(first, seeded.array(1, 'bn1.weight', (64,)))
  assert not np.array_equal(first, seeded.array(0, 'bn2.weight', (64,)))


def test_fixed_for_ever():
  """Golden files hold the seed alone: other numbers would void them all."""
  np.testing.assert_allclose(
    seeded.array(0, 'bn1.weight', (3,)),
    (0.5077806, 0.9882811, 0.5105388),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    seeded.array(0, 'conv_stem.weight', (1, 3, 1, 1)).ravel(),
    (0.8323162, -0.372498, -0.2396447),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    seeded.images(0, 1, 5)[0, 4, 4], (0.4630453, 1.248579, 2.672243), rtol=1e-5
  )


def test_step_counters_are_whole_numbers():
  array = seeded.array(0, 'bn1.num_batches_tracked', ())
  assert array.shape == () and array.dtype == np.int64


def test_a_name_of_no_network_is_refused():
  with pytest.raises(ValueError, match='global_step'):
    seeded.array(0, 'global_step', ())


def test_images_are_normal_and_differ_as_a_whole():
  images = seeded.images(0, 4, 97)
  assert images.shape == (4, 97, 97, 3) and images.dtype == np.float32
  # One grain in four is a single draw for each channel of an image.
  within = images - images.mean(axis=(1, 2), keepdims=True)
  assert within.var() == pytest.approx(0.75, abs=0.05)
  assert images.mean(axis=(1, 2)).std() > 0.1


@pytest.mark.parametrize('std', [0.05, 20.0, np.nan])
def test_logits_of_another_size_are_refused(std):
  with pytest.raises(AssertionError, match='standard deviation'):
    seeded.check_logits(std * np.array([-1.0, 1.0]))
  assert seeded.check_logits(np.array([-1.0, 1.0])) == 1.0
