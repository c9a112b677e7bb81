"""EfficientNet-B5 on ImageNet, at 456 pixels.

    python train.py --config=configs/b5.py --workdir=DIR

Recipe as an argument: `configs/b5.py:baseline` (the default).
Published top-1: 83.1 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b5', recipe)
