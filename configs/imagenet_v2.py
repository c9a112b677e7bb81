"""The published recipes of V2, shared by the variants' configs.

From the released code (google/automl, efficientnetv2), where it and the paper
differ unless a recipe says otherwise: batch norm momentum .9 (the paper: .99);
dropout is not scheduled (the paper's Table 6 schedules it); the ladder of
sizes never trains at its lower end.
"""

from ml_collections import ConfigDict

from configs import imagenet

# RandAugment's magnitude and the alpha of mixup and cutmix in the last stage.
_REGULARIZERS = {
  'v2_s': (10, 0.0),
  'v2_m': (15, 0.2),
  'v2_l': (20, 0.5),
  'v2_xl': (20, 0.5),
}
# The paper's Table 6, last stage: pixels, RandAugment's magnitude, mixup's
# alpha, dropout rate. The first: 128 pixels, 5, 0, .1.
_TABLE_6 = {
  'v2_s': (300, 15.0, 0.0, 0.3),
  'v2_m': (380, 20.0, 0.2, 0.4),
  'v2_l': (380, 25.0, 0.5, 0.5),
}
_EVALUATED = {'v2_b3': 300, 'v2_s': 384, 'v2_m': 480, 'v2_l': 480, 'v2_xl': 512}
CLASSES_21K, IMAGES_21K = 21_843, 12_720_275


def v2(variant: str, recipe: str) -> ConfigDict:
  """Returns the config of a V2 network under a recipe.

  `in1k`: ImageNet-1k from scratch by progressive learning, the released ladder:
  batch 4096, 350 epochs, RMSProp at .016 per 256 images, 5 epochs of warm-up,
  x.97 every 2.4 epochs, weight decay 1e-5 on kernels alone, label smoothing .1,
  EMA .9999, survival .8; four stages of equal length in which the size of the
  images, RandAugment, mixup and cutmix rise. B0 to B3 with V1's crops,
  normalisation and AutoAugment instead. `paper`: the ladder of the paper's
  Table 6, with dropout rising too. `in21k` and `in21k_ft_in1k`: below.
  """
  small = variant.startswith('v2_b')
  recipes = {}
  if variant != 'v2_xl':
    recipes['in1k'] = in1k
  if variant in ('v2_s', 'v2_m', 'v2_l'):
    recipes['paper'] = paper
  if not small or variant == 'v2_b3':
    recipes |= {'in21k': in21k, 'in21k_ft_in1k': in21k_ft_in1k}
  return imagenet.config_of(variant, recipes, recipe)


def in1k(config: ConfigDict) -> None:
  """ImageNet-1k from scratch, the released ladder."""
  _shared(config)
  config.stages.count = 4
  config.stages.ladder = 'released'
  if config.model.name in _REGULARIZERS:
    magnitude, alpha = _REGULARIZERS[config.model.name]
    config.data.augment = 'randaugment'
    config.data.augment_layers = 2
    config.data.augment_magnitude = float(magnitude)
    config.objective.mixup = config.objective.cutmix = alpha
  else:
    config.data.augment = 'autoaugment'


def in21k(config: ConfigDict) -> None:
  """ImageNet-21k: 60 epochs, cosine from .008 per 256 images, no augmentation.

  TFDS has no such data set: prepare your own as ArrayRecord under the name
  `imagenet21k` (12,720,275 images, 21,843 classes, one label an image; the
  authors' labels were multi-hot, normalised to a distribution).
  """
  _shared(config)
  config.duration = '60 epochs'
  config.data.name = 'imagenet21k'
  config.data.num_classes = CLASSES_21K
  config.data.train_split = f'train[{imagenet.MINIVAL}:]'
  config.data.test_split = config.data.eval_split
  config.data.train_examples = IMAGES_21K - imagenet.MINIVAL
  config.evaluation.report = 'last'  # no other split is left to report
  config.model.overrides.resolution = 224
  config.model.overrides.survival_probability = 1.0
  config.model.overrides.dropout_rate = 1e-6
  config.objective.label_smoothing = 0.0
  config.schedule.learning_rate = 0.008
  config.schedule.decay = 'cosine'
  config.schedule.warmup = '1 epoch'


def in21k_ft_in1k(config: ConfigDict) -> None:
  """ImageNet-1k from 21k's weights: 15 epochs at .0005 per 256, batch 512.

  Give the weights by `--config.init_from=`: a run of `in21k`, or published
  ones. Trained at the size of evaluation, whole images, flips and a square of
  noise; EMA .9996. The rate is constant (the paper: cosine).
  """
  _shared(config)
  config.duration = '15 epochs'  # the code: 10,000 steps at least; it is 36,801
  config.batch_size = 512
  config.ema = 0.9996
  config.init_head = 'new'
  config.model.overrides.dropout_rate = 1e-6
  config.data.crop_area = ()
  config.data.cutout = 0.5
  config.model.overrides.resolution = _EVALUATED[config.model.name]
  config.schedule.learning_rate = 0.0005
  config.schedule.decay = 'constant'
  config.schedule.warmup = '1 epoch'


def paper(config: ConfigDict) -> None:
  """ImageNet-1k from scratch, the paper's Table 6, which has no cutmix."""
  in1k(config)
  size, magnitude, mixup, dropout = _TABLE_6[config.model.name]
  config.stages.ladder = 'paper'
  config.stages.min_resolution = 128
  config.stages.min_magnitude = 5.0
  config.stages.min_dropout = 0.1
  config.model.overrides.resolution = _EVALUATED[config.model.name]
  config.model.overrides.train_resolution = size
  config.model.overrides.dropout_rate = dropout
  config.model.overrides.bn_momentum = 0.99
  config.data.augment_magnitude = magnitude
  config.objective.mixup = mixup
  config.objective.cutmix = 0.0


def _shared(config: ConfigDict) -> None:
  config.model.bn_groups = 'tpu_v2'
  config.optimizer.decay_mask = 'kernels'
  if config.model.name in _REGULARIZERS:
    config.data.crop_area = (0.05, 1.0)
    config.data.min_covered = 0.0
