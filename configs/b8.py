"""EfficientNet-B8 on ImageNet, at 672 pixels.

    python train.py --config=configs/b8.py --workdir=DIR

Published top-1: 85.4 % with `randaugment`, the only recipe (before the authors
held images out).
`configs/imagenet.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'randaugment') -> ConfigDict:
  return imagenet.v1('b8', recipe)
