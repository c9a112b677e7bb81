"""EfficientNetV2-S on ImageNet, at 384 pixels, trained at 300.

    python train.py --config=configs/v2_s.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    v2_s.py:in1k            83.9 %; the default
    v2_s.py:paper           83.9 %
    v2_s.py:in21k           none published
    v2_s.py:in21k_ft_in1k   84.9 %

`configs/imagenet_v2.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_s', recipe)
