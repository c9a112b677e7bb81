"""EfficientNet-B0 on ImageNet, at 224 pixels.

    python train.py --config=configs/b0.py --workdir=DIR

Recipe as an argument: `configs/b0.py:baseline` (the default).
Published top-1: 76.7 % with `baseline`.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b0', recipe)
