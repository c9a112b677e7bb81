"""Peak memory of a training step, against timm's on the same batch.

    python benchmarks/memory.py [--only REGEX] [--out FILE]

B0 at 224 pixels with 16 images, B4 at 380 with 4, B7 at 600 with 1, float32, on
the CPU: forward, backward, RMSProp, moving averages. Ours without and with
rematerialisation (`config.remat`), timm's in eager PyTorch with channels last;
each in a process of its own, glibc's malloc as it comes. The peak is that of
the resident memory within the steps (the kernel's high-water mark, reset before
them), less what the process held after its imports: it includes weights,
averages and optimiser. For ours XLA's own account stands beside it. Needs
requirements-parity.txt; the results go to results/memory.json.
"""

import ctypes
import gc
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import interleaved
import our_step
import reports
import workers

CASES = (('b0', 224, 16), ('b4', 380, 4), ('b7', 600, 1))
WAYS = ('timm', 'none', 'block', 'stage')  # all but the first: config.remat
STEPS = 3
MIB = 2**20


def resident(what: str) -> int:
  """Returns the resident memory in bytes: VmRSS now, VmHWM at most."""
  status = Path('/proc/self/status').read_text()
  return int(re.search(rf'{what}:\s+(\d+) kB', status)[1]) * 1024


def release() -> None:
  """Gives freed memory back to the system, and the high-water mark with it."""
  gc.collect()
  ctypes.CDLL(None).malloc_trim(0)
  Path('/proc/self/clear_refs').write_text('5')


def ours(
  name: str, resolution: int, size: int, remat: str
) -> tuple[Callable[[], None], dict]:
  """Returns a step, compiled, and XLA's account of its memory."""
  import jax

  config = our_step.config_of(name, size, resolution=resolution)
  config.remat = remat
  program, state, images = our_step.start(config, resolution)
  key = jax.random.key(0)
  compiled = program.train_step.lower(state, images, key).compile()
  account = compiled.memory_analysis()

  def step():
    nonlocal state
    state, _ = jax.block_until_ready(compiled(state, images, key))

  sizes = {
    'arguments': account.argument_size_in_bytes,
    'temporaries': account.temp_size_in_bytes,
    'outputs': account.output_size_in_bytes - account.alias_size_in_bytes,
  }
  return step, {f'xla_{what}_mib': n // MIB for what, n in sizes.items()}


def timms(
  name: str, resolution: int, size: int, _: str
) -> tuple[Callable[[], None], dict]:
  """Returns the same step of timm's network and optimiser."""
  import timm.optim
  import timm.utils
  import torch

  torch.set_num_threads(os.cpu_count() or 1)
  model = timm.create_model(f'tf_efficientnet_{name}', drop_path_rate=0.2)
  model = model.to(memory_format=torch.channels_last).train()
  optimizer = timm.optim.RMSpropTF(
    model.parameters(), lr=1e-3, alpha=0.9, momentum=0.9, weight_decay=1e-5
  )
  averages = timm.utils.ModelEmaV3(model, decay=0.9999)
  arrays = our_step.examples(resolution, size)
  images = torch.from_numpy(arrays['image']).permute(0, 3, 1, 2)
  labels = torch.from_numpy(arrays['label']).long()
  loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

  def step():
    inputs = (images.float() / 255 - 0.45) / 0.225
    optimizer.zero_grad()
    loss(model(inputs), labels).backward()
    optimizer.step()
    averages.update(model)

  return step, {}


def measure(way: str, name: str, resolution: int, size: int) -> dict:
  """Returns the memory and the time of some steps, in this process."""
  if way == 'timm':
    import timm.optim
    import timm.utils  # noqa: F401

    make = timms
  else:
    import jax

    from effnet_jax.training import loop  # noqa: F401

    jax.devices()
    make = ours
  release()
  before = resident('VmRSS')
  step, figures = make(name, resolution, size, way)
  step()  # a compiler, and what is made at the first step, lie behind it
  release()
  ready = resident('VmRSS')
  milliseconds = interleaved.measure(step, 0, STEPS)
  return {
    'model': name,
    'resolution': resolution,
    'batch': size,
    'way': way,
    'peak_mib': (resident('VmHWM') - before) // MIB,
    'between_steps_mib': (ready - before) // MIB,
    'milliseconds': round(statistics.median(milliseconds)),
    **figures,
  }


def with_ratios(rows: list[dict]) -> list[dict]:
  """Adds each row's peak over timm's, and over our plain one."""
  for row in rows:
    peers = {r['way']: r for r in rows if r['model'] == row['model']}
    if 'timm' in peers:
      row['peak_over_timm'] = round(
        row['peak_mib'] / peers['timm']['peak_mib'], 3
      )
    if 'none' in peers and row['way'] in WAYS[2:]:
      # No ratio of times: the processes follow one another, hours apart where
      # rows are added to older ones.
      for figure in ('peak_mib', 'xla_temporaries_mib'):
        over = row[figure] / peers['none'][figure]
        row[f'{figure.removesuffix("_mib")}_over_none'] = round(over, 3)
  return rows


def in_a_process(case: tuple[str, int, int], way: str, cache: str) -> dict:
  environment = our_step.compiled_in(cache)
  with workers.Worker([__file__, '--worker'], environment) as worker:
    return worker.ask('measure', way=way, case=case)


def main() -> None:
  arguments = reports.parser(__doc__, 'memory', 'b0-block').parse_args()
  cases = {f'{case[0]}-{way}': (case, way) for case in CASES for way in WAYS}
  names = reports.matching(arguments.only, cases)
  interleaved.forget_settings()
  # What is not measured again stays.
  old = reports.read(arguments.out).get('steps', [])
  rows = {(row['model'], row['way']): row for row in old}
  with tempfile.TemporaryDirectory() as cache:
    for name in names:
      case, way = cases[name]
      if way != 'timm':
        # Compiling leaves memory behind: the next process need not.
        in_a_process(case, way, cache)
      row = rows[case[0], way] = in_a_process(case, way, cache)
      print(json.dumps(row), flush=True)
      report = {
        'command': 'python benchmarks/memory.py',
        'machine': reports.cores(),
        'versions': reports.versions(('jax', 'torch', 'timm')),
        'steps': with_ratios(list(rows.values())),
      }
      reports.write(arguments.out, report)


if __name__ == '__main__':
  if sys.argv[1:] == ['--worker']:
    workers.serve({'measure': lambda way, case: measure(way, *case)})
  else:
    workers.run(main)
