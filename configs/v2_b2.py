"""EfficientNetV2-B2 on ImageNet, at 260 pixels, trained at 208.

    python train.py --config=configs/v2_b2.py --workdir=DIR

Published top-1: 80.5 % with `in1k`, the only recipe.
`configs/imagenet_v2.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_b2', recipe)
