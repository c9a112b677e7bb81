"""EfficientNet-B1 on ImageNet, at 240 pixels.

    python train.py --config=configs/b1.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b1.py:baseline        78.7 %; the default
    b1.py:autoaugment     79.1 %
    b1.py:randaugment     none published
    b1.py:advprop         79.6 %
    b1.py:noisy_student   81.5 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b1', recipe)
