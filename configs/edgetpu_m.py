"""EfficientNet-EdgeTPU-M on ImageNet, at 240 pixels.

    python train.py --config=configs/edgetpu_m.py --workdir=DIR

Published top-1: 78.69 % with `in1k`, the only recipe.
`configs/imagenet_mobile.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_mobile


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_mobile.mobile('edgetpu_m', recipe)
