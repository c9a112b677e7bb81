"""Makes tf1.npz with the real TensorFlow: golden resizes and crops.

Run once, in an environment with tensorflow-cpu; the tests
need the result alone:

  python tests/data/golden/make_tf1.py chelsea.png tests/data/golden

where chelsea.png is scikit-image's (skimage/data/chelsea.png). The result
holds the crop `image`, each `size_HxW` clipped and rounded to uint8, and the
sides of the centre crop by (size, short side), and `random_crops`: (top, left,
height, width) of 10,000 draws for an image of 60 x 90.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

SIZES = ((37, 61), (64, 64), (150, 40), (111, 93), (20, 130))


def main(photo: str, folder: str) -> None:
  image = tf.io.decode_png(pathlib.Path(photo).read_bytes(), channels=3)
  image = image.numpy()[100:200, 120:210]  # 100 x 90: both eyes
  arrays = {'image': image}
  for height, width in SIZES:
    resized = tf.compat.v1.image.resize_bicubic(image[None], (height, width))
    # As the data room gives it: clipped and rounded to the nearest.
    rounded = np.rint(np.clip(resized.numpy()[0], 0, 255)).astype(np.uint8)
    arrays[f'size_{height}x{width}'] = rounded
  sides = []
  for size in (224, 240, 260, 300, 380, 456, 528, 600, 672, 800):
    for short in (1, 2, 37, 99, 224, 256, 333, 375, 500, 632, 1080, 4096):
      # preprocessing.py of the official code, _decode_and_center_crop.
      share = size / (size + 32)
      side = tf.cast(share * tf.cast(short, tf.float32), tf.int32)
      sides.append((size, short, int(side)))
  arrays['center_crop_sides'] = np.array(sides, np.int32)
  draws = tf.stack([_draw(seed) for seed in tf.range(10_000)])
  arrays['random_crops'] = draws.numpy().astype(np.uint8)
  np.savez_compressed(pathlib.Path(folder, 'tf1.npz'), **arrays)


@tf.function
def _draw(seed):
  """One crop with the arguments of the official V1 code."""
  begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
    (60, 90, 3),
    bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
    seed=tf.stack([seed, 7]),
    min_object_covered=0.1,
    aspect_ratio_range=(3 / 4, 4 / 3),
    area_range=(0.08, 1.0),
    max_attempts=10,
    use_image_if_no_bounding_boxes=True,
  )
  return tf.concat([begin[:2], size[:2]], axis=0)


if __name__ == '__main__':
  main(*sys.argv[1:])
