"""The command `models`: what there is, and what others got out of it."""

import json
import textwrap

from effnet_jax.arguments import ArgumentParser
from effnet_jax.models import macs, published, variants

# A column of the table: the recipe, its head, what the head stands for.
_COLUMNS = (
  ('baseline', 'base', 'no augmentation but crops and flips'),
  ('autoaugment', 'AA', 'AutoAugment'),
  ('randaugment', 'RA', 'RandAugment'),
  ('advprop', 'AP', 'AdvProp'),
  ('noisy_student', 'NS', 'Noisy Student'),
  ('in1k', '1k', 'ImageNet-1k'),
  ('in1k_int8', 'int8', 'that, quantised'),
  ('in21k_ft_in1k', '21k', 'ImageNet-21k, then 1k'),
)


def models(argv: list[str]) -> int | None:
  """Prints one line a network, or JSON."""
  parser = ArgumentParser(
    prog='python -m effnet_jax models',
    description='Lists the networks: parameters, multiply-adds (MACs) of one '
    'image at the\nresolution (pixels a side) that they are evaluated at, and '
    'the top-1 that\ntheir authors published for each training recipe.',
    epilog="""\
examples:
  python -m effnet_jax models
  python -m effnet_jax models b0 tf_efficientnetv2_s
  python -m effnet_jax models --json lite0

Sizes are of 1000 classes, without the moving statistics of batch norm.""",
  )
  parser.add_argument(
    'name', nargs='*', help='variants, also by other names; all if none'
  )
  parser.add_argument(
    '--json', action='store_true', help='a list of objects, with exact numbers'
  )
  args = parser.parse_args(argv)
  rows = [_row(name) for name in args.name or variants.list_models()]
  print(json.dumps(rows, indent=2) if args.json else _table(rows))


def _row(name: str) -> dict:
  spec = variants.get_spec(name)
  counts = macs.count(spec)
  return {
    'name': spec.name,
    'params': counts.params,
    'macs': counts.macs,
    'resolution': spec.resolution,
    'top1': published.top1_by_recipe(spec.name),
  }


def _table(rows: list[dict]) -> str:
  known = {recipe for row in rows for recipe in row['top1']}
  columns = [column for column in _COLUMNS if column[0] in known]
  heads = ''.join(f'{head:>5}' for _, head, _ in columns)
  lines = [f'{"name":15}{"params":>7}{"MACs":>8}{"px":>5}{heads}']
  for row in rows:
    top1 = [row['top1'].get(recipe) for recipe, _, _ in columns]
    # One decimal, as most are published; --json has what there is.
    cells = ''.join(f'{x:5.1f}' if x else ' ' * 5 for x in top1)
    lines.append(
      f'{row["name"]:15}{_three_digits(row["params"] / 1e6):>5} M'
      f'{_macs(row["macs"]):>8}{row["resolution"]:5}{cells}'.rstrip()
    )
  if columns:
    legend = '; '.join(f'{head} {what}' for _, head, what in columns)
    text = f'Right of px: published top-1 on ImageNet, %. {legend}.'
    lines += ['', *textwrap.wrap(text, width=78)]
  return '\n'.join(lines)


def _macs(count: int) -> str:
  value, unit = (count / 1e9, 'G') if count >= 5e6 else (count / 1e6, 'M')
  return f'{_three_digits(value)} {unit}'


def _three_digits(value: float) -> str:
  """Not more than two of them decimals: 0.39, 5.29, 12.2, 480."""
  return f'{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}'
