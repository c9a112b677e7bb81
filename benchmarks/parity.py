"""Our networks against the peers' own, on the same seeded weights.

    python benchmarks/parity.py [--only REGEX] [--out FILE]

`make parity` runs it. For every network of every peer that we have a variant
of: the peer writes random weights in its own naming, we read the file, and
both compute the logits and every endpoint, at native resolution and at an odd
one. |ours - peer| <= 1e-4 x max|peer| is asked for, in float32. So are the
gradients of B0 and V2-S in training mode, to 1e-3 of every leaf's largest.

It takes hours, and goes on where it was interrupted: what was compared with
the present code and versions is in runs/parity. Results go to
results/parity.json, golden values for the test suite to tests/weights/golden.
"""

import ast
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peers
import reports

from effnet_jax.models import macs, variants

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
LIMIT, GRADIENT_LIMIT = 1e-4, 1e-3
GRADIENTS = (
  ('timm', 'tf_efficientnet_b0', 'b0'),
  ('timm', 'tf_efficientnetv2_s', 'v2_s'),
)
PACKAGES = (
  *('jax', 'flax', 'numpy', 'torch', 'torchvision', 'timm', 'keras'),
  *('tensorflow', 'tf_keras', 'efficientnet_pytorch'),
)
# What a result depends on.
SOURCES = (
  *('effnet_jax/models', 'effnet_jax/weights', 'effnet_jax/pretrained.py'),
  *('benchmarks/peers', 'benchmarks/seeded.py'),
  'benchmarks/peer_comparison.py',
)
# Of those, what no comparison comes to.
UNUSED = {
  *('export', 'commands.py', 'published.py', 'hub.py', 'hub_config.py'),
  *('tf_checkpoint.py', 'sstable.py', 'crc32c.py', 'write.py', 'native.py'),
}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One run of peer_comparison.py."""

  kind: str  # outputs, gradients
  peer: str
  network: str  # the peer's name
  variant: str  # ours

  def __str__(self) -> str:
    return f'{self.kind} {self.peer} {self.network} {self.variant}'

  @property
  def cost(self) -> float:
    """Work, in about seconds of a small machine: for the time left."""
    spec = variants.get_spec(self.variant)
    # Compilation goes by blocks, the files by the parameters.
    size = macs.count(spec)
    return 20 + len(spec.blocks()) + size.params / 2e6 + size.macs / 1e9


def comparisons() -> list[Comparison]:
  """Returns all of them, the light ones of every peer first."""
  found = [
    Comparison('outputs', peer, network, variant)
    for peer, networks in peers.NETWORKS.items()
    for variant, network in networks
  ]
  found += [Comparison('gradients', *row) for row in GRADIENTS]
  return sorted(found, key=lambda comparison: comparison.cost)


def main() -> int:
  parser = reports.parser(__doc__, 'parity', 'outputs keras .* v2_s')
  arguments = parser.parse_args()
  known = {str(comparison): comparison for comparison in comparisons()}
  wanted = [known[name] for name in reports.matching(arguments.only, known)]
  versions = reports.versions(('python', *PACKAGES))
  if missing := [name for name in PACKAGES if name not in versions]:
    raise SystemExit(f'not installed: {", ".join(missing)}; make parity does')
  rows = run(wanted, ROOT / 'runs' / 'parity' / _digest(versions))
  bad = [row for row in rows if not good(row)]
  report = {
    'command': 'make parity',
    'machine': reports.cores(),
    'versions': versions,
    'limit': LIMIT,
    'gradient_limit': GRADIENT_LIMIT,
    'comparisons': rows,
  }
  reports.write(arguments.out, report)
  for row in bad:
    what = 'FAILED' if 'error' in row else 'BEYOND THE LIMIT'
    print(f'{what}  {_label(row)}: {_summary(row)}')
  print(f'{arguments.out}: {len(rows) - len(bad)} of {len(rows)} within limits')
  return 1 if bad else 0


def run(wanted: list[Comparison], cache: Path) -> list[dict[str, Any]]:
  """Runs comparisons, or takes their results from an earlier run."""
  cache.mkdir(parents=True, exist_ok=True)
  rows, spent, done = [], 0.0, 0.0
  left = sum(c.cost for c in wanted if not _file(cache, c).exists())
  for i, comparison in enumerate(wanted):
    file = _file(cache, comparison)
    begun = time.monotonic()
    fresh = not file.exists()
    error = _run(comparison, file) if fresh else None
    if fresh:
      spent += time.monotonic() - begun
      done += comparison.cost
      left -= comparison.cost
    row = dataclasses.asdict(comparison)
    row |= {'error': error} if error else json.loads(file.read_text())
    rows.append(row)
    time_left = f'{left * spent / done / 60:.0f} min left' if done else ''
    print(
      f'{i + 1:3}/{len(wanted)} {comparison!s:58} {_summary(row)}  {time_left}',
      flush=True,
    )
  return rows


def good(row: dict[str, Any]) -> bool:
  if 'error' in row:
    return False
  if row['kind'] == 'gradients':
    return row['gradients']['largest'] <= GRADIENT_LIMIT
  return all(max(at['logits'], at['largest']) <= LIMIT for at in row['outputs'])


def _run(comparison: Comparison, file: Path) -> str | None:
  """Returns None, or the last line of what went wrong."""
  written = file.with_suffix('.part')
  done = subprocess.run(
    [
      sys.executable,
      str(FOLDER / 'peer_comparison.py'),
      *dataclasses.astuple(comparison),
      str(written),
    ],
    capture_output=True,
    text=True,
    env=os.environ | {'TF_CPP_MIN_LOG_LEVEL': '3', 'JAX_PLATFORMS': 'cpu'},
  )
  if done.returncode:
    lines = done.stderr.strip().splitlines() or ['']
    return f'exit {done.returncode}: {lines[-1][:300]}'
  written.replace(file)
  return None


def _file(cache: Path, comparison: Comparison) -> Path:
  return cache / (str(comparison).replace(' ', '.') + '.json')


def _label(row):
  return ' '.join(row[key] for key in ('kind', 'peer', 'network', 'variant'))


def _summary(row):
  if 'error' in row:
    return row['error']
  if row['kind'] == 'gradients':
    return f'{row["gradients"]["largest"]:.1e} at {row["gradients"]["at"]}'
  return ', '.join(
    f'{at["resolution"]} px: logits {at["logits"]:.1e}, '
    f'endpoints {at["largest"]:.1e}'
    for at in row['outputs']
  )


def _digest(versions):
  """Of all that a result depends on: other code, another folder of results."""
  digest = hashlib.sha256(json.dumps(versions).encode())
  for source in SOURCES:
    path = ROOT / source
    for file in sorted(path.rglob('*.py')) if path.is_dir() else [path]:
      if not UNUSED & {*file.relative_to(path).parts}:
        digest.update(_code(file).encode())
  return digest.hexdigest()[:12]


def _code(file):
  """Returns the code of a module without comments and docstrings."""
  tree = ast.parse(file.read_text())
  for node in ast.walk(tree):
    body = getattr(node, 'body', None)
    if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
      if isinstance(body[0].value, ast.Constant):
        body.pop(0)
  return ast.dump(tree)


if __name__ == '__main__':
  sys.exit(main())
