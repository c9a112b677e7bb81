"""`--model` and `--weights`: the network that a command is to use."""

import argparse
import os

from effnet_jax import pretrained
from effnet_jax.errors import UserError
from effnet_jax.models import published, variants
from effnet_jax.weights.fetch import PACKAGED
from effnet_jax.weights.load import Weights

_SOURCES = 'a directory of a training run or of convert, a file, or hf://timm/'


def add(parser: argparse.ArgumentParser) -> None:
  """Adds the options that `read` reads."""
  parser.add_argument(
    '--model',
    metavar='NAME',
    help='the variant; not needed where the weights say it',
  )
  parser.add_argument(
    '--weights',
    metavar='SOURCE',
    help='a directory of a training run or of convert, a file, or '
    'hf://ORGANISATION/NAME; not needed for the packaged variants: '
    f'{", ".join(PACKAGED)}',
  )
  parser.add_argument(
    '--raw',
    action='store_true',
    help='of a training run the last weights, not their moving average',
  )
  parser.add_argument(
    '--resolution',
    metavar='PIXELS',
    type=int,
    help="side of the images; the weights' own if not given",
  )


def source(arguments: argparse.Namespace) -> str:
  """Returns where the weights come from.

  Raises:
    UserError: that was not said, and the variant has no package.
  """
  model, weights = arguments.model, arguments.weights
  if weights is not None:
    return weights
  packaged = ', '.join(PACKAGED)
  if model is None:
    raise UserError(
      f'which network? Give --model ({packaged} come with weights), or '
      f'--weights: {_SOURCES}NAME'
    )
  name = _variant(model)
  if name in PACKAGED:
    return name
  hub = next(iter(published.hub_names(name)), 'NAME')
  raise UserError(
    f'which weights of {name}? Give --weights: {_SOURCES}{hub} (only '
    f'{packaged} need none)'
  )


def read(arguments: argparse.Namespace) -> Weights:
  """Returns the network's specification and its variables.

  Raises:
    UserError: no such network or weights, or they don't fit each other; --raw
      of what is no training run.
  """
  where, side = source(arguments), arguments.resolution
  overrides = {} if side is None else {'resolution': side}
  return pretrained.read(
    where, arguments.model, ema=not arguments.raw, **overrides
  )


def _variant(model: str) -> str:
  try:
    return variants.get_spec(model).name
  except UserError:
    if model.startswith('hf://') or os.path.exists(model):
      raise UserError(
        f'--model names a variant: give {model} by --weights'
      ) from None
    known = published.find(model)
    if known and known[0].source == 'timm':
      raise UserError(
        f'--model names a variant: give --weights hf://timm/{model}'
      ) from None
    raise
