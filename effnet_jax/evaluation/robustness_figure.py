"""Corruptions as pictures: errors by kind and severity, and an image's fate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effnet_jax.data.corruptions.corruption import Corruption
from effnet_jax.data.preprocess import (
  DecodeError,
  Preprocess,
  decode,
  eval_image,
)
from effnet_jax.data.sources import Source
from effnet_jax.errors import UserError

_COLUMNS = 5  # of the strip


def check_matplotlib() -> None:
  """Raises `UserError` where matplotlib is not installed."""
  try:
    import matplotlib.figure
  except ImportError:
    raise UserError(
      '--figure needs matplotlib, which is not installed: '
      'pip install matplotlib'
    ) from None
  del matplotlib


def first_image(source: Source, preprocess: Preprocess) -> np.ndarray:
  """Returns the first image that can be decoded, as the network sees it.

  Raises:
    UserError: there is none.
  """
  for index in range(len(source)):
    record = source[index]
    try:
      image = decode(
        record['image'],
        exif_orientation=preprocess.exif_orientation,
        name=record['name'],
      )
    except DecodeError:
      continue
    return eval_image(image, preprocess)
  raise UserError(f'no image of {source!r} decodes')


def draw_results(
  result: Mapping[str, Any],
  clean_error: float,
  image: np.ndarray,
  title: str,
  file: str,
) -> None:
  """Writes a PNG: a heat map of errors, and `image` under every kind.

  Args:
    result: of `robustness.measure`.
    clean_error: top-1 error in per cent without corruption.
    image: uint8 [h, w, 3].
    title: of the figure.
    file: where to.
  """
  kinds, figure = list(result['kinds']), _figure(13, 7)
  severities = list(result['kinds'][kinds[0]]['errors'])
  table, strip = figure.subfigures(1, 2, width_ratios=(1, 1.35))
  axes = table.subplots()
  errors = np.array(
    [[clean_error, *result['kinds'][kind]['errors'].values()] for kind in kinds]
  )
  shown = axes.imshow(errors, vmin=0, vmax=100, cmap='magma', aspect='auto')
  for (row, column), value in np.ndenumerate(errors):
    colour = 'black' if value > 60 else 'white'
    axes.text(column, row, f'{value:.0f}', ha='center', va='center', c=colour)
  axes.set_xticks(range(len(severities) + 1), ['none', *severities])
  axes.set_yticks(range(len(kinds)), [_label(kind) for kind in kinds])
  axes.set_xlabel('severity')
  axes.set_title('top-1 error, per cent')
  table.colorbar(shown, ax=axes, shrink=0.6)
  middle = int(severities[len(severities) // 2])
  rows = -(-len(kinds) // _COLUMNS)
  grid = strip.subplots(rows, _COLUMNS, squeeze=False).flat
  for axes, kind in zip(grid, kinds, strict=False):
    corruption = Corruption(kind, middle, scaled=result['scaled'])
    axes.imshow(corruption(0, image))
    axes.set_title(_label(kind), fontsize=8)
  for axes in strip.axes:
    axes.axis('off')
  strip.suptitle(f'severity {middle}', fontsize=10)
  figure.suptitle(title)
  _save(figure, file, 100)


def draw_kinds(
  image: np.ndarray,
  kinds: Sequence[str],
  severities: Sequence[int],
  file: str,
) -> None:
  """Writes a picture of `image` under each kind (columns) and severity (rows).

  `image` is uint8 [h, w, 3], and shown as it is before all others. The format
  is what `file` ends in.
  """
  columns = -(-(len(kinds) + 1) // 2)
  rows = 2 * len(severities)
  figure = _figure(1.3 * columns, 1.36 * rows)
  grid = figure.subplots(rows, columns)
  for axes in grid.flat:
    axes.axis('off')
  for number, kind in enumerate([None, *kinds]):
    top, column = number // columns * len(severities), number % columns
    for row, severity in enumerate(severities):
      axes = grid[top + row, column]
      if kind is None:
        if row == 0:
          axes.imshow(image)
          axes.set_title('original', fontsize=8)
        continue
      axes.imshow(Corruption(kind, severity)(0, image))
      name = _label(kind) if row == 0 else ''
      axes.set_title(f'{name} {severity}'.strip(), fontsize=8)
  _save(figure, file, 100)


def _label(kind: str) -> str:
  return kind.replace('_', ' ') + (' (drawn)' if kind == 'frost' else '')


def _figure(width: float, height: float) -> Any:
  check_matplotlib()
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def _save(figure: Any, file: str, dpi: int) -> None:
  try:
    figure.savefig(file, format='png', dpi=dpi)
  except OSError as error:
    raise UserError(f'--figure {file}: {error.strerror or error}') from None
