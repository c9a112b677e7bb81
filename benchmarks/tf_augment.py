"""Our augmentation against TensorFlow's operations, pixel for pixel.

    .venv-parity/bin/python benchmarks/tf_augment.py

Every operation at levels 0 to 30 and both signs on real photos, and the grey of
all colours there are. A result says the share of pixel values that differ, and
the largest difference: none is allowed to. TensorFlow runs without oneDNN: with
it, sharpness rounds otherwise.
"""

import os
import sys

import numpy as np
import reports
import skimage.data

os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'  # read on import

import tensorflow as tf
import tf_augment_ops as theirs
import tqdm

from effnet_jax.data.augment import ops

LEVELS = (*range(31), 4.5, 8.33, 12.5)
# Their argument is a tensor in the released code, since its sign is drawn: the
# angle of `rotate` becomes radians in float32.
TENSORS = ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')


def cases():
  """(operation, argument) of all levels."""
  for name in ('autocontrast', 'equalize', 'invert'):
    yield name, None
  for share in (level / 10 for level in LEVELS):
    for name in ('color', 'contrast', 'brightness', 'sharpness'):
      yield name, share * 1.8 + 0.1
    yield 'posterize', int(share * 4)
    yield 'solarize', int(share * 256)
    yield 'solarize_add', int(share * 110)
    for sign in (-1, 1):
      yield 'rotate', sign * share * 30
      yield 'shear_x', sign * share * 0.3
      yield 'shear_y', sign * share * 0.3
      yield 'translate_x', sign * share * 100
      yield 'translate_y', sign * share * 100


def differences(image: np.ndarray, name: str, argument) -> tuple[float, int]:
  """Returns the share of values that differ and the largest difference."""
  ours = getattr(ops, name)(image, *([] if argument is None else [argument]))
  given = tf.constant(argument, tf.float32) if name in TENSORS else argument
  found = getattr(theirs, name)(tf.constant(image), given).numpy()
  apart = np.abs(ours.astype(int) - found.astype(int))
  return float((apart > 0).mean()), int(apart.max())


def every_color() -> np.ndarray:
  """Returns uint8 [4096, 4096, 3]: 2**24 pixels, none like another."""
  values = np.arange(2**24, dtype='<u4').view(np.uint8)
  return np.ascontiguousarray(values.reshape(4096, 4096, 4)[..., :3])


def main() -> int:
  arguments = reports.parser(__doc__, 'tf_augment').parse_args()
  photos = {
    'chelsea': np.ascontiguousarray(skimage.data.chelsea()[:224, :224]),
    'coffee': np.ascontiguousarray(skimage.data.coffee()[100:331, 100:299]),
  }
  rows: dict[str, dict[str, float]] = {}
  for name, argument in tqdm.tqdm(list(cases()), 'operations'):
    row = rows.setdefault(name, {'cases': 0, 'share': 0.0, 'difference': 0})
    for image in photos.values():
      share, apart = differences(image, name, argument)
      row['cases'] += 1
      row['share'] = max(row['share'], share)
      row['difference'] = max(row['difference'], apart)
  for half in (0, 10, 40, 200):
    for center in ((0, 0), (100, 50), (223, 198)):
      image = photos['coffee']
      row = rows.setdefault(
        'cutout', {'cases': 0, 'share': 0.0, 'difference': 0}
      )
      found = theirs.cutout(tf.constant(image), half, center).numpy()
      apart = ops.cutout(image, half, center) != found
      row['cases'] += 1
      row['share'] = max(row['share'], float(apart.mean()))
  colors = every_color()
  share, apart = differences(colors, 'color', 0.0)
  rows['color of every color'] = {
    'cases': 1,
    'share': share,
    'difference': apart,
  }
  within = not any(row['share'] for row in rows.values())
  report = {
    'machine': reports.machine(),
    'versions': reports.versions(('python', 'tensorflow', 'numpy', 'numba')),
    'levels': LEVELS,
    'within': within,
    'operations': rows,
  }
  reports.write(arguments.out, report)
  for name, row in rows.items():
    print(
      f'{name:<20} {row["cases"]:>4} images  differing values '
      f'{row["share"]:.2e}  by {row["difference"]:.0f} at most'
    )
  return 0 if within else 1


if __name__ == '__main__':
  sys.exit(main())
