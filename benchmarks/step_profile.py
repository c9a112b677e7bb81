"""Where the time of a compiled step goes, by the kind of work.

XLA names every kernel after an instruction of the compiled program, and that
program says of every instruction which module of the network it comes from.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A fusion does work of several kinds: it counts as the first of them.
KINDS = (
  'depthwise',
  'convolution',  # and products; not depthwise
  'squeeze_excite',
  'batch_norm_reduction',
  'silu',
  'elementwise',  # normalisation, residuals, dropout
  'loss',
  'optimizer',  # and the moving average, and the norms that are logged
  'other',
)
_PRODUCTS = ('conv_general_dilated', 'dot_general')
# Their time is that of the instructions within.
_CONTAINERS = ('while', 'call', 'conditional')
_MODULE = re.compile(r'\w+_(conv|bn)|se|classifier|routing')
_HEADER = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (.*)$')
_OPCODE = re.compile(r' ([a-z][\w\-]*)\(')
_CALLS = re.compile(r' calls=%?([\w.\-]+)')
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def kind_of_name(op_name: str) -> str:
  """Returns the kind of work of one operation of JAX.

  >>> kind_of_name('jit(f)/jvp(EfficientNet)/blocks_1/expand_bn/reduce_sum')
  'batch_norm_reduction'
  """
  *path, primitive = op_name.split('/')
  modules = [part for part in path if _MODULE.fullmatch(part)]
  if 'se' in modules:
    return 'squeeze_excite'
  if modules and modules[-1] == 'depthwise_conv':
    return 'depthwise'
  if primitive in _PRODUCTS:
    return 'convolution'
  if modules and modules[-1].endswith('_bn') and primitive.startswith('reduce'):
    return 'batch_norm_reduction'
  if 'silu' in op_name or primitive == 'logistic':
    return 'silu'
  if 'EfficientNet' in op_name:
    return 'elementwise'
  if 'jvp(' in op_name:
    return 'loss'
  return 'optimizer' if path else 'other'


def kinds(program: str) -> dict[str, str | None]:
  """Returns the kind of every instruction of a compiled program's text.

  None for what only contains others.
  """
  computations: dict[str, list[str]] = collections.defaultdict(list)
  bodies: dict[str, str] = {}
  current = ''
  for line in program.splitlines():
    if instruction := _INSTRUCTION.match(line):
      name, bodies[name] = instruction[1], instruction[2]
      computations[current].append(name)
    elif header := _HEADER.match(line):
      current = header[1]

  def found(name: str) -> Iterator[str]:
    body = bodies[name]
    if op_name := _OP_NAME.search(body):
      yield kind_of_name(op_name[1])
    if called := _CALLS.search(body):
      for inner in computations[called[1]]:
        yield from found(inner)

  result: dict[str, str | None] = {}
  for name, body in bodies.items():
    opcode = _OPCODE.search(' ' + body)
    if opcode and opcode[1] in _CONTAINERS:
      result[name] = None
    else:
      result[name] = min(found(name), key=KINDS.index, default='other')
  return result


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A kernel of a trace: its instruction, and its total time."""

  name: str
  nanoseconds: float


def kernels(folder: str | Path) -> list[Kernel]:
  """Returns the kernels of a trace that `jax.profiler.trace` has written."""
  import jax

  (path,) = Path(folder).glob('**/*.xplane.pb')
  planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
  devices = [plane for plane in planes if plane.name.startswith('/device:')]
  totals: collections.Counter[str] = collections.Counter()
  for plane in devices or planes:
    for line in plane.lines:
      if devices and not line.name.startswith('Stream'):
        continue  # the same kernels again, in groups
      for event in line.events:
        name = dict(event.stats).get('hlo_op')
        if name or devices:
          totals[str(name or event.name)] += event.duration_ns
  return [Kernel(name, time) for name, time in totals.most_common()]


def report(
  found: list[Kernel], program: str, steps: int, top: int = 15
) -> dict[str, Any]:
  """Returns milliseconds a step by kind, and the longest kernels.

  Kernels that run at the same time, as a CPU's do, are added up.
  """
  by_name = kinds(program)
  totals = dict.fromkeys(KINDS, 0.0)
  longest = []
  for kernel in found:
    kind = by_name.get(kernel.name, 'other')
    if kind is None:
      continue
    milliseconds = kernel.nanoseconds / steps / 1e6
    totals[kind] += milliseconds
    if len(longest) < top:
      longest.append(
        {
          'name': kernel.name,
          'kind': kind,
          'milliseconds': round(milliseconds, 4),
        }
      )
  total = sum(totals.values())
  return {
    'milliseconds': round(total, 3),
    'share': {
      kind: round(time / total, 4) if total else 0.0
      for kind, time in totals.items()
    },
    'longest': longest,
  }
