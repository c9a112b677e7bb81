"""Our augmentation against TensorFlow's operations, pixel for pixel.

    .venv-parity/bin/python benchmarks/tf_augment.py

Every operation at levels 0 to 30 and both signs on real photos. A result says
the share of pixel values that differ, and the largest difference.
"""

import sys

import numpy as np
import reports
import skimage.data
import tensorflow as tf
import tf_augment_ops as theirs
import tqdm

from effnet_jax.data.augment import ops

LEVELS = (0, 1, 2, 3, 4.5, 5, 7, 9, 10, 15, 17, 20, 28, 30)
# Share of differing values. Only sharpness may: its sums are in floating point
# there, and truncated.
ALLOWED = {'sharpness': 0.01}
GEOMETRY = ('rotate', 'shear_x', 'shear_y')


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
  given = float(argument) if name in GEOMETRY else argument
  found = getattr(theirs, name)(tf.constant(image), given).numpy()
  apart = np.abs(ours.astype(int) - found.astype(int))
  return float((apart > 0).mean()), int(apart.max())


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
  within = all(
    row['share'] <= ALLOWED.get(name, 0.0) for name, row in rows.items()
  )
  report = {
    'machine': reports.machine(),
    'versions': reports.versions(('python', 'tensorflow', 'numpy', 'numba')),
    'levels': LEVELS,
    'allowed': ALLOWED,
    'within': within,
    'operations': rows,
  }
  reports.write(arguments.out, report)
  for name, row in rows.items():
    print(
      f'{name:<14} {row["cases"]:>4} images  differing values '
      f'{row["share"]:.2e}  by {row["difference"]:.0f} at most'
    )
  return 0 if within else 1


if __name__ == '__main__':
  sys.exit(main())
