"""Noisy Student on ImageNet (Xie et al. 2020): the student b0 to b7, or L2.

    python -m effnet_jax pseudo-label --weights TEACHER --data UNLABELLED \\
      --per-class 130000 --out LABELS
    python train.py --config=configs/noisy_student.py:b0 --workdir=DIR \\
      --config.data.unlabelled=LABELS
    python train.py --config=configs/noisy_student.py:l2_475,fixres \\
      --workdir=DIR2 --config.init_from=DIR

DIR is the next teacher: `--weights DIR`. The argument is the student's variant
(b0 to b7, l2_475); with `,fixres` 1.5 more epochs on labelled images that are
not augmented, at a larger size: L2 is trained at 475 pixels and finished at
800, of the others set `--config.model.overrides.resolution`.

Published top-1 (README of the authors' TPU code), with JFT-300M as unlabelled
images and teachers up to L2: b0 78.8, b1 81.5, b2 82.4, b3 84.1, b4 85.3,
b5 86.1, b6 86.4, b7 86.9, L2 at 475 pixels 88.2, at 800 88.4. These runs held
no training images out; this config holds out 25,022, as configs/imagenet.py.
Measured with this code: nothing yet.

Values are those of the authors' repository (google-research/noisystudent,
local_scripts/imagenet/train_offline.sh and main.py) for b0 to b7; L2's ratio is
the paper's. The learning rate is for the labelled images alone.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import imagenet
from effnet_jax.errors import UserError, near_names


@dataclasses.dataclass(frozen=True)
class Student:
  """What the authors set for a variant.

  Attributes:
    ratio: unlabelled images for each labelled one.
    length: times 350 epochs, and times the 2.4 epochs of a fall of the rate.
    magnitude: of RandAugment (two layers, Cutout among its operations); None
      for crop and flip alone.
    top1: published, in per cent.
    last_resolution: pixels of the last epochs, where they were published.
  """

  ratio: int
  length: int
  magnitude: int | None
  top1: float
  last_resolution: int | None = None


STUDENTS = {
  'b0': Student(1, 2, None, 78.8),
  'b1': Student(3, 2, None, 81.5),
  'b2': Student(3, 2, 6, 82.4),
  'b3': Student(3, 2, 12, 84.1),
  'b4': Student(3, 2, 15, 85.3),
  'b5': Student(3, 1, 18, 86.1),
  'b6': Student(3, 1, 24, 86.4),
  'b7': Student(3, 1, 27, 86.9),
  'l2_475': Student(14, 1, 27, 88.2, last_resolution=800),
}
_EPOCHS, _LAST_EPOCHS, _FALL_EVERY = 350, 1.5, 2.4


def get_config(argument: str = 'b0') -> ConfigDict:
  variant, _, part = argument.partition(',')
  if variant not in STUDENTS:
    raise UserError(
      f'no published student {variant!r}: {near_names(variant, STUDENTS)}'
    )
  if part not in ('', 'fixres'):
    raise UserError(f"'{argument}': write {variant}, or {variant},fixres")
  student = STUDENTS[variant]
  config = imagenet.config_of(
    variant, {'baseline': imagenet.baseline}, 'baseline'
  )
  return (_last_epochs if part else _student)(config, student)


def _student(config, student):
  config.duration = f'{_EPOCHS * student.length} epochs'
  config.schedule.decay_every = f'{_FALL_EVERY * student.length} epochs'
  config.objective.name = 'noisy_student'
  config.data.unlabelled_ratio = student.ratio
  if student.magnitude is not None:
    config.data.augment = 'randaugment'
    config.data.augment_layers = 2
    config.data.augment_magnitude = float(student.magnitude)
  return config


def _last_epochs(config, student):
  """The authors' `train_last_step_num` and `remove_aug`."""
  config.model.overrides.resolution = student.last_resolution
  config.duration = f'{_LAST_EPOCHS} epochs'
  # The rate stays where the whole training ends: it does not fall any more in
  # the last 1.5 epochs.
  length, every = _EPOCHS * student.length, _FALL_EVERY * student.length
  falls = (length - _LAST_EPOCHS) // every
  config.schedule.learning_rate *= config.schedule.decay_factor**falls
  config.schedule.decay = 'constant'
  config.schedule.warmup = '0 epochs'
  config.data.crop_area = ()  # the evaluation crop
  config.data.flip = False
  config.evaluation.every = '0.5 epochs'
  return config
