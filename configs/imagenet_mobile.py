"""The recipes of Lite, EdgeTPU and CondConv on ImageNet.

Their READMEs give accuracies and name no recipe but the data. Lite and EdgeTPU
are trained here as V1's baseline, in the images' own normalisation (less 127,
over 128). CondConv adds what its paper (Yang et al. 2019, section 4.1) says of
its networks: AutoAugment, and mixup of .2; that much is second-hand.
"""

from ml_collections import ConfigDict

from configs import imagenet


def mobile(variant: str, recipe: str) -> ConfigDict:
  """Returns the config of a Lite, EdgeTPU or CondConv network.

  `in1k`: ImageNet-1k from scratch, the only recipe.
  """
  condconv = variant.startswith('condconv')
  recipes = {'in1k': mixed if condconv else imagenet.baseline}
  return imagenet.config_of(variant, recipes, recipe)


def mixed(config: ConfigDict) -> None:
  """AutoAugment and mixup of .2."""
  imagenet.autoaugment(config)
  config.objective.mixup = 0.2
