"""Errors on corrupted images, and their mean as ImageNet-C has it.

Hendrycks and Dietterich 2019, section 4: the corruption error CE of a kind is
the network's top-1 error over the five severities, divided by AlexNet's; mCE is
the mean of CE over the fifteen kinds.
"""

from collections.abc import Callable, Sequence
from typing import Any

from effnet_jax.data.corruptions.corruption import SEVERITIES, Corruption
from effnet_jax.evaluation.measuring import Measurement

# Top-1 errors on ImageNet-C over all severities (the authors' test.py). Their
# order is that of the published tables.
ALEXNET = {
  'gaussian_noise': 0.886428,
  'shot_noise': 0.894468,
  'impulse_noise': 0.922640,
  'defocus_blur': 0.819880,
  'glass_blur': 0.826268,
  'motion_blur': 0.785948,
  'zoom_blur': 0.798360,
  'snow': 0.866816,
  'frost': 0.826572,
  'fog': 0.819324,
  'brightness': 0.564592,
  'contrast': 0.853204,
  'elastic_transform': 0.646056,
  'pixelate': 0.717840,
  'jpeg_compression': 0.606500,
}
FROST_NOTE = (
  'frost is drawn, not the published photographs: its error, and mCE over 15 '
  'kinds, are not comparable with published ones'
)


def measure(
  measurement: Measurement,
  kinds: Sequence[str],
  severities: Sequence[int],
  *,
  scaled: bool = False,
  advance: Callable[[int], object],
) -> dict[str, Any]:
  """Evaluates every kind at every severity, each image once for each.

  Returns:
    What JSON can hold, errors in per cent: `kinds`, by name {errors: {severity:
    top-1 error}, error: their mean, ce: in per cent of AlexNet's or None};
    `error`, the mean over the kinds; `mce` and `mce_without_frost`, None unless
    they are defined; `scaled`; `notes`, what they can be compared with.
  """
  found = {}
  for kind in kinds:
    errors = {}
    for severity in severities:
      corruption = Corruption(kind, severity, scaled=scaled)
      means, _ = measurement(advance, corruption)
      errors[str(severity)] = 100 * (1 - means['top1'])
    found[kind] = {'errors': errors, 'error': _mean(errors.values())}
  normalised = measurement.imagenet and tuple(severities) == SEVERITIES
  for kind, result in found.items():
    result['ce'] = result['error'] / ALEXNET[kind] if normalised else None
  ce = {k: result['ce'] for k, result in found.items() if normalised}
  without = {kind: value for kind, value in ce.items() if kind != 'frost'}
  return {
    'kinds': found,
    'error': _mean([result['error'] for result in found.values()]),
    'mce': _mean(ce.values()) if len(ce) == len(ALEXNET) else None,
    'mce_without_frost': (
      _mean(without.values()) if len(without) == len(ALEXNET) - 1 else None
    ),
    'scaled': scaled,
    'notes': _notes(
      kinds,
      measurement.preprocess.size,
      normalised,
      measurement.label_set.benchmark,
    ),
  }


def _notes(
  kinds: Sequence[str], side: int, normalised: bool, benchmark: str
) -> list[str]:
  notes = [FROST_NOTE] if 'frost' in kinds else []
  notes.append(
    f'corrupted after the crop, at {side} pixels; the published files are '
    'JPEGs of 224 pixels, of quality 85 besides'
  )
  if normalised and benchmark != 'imagenet':
    notes.append(
      "AlexNet's errors are of ImageNet's validation images, these are others"
    )
  return notes


def _mean(values) -> float:
  values = list(values)
  return sum(values) / len(values)


def text(result: dict[str, Any]) -> str:
  """Returns a table of top-1 by kind, and the means."""
  kinds = result['kinds']
  severities = list(next(iter(kinds.values()))['errors'])
  normalised = next(iter(kinds.values()))['ce'] is not None
  head = f'{"corruption":<18}{"top-1":>7}'
  head += ''.join(f'{"at " + severity:>7}' for severity in severities)
  lines = [head + (f'{"CE":>8}' if normalised else '')]
  for kind, values in kinds.items():
    line = f'{kind:<18}{100 - values["error"]:7.2f}'
    line += ''.join(
      f'{100 - error:7.2f}' for error in values['errors'].values()
    )
    lines.append(line + (f'{values["ce"]:8.1f}' if normalised else ''))
  lines.append(
    f'mean corruption error {result["error"]:.2f} % (top-1, unnormalised)'
  )
  if result['mce'] is not None:
    lines.append(f"mCE {result['mce']:.1f} (per cent of AlexNet's), 15 kinds")
  if result['mce_without_frost'] is not None:
    lines.append(
      f'mCE {result["mce_without_frost"]:.1f}, without frost: 14 kinds'
    )
  if result['scaled']:
    lines.append('note: lengths in pixels scaled by (side) / 224')
  return '\n'.join(lines + [f'note: {note}' for note in result['notes']])
