"""Draws every operation of AutoAugment and RandAugment at three levels.

    python benchmarks/augment_figure.py

Writes docs/figures/augment_ops.png.
"""

from pathlib import Path

import numpy as np
import skimage.data
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from effnet_jax.data.augment import table
from effnet_jax.data.resample import resize

LEVELS = (3, 9, 28)
OUT = Path(__file__).resolve().parents[1] / 'docs' / 'figures'


def main() -> None:
  photo = resize(skimage.data.chelsea()[:, 60:360], (224, 224), 'pillow')
  names, columns = list(table.OPERATIONS), 4
  rows = len(names) // columns
  figure = Figure(figsize=(13, 5.4), layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.subplots(rows, columns * len(LEVELS))
  for i, name in enumerate(names):
    row, column = i % rows, i // rows * len(LEVELS)
    for j, level in enumerate(LEVELS):
      rng = np.random.default_rng(1)  # the same sign and place at each level
      image = table.apply(name, rng, photo, level, table.Scale())
      panel = axes[row, column + j]
      panel.imshow(resize(image, (112, 112), 'pillow'))
      panel.set_xticks([])
      panel.set_yticks([])
      panel.set_title(f'{name} {level}' if j == 0 else str(level), fontsize=9)
  OUT.mkdir(exist_ok=True)
  path = OUT / 'augment_ops.png'
  figure.savefig(path, dpi=64)
  # A palette takes a fifth of the room.
  Image.open(path).convert('RGB').quantize(192).save(path, optimize=True)


if __name__ == '__main__':
  main()
