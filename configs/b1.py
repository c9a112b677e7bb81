"""EfficientNet-B1 on ImageNet, at 240 pixels.

    python train.py --config=configs/b1.py --workdir=DIR

Recipe as an argument: `configs/b1.py:baseline` (the default).
Published top-1: 78.7 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b1', recipe)
