"""The formulations of the depthwise convolution, against XLA's and by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax import errors
from effnet_jax.models import depthwise

# Even, odd, and smaller than the kernel.
SHAPES = [(3, 8, 8, 5), (2, 7, 9, 4), (4, 1, 1, 3), (1, 2, 5, 3), (6, 3, 2, 8)]

# Compiling costs more than running here.
_jit = functools.partial(
  jax.jit,
  compiler_options={
    'xla_backend_optimization_level': 0,
  },
)


def _case(shape, kernel_size, dtype='float32'):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=shape), dtype)
  kernel = jnp.asarray(
    rng.normal(size=(kernel_size, kernel_size, 1, shape[-1])), dtype
  )
  return x, kernel


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  'shape, kernel_size',
  [
    *itertools.product(SHAPES, (3, 5)),
    (SHAPES[0], 1),
    (SHAPES[1], 7),
  ],
)
def test_shifted_equals_grouped_with_gradients(shape, kernel_size, stride):
  x, kernel = _case(shape, kernel_size)

  def run(formulation):
    def f(x, kernel):
      return depthwise.depthwise_conv(x, kernel, stride, formulation)

    y, vjp = jax.vjp(f, x, kernel)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
    return y, *vjp(cotangent.astype(y.dtype))

  for ours, reference in zip(
    _jit(lambda: run('shifted'))(),
    _jit(lambda: run('grouped'))(),
    strict=True,
  ):
    assert ours.shape == reference.shape
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=2e-5)


def test_same_padding_is_asymmetric():
  # 4 pixels, kernel 3, stride 2: TF pads 0 before and 1 after, so the windows
  # start at pixels 0 and 2.
  x = jnp.arange(1.0, 5.0).reshape(1, 1, 4, 1) * jnp.ones((1, 4, 1, 1))
  kernel = jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0)
  for formulation in depthwise.FORMULATIONS:
    y = jax.jit(depthwise.depthwise_conv, static_argnums=(2, 3))(
      x, kernel, 2, formulation
    )
    np.testing.assert_array_equal(np.asarray(y)[0, :, :, 0], [[1, 3], [1, 3]])


@pytest.mark.parametrize('formulation', depthwise.FORMULATIONS)
def test_bfloat16_sums_in_float32(formulation):
  x, kernel = _case((2, 6, 6, 4), 5, 'bfloat16')
  y = _jit(lambda: depthwise.depthwise_conv(x, kernel, 1, formulation))()
  exact = _jit(
    lambda: depthwise.depthwise_conv(
      x.astype('float32'), kernel.astype('float32'), 1, 'grouped'
    )
  )()
  assert y.dtype == jnp.bfloat16
  # One rounding to 8 bits of mantissa at the end, none in between.
  np.testing.assert_allclose(
    y.astype('float32'), exact, rtol=2.0**-8, atol=1e-6
  )


@pytest.mark.parametrize('images', [1, 2, 5])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  ('width', 'size'),
  # One step of a reduction, several, and with columns added to the last.
  [(7, 3), (28, 3), (29, 3), (9, 5), (28, 5), (31, 5), (19, 7)],
)
def test_steps_of_the_kernel_gradient(width, size, stride, images):
  x, kernel = _case((images, 6, width, 4), size)

  def loss(kernel, formulation):
    out = depthwise.depthwise_conv(x, kernel, stride, formulation)
    return jnp.sum(out**2)

  shifted, grouped = (
    _jit(jax.grad(functools.partial(loss, formulation=formulation)))(kernel)
    for formulation in ('shifted', 'grouped')
  )
  scale = np.abs(grouped).max()
  np.testing.assert_allclose(shifted / scale, grouped / scale, atol=2e-6)


@pytest.mark.parametrize('under_grad', [False, True])
def test_auto_follows_the_platform_lowered_for(under_grad):
  x, kernel = _case((1, 8, 8, 4), 3)

  def f(kernel):
    return jnp.sum(depthwise.depthwise_conv(x, kernel))

  traced = jax.jit(jax.grad(f) if under_grad else f).trace(kernel)
  lowered = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ('cpu', 'tpu', 'cuda')
  }
  assert 'stablehlo.convolution' not in lowered['cpu']
  assert 'stablehlo.convolution' in lowered['tpu']
  assert 'stablehlo.convolution' in lowered['cuda']


def test_unknown_formulation_is_named():
  x, kernel = _case((1, 4, 4, 2), 3)
  with pytest.raises(errors.UserError, match="'shited'.*shifted"):
    depthwise.depthwise_conv(x, kernel, 1, 'shited')
