"""EfficientNet-B6 on ImageNet, at 528 pixels.

    python train.py --config=configs/b6.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b6.py:baseline        none published; the default
    b6.py:autoaugment     84.0 %
    b6.py:randaugment     none published
    b6.py:advprop         84.8 %
    b6.py:noisy_student   86.4 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b6', recipe)
