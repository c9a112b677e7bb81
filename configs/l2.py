"""EfficientNet-L2 on ImageNet, at 800 pixels, trained at 475.

    python train.py --config=configs/l2.py --workdir=DIR

Published top-1: 88.4 % with `noisy_student`, the only recipe.
`configs/imagenet.py` says what it sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'noisy_student') -> ConfigDict:
  return imagenet.v1('l2', recipe)
