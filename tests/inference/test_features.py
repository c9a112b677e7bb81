"""The pyramid, embeddings, and a segmentation head that learns on them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import skimage.data

from effnet_jax.errors import UserError
from effnet_jax.inference.features import (
  embed,
  feature_channels,
  features,
  pyramid,
)
from effnet_jax.models import efficientnet, spec, variants
from effnet_jax.models.normalize import normalize

_OPTIONS = {'xla_backend_optimization_level': 0}


@pytest.mark.parametrize(
  'name, channels',
  [
    # The widths that timm lists as `feature_info` of the same networks.
    ('b0', (16, 24, 40, 112, 320)),
    ('b7', (32, 48, 80, 224, 640)),
    ('lite4', (24, 32, 56, 160, 448)),
    ('edgetpu_s', (24, 32, 48, 144, 192)),
    ('v2_s', (24, 48, 64, 160, 256)),
    ('v2_xl', (32, 64, 96, 256, 640)),
  ],
)
def test_channels(name, channels):
  strides = (2, 4, 8, 16, 32)
  found = feature_channels(variants.get_spec(name))
  assert found == dict(zip(strides, channels, strict=True))


def test_every_variant_has_five_levels():
  for name in variants.list_models():
    network = variants.get_spec(name)
    first = network.stem_stride
    assert list(feature_channels(network)) == [first << i for i in range(5)]


@pytest.mark.parametrize('name', ['micro', 'v2_b0'])
def test_maps_are_as_large_as_their_strides_say(name):
  model = efficientnet.build(variants.get_spec(name))
  images = jax.ShapeDtypeStruct((2, 37, 64, 3), jnp.float32)
  maps = jax.eval_shape(
    lambda variables, images: features(model, variables, images),
    efficientnet.shapes(model),
    images,
  )
  assert {stride: x.shape for stride, x in maps.items()} == {
    stride: (2, -(-37 // stride), -(-64 // stride), channels)
    for stride, channels in feature_channels(model.spec).items()
  }


@pytest.fixture(scope='module')
def tiny():
  stages = 'r1_k3_s1_e1_o8_fused r2_k3_s2_e2_o8 r1_k3_s2_e2_o16_se'
  network = spec.ModelSpec(
    'tiny',
    spec.parse_stages(stages),
    stem_filters=8,
    head_filters=16,
    num_classes=4,
    stem_stride=1,
  )
  model = efficientnet.build(network)
  return model, efficientnet.init(model)


def _images(shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _jit(f):
  """Compiling costs more than running here."""
  return jax.jit(f, compiler_options=_OPTIONS)


def test_a_level_ends_before_the_next_stride(tiny):
  model, variables = tiny
  images = _images((1, 16, 16, 3))
  _, endpoints = _jit(model.apply)(variables, images)
  maps = pyramid(model.spec, endpoints)
  last = {1: 'block_0', 2: 'block_2', 4: 'block_3'}
  assert list(maps) == list(last)
  for stride, name in last.items():
    np.testing.assert_array_equal(maps[stride], endpoints[name])


def test_the_classifier_reads_the_embedding(tiny):
  model, variables = tiny
  images = _images((3, 16, 16, 3))
  embedding, (logits, _) = _jit(
    lambda v, x: (embed(model, v, x), model.apply(v, x))
  )(variables, images)
  assert embedding.shape == (3, 16) and embedding.dtype == jnp.float32
  classifier = variables['params']['classifier']
  np.testing.assert_allclose(
    embedding @ classifier['kernel'] + classifier['bias'], logits, rtol=1e-5
  )


@pytest.mark.parametrize(
  'images, match',
  [
    (np.zeros((1, 8, 8, 3), np.uint8), 'not uint8 pixels: effnet_jax.norm'),
    (np.zeros((1, 8, 8, 1), np.float32), r'not \[1, 8, 8, 1\]'),
    ('photo.jpg', 'not str'),
  ],
)
def test_other_images_are_refused(tiny, images, match):
  for function in (features, embed):
    with pytest.raises(UserError, match=match) as error:
      function(*tiny, images)
    assert '\n' not in str(error.value)


def test_gradients_reach_what_the_maps_depend_on(tiny):
  model, variables = tiny

  def power(params):
    maps = features(model, {**variables, 'params': params}, images)
    return sum(jnp.sum(x**2) for x in maps.values())

  images = _images((1, 8, 8, 3))
  grads = _jit(jax.grad(power))(variables['params'])
  moved = {
    name: any(np.any(leaf) for leaf in jax.tree.leaves(grads[name]))
    for name in grads
  }
  unused = ('head_conv', 'head_bn', 'classifier')
  assert moved == {name: name not in unused for name in grads}


def test_training_the_network_too(tiny):
  model, variables = tiny

  def train(variables, images, key):
    (_, endpoints), updates = model.apply(
      *(variables, images, True),
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    return pyramid(model.spec, endpoints), updates

  maps, updates = _jit(train)(
    variables, _images((4, 8, 8, 3)), jax.random.key(0)
  )
  assert maps[4].shape == (4, 2, 2, 16)
  stems = (
    tree['batch_stats']['stem_bn']['mean'] for tree in (variables, updates)
  )
  assert not np.array_equal(*stems)


def _photos_with_discs(count, side, seed):
  """Squares of a photo with a bluish disc on each; and where it is."""
  rng = np.random.default_rng(seed)
  photo = skimage.data.coffee()[::4, ::4]
  rows, columns = np.mgrid[:side, :side]
  images, masks = [], []
  for _ in range(count):
    top, left = (rng.integers(size - side) for size in photo.shape[:2])
    square = photo[top : top + side, left : left + side]
    y, x = rng.uniform(side * 0.3, side * 0.7, 2)
    radius = rng.uniform(side * 0.15, side * 0.3)
    mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    blue = square * 0.5 + (0, 60, 127)
    images.append(np.where(mask[..., None], blue, square))
    masks.append(mask)
  return np.stack(images), np.stack(masks)


@pytest.mark.soak
def test_a_segmentation_head_learns_on_the_pyramid():
  side = 32
  model = efficientnet.build(variants.get_spec('micro'))
  variables = efficientnet.init(model)
  pixels, masks = _photos_with_discs(24, side, seed=0)
  images = normalize(jnp.asarray(pixels), model.spec)
  seen = slice(16)

  def logits_of(head, images):
    """One 1x1 convolution a level, enlarged to the images and added up."""
    maps = features(model, variables, images)  # frozen
    enlarged = (
      jax.image.resize(
        x @ head[str(stride)], (*images.shape[:3], 1), 'bilinear'
      )
      for stride, x in maps.items()
    )
    return head['bias'] + sum(enlarged)[..., 0]

  def loss_of(head):
    logits = logits_of(head, images[seen])
    return optax.sigmoid_binary_cross_entropy(logits, masks[seen]).mean()

  optimizer = optax.adam(0.3)

  @_jit
  def step(head, moments):
    loss, grads = jax.value_and_grad(loss_of)(head)
    updates, moments = optimizer.update(grads, moments)
    return optax.apply_updates(head, updates), moments, loss

  head = {
    str(stride): jnp.zeros((channels, 1))
    for stride, channels in feature_channels(model.spec).items()
  }
  head['bias'] = jnp.zeros(())
  moments, losses = optimizer.init(head), []
  for _ in range(30):
    head, moments, loss = step(head, moments)
    losses.append(loss)
  assert losses[0] == pytest.approx(np.log(2), rel=1e-5)
  assert losses[-1] < 0.4 * losses[0]
  # Intersection over union, on squares that the head has not seen.
  found = np.asarray(_jit(logits_of)(head, images))[16:] > 0
  union = found | masks[16:]
  assert np.sum(found & masks[16:]) > 0.5 * np.sum(union)
