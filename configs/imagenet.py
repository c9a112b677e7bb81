"""The published V1 recipes on ImageNet, shared by b0.py to b7.py.

Data: ILSVRC 2012 through TFDS, prepared as ArrayRecord. 25,022 training images
are held out ("minival"); the best checkpoint is chosen there and the validation
set is reported once. The authors held out 20 of their 1,024 shards: as many
images, but not the same ones.

Published top-1 in the docstrings is the authors' (README of their TPU code).
None of it was measured with this code: that takes ImageNet and a pod.
"""

from ml_collections import ConfigDict

from configs import base
from effnet_jax.errors import UserError, near_names

RECIPES = ('baseline',)
MINIVAL = 25_022
TRAIN = 1_281_167


def v1(variant: str, recipe: str) -> ConfigDict:
  """Returns the config of a variant under a recipe.

  `baseline`: batch 4096, 350 epochs, RMSProp at .016 per 256 images with 5
  epochs of warm-up and x.97 every 2.4 epochs from step 0, weight decay 1e-5 on
  all but batch norm, label smoothing .1, EMA .9999, survival .8, crop and flip.
  """
  if recipe not in RECIPES:
    raise UserError(
      f'{variant}.py has no recipe {recipe!r}: {near_names(recipe, RECIPES)}'
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
  return config
