"""EfficientNet-B2 on ImageNet, at 260 pixels.

    python train.py --config=configs/b2.py --workdir=DIR

Recipe as an argument: `configs/b2.py:baseline` (the default).
Published top-1: 79.8 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b2', recipe)
