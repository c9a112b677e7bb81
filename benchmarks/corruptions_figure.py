"""Draws docs/figures/corruptions.png: all corruptions of one photo.

  python -m benchmarks.corruptions_figure [PNG]

The photo is scikit-image's `chelsea`, cropped as for evaluation at 224 pixels.
"""

import sys
from pathlib import Path

from skimage import data

from effnet_jax.data.corruptions.corruption import KINDS
from effnet_jax.data.preprocess import Preprocess, eval_image
from effnet_jax.evaluation.robustness_figure import draw_kinds

FILE = Path(__file__).parents[1] / 'docs' / 'figures' / 'corruptions.png'


def main() -> None:
  file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
  image = eval_image(data.chelsea(), Preprocess(224))
  draw_kinds(image, KINDS, (1, 3, 5), str(file))
  # 256 colours do for a figure, at a third of the bytes.
  from PIL import Image

  with Image.open(file) as picture:
    few = picture.convert('RGB').quantize(256)
  few.save(file, optimize=True)


if __name__ == '__main__':
  main()
