"""effnet_jax on a GPU (or, to try it, a CPU), as a worker of gpu.py."""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import our_step
import reports
import workers

# Bytes a second by the vendors' data sheets. By what `device_kind` contains;
# the first that fits.
BANDWIDTH = {
  'H200': 4.8e12,
  'H100 PCIe': 2.0e12,
  'H100 NVL': 3.9e12,
  'H100': 3.35e12,
  'A100-SXM4-80GB': 2.039e12,
  'A100 80GB PCIe': 1.935e12,
  'A100': 1.555e12,
}
_PROFILED_STEPS = 3


class Program:
  """A compiled function that is called again and again on one batch.

  Attributes:
    compiled: of XLA, for its text and its cost; None where it is hidden.
  """

  def __init__(self, step: Callable[[], Any], compiled: Any = None):
    import jax

    self.compiled, self._step = compiled, step
    self._wait = jax.block_until_ready

  def run(self, times: int) -> float:
    """Returns seconds; nothing waits for the device between two calls."""
    begun = time.perf_counter()
    for _ in range(times):
      result = self._step()
    self._wait(result)
    return time.perf_counter() - begun


def bandwidth(kind: str) -> float | None:
  return next((b for name, b in BANDWIDTH.items() if name in kind), None)


def formulations() -> list[str]:
  """Returns the depthwise formulations, one by one (see `models.depthwise`)."""
  from effnet_jax.models import depthwise

  return [name for name in depthwise.FORMULATIONS if name != 'auto']


def about() -> dict[str, Any]:
  import jax

  try:
    device = jax.devices()[0]
  except (RuntimeError, AssertionError) as error:
    raise workers.WorkerError(
      'JAX finds no GPU; install "jax[cuda12]>=0.10,<0.13", or try the script '
      'with --device cpu --small'
    ) from error
  return {
    'device': device.device_kind,
    'bandwidth': bandwidth(device.device_kind),
    'formulations': formulations(),
    'versions': reports.versions(('jax', 'jaxlib', 'flax', 'optax')),
  }


def training(
  variant: str,
  overrides: dict[str, Any],
  resolution: int,
  batch: int,
  formulation: str,
) -> Program:
  """Returns the step of `effnet_jax.build`, on uint8 images on the device."""
  import jax

  from effnet_jax.training import parallel

  config = our_step.config_of(variant, batch, **overrides)
  config.model.dtype = 'bfloat16'
  config.model.depthwise = formulation
  devices = jax.devices()[:1]
  program, state, examples = our_step.start(config, resolution, devices)
  key = parallel.replicate(jax.random.key(0), devices)
  compiled = program.train_step.lower(state, examples, key).compile()

  def step():
    nonlocal state
    state, metrics = compiled(state, examples, key)
    return metrics

  return Program(step, compiled)


def inference(
  variant: str,
  overrides: dict[str, Any],
  resolution: int,
  batch: int,
  formulation: str,
) -> Program:
  """Returns `effnet_jax.predictor` in bfloat16, on images on the device."""
  import jax

  import effnet_jax

  model, variables = effnet_jax.create_model(
    variant, depthwise=formulation, **overrides
  )
  predict = effnet_jax.predictor(model, variables, dtype='bfloat16')
  shape = (batch, resolution, resolution, 3)
  rng = np.random.default_rng(0)
  images = jax.device_put(rng.standard_normal(shape, np.float32))
  return Program(lambda: predict(images))


def depthwise_layers(
  variant: str, overrides: dict[str, Any], resolution: int
) -> list[dict[str, int]]:
  """Returns the shapes of a network's depthwise layers, each once."""
  from effnet_jax.models import variants

  spec = variants.get_spec(variant, **overrides)
  size, found = -(-resolution // spec.stem_stride), []
  for block in spec.blocks():
    layer = {
      'kernel': block.kernel_size,
      'stride': block.stride,
      'size': size,
      'channels': block.expanded_filters,
    }
    if block.operator == 'mbconv' and layer not in found:
      found.append(layer)
    size = -(-size // block.stride)
  return found


def depthwise(
  layer: dict[str, int], batch: int, formulations: list[str], seconds: float
) -> dict[str, Any]:
  """Returns milliseconds of one layer in each formulation.

  `forward` alone, and `gradients`: forward with both gradients.
  """
  import jax
  import jax.numpy as jnp

  from effnet_jax.models import depthwise as depthwise_lib

  rng = np.random.default_rng(0)
  shape = (batch, layer['size'], layer['size'], layer['channels'])
  window = (layer['kernel'], layer['kernel'], 1, layer['channels'])
  x, kernel = (
    jnp.asarray(rng.standard_normal(s, np.float32), jnp.bfloat16)
    for s in (shape, window)
  )
  result: dict[str, Any] = {**layer, 'batch': batch}
  for formulation in formulations:
    convolve = lambda x, kernel, formulation=formulation: (
      depthwise_lib.depthwise_conv(x, kernel, layer['stride'], formulation)
    )

    def gradients(x, kernel, convolve=convolve):
      y, pull = jax.vjp(convolve, x, kernel)
      return pull(y)

    for name, function in (('forward', convolve), ('gradients', gradients)):
      compiled = jax.jit(function).lower(x, kernel).compile()
      program = Program(lambda c=compiled: c(x, kernel))
      times = [measure(program, seconds) for _ in range(3)]
      seconds_a_call = statistics.median(
        t['seconds'] / t['calls'] for t in times
      )
      result.setdefault(name, {})[formulation] = round(1e3 * seconds_a_call, 4)
  for name in ('forward', 'gradients'):
    result[f'best_{name}'] = min(result[name], key=result[name].get)
  return result


def measure(program: Program, seconds: float) -> dict[str, Any]:
  """Returns the calls of a window of about so many seconds, and its length."""
  program.run(2)
  calls = max(1, round(seconds / (program.run(2) / 2)))
  return {'calls': calls, 'seconds': program.run(calls)}


def profile(program: Program) -> dict[str, Any]:
  import jax
  import step_profile

  program.run(2)
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      program.run(_PROFILED_STEPS)
    found = step_profile.kernels(folder)
  return step_profile.report(found, program.compiled.as_text(), _PROFILED_STEPS)


def main() -> None:
  programs: list[Program] = []
  make = {'training': training, 'inference': inference}

  def prepare(kind: str, **case: Any) -> dict:
    begun = time.perf_counter()
    program = make[kind](**case)
    program.run(2)
    programs.append(program)
    result = {'prepare_seconds': round(time.perf_counter() - begun, 1)}
    if program.compiled:
      cost = program.compiled.cost_analysis()
      result |= {
        'bytes_accessed': cost['bytes accessed'],
        'flops': cost['flops'],
      }
    return result

  def peak_bytes() -> int | None:
    import jax

    return (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use')

  workers.serve(
    {
      'about': about,
      'prepare': prepare,
      'measure': lambda seconds: measure(programs[-1], seconds),
      'peak_bytes': peak_bytes,
      'profile': lambda: profile(programs[-1]),
      'layers': depthwise_layers,
      'depthwise': depthwise,
    }
  )


if __name__ == '__main__':
  main()
