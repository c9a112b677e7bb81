"""The command `compile-check`: a config's step compiled for what will run it.

JAX is imported late: the environment decides what it compiles for.
"""

import argparse
import json
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from effnet_jax import flags
from effnet_jax.analysis import topologies, waiting
from effnet_jax.arguments import ArgumentParser

if TYPE_CHECKING:
  from effnet_jax.analysis.compile_check import Check

_DESCRIPTION = """\
Compiles the training step of a config, the very one that train.py maps over
devices, and says whether its memory fits, how much it computes and moves, and
how many images a second that allows at best. Nothing is trained, no data is
read. Where it does not fit, it looks for the largest batch that does, and what
computing activations again (config.remat) costs instead.

A pod need not be there: its compiler comes with
pip install 'effnet_jax[tpu-compile]'. A step of B0 compiles in minutes, of B7
in many. The exit status is 1 where a step does not fit."""

_EXAMPLES = """\
examples:
  python -m effnet_jax compile-check --config=configs/b0.py \\
    --topology=v5e:16x16
  python -m effnet_jax compile-check --config=configs/b7.py \\
    --topology=v5e:4x4 --config.batch_size=256 --config.remat=block
  python -m effnet_jax compile-check --config=configs/b0.py \\
    --config.model.name=v2_s --topology=v6e:16x16 --json

--json gives fits, chips, hbm_bytes, peak_bytes, flops, bytes_accessed,
hbm_traffic_bytes, collective_bytes, arithmetic_seconds, traffic_seconds (of one
chip and step), images_per_second_bound and images_per_second_by_hbm (of all
chips), bound_by, compile_seconds, what was compiled and with which versions;
and ways_out, a list of the same."""


def compile_check(argv: list[str]) -> int:
  """Prints what compiling has shown; returns 0 if the step fits, else 1."""
  arguments, config = _parse(argv)
  topology = arguments.topology
  if topology is not None:
    topologies.check(topology)
    topologies.prepare()
  # Here, for JAX starts with them.
  import jax

  from effnet_jax.analysis import compile_check as checking
  from effnet_jax.analysis import fitting
  from effnet_jax.training import parallel

  jax.config.update('jax_enable_compilation_cache', False)  # it is timed
  devices = (
    topologies.devices(topology)
    if topology is not None
    else parallel.devices_or_all(None)
  )

  def measure(**changes):
    changed = checking.changed(config, len(devices), **changes)
    what = checking.title(changed, len(devices), topology)
    return waiting.say_elapsed(
      f'compiling {what}',
      lambda: checking.check(changed, devices, topology),
    )

  found = measure()
  if not arguments.json:
    print(text(found))
  ways_out = []
  if not (found.fits or arguments.no_search):
    ways_out = fitting.ways_out(found, measure)
  if arguments.json:
    print(
      json.dumps(
        {**found.json(), 'ways_out': [way.json() for way in ways_out]}, indent=2
      )
    )
  elif not (found.fits or arguments.no_search):
    print(_advice(found, ways_out))
  return 0 if found.fits else 1


def _parse(argv: list[str]) -> tuple[argparse.Namespace, ConfigDict]:
  parser = ArgumentParser(
    prog='python -m effnet_jax compile-check',
    description=_DESCRIPTION,
    epilog=_EXAMPLES,
  )
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE',
    help='as for train.py; its keys are set by --config.KEY=VALUE',
  )
  parser.add_argument(
    '--topology',
    metavar='NAME',
    help='a TPU pod, e.g. v4:4x8x8, v5e:16x16, v5p:4x8x8, v6e:16x16; the '
    'devices here if left out',
  )
  parser.add_argument(
    '--no-search',
    action='store_true',
    help='do not look for what would fit instead',
  )
  parser.add_argument('--json', action='store_true', help='JSON, not text')
  keys, rest = [], list(argv)
  for i in reversed(range(len(rest))):
    if rest[i].startswith('--config.'):
      parts = 1 if '=' in rest[i] else 2  # --config.KEY=VALUE, or with a space
      keys[:0] = rest[i : i + parts]
      del rest[i : i + parts]
  arguments = parser.parse_args(rest)
  given = ['compile-check', f'--config={arguments.config}', *keys]
  return arguments, flags.parse(given)


def text(check: 'Check') -> str:
  """Returns a check for people."""
  lines = [
    f'{check.model} at {check.resolution} pixels, {check.dtype}, '
    f'{check.batch_size:,} images a step on {check.topology} '
    f'({check.chips} chips, {check.batch_per_chip} images each), '
    f'remat {check.remat}',
    *_memory(check),
  ]
  for what, amount, unit, seconds in (
    ('arithmetic', check.flops, 'GFLOP', check.arithmetic_seconds),
    ('traffic', check.bytes_accessed, 'GB', check.traffic_seconds),
  ):
    if amount is not None:
      at_best = f', {seconds * 1e3:.1f} ms at best' if seconds else ''
      lines.append(f'  {what:12}{amount / 1e9:,.1f} {unit} a chip{at_best}')
  if check.hbm_traffic_bytes is not None:
    crossing = check.hbm_traffic_bytes / 1e9
    lines.append(f'  {"of it HBM":12}{crossing:,.1f} GB cross to memory')
  if check.collective_bytes is not None:
    megabytes = check.collective_bytes / 1e6
    lines.append(f'  {"collectives":12}{megabytes:,.1f} MB a chip')
  for what, bound, by in (
    ('bound', check.images_per_second_bound, check.bound_by),
    ('by HBM', check.images_per_second_by_hbm, 'what crosses to memory'),
  ):
    if bound is not None:
      each = bound / check.chips
      lines.append(
        f'  {what:12}{bound:,.0f} images/s, {each:,.0f} a chip, by {by}'
      )
  versions = ', '.join(f'{k} {v}' for k, v in check.versions.items())
  lines.append(
    f'  {"compiled":12}in {check.compile_seconds:.0f} s with {versions}'
  )
  return '\n'.join(lines)


def _memory(check):
  gib = lambda amount: f'{amount / 2**30:.2f} GiB'
  if check.peak_bytes is None:
    verdict = 'not said' if check.fits else 'DOES NOT FIT'
    return [f'  {"memory":12}{verdict}: {gib(check.hbm_bytes)} a chip']
  room = check.hbm_bytes - check.peak_bytes
  verdict = f'{gib(room)} to spare' if check.fits else f'{gib(-room)} too much'
  return [
    f'  {"memory":12}{"fits" if check.fits else "DOES NOT FIT"}: '
    f'{gib(check.peak_bytes)} of {gib(check.hbm_bytes)} a chip, {verdict}'
  ]


def _advice(found, ways_out):
  """What to do about a step that does not fit, from what was compiled."""
  lines = ['']
  smaller = [way for way in ways_out if way.remat == found.remat]
  for way in smaller:
    lines.append(
      f'The largest batch found to fit is {way.batch_per_chip} images a chip: '
      f'--config.batch_size={way.batch_size}. It is'
    )
    lines.append(text(way))
  for way in ways_out:
    if way.remat == found.remat:
      continue
    fits = 'fits' if way.fits else 'does not fit either'
    lines.append(f'The same batch with --config.remat={way.remat} {fits}:')
    lines.append(text(way))
    if smaller and way.fits:
      lines.append(_cost(way, smaller[0]))
  if len(lines) == 1:
    lines.append('Not one image a chip fits: see config.remat.')
  return '\n'.join(lines)


def _cost(remat, plain):
  """Arithmetic and traffic of an image with and without rematerialisation."""
  each = lambda way, amount: amount / way.batch_per_chip
  flops = each(remat, remat.flops) / each(plain, plain.flops)
  accessed = each(remat, remat.bytes_accessed) / each(
    plain, plain.bytes_accessed
  )
  return (
    f'  An image costs {flops:.2f} times the arithmetic and {accessed:.2f} '
    'times the traffic of the smaller batch without it.'
  )
