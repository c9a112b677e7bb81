"""Training and inference on one GPU, beside timm's on the same GPU.

    python benchmarks/gpu.py [--only SECTION ...] [--minutes 9] [--out FILE]
    python benchmarks/gpu.py --device cpu --small   # only to try the script

Sections: `training` (images/s of the very step of `effnet_jax.build`, bfloat16,
for each depthwise formulation; timm with channels_last, autocast to bfloat16,
torch.compile, RMSProp and moving average), `profile` (time of our step by kind
of work), `inference` (bfloat16), `depthwise` (every layer shape in every
formulation). Each competitor is a process; they take turns, window by window.
Where they do not fit into memory together, each runs alone, twice. The file is
written after every case, and a further call goes on with what it lacks.

It runs from anywhere and needs in one environment:

    pip install "jax[cuda12]>=0.10,<0.13" torch timm -r requirements.txt

`effnet_jax.build` imports grain and ml_collections although it reads no data:
what an image with jax, flax, optax, orbax, opencv and timm lacks comes by
`pip install --no-deps ml-collections grain array-record portpicker` (4 MB of
wheels). Without torch or timm ours is measured alone.
"""

import gpu_bench
import reports
import workers
from gpu_bench import Case

_B0, _B4 = ('b0', 'tf_efficientnet_b0'), ('b4', 'tf_efficientnet_b4')
_V2_S = ('v2_s', 'tf_efficientnetv2_s')
# Beginning with what counts most: a lease may end.
CASES = (
  Case('training', *_B0, 224, (256,)),
  Case('profile', *_B0, 224, (256,)),
  Case('training', *_V2_S, 300, (256, 128)),
  Case('training', *_B4, 380, (128, 64)),
  Case('training', *_B0, 224, (1024,)),
  Case('profile', *_V2_S, 300, (128,)),
  Case('profile', *_B4, 380, (64,)),
  *(
    Case('inference', *names, resolution, (batch,))
    for batch in (256, 1, 32)
    for names, resolution in ((_B0, 224), (_B4, 380), (_V2_S, 384))
  ),
  Case('depthwise', *_B0, 224, (256,)),
  Case('depthwise', *_B4, 380, (64,)),
  Case('depthwise', *_V2_S, 300, (128,)),
)
# One block; the peer is a larger network: nothing to compare.
_TINY = {'stages': 'r1_k3_s2_e2_o8_se', 'head_filters': 16}
SMALL = tuple(
  Case(section, 'micro', 'tf_efficientnet_b0', 32, (2,), _TINY)
  for section in gpu_bench.SECTIONS
)


def main() -> None:
  arguments = _parse()
  cases = SMALL if arguments.small else CASES
  bench = gpu_bench.Bench(arguments)
  report = bench.begin(arguments.out)
  done = [row['case'] for row in report['rows']]
  for case in cases:
    if case.section not in arguments.only or case.key() in done:
      continue
    if bench.minutes() > arguments.minutes:
      print(f'{arguments.minutes} minutes are over: call again to go on')
      break
    report['rows'].append(bench.run(case))
    reports.write(arguments.out, report)
    _show(report['rows'][-1])
  print(f'{arguments.out}: {len(report["rows"])} of {len(cases)} cases')


def _parse():
  parser = reports.parser(__doc__, 'gpu')
  add = parser.add_argument
  add(
    '--only',
    nargs='+',
    choices=gpu_bench.SECTIONS,
    default=gpu_bench.SECTIONS,
    metavar='SECTION',
  )
  add('--device', choices=('gpu', 'cpu'), default='gpu')
  add('--small', action='store_true', help='a tiny network, to try the script')
  add('--formulations', nargs='+', metavar='NAME', help='ours; all by default')
  add('--eager', action='store_true', help='without torch.compile')
  add('--windows', type=int, default=5, metavar='N')
  add('--seconds', type=float, default=2.0, help='length of a window')
  add('--minutes', type=float, default=1e9, help='begin no case after them')
  return parser.parse_args()


def _show(row):
  case = row['case']
  what = f'{case["section"]} {case["variant"]} {row["batch"]}'
  for name, error in row.get('errors_together', {}).items():
    print(f'{what:24} {name:14} each alone, for together: {error}', flush=True)
  for name, result in row.get('competitors', {}).items():
    value = result.get('error') or f'{result["images_per_second"]:.1f} images/s'
    print(f'{what:24} {name:14} {value}', flush=True)
  for name, result in row.get('profiles', {}).items():
    value = result.get('error') or f'{result["milliseconds"]} ms a step'
    print(f'{what:24} {name:14} {value}', flush=True)
  if layers := row.get('layers'):
    best = [layer['best_gradients'] for layer in layers]
    counts = {name: best.count(name) for name in dict.fromkeys(best)}
    print(f'{what:24} best of {len(layers)} layers: {counts}', flush=True)


if __name__ == '__main__':
  workers.run(main)
