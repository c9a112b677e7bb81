"""EfficientNet-B8 on ImageNet, at 672 pixels.

    python train.py --config=configs/b8.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b8.py:randaugment     85.4 % (before a hold-out set was used); the default
    b8.py:advprop         85.5 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'randaugment') -> ConfigDict:
  return imagenet.v1('b8', recipe)
