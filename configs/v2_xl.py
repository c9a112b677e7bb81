"""EfficientNetV2-XL on ImageNet, at 512 pixels, trained at 384.

    python train.py --config=configs/v2_xl.py --workdir=DIR

Recipe as an argument, and the top-1 that its authors published:

    v2_xl.py:in21k           none published; the default
    v2_xl.py:in21k_ft_in1k   87.2 %

`configs/imagenet_v2.py` says what each sets.
Measured with this code: nothing yet.
"""

from ml_collections import ConfigDict

from configs import imagenet_v2


def get_config(recipe: str = 'in21k') -> ConfigDict:
  return imagenet_v2.v2('v2_xl', recipe)
