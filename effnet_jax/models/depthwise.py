"""Depthwise convolution, in the formulation that suits the platform.

XLA runs a convolution with one channel a group well on TPU and as a naive loop
on CPU, where the same sum written as shifted products becomes one vectorised
loop. `auto` decides by the platform that the program is lowered for, so that a
CPU host compiling for a TPU pod gets the TPU's form.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from effnet_jax import errors

FORMULATIONS = ('auto', 'grouped', 'shifted')

# Taps x columns in one step of the kernel gradient: as many as XLA unrolls.
_PRODUCTS = 70


def depthwise_conv(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  formulation: str = 'auto',
  padding: str = 'same',
) -> jax.Array:
  """Convolves every channel with its own kernel.

  Args:
    x: images [n, h, w, c].
    kernel: [k, k, 1, c], as Flax keeps it.
    stride: 1 or 2, in both directions.
    formulation: `grouped` (XLA's convolution), `shifted` (a sum of k*k shifted
      products, with gradients of its own) or `auto`: shifted on CPU, grouped on
      every other platform. All give the same numbers up to the order of sums;
      only `grouped` has forward-mode derivatives (`jax.jvp`).
    padding: `same` (TensorFlow's) or `symmetric` (PyTorch's).

  Returns:
    [n, ceil(h / stride), ceil(w / stride), c] in the dtype of `x`.
  """
  paddings = [
    pixels(size, k, stride, padding)
    for size, k in zip(x.shape[1:3], kernel.shape[:2], strict=True)
  ]
  if formulation == 'grouped':
    return _grouped(x, kernel, stride, paddings)
  if formulation == 'shifted':
    return _shifted(x, kernel, stride, paddings)
  if formulation == 'auto':
    return lax.platform_dependent(
      x,
      kernel,
      cpu=functools.partial(_shifted, stride=stride, paddings=paddings),
      default=functools.partial(_grouped, stride=stride, paddings=paddings),
    )
  near = errors.near_names(formulation, FORMULATIONS)
  raise errors.UserError(
    f'unknown depthwise formulation {formulation!r}: {near}'
  )


def pixels(
  size: int, kernel_size: int, stride: int, padding: str
) -> tuple[int, int]:
  """Returns the pixels of padding before and after, along one axis.

  `same` takes what ceil(size / stride) windows need and puts the odd pixel
  after; `symmetric` takes half the kernel on both sides. The outputs are of
  one size, and for an odd kernel alike at stride 1 and on odd sizes.
  """
  if padding == 'symmetric':
    return kernel_size // 2, kernel_size // 2
  total = max((math.ceil(size / stride) - 1) * stride + kernel_size - size, 0)
  return total // 2, total - total // 2


def _grouped(x, kernel, stride, paddings):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    paddings,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _shifted(x, kernel, stride, paddings):
  """Leaves out the taps that see nothing but padding, then sums the others."""
  slices, used_paddings = [], []
  for size, k, (before, _) in zip(
    x.shape[1:3], kernel.shape[:2], paddings, strict=True
  ):
    last = (math.ceil(size / stride) - 1) * stride  # where the last window is
    used = slice(max(0, before - last), min(k, size + before))
    slices.append(used)
    before -= used.start
    after = last + (used.stop - used.start) - size - before
    used_paddings.append((before, after))
  return _sum_shifted(x, kernel[tuple(slices)], stride, tuple(used_paddings))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _sum_shifted(x, kernel, stride, paddings):
  # Without the barrier the middle taps are taken from x itself, which is then
  # written twice, with padding and without.
  padded = lax.optimization_barrier(_pad(x, paddings))
  return _sum_of_taps(padded, kernel, stride)


def _pad(x, paddings, interior=0):
  """Pads (or crops, where negative) the two middle axes with zeros."""
  zero = jnp.zeros((), x.dtype)
  return lax.pad(
    x, zero, [(0, 0, 0), *((*p, interior) for p in paddings), (0, 0, 0)]
  )


def _taps(x, kernel_shape, stride):
  """Yields what the kernel's taps see of the padded map, row by row."""
  n, height, width, c = x.shape
  rows, columns = kernel_shape
  for i in range(rows):
    for j in range(columns):
      stop = (n, height - rows + i + 1, width - columns + j + 1, c)
      yield lax.slice(x, (0, i, j, 0), stop, (1, stride, stride, 1))


def _sum_of_taps(padded, kernel, stride):
  # float32 sums whatever the dtype, as a convolution unit keeps them.
  weights = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
  taps = _taps(padded, kernel.shape[:2], stride)
  terms = [
    tap.astype(jnp.float32) * weight
    for tap, weight in zip(taps, weights, strict=True)
  ]
  return functools.reduce(jnp.add, terms).astype(padded.dtype)


def _forward(x, kernel, stride, paddings):
  return _sum_shifted(x, kernel, stride, paddings), (x, kernel)


def _backward(stride, paddings, saved, grad):
  x, kernel = saved
  # Pixels of the padded map, by stride; and the columns of a reduction's steps.
  grid = [
    math.ceil((size + before + max(after, 0)) / stride)
    for size, (before, after) in zip(x.shape[1:3], paddings, strict=True)
  ]
  height, width = grad.shape[1:3]
  steps = math.ceil(width * _at_once(kernel.shape) / _PRODUCTS)
  columns = steps * math.ceil(width / steps)
  before = [math.ceil(k / stride) - 1 for k in kernel.shape[:2]]
  after = [grid[0] - height, max(grid[1], columns) - width]
  # One copy for both; without the barrier every tap would compute it again.
  grad = lax.optimization_barrier(
    _pad(grad, list(zip(before, after, strict=True)))
  )
  in_grid = _input_gradient(grad, kernel, stride, before, grid)
  grad = lax.slice_in_dim(grad, before[0], before[0] + height, axis=1)
  grad = lax.slice_in_dim(grad, before[1], before[1] + columns, axis=2)
  top, (left, right) = paddings
  padded = _pad(x, (top, (left, right + (columns - width) * stride)))
  return (
    in_grid[:, top[0] :, left:][:, : x.shape[1], : x.shape[2]],
    _kernel_gradient(padded, kernel, stride, grad, steps),
  )


_sum_shifted.defvjp(_forward, _backward)


def _input_gradient(grad, kernel, stride, before, grid):
  """Sums, for every pixel, the windows that saw it.

  Pixel q of the padded map is seen by the taps i = q (mod stride) alone. So
  each of the stride^2 phases of the map is a stride-1 convolution of the
  gradient with the flipped taps of that phase, without the zeros of a dilated
  gradient.
  """
  n, *_, c = grad.shape

  def phase(i, j):
    taps = kernel[i::stride, j::stride][::-1, ::-1]
    if 0 in taps.shape[:2]:
      return jnp.zeros((n, *grid, c), grad.dtype)
    seen = grad
    for axis, (k, most, size) in enumerate(
      zip(taps.shape, before, grid, strict=False), start=1
    ):
      start = most - (k - 1)
      seen = lax.slice_in_dim(seen, start, start + size + k - 1, axis=axis)
    return _sum_of_taps(seen, taps, 1)

  phases = jnp.stack(
    [
      jnp.stack([phase(i, j) for j in range(stride)], axis=3)
      for i in range(stride)
    ],
    axis=2,
  )  # [n, rows, stride, columns, stride, c]
  return phases.reshape(n, grid[0] * stride, grid[1] * stride, c)


def _at_once(kernel_shape):
  """How many taps one reduction of the kernel gradient sums."""
  rows, columns = kernel_shape[:2]
  return rows * columns if rows * columns <= 9 else columns


def _kernel_gradient(padded, kernel, stride, grad, steps):
  """Sums tap x gradient over images and map.

  A sum a tap would read both tensors once a tap. A variadic reduction over a
  few neighbouring columns reads them once for several taps, and keeps its sums
  in registers: XLA makes one vectorised loop of it. What remains is small.
  """
  columns, c = grad.shape[2:]
  padded = lax.optimization_barrier(padded)
  taps = list(_taps(padded, kernel.shape[:2], stride))

  def add(left, right):
    return [a + b for a, b in zip(left, right, strict=True)]

  def sums(images):
    found, at_once = [], _at_once(kernel.shape)
    seen = grad[images].astype(jnp.float32)
    for start in range(0, len(taps), at_once):
      products = [
        (tap[images].astype(jnp.float32) * seen).reshape(
          -1, columns // steps, c
        )
        for tap in taps[start : start + at_once]
      ]
      zeros = [jnp.zeros((), jnp.float32)] * len(products)
      found += [part.sum(0) for part in lax.reduce(products, zeros, add, (1,))]
    return jnp.stack(found)

  total, half = sums(slice(len(grad) // 2, None)), slice(len(grad) // 2)
  if half.stop:  # XLA gives each such loop to one core.
    total += sums(half)
  return total.reshape(kernel.shape).astype(kernel.dtype)
