"""CondConv EfficientNet-B0 of 4 experts on ImageNet, at 224 pixels.

    python train.py --config=configs/condconv_b0_4e.py --workdir=DIR

Published top-1: 77.8 % with `in1k`, the only recipe.
`configs/imagenet_mobile.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_mobile


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_mobile.mobile('condconv_b0_4e', recipe)
