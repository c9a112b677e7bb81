"""EfficientNet-B7 on ImageNet, at 600 pixels.

    python train.py --config=configs/b7.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b7.py:baseline        none published; the default
    b7.py:autoaugment     84.3 %
    b7.py:randaugment     84.7 %
    b7.py:advprop         85.2 %
    b7.py:noisy_student   86.9 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b7', recipe)
