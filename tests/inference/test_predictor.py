"""The predictor equals `apply`, for every variant.

The networks differ in the kinds of blocks, in widths and in depth. Every kind
is compiled, in the shallowest network that has them all; each variant is judged
by one with the same activation, padding and stem that has all its kinds.
"""

import dataclasses
import functools
import os
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from effnet_jax import environment, errors
from effnet_jax.inference.predictor import predictor
from effnet_jax.models import efficientnet, spec, variants

# Compiling costs more than running here.
_OPTIONS = {'xla_backend_optimization_level': 0}

_ARGUMENTS = [
  *((name, {}) for name in variants.list_models()),
  *(
    (name, {'stride_in': 'project'})
    for name in ('edgetpu_s', 'edgetpu_m', 'edgetpu_l')
  ),
  *((name, {'padding': 'symmetric'}) for name in ('b0', 'v2_b0')),
]


def _variables(model, seed=0):
  """Initial ones, but for random scales, biases and moving statistics.

  What a block adds is small, as in a trained network: of a signal that grows
  from block to block the gates would be shut or open.
  """
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    module, name = path[-2].key, path[-1].key
    if name in ('scale', 'var'):
      values = rng.uniform(0.5, 1.5, leaf.shape)
      small = module == 'project_bn' and name == 'scale'
      return jnp.asarray(values / 4 if small else values, leaf.dtype)
    if name in ('bias', 'mean'):
      return jnp.asarray(rng.normal(size=leaf.shape) / 4, leaf.dtype)
    return leaf

  return jax.tree_util.tree_map_with_path(draw, efficientnet.init(model, seed))


def _images(shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


def _ends(network):
  return network.activation, network.padding, network.stem_stride


def _kinds(network):
  """What decides which operations a block runs, widths aside."""
  return frozenset(
    (
      *(block.operator, block.kernel_size, block.stride, block.expands),
      *map(bool, (block.se_filters, block.experts, block.residual)),
      # Only of a fused block that expands it matters where the stride is.
      block.operator == 'fused_mbconv' and block.expands and block.stride_in,
    )
    for block in network.blocks()
  )


def _shallow(network):
  """The network without the layers and stages that bring no new kind."""
  found = None
  for stage, repeats in zip(network.stages, network.repeats(), strict=True):
    stage = dataclasses.replace(stage, repeats=min(repeats, 2))
    stages = (*(found.stages if found else ()), stage)
    longer = dataclasses.replace(network, stages=stages, depth=1.0)
    if not found or _kinds(longer) > _kinds(found):
      found = longer
  assert _kinds(found) == _kinds(network)
  return found


@functools.cache
def _shallow_networks():
  return [
    _shallow(variants.get_spec(name, **overrides))
    for name, overrides in _ARGUMENTS
  ]


def _representative(network):
  """The network to compile in place of another."""
  return max(
    (
      other
      for other in _shallow_networks()
      if _ends(other) == _ends(network) and _kinds(other) >= _kinds(network)
    ),
    key=lambda other: (
      len(_kinds(other)),
      -sum(b.filters * b.expanded_filters for b in other.blocks()),
    ),
  )


def _apply(model):
  return jax.jit(
    lambda variables, images: model.apply(variables, images)[0],
    compiler_options=_OPTIONS,
  )


@functools.cache
def _difference(network):
  """max |ours - apply| / max |apply|, on maps of odd and even sides."""
  model = efficientnet.build(network)
  variables, images = _variables(model), _images((2, 33, 40, 3))
  wanted = np.asarray(_apply(model)(variables, images))
  predict = predictor(model, variables, compiler_options=_OPTIONS)
  assert 0.1 < wanted.std() < 10
  return np.abs(predict(images) - wanted).max() / np.abs(wanted).max()


@pytest.mark.parametrize(
  'name, overrides', _ARGUMENTS, ids=lambda x: x if isinstance(x, str) else ''
)
def test_equals_apply(name, overrides):
  network = _representative(variants.get_spec(name, **overrides))
  assert _difference(network) <= 1e-4


def test_representatives():
  def of(name, **overrides):
    return _representative(variants.get_spec(name, **overrides))

  assert of('b0') == of('b7') == of('l2')
  assert of('v2_b0') == of('v2_xl')
  assert of('edgetpu_s') == of('edgetpu_l')
  networks = {
    *map(of, ('b0', 'lite0', 'edgetpu_s', 'condconv_b0_4e', 'v2_s', 'micro')),
    of('edgetpu_s', stride_in='project'),
  }
  assert len(networks) == 7
  # Shallow, yet not so shallow that no residual sum is left.
  assert all(sum(b.residual for b in n.blocks()) for n in networks)


@pytest.fixture(scope='module')
def tiny():
  stages = spec.parse_stages('r2_k3_s1_e2_o8_se')
  network = spec.ModelSpec(
    'tiny', stages, stem_filters=8, head_filters=16, num_classes=4
  )
  model = efficientnet.build(network)
  return model, _variables(model)


def test_bfloat16(tiny):
  model, variables = tiny
  images = _images((4, 16, 16, 3))
  wanted = _apply(model)(variables, images)
  half = predictor(
    model, variables, dtype='bfloat16', compiler_options=_OPTIONS
  )(images)
  assert half.dtype == jnp.float32
  # 8 bits of mantissa and eight layers.
  assert 0 < np.abs(half - wanted).max() < 0.05 * np.abs(wanted).max()


def test_variables_may_go_and_shapes_may_change(tiny):
  model, variables = tiny
  variables = jax.tree.map(jnp.array, variables)
  predict = predictor(model, variables, compiler_options=_OPTIONS)
  images = _images((3, 16, 16, 3))
  together = predict(images)
  jax.tree.map(lambda leaf: leaf.delete(), variables)
  alone = [predict(images[i : i + 1]) for i in range(3)]
  np.testing.assert_allclose(np.concatenate(alone), together, rtol=1e-5)


def test_the_weights_are_its_own(tiny):
  model, variables = tiny
  images = _images((1, 16, 16, 3))

  def shared(leaf):
    """A copy at an address from which JAX would take it as it is."""
    room = np.empty(leaf.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + leaf.nbytes].view(leaf.dtype)
    copy = copy.reshape(leaf.shape)
    copy[...] = leaf
    return copy

  variables = jax.tree.map(shared, variables)
  predict = predictor(model, variables)
  before = np.array(predict(images))
  for leaf in jax.tree.leaves(variables):
    leaf[...] = 7
  np.testing.assert_array_equal(predict(images), before)


def test_within_another_jit(tiny):
  model, variables = tiny
  predict = predictor(model, variables)
  images = _images((1, 16, 16, 3))
  shape = jax.eval_shape(lambda x: jax.nn.softmax(predict(x)), images)
  assert shape.shape == (1, 4)


@pytest.mark.parametrize(
  'images, match',
  [
    (np.zeros((8, 8, 3), np.float32), r'not \[8, 8, 3\]'),
    (np.zeros((1, 8, 8, 1), np.float32), r'not \[1, 8, 8, 1\]'),
    (np.zeros((0, 8, 8, 3), np.float32), r'not \[0, 8, 8, 3\]'),
    (np.zeros((1, 8, 8, 3), np.uint8), 'not uint8 pixels: effnet_jax.norm'),
    ('photo.jpg', 'not str'),
    ([[[[1.0, 1.0, 1.0]]]], 'not list'),
  ],
)
def test_other_images_are_refused(tiny, images, match):
  predict = predictor(*tiny)
  with pytest.raises(errors.UserError, match=match) as error:
    predict(images)
  assert '\n' not in str(error.value)


def test_unknown_dtype(tiny):
  with pytest.raises(errors.UserError, match='did you mean bfloat16'):
    predictor(*tiny, dtype='bfloat1')


@pytest.mark.soak
def test_the_gradient_is_that_of_the_network():
  """Of saliency maps and attacks; CPU's forms of operations have their own."""
  model = efficientnet.build(_shallow(variants.get_spec('b0')))
  variables, images = _variables(model), _images((1, 32, 32, 3))
  predict = predictor(model, variables, compiler_options=_OPTIONS)

  def score(logits_of):
    total = lambda images: jnp.sin(logits_of(images)).sum()
    return jax.jit(jax.grad(total))(images)

  expected = score(lambda images: model.apply(variables, images)[0])
  found = score(predict)
  scale = np.abs(expected).max()
  assert scale > 0
  np.testing.assert_allclose(found / scale, expected / scale, atol=1e-4)


@pytest.fixture
def told(monkeypatch):
  """What malloc is told, as in a process that nobody has tuned."""
  calls = []
  libc = types.SimpleNamespace(mallopt=lambda *call: calls.append(call))
  monkeypatch.setattr(environment.ctypes, 'CDLL', lambda _: libc)
  monkeypatch.setattr(environment, '_has_glibc', lambda: True)
  monkeypatch.delenv(environment.SWITCH)
  chosen = ('GLIBC_TUNABLES', 'MALLOC_')
  for name in [name for name in os.environ if name.startswith(chosen)]:
    monkeypatch.delenv(name)
  environment.keep_freed_pages.cache_clear()
  yield calls
  environment.keep_freed_pages.cache_clear()


def test_malloc_is_told_once_to_keep_what_is_freed(tiny, told):
  predictor(*tiny)
  assert len(told) == 3
  predictor(*tiny)
  assert len(told) == 3


def test_malloc_can_be_left_alone(tiny, told, monkeypatch):
  monkeypatch.setenv(environment.SWITCH, '0')
  predictor(*tiny)
  assert told == []
