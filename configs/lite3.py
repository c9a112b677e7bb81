"""EfficientNet-Lite3 on ImageNet, at 280 pixels.

    python train.py --config=configs/lite3.py --workdir=DIR

Published top-1: 79.8 % with `in1k`, the only recipe.
`configs/imagenet_mobile.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_mobile


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_mobile.mobile('lite3', recipe)
