"""The predictor against the network that trains, for every variant, whole.

    python benchmarks/predictors.py [--only REGEX] [--out FILE]

`make parity` runs it. Seeded weights in timm's naming, as for the peers;
|predictor - apply| <= 1e-4 x max|apply| is asked for, in float32. The results
go to results/predictors.json.
"""

import sys
import time

import jax
import numpy as np
import reports
import seeded
import seeded_variables

import effnet_jax
from effnet_jax.models import efficientnet, variants

LIMIT = 1e-4
SEED, IMAGES, RESOLUTION = 0, 2, 65
# Compiling is most of the work, and level 0 a third of it.
OPTIONS = {'xla_backend_optimization_level': 0}


def compare(name: str) -> dict:
  """Returns the largest difference of a variant's logits, relative."""
  spec = variants.get_spec(name)
  model = efficientnet.build(spec)
  variables = seeded_variables.of_timm(spec, SEED)
  images = seeded.images(SEED, IMAGES, RESOLUTION)
  apply = jax.jit(
    lambda v, x: model.apply(v, x, train=False)[0], compiler_options=OPTIONS
  )
  expected = np.asarray(apply(variables, images))
  predict = effnet_jax.predictor(model, variables, compiler_options=OPTIONS)
  difference = np.abs(np.asarray(predict(images)) - expected).max()
  return {
    'variant': name,
    'resolution': RESOLUTION,
    'logits_std': round(seeded.check_logits(expected), 3),
    'difference': float(difference / np.abs(expected).max()),
  }


def main() -> int:
  arguments = reports.parser(__doc__, 'predictors', 'v2_s').parse_args()
  # l2_475 is l2, for other images.
  names = [name for name in variants.list_models() if name != 'l2_475']
  names = reports.matching(arguments.only, names)
  rows, begun = [], time.monotonic()
  for number, name in enumerate(names, 1):
    rows.append(compare(name))
    seconds = (time.monotonic() - begun) / number * (len(names) - number)
    print(
      f'{number:2}/{len(names)} {name:15} {rows[-1]["difference"]:.1e}  '
      f'{seconds / 60:.0f} min left',
      flush=True,
    )
    jax.clear_caches()
  report = {
    'command': 'make parity',
    'machine': reports.cores(),
    'versions': reports.versions(['jax']),
    'limit': LIMIT,
    'predictors': rows,
  }
  reports.write(arguments.out, report)
  bad = [row for row in rows if not row['difference'] <= LIMIT]
  print(f'{arguments.out}: {len(rows) - len(bad)} of {len(rows)} within limits')
  return 1 if bad else 0


if __name__ == '__main__':
  sys.exit(main())
