"""EfficientNet-B4 on ImageNet, at 380 pixels.

    python train.py --config=configs/b4.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b4.py:baseline        82.5 %; the default
    b4.py:autoaugment     82.9 %
    b4.py:randaugment     none published
    b4.py:advprop         83.3 %
    b4.py:noisy_student   85.3 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b4', recipe)
