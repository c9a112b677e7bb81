"""EfficientNet-B0 on ImageNet, at 224 pixels.

    python train.py --config=configs/b0.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    b0.py:baseline        76.7 %; the default
    b0.py:autoaugment     77.1 %
    b0.py:randaugment     none published
    b0.py:advprop         77.6 %
    b0.py:noisy_student   78.8 %

`configs/imagenet.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet


def get_config(recipe: str = 'baseline') -> ConfigDict:
  return imagenet.v1('b0', recipe)
