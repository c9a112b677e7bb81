"""EfficientNetV2-M on ImageNet, at 480 pixels, trained at 384.

    python train.py --config=configs/v2_m.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    v2_m.py:in1k            85.2 %; the default
    v2_m.py:paper           85.1 %
    v2_m.py:in21k           none published
    v2_m.py:in21k_ft_in1k   86.2 %

`configs/imagenet_v2.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_m', recipe)
