"""What a sweep runs: variants of a config by seeds, as data."""

import copy
import dataclasses
import importlib.util
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from effnet_jax.errors import UserError, near_names

Overrides = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
  """A config and how its runs differ: what configs/ablations/*.py return.

  Example:
    Sweep(
      base='configs/quickstart.py',
      runs={'gates': {}, 'no gates': {'model.overrides.se_ratio': 0.0}},
      seeds=(0, 1, 2),
    )

  Attributes:
    base: the config file, with its argument if it takes one.
    runs: overrides (dotted keys of the config) by the name of the variant.
    grid: values by dotted key; every combination is a variant, named by its
      values. With `runs`, each of them at every point.
    seeds: of every variant.
    shared: overrides of all runs, under those of the variant.
  """

  base: str
  runs: Mapping[str, Overrides] = dataclasses.field(default_factory=dict)
  grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  seeds: Sequence[int] = (0,)
  shared: Overrides = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Run:
  """One training run.

  Attributes:
    name: of its work directory: the variant and the seed.
    variant: what it shares with the runs of other seeds.
    overrides: of the base config, the seed among them.
  """

  name: str
  variant: str
  overrides: Overrides


def load(path: str) -> Sweep:
  """Returns the sweep that a file's `get_sweep()` describes.

  Raises:
    UserError: no such file, or none that describes a sweep.
  """
  if not Path(path).is_file():
    raise UserError(
      f'no sweep {path!r}: give a file as configs/ablations/se.py'
    )
  spec = importlib.util.spec_from_file_location('sweep_config', path)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    sweep = module.get_sweep()
  except Exception as error:  # whatever is written there
    raise UserError(f'{path}: {type(error).__name__}: {error}') from error
  if not isinstance(sweep, Sweep):
    raise UserError(f'{path}: get_sweep() returns no Sweep')
  return sweep


def runs(sweep: Sweep) -> tuple[Run, ...]:
  """Returns every run, seeds innermost.

  Raises:
    UserError: no run, or two of the same name.
  """
  variants = [
    (
      ' '.join(filter(None, (name, *_point(sweep.grid, values)))) or 'base',
      {
        **sweep.shared,
        **overrides,
        **dict(zip(sweep.grid, values, strict=True)),
      },
    )
    for name, overrides in (sweep.runs or {'': {}}).items()
    for values in itertools.product(*sweep.grid.values())
  ]
  found = tuple(
    Run(f'{_safe(variant)}-seed{seed}', variant, {**overrides, 'seed': seed})
    for variant, overrides in variants
    for seed in sweep.seeds
  )
  names = [run.name for run in found]
  twice = sorted({name for name in names if names.count(name) > 1})
  if twice or not found:
    raise UserError(
      f'two runs would be called {twice[0]}' if twice else 'a sweep of no run'
    )
  return found


def without(sweep: Sweep, overrides: Sequence[str]) -> Sweep:
  """Returns a sweep whose shared overrides give way to `--config.key=value`.

  Raises:
    UserError: a key in which the runs differ.
  """
  keys = {
    flag.removeprefix('--config.').partition('=')[0] for flag in overrides
  }
  varied = {*sweep.grid, 'seed'}.union(*sweep.runs.values())
  if both := sorted(keys & varied):
    raise UserError(
      f'--config.{both[0]}: the runs of this sweep differ in it; change it in '
      'the sweep'
    )
  left = {k: v for k, v in sweep.shared.items() if k not in keys}
  return dataclasses.replace(sweep, shared=left)


def _point(grid, values):
  """`width=1.0` of every key, the whole key where its end is not unique."""
  ends = [key.rpartition('.')[2] for key in grid]
  for key, end, value in zip(grid, ends, values, strict=True):
    yield f'{end if ends.count(end) == 1 else key}={value}'


def _safe(name: str) -> str:
  return re.sub(r'[^\w.=+-]+', '_', name).strip('_') or 'run'


def check(base: ConfigDict, run: Run) -> ConfigDict:
  """Returns the config of a run.

  Raises:
    UserError: a key that the base has not, or a value of another type.
  """
  config = copy.deepcopy(base).lock()  # placeholders keep their types
  for key, value in run.overrides.items():
    section, _, last = key.rpartition('.')
    part = config
    for name in filter(None, section.split('.')):
      part = part.get(name) if name in part else None
      if not isinstance(part, ConfigDict):
        break
    if not isinstance(part, ConfigDict) or last not in part:
      near = near_names(key, _keys(config))
      raise UserError(f'{run.name}: unknown key {key}: {near}')
    try:
      part[last] = value
    except (TypeError, ValueError) as error:
      text = str(error).splitlines()[0]
      raise UserError(f'{run.name}: {key}={value!r}: {text}') from error
  return config


def _keys(config, prefix=''):
  for key, value in config.items():
    if isinstance(value, ConfigDict):
      yield from _keys(value, f'{prefix}{key}.')
    else:
      yield prefix + key


def arguments(sweep: Sweep, run: Run, extra: Sequence[str]) -> list[str]:
  """Returns what train.py takes to run it, but for --workdir."""
  flags = [f'--config.{k}={_text(v)}' for k, v in run.overrides.items()]
  return [f'--config={sweep.base}', *extra, *flags]


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return repr(tuple(value)) if isinstance(value, list | tuple) else str(value)


def shard(all_runs: Sequence[Run], spec: str) -> tuple[Run, ...]:
  """Returns the i-th of n shares, for `i/n` with i from 0.

  Raises:
    UserError: `spec` does not read so.
  """
  match = re.fullmatch(r'(\d+)/(\d+)', spec)
  if not match or not int(match[1]) < int(match[2]):
    raise UserError(f'--shard={spec}: write i/n with i from 0 to n - 1')
  return tuple(all_runs[int(match[1]) :: int(match[2])])
