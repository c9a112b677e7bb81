"""EfficientNet-B3 on ImageNet, at 300 pixels.

    python train.py --config=configs/b3.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b3.py:baseline        81.1 %; the default
    b3.py:autoaugment     81.6 %
    b3.py:randaugment     none published
    b3.py:advprop         81.9 %
    b3.py:noisy_student   84.1 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b3', recipe)
