"""EfficientNetV2-B3 on ImageNet, at 300 pixels, trained at 240.

    python train.py --config=configs/v2_b3.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    v2_b3.py:in1k            82.1 %; the default
    v2_b3.py:in21k           none published
    v2_b3.py:in21k_ft_in1k   none published

`configs/imagenet_v2.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in1k') -> ConfigDict:
  return imagenet_v2.v2('v2_b3', recipe)
