"""EfficientNet-B5 on ImageNet, at 456 pixels.

    python train.py --config=configs/b5.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b5.py:baseline        83.1 %; the default
    b5.py:autoaugment     83.6 %
    b5.py:randaugment     83.7 %
    b5.py:advprop         84.3 %
    b5.py:large_batch     83.0 % (arXiv 2011.00071)
    b5.py:noisy_student   86.1 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b5', recipe)
