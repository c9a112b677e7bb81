"""EfficientNet-B7 on ImageNet, at 600 pixels.

    python train.py --config=configs/b7.py --workdir=DIR

Recipe as an argument: `configs/b7.py:baseline` (the default).
Published top-1: none for `baseline`
(the authors give B0 to B5 only).
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b7', recipe)
