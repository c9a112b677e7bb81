"""EfficientNet-Lite2 on ImageNet, at 260 pixels.

    python train.py --config=configs/lite2.py --workdir=DIR

Published top-1: 77.6 % with `in1k`, the only recipe.
`configs/imagenet_mobile.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_mobile


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_mobile.mobile('lite2', recipe)
