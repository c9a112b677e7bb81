"""The published augmentation in TensorFlow's operations: the peer of ours.

Written from the definitions: each operation is a function of a uint8 image
[h, w, 3] and its argument. AutoAugment and RandAugment choose by tf.switch_case
as the released input pipelines do, so that all of them are in the graph.
"""

import math

import tensorflow as tf

FILL = 128


def blend(degenerate, image, factor):
  start, end = (tf.cast(x, tf.float32) for x in (degenerate, image))
  mixed = start + factor * (end - start)
  return tf.cast(tf.clip_by_value(mixed, 0.0, 255.0), tf.uint8)


def grey(image):
  return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))


def color(image, factor):
  return blend(grey(image), image, factor)


def contrast(image, factor):
  levels = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
  histogram = tf.histogram_fixed_width(levels, [0, 255], nbins=256)
  mean = tf.reduce_sum(tf.cast(histogram, tf.float32)) / 256.0
  mean = tf.cast(tf.clip_by_value(mean, 0.0, 255.0), tf.uint8)
  return blend(tf.ones_like(image) * mean, image, factor)


def brightness(image, factor):
  return blend(tf.zeros_like(image), image, factor)


def sharpness(image, factor):
  kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13.0
  kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])
  smooth = tf.nn.depthwise_conv2d(
    tf.cast(image, tf.float32)[None], kernel, [1, 1, 1, 1], 'VALID'
  )[0]
  smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)
  inner = tf.pad(tf.ones_like(smooth), [[1, 1], [1, 1], [0, 0]])
  smooth = tf.pad(smooth, [[1, 1], [1, 1], [0, 0]])
  return blend(tf.where(inner == 1, smooth, image), image, factor)


def posterize(image, bits):
  shift = 8 - bits  # TensorFlow makes a uint8 of it, and then 7 at the most
  return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def solarize(image, threshold):
  # TensorFlow makes a uint8 of the threshold, modulo 256.
  return tf.where(image < threshold, image, 255 - image)


def solarize_add(image, addition):
  added = tf.saturate_cast(tf.cast(image, tf.int32) + addition, tf.uint8)
  return tf.where(image < 128, added, image)


def invert(image, _):
  return 255 - image


def autocontrast(image, _):
  def channel(x):
    low = tf.cast(tf.reduce_min(x), tf.float32)
    high = tf.cast(tf.reduce_max(x), tf.float32)

    def stretched():
      scale = 255.0 / (high - low)
      y = tf.cast(x, tf.float32) * scale - low * scale
      return tf.cast(tf.clip_by_value(y, 0.0, 255.0), tf.uint8)

    return tf.cond(high > low, stretched, lambda: x)

  return tf.stack([channel(image[..., c]) for c in range(3)], axis=-1)


def equalize(image, _):
  def channel(x):
    x = tf.cast(x, tf.int32)
    histogram = tf.histogram_fixed_width(x, [0, 255], nbins=256)
    there = tf.boolean_mask(histogram, histogram > 0)
    step = (tf.reduce_sum(there) - there[-1]) // 255

    def flat():
      table = (tf.cumsum(histogram) + step // 2) // step
      table = tf.concat([[0], table[:-1]], 0)
      return tf.gather(tf.clip_by_value(table, 0, 255), x)

    return tf.cast(tf.cond(step == 0, lambda: x, flat), tf.uint8)

  return tf.stack([channel(image[..., c]) for c in range(3)], axis=-1)


def transform(image, matrix):
  """As tensorflow/contrib/image's: an alpha channel tells what is outside."""
  alpha = tf.ones_like(image[..., :1])
  moved = tf.raw_ops.ImageProjectiveTransformV3(
    images=tf.concat([image, alpha], -1)[None],
    transforms=tf.stack([*map(tf.convert_to_tensor, matrix), 0.0, 0.0])[None],
    output_shape=tf.shape(image)[:2],
    fill_value=0.0,
    interpolation='NEAREST',
    fill_mode='CONSTANT',
  )[0]
  outside = moved[..., 3:] == 0
  return tf.where(outside, tf.constant(FILL, tf.uint8), moved[..., :3])


def rotate(image, degrees):
  radians = tf.convert_to_tensor(degrees, tf.float32) * (math.pi / 180.0)
  cos, sin = tf.cos(radians), tf.sin(radians)
  h, w = (tf.cast(tf.shape(image)[i], tf.float32) - 1.0 for i in (0, 1))
  x = (w - (cos * w - sin * h)) / 2.0
  y = (h - (sin * w + cos * h)) / 2.0
  return transform(image, [cos, -sin, x, sin, cos, y])


def shear_x(image, factor):
  return transform(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0])


def shear_y(image, factor):
  return transform(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0])


def translate_x(image, pixels):
  return transform(image, [1.0, 0.0, pixels, 0.0, 1.0, 0.0])


def translate_y(image, pixels):
  return transform(image, [1.0, 0.0, 0.0, 0.0, 1.0, pixels])


def cutout(image, half, center=None):
  height, width = tf.shape(image)[0], tf.shape(image)[1]
  if center is None:
    center = [
      tf.random.uniform([], 0, size, tf.int32) for size in (height, width)
    ]
  rows = tf.range(height)[:, None], center[0]
  columns = tf.range(width)[None], center[1]
  inside = [(at >= c - half) & (at < c + half) for at, c in (rows, columns)]
  square = (inside[0] & inside[1])[..., None]
  return tf.where(square, tf.constant(FILL, tf.uint8), image)


def _signed(amount):
  return tf.where(tf.random.uniform([]) < 0.5, -amount, amount)


def by_name(name, level, translate=100.0, cutout_size=40.0):
  """Returns image -> image of an operation of the published table."""
  share = level / 10.0
  arguments = {
    'AutoContrast': (autocontrast, lambda: None),
    'Equalize': (equalize, lambda: None),
    'Invert': (invert, lambda: None),
    'Rotate': (rotate, lambda: _signed(share * 30.0)),
    'Posterize': (posterize, lambda: int(share * 4)),
    'Solarize': (solarize, lambda: int(share * 256)),
    'Color': (color, lambda: share * 1.8 + 0.1),
    'Contrast': (contrast, lambda: share * 1.8 + 0.1),
    'Brightness': (brightness, lambda: share * 1.8 + 0.1),
    'Sharpness': (sharpness, lambda: share * 1.8 + 0.1),
    'ShearX': (shear_x, lambda: _signed(share * 0.3)),
    'ShearY': (shear_y, lambda: _signed(share * 0.3)),
    'TranslateX': (translate_x, lambda: _signed(share * translate)),
    'TranslateY': (translate_y, lambda: _signed(share * translate)),
    'Cutout': (cutout, lambda: int(share * cutout_size)),
    'SolarizeAdd': (solarize_add, lambda: int(share * 110)),
  }
  operation, argument = arguments[name]
  return lambda image: operation(image, argument())


NAMES = (
  *('AutoContrast', 'Equalize', 'Invert', 'Rotate', 'Posterize', 'Solarize'),
  *('Color', 'Contrast', 'Brightness', 'Sharpness', 'ShearX', 'ShearY'),
  *('TranslateX', 'TranslateY', 'Cutout', 'SolarizeAdd'),
)


def randaugment(image, layers=2, magnitude=9.0):
  for _ in range(layers):
    choice = tf.random.uniform([], 0, len(NAMES), tf.int32)
    branches = [
      lambda image=image, name=name: by_name(name, magnitude)(image)
      for name in NAMES
    ]
    image = tf.ensure_shape(tf.switch_case(choice, branches), image.shape)
  return image


def autoaugment(image, policy):
  """`policy`: sub-policies of (name, probability, level)."""

  def branch(sub_policy):
    def run():
      result = image
      for name, probability, level in sub_policy:
        operation = by_name(name, float(level), 250.0, 100.0)
        result = tf.cond(
          tf.random.uniform([]) < probability,
          lambda result=result, operation=operation: operation(result),
          lambda result=result: result,
        )
      return tf.ensure_shape(result, image.shape)

    return run

  choice = tf.random.uniform([], 0, len(policy), tf.int32)
  return tf.switch_case(choice, [branch(s) for s in policy])
