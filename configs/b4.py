"""EfficientNet-B4 on ImageNet, at 380 pixels.

    python train.py --config=configs/b4.py --workdir=DIR

Recipe as an argument: `configs/b4.py:baseline` (the default).
Published top-1: 82.5 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b4', recipe)
