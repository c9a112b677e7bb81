"""EfficientNetV2-B1 on ImageNet, at 240 pixels, trained at 192.

    python train.py --config=configs/v2_b1.py --workdir=DIR

Published top-1: 79.8 % with `in1k`, the only recipe.
`configs/imagenet_v2.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_b1', recipe)
