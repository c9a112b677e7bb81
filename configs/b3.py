"""EfficientNet-B3 on ImageNet, at 300 pixels.

    python train.py --config=configs/b3.py --workdir=DIR

Recipe as an argument: `configs/b3.py:baseline` (the default).
Published top-1: 81.1 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b3', recipe)
