"""EfficientNet-B2 on ImageNet, at 260 pixels.

    python train.py --config=configs/b2.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b2.py:baseline        79.8 %; the default
    b2.py:autoaugment     80.1 %
    b2.py:randaugment     none published
    b2.py:advprop         80.5 %
    b2.py:large_batch     none published
    b2.py:noisy_student   82.4 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b2', recipe)
