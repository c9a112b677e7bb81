"""The published recipes of V1 on ImageNet, shared by the variants' configs.

Data: ILSVRC 2012 through TFDS, prepared as ArrayRecord. 25,022 training images
are held out ("minival"); the best checkpoint is chosen there and the validation
set is reported once. The authors held out 20 of their 1,024 shards: as many
images, but not the same ones.

Published top-1 in the docstrings is the authors' (README of their TPU code).
None of it was measured with this code: that takes ImageNet and a pod.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import base
from effnet_jax.errors import UserError, near_names

MINIVAL = 25_022
TRAIN = 1_281_167

_B0_TO_B7 = tuple(f'b{i}' for i in range(8))
# RandAugment's magnitude, two operations each; 10 is the released code's
# default, for the variants whose results were not published.
_MAGNITUDES = {'b5': 17, 'b7': 28, 'b8': 28}


def config_of(
  variant: str, recipes: dict[str, Callable[[ConfigDict], None]], recipe: str
) -> ConfigDict:
  """Returns the data and settings that all share, changed by a recipe.

  Raises:
    UserError: the variant has no such recipe.
  """
  if recipe not in recipes:
    raise UserError(
      f'{variant}.py has no recipe {recipe!r}: {near_names(recipe, recipes)}'
    )
  config = base.get_config()
  config.model.name = variant
  config.model.dtype = 'bfloat16'  # the authors' default on TPU
  config.model.bn_groups = 'tpu'
  data = config.data
  data.name = 'imagenet2012'
  data.train_split = f'train[{MINIVAL}:]'
  data.eval_split = f'train[:{MINIVAL}]'
  data.test_split = 'validation'
  data.num_classes = 1000
  data.train_examples = TRAIN - MINIVAL
  data.crop_area = (0.08, 1.0)
  data.workers = 16
  # ImageNet has a handful of files that some decoders refuse.
  data.max_bad_fraction = 1e-4
  config.evaluation.report = 'best'
  recipes[recipe](config)
  return config


def v1(variant: str, recipe: str) -> ConfigDict:
  """Returns the config of B0 to B8 or L2 under a recipe.

  All: batch 4096, 350 epochs, RMSProp at .016 per 256 images with 5 epochs of
  warm-up and x.97 every 2.4 epochs from step 0, weight decay 1e-5 on all but
  batch norm, label smoothing .1, EMA .9999, survival .8, crop and flip.

  `baseline`: nothing else. `autoaugment`: policy v0. `randaugment`: two
  operations, the variant's magnitude. `advprop`, `large_batch`: below.
  `noisy_student`: the student, see configs/noisy_student.py.
  """
  recipes = {}
  if variant in _B0_TO_B7:
    recipes |= {'baseline': baseline, 'autoaugment': autoaugment}
  if variant in (*_B0_TO_B7, 'b8'):
    recipes |= {'randaugment': randaugment, 'advprop': advprop}
  if variant in ('b2', 'b5'):
    recipes['large_batch'] = large_batch
  if variant != 'b8':
    recipes['noisy_student'] = baseline
  if recipe == 'noisy_student' and recipe in recipes:
    from configs import noisy_student  # which needs this module

    argument = 'l2_475,fixres' if variant == 'l2' else variant
    return noisy_student.get_config(argument)
  return config_of(variant, recipes, recipe)


def baseline(config: ConfigDict) -> None:
  """Crop and flip."""


def autoaugment(config: ConfigDict) -> None:
  """AutoAugment's policy v0."""
  config.data.augment = 'autoaugment'


def randaugment(config: ConfigDict) -> None:
  """RandAugment, two operations an image."""
  config.data.augment = 'randaugment'
  config.data.augment_layers = 2
  config.data.augment_magnitude = float(_MAGNITUDES.get(config.model.name, 10))


def advprop(config: ConfigDict) -> None:
  """AdvProp (Xie et al. 2020) with AutoAugment.

  The training code was never released. From the paper: a second set of batch
  norms for the attacked copies, PGD within 4 of 255, 5 steps of 1, from a
  random start; weaker attacks (within 1, 1 step) for the smallest networks, but
  not for which, so that it is the same for all here. From the released
  checkpoints: images in (-1, 1). Two passes and the attack: each step costs
  about seven ordinary ones.
  """
  autoaugment(config)
  config.model.overrides.mean = (0.5, 0.5, 0.5)
  config.model.overrides.std = (0.5, 0.5, 0.5)
  config.objective.name = 'advprop'
  config.objective.attack_epsilon = 4.0
  config.objective.attack_steps = 5
  config.objective.attack_step_size = 1.0


def large_batch(config: ConfigDict) -> None:
  """LARS at batch 65,536 (Wongpanich et al. 2020, arXiv 2011.00071).

  Of the paper's abstract are the batch, 1,024 TPU v3 cores, 1 h 04 min and 83 %
  for B5. The rates and the length of warm-up are second-hand, not checked
  against its tables: B5 .081 per 256 images, 43 epochs; B2 .118, 50 epochs at
  batch 32,768. RMSProp holds to 16,384 images; at 32,768 it gave 40.3 %.
  """
  b5 = config.model.name == 'b5'
  autoaugment(config)
  config.batch_size = 65_536 if b5 else 32_768
  config.optimizer.name = 'lars'
  config.optimizer.decay_mask = 'kernels'
  config.schedule.learning_rate = 0.081 if b5 else 0.118
  config.schedule.warmup = '43 epochs' if b5 else '50 epochs'
  config.schedule.decay = 'polynomial'
