"""Rematerialisation: the same numbers and names, fewer arrays kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, spec

# Two blocks in the second stage, so that block and stage differ.
SPEC = spec.ModelSpec(
  'tiny',
  spec.parse_stages('r1_k3_s1_e1_o8_se r3_k3_s2_e4_o16_se'),
  stem_filters=8,
  head_filters=32,
  stem_stride=1,
  num_classes=4,
  dropout_rate=0.2,
  survival_probability=0.5,
)


def _network(remat):
  return efficientnet.build(SPEC, depthwise='grouped', remat=remat)


@functools.cache
def _variables():
  return efficientnet.init(_network('none'))


def _loss(remat, params, images):
  (logits, endpoints), updates = _network(remat).apply(
    {**_variables(), 'params': params},
    images,
    True,
    mutable=['batch_stats'],
    rngs={'dropout': jax.random.key(3)},
  )
  return jnp.sum(jnp.sin(logits)), (endpoints, updates)


def _images():
  images = np.random.default_rng(0).normal(size=(8, 12, 12, 3))
  return jnp.asarray(images, jnp.float32)


@functools.cache
def _gradient(remat):
  step = jax.jit(
    jax.value_and_grad(functools.partial(_loss, remat), has_aux=True),
    # As written: no fusion moves a rounding.
    compiler_options={'xla_backend_optimization_level': 0},
  )
  return jax.device_get(step(_variables()['params'], _images()))


@pytest.mark.parametrize('remat', ['block', 'stage'])
def test_the_numbers_are_the_same(remat):
  (loss, aux), grads = _gradient(remat)
  (expected_loss, expected_aux), expected = _gradient('none')
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
  # Stochastic depth and dropout draw alike, or half the images would differ.
  assert expected_loss != 0
  assert list(aux[0]) == list(expected_aux[0])  # endpoints, in order
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    (aux, grads),
    (expected_aux, expected),
  )


@pytest.mark.parametrize('remat', ['block', 'stage'])
def test_the_variables_are_the_same(remat):
  shapes = efficientnet.shapes(_network(remat))
  assert shapes == efficientnet.shapes(_network('none'))


def _kept_bytes(remat):
  """Of the arrays that wait for the backward pass."""
  backward = jax.eval_shape(
    lambda params: jax.vjp(
      lambda p: _loss(remat, p, _images())[0],
      params,
    )[1],
    _variables()['params'],
  )
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))


def test_less_is_kept():
  none, block, stage = map(_kept_bytes, ('none', 'block', 'stage'))
  assert block < 0.6 * none
  assert stage < block


def test_an_unknown_value_is_named():
  with pytest.raises(UserError, match="unknown remat 'blocks': did you mean"):
    _network('blocks')


@pytest.mark.soak
def test_no_more_is_allocated_on_cpu():
  """By the account of XLA on CPU, which drops the barriers of JAX's own."""
  images = jax.ShapeDtypeStruct((8, 48, 48, 3), jnp.float32)

  def temporaries(remat):
    step = jax.jit(jax.grad(functools.partial(_loss, remat), has_aux=True))
    compiled = step.lower(_variables()['params'], images).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporaries('block') < 0.6 * temporaries('none')
