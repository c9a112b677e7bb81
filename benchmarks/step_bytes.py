"""What each change of the norm's gradient gave: bytes of B0's step on a TPU.

    python benchmarks/step_bytes.py [--only REGEX] [--out FILE]

B0 at 224 pixels, bfloat16, 128 images a chip, compiled for v5e:2x2, with ever
more of `models/norm.py`; the numbers that the network computes are the same
(tests/models/test_norm.py). A row that results/step_bytes.json has is not
compiled again. Needs `pip install '.[tpu-compile]'`.
"""

import functools
import sys
import time
from pathlib import Path

import reports

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # configs

from effnet_jax.analysis import topologies

topologies.prepare()

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402

from configs import b0  # noqa: E402
from effnet_jax.analysis import compile_check, hlo  # noqa: E402
from effnet_jax.models import efficientnet, norm, norm_gradients  # noqa: E402
from effnet_jax.training import program  # noqa: E402

TOPOLOGY, IMAGES = 'v5e:2x2', 128


def _layer(base: type, widening: bool, gate: bool, project: bool) -> type:
  """A norm that leaves to autodiff what it is not told to do itself."""

  class Layer(base):
    def __call__(self, x, activation=None, kernel=None, **after):
      if kernel is not None and not widening:
        x, kernel = norm_gradients.product(x, kernel, self.dtype), None
      own = functools.partial(super().__call__, x)
      if base is nn.BatchNorm:
        own = lambda *_: (activation or (lambda y: y))(
          super(Layer, self).__call__(x)
        )
      if project or not after.get('gate'):
        return own(activation, kernel, **after)
      if gate:
        return after['project'](own(activation, gate=after['gate']))
      out = own(activation, kernel)
      factors = after['gate'](out.mean((1, 2), dtype='float32'))
      return after['project'](out * factors[:, None, None].astype(self.dtype))

  return Layer


VARIANTS = {
  "flax's BatchNorm, autodiff": (nn.BatchNorm, False, False, False),
  'norm and activation from the saved convolution output': (
    norm.BatchNorm,
    False,
    False,
    False,
  ),
  "and the expansion's gradient without its output": (
    norm.BatchNorm,
    True,
    False,
    False,
  ),
  'and the gate, sums by image in one pass': (
    norm.BatchNorm,
    True,
    True,
    False,
  ),
  "and the projection's gradient computed twice": (
    norm.BatchNorm,
    True,
    True,
    True,
  ),
}


def compile_variant(name: str) -> dict:
  config = b0.get_config()
  devices = topologies.devices(TOPOLOGY)
  config.batch_size = IMAGES * len(devices)
  efficientnet.BatchNorm = _layer(*VARIANTS[name])
  built = program.build(config, devices)
  shapes = compile_check.step_shapes(built, IMAGES, 224)
  begun = time.monotonic()
  compiled = built.train_step.lower(*shapes).compile()
  costs, text = compiled.cost_analysis(), compiled.as_text()
  return {
    'flops': costs['flops'],
    'bytes_accessed': costs['bytes accessed'],
    'operand_bytes': hlo.operand_bytes(text),
    'hbm_traffic_bytes': hlo.memory_bytes(text),
    'estimated_cycles': hlo.estimated_cycles(text),
    'peak_bytes': compile_check._peak_bytes(compiled.memory_analysis()),
    'compile_seconds': round(time.monotonic() - begun),
  }


def main() -> None:
  arguments = reports.parser(__doc__, 'step_bytes', 'autodiff').parse_args()
  rows = reports.read(arguments.out).get('rows', {})
  for name in reports.matching(arguments.only, VARIANTS):
    if name in rows:
      continue
    rows[name] = compile_variant(name)
    report = {
      'command': 'python benchmarks/step_bytes.py',
      'network': f'b0, 224 pixels, bfloat16, {IMAGES} images a chip',
      'topology': TOPOLOGY,
      'versions': compile_check._versions(),
      'rows': {key: rows[key] for key in VARIANTS if key in rows},
    }
    reports.write(arguments.out, report)
    print(name, rows[name], flush=True)


if __name__ == '__main__':
  jax.config.update('jax_enable_compilation_cache', False)
  main()
