"""Random weights and images as a pure function of a seed, a name and a shape.

A peer's model is filled with `array(seed, key, shape)` for every key of its own
state; whoever knows the keys and the shapes, such as the table of names of a
layout, gets the same arrays without the peer.

Understood are the names of torch (timm, torchvision and lukemelas:
`blocks.1.0.conv_pw.weight`, kernels [out, in, h, w]), of Keras
(`block2a_expand_conv/kernel`, kernels [h, w, in, out]) and of TensorFlow 1
(`blocks_1/conv2d/kernel`).

The moving statistics are drawn, not measured, so nothing normalises the signal
on its way. What keeps its size are the gains below: a network of the family
then has logits of standard deviation 0.1 to 10 whatever its depth, which
`check_logits` asserts, and its gates are on neither end.
"""

import re
import zlib

import numpy as np

# Variance gains of kernels, over 1 / fan-in. What goes through an activation
# leaves with a part of its power: 0.36 after silu, half after relu.
ACTIVATION_GAIN = 2.2
# A projection comes after an activation and mostly a gate. A bit less than what
# both take: then chains of blocks without a residual shrink the signal towards
# the biases, and none of them makes it grow without end.
PROJECTION_GAIN = 2.6
# Of that gain, in a residual branch: what it adds makes the sum grow by 1 or 2
# per cent a block, over the hundred blocks of V2-XL by a small factor.
RESIDUAL_SHARE = 0.016
CLASSIFIER_GAIN = 3.0
# Sigmoid of 1.5 is 0.82: gates that act, and are far from both ends.
GATE_BIAS = 1.5
BIAS_STD = 0.1

# A kernel whose input is so many times its output ends a residual branch,
# nearly always; one of any other shape changes the width, and does not.
EXPAND_RATIOS = (1, 4, 6, 8)

_ROLES = {
  'running_mean': 'mean',
  'moving_mean': 'mean',
  'running_var': 'variance',
  'moving_variance': 'variance',
  'gamma': 'scale',
  'beta': 'bias',
  'bias': 'bias',
  'num_batches_tracked': 'count',
  'weight': 'kernel',
  'kernel': 'kernel',
  'depthwise_kernel': 'depthwise',
  'condconv_kernel': 'experts',
  'depthwise_condconv_kernel': 'experts',
}
_GATE = re.compile(r'[._/]se[._/]|\.fc[12]\.')
_GATE_OUTPUT = re.compile(r'expand|fc2|conv2d_1')
_TIMM_EXPERTS = re.compile(r'\.conv_(pw|dw|pwl)\.')
# EdgeTPU's first stage is the only first one that expands, and it has no
# residuals whatever its widths are.
_EDGETPU_FIRST = re.compile(r'^blocks\.0\.\d+\.conv_pwl')


def role(key: str, shape: tuple[int, ...]) -> str:
  """Returns what the array of this name and shape does in the network.

  One of `mean`, `variance`, `scale`, `bias`, `gate_bias`, `count`, `kernel`,
  `depthwise`, `gate`, `dense`, `experts`.

  Raises:
    ValueError: the name is none of a network's.
  """
  known = _ROLES.get(re.split('[./]', key)[-1])
  if known is None:
    raise ValueError(f'{key!r} says of no array what it is')
  gate = _GATE.search(key)
  if known == 'bias':
    return 'gate_bias' if gate and _GATE_OUTPUT.search(key) else 'bias'
  if known != 'kernel':
    return known
  if len(shape) == 1:
    return 'scale'
  if len(shape) == 2:
    # timm has CondConv's kernels flat, one expert a row.
    return 'experts' if _TIMM_EXPERTS.search(key) else 'dense'
  if gate:
    return 'gate'
  alone = _is_torch(key) and shape[1] == 1
  return 'depthwise' if alone or 'dwconv' in key else 'kernel'


def array(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the array of this name: float32, a count int64.

  Args:
    seed: of the whole model.
    key: the name in the peer's own naming.
    shape: in the peer's own layout.
  """
  kind = role(key, shape)
  rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
  if kind == 'count':
    return np.zeros(shape, np.int64)
  if kind in ('variance', 'scale'):
    # Far from 1: a reader that swaps them or leaves them out shows.
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  drawn = rng.standard_normal(shape, np.float32)
  if kind == 'mean':
    return drawn * np.float32(0.1)
  if kind in ('bias', 'gate_bias'):
    offset = GATE_BIAS if kind == 'gate_bias' else 0.0
    return drawn * np.float32(BIAS_STD) + np.float32(offset)
  return drawn * np.float32(_variance(kind, key, shape) ** 0.5)


def images(seed: int, count: int, resolution: int) -> np.ndarray:
  """Returns normalised images [count, resolution, resolution, 3], N(0, 1).

  Noise of several grains: global pooling leaves nothing of white noise alone,
  and the logits of all images would be the same.
  """
  rng = np.random.default_rng([seed, count, resolution])
  grains = (1, 4, 16, resolution)  # pixels a side
  total = np.zeros((count, resolution, resolution, 3), np.float32)
  for grain in grains:
    cells = -(-resolution // grain)
    noise = rng.standard_normal((count, cells, cells, 3), np.float32)
    noise = noise.repeat(grain, axis=1).repeat(grain, axis=2)
    total += noise[:, :resolution, :resolution]
  return total / np.float32(len(grains) ** 0.5)


def check_logits(logits: np.ndarray) -> float:
  """Returns the standard deviation of logits, asserted to be in 0.1 to 10."""
  std = float(np.std(logits))
  if not 0.1 <= std <= 10:
    raise AssertionError(f'logits of standard deviation {std:.3g}')
  return std


def _is_torch(key):
  return key.endswith('.weight')


def _variance(kind, key, shape):
  """Returns the variance of a kernel's entries: a gain over the fan-in."""
  if kind == 'experts':
    return _experts_variance(key, shape)
  if kind == 'dense':
    fan_in = shape[1] if _is_torch(key) else shape[0]
    return (1 if 'routing' in key else CLASSIFIER_GAIN) / fan_in
  if _is_torch(key):
    outputs, inputs, *window = shape
  else:
    *window, inputs, outputs = shape
  area = window[0] * window[1]
  if kind == 'depthwise':
    return ACTIVATION_GAIN / area
  fan_in = inputs * area
  if kind == 'gate' or outputs > inputs:
    # Of pooled maps, of images, of what a projection gave: no activation.
    return 1 / fan_in
  residual = inputs % outputs == 0 and inputs // outputs in EXPAND_RATIOS
  residual = residual and not _EDGETPU_FIRST.search(key)
  return _projection_gain(residual) / fan_in


def _projection_gain(residual):
  return PROJECTION_GAIN * (RESIDUAL_SHARE if residual else 1)


def _experts_variance(key, shape):
  """Of CondConv's kernels [experts, size], where the size tells the fan-in.

  They are in the last three stages of B0 and B1, all at expand ratio 6. The
  mixture weighs every expert by a sigmoid, whose mean square is about 0.27.
  """
  experts, size = shape
  mixing = 1 / (0.27 * experts)
  if 'dw' in key or 'depthwise' in key:
    # No width there is a multiple of 25.
    return mixing * ACTIVATION_GAIN / (25 if size % 25 == 0 else 9)
  width = (size / 6) ** 0.5  # the mean of input and output, of projections
  if 'pwl' in key or '_1/' in key:
    residual = width == int(width)
    return mixing * _projection_gain(residual) / (6 * width)
  return mixing / width
