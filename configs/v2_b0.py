"""EfficientNetV2-B0 on ImageNet, at 224 pixels, trained at 192.

    python train.py --config=configs/v2_b0.py --workdir=DIR

Published top-1: 78.7 % with `in1k`, the only recipe.
`configs/imagenet_v2.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_b0', recipe)
