"""EfficientNet-B6 on ImageNet, at 528 pixels.

    python train.py --config=configs/b6.py --workdir=DIR

Recipe as an argument: `configs/b6.py:baseline` (the default).
Published top-1: none for `baseline`
(the authors give B0 to B5 only).
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b6', recipe)
