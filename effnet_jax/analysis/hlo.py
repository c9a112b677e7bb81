"""What the text of a compiled program says that XLA's analyses do not."""

import math
import re
from collections.abc import Iterator

_COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# These move nothing, or say again what their `-start` has said.
_NOTHING = (
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'while'),
  *('copy-done', 'slice-done'),
)
# Custom calls that compute: a library (`__cudnn$convForward`, `__cublas$gemm`)
# or a hand-written kernel. The others move nothing: those of a TPU allocate, or
# say how an array lies (`AllocateBuffer`, `ConcatBitcast`).
_COMPUTES = re.compile(
  r'custom_call_target="(__(cu|gpu|onednn|triton)|tpu_custom|triton_kernel)'
)
# What a library may scribble on stands behind its results. How often it does is
# not known; XLA leaves it out as well.
_WORKSPACE = re.compile(r', [su]8\[\d*\]\{0\}\)$')
_INSTRUCTION = re.compile(
  r'\s*(?:ROOT )?%(?P<name>[\w.-]+) = '
  r'(?P<type>\(.*?\)(?= [\w-]+\()|\S+) (?P<operation>[\w-]+)\((?P<rest>.*)'
)
_ARRAY = re.compile(
  r'\b(?P<type>pred|bf16|[suf](?P<bits>\d+)\w*)\[(?P<shape>[\d,]*)\]'
  r'(?P<layout>\{[^}]*\})?'
)
_CALLED = re.compile(r'\b(?:body|to_apply)=%([\w.-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def collective_bytes(text: str) -> int:
  """Returns the bytes that one device brings into the collectives of a step.

  Of all-reduces that is the size of their operands, which is the size of their
  results; the others count by their results too. What stands in a loop counts
  once.
  """
  return sum(
    sum(size for size, _ in _arrays(match['type']))
    for line in text.splitlines()
    if (match := _INSTRUCTION.match(line))
    if match['operation'].removesuffix('-start') in _COLLECTIVES
  )


def memory_bytes(text: str) -> int:
  """Returns the bytes that a step moves between the chip and its memory.

  Each operation reads its operands and writes its results once, unless they
  are in another memory space: a TPU's compiler keeps many arrays on the chip,
  and copies others there ahead of their use. `bytes accessed` of XLA's cost
  analysis counts those as often as they are touched.
  """
  return _moved(_computations(text), 'ENTRY', _in_memory, _AHEAD)


def operand_bytes(text: str) -> int:
  """As `memory_bytes`, on the chip or not, without the copies ahead of use.

  It is what the formulation of a step asks for, and does not depend on what
  the compiler finds room for on the chip.
  """
  everywhere = lambda types: sum(size for size, _ in _arrays(types))
  return _moved(_computations(text), 'ENTRY', everywhere, {})


def estimated_cycles(text: str) -> int:
  """Returns the cycles that a TPU's compiler expects its operations to take.

  Its own guess, of the arithmetic rather than of the memory; what stands in a
  loop is left out, and other compilers say nothing: 0.
  """
  return sum(
    int(cycles)
    for line in _computations(text).get('ENTRY', ())
    for cycles in _CYCLES.findall(line)
  )


def _moved(computations, name, count, ahead):
  total, types = 0, {}
  for line in computations.get(name, ()):
    match = _INSTRUCTION.match(line)
    if not match:
      continue
    types[match['name']] = match['type']
    operation = match['operation']
    if operation in ('while', 'call'):
      called, trips = _CALLED.search(line), _TRIPS.search(line)
      if called:
        once = _moved(computations, called[1], count, ahead)
        total += once * (int(trips[1]) if trips else 1)
    elif operation in _AHEAD:
      total += ahead[operation](match['type']) if ahead else 0
    elif _moves(operation, line):
      operands = match['rest'].partition(')')[0]
      total += count(_results(match))
      for operand in re.findall(r'%([\w.-]+)', operands):
        total += count(types.get(operand, ''))
  return total


def _moves(operation, line):
  if operation == 'custom-call':
    return _COMPUTES.search(line) is not None
  return operation not in _NOTHING


def _results(match):
  if match['operation'] != 'custom-call':
    return match['type']
  return _WORKSPACE.sub(')', match['type'])


def _computations(text):
  """Lines by the computation's name; the program's own is ENTRY."""
  found, lines = {}, []
  for line in text.splitlines():
    if line.startswith(('ENTRY', '%')) and line.endswith('{'):
      name = 'ENTRY' if line.startswith('ENTRY') else line[1:].split()[0]
      lines = found.setdefault(name, [])
    else:
      lines.append(line)
  return found


def _in_memory(types):
  return sum(
    size for size, layout in _arrays(types) if not re.search(r'S\(\d', layout)
  )


# Copies to the chip ahead of use: what they read, by their type.
_AHEAD = {
  'copy-start': _in_memory,  # (copy, original, context)
  # ((whole), slice, context)
  'slice-start': lambda types: [size for size, _ in _arrays(types)][1],
}


def _arrays(types: str) -> Iterator[tuple[int, str]]:
  """Bytes and layout of each array in a type."""
  for match in _ARRAY.finditer(types):
    bits = 16 if match['type'] == 'bf16' else int(match['bits'] or 8)
    sizes = [int(size) for size in match['shape'].split(',') if size]
    yield math.prod(sizes) * bits // 8, match['layout'] or ''
