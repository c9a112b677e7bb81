"""The command of this room: convert."""

from pathlib import Path

from effnet_jax import pretrained
from effnet_jax.arguments import ArgumentParser
from effnet_jax.errors import UserError
from effnet_jax.models import macs
from effnet_jax.weights import write

_CONVERT = """\
Reads published weights in any layout, and writes them for this project, for
timm or for Keras. The layout is recognised; every array is used once and every
parameter filled once, or an error names what does not fit.

SOURCE is a file (timm, torchvision, lukemelas: .safetensors or .pth; Keras:
.h5; TensorFlow: the prefix of a checkpoint), the directory of an earlier
conversion or of a training run, hf://ORGANISATION/NAME, or a packaged variant
(lite0, lite1, lite2)."""

_EXAMPLES = """\
examples:
  python -m effnet_jax convert hf://timm/tf_efficientnet_b0.ns_jft_in1k \\
    --out weights/b0_ns
  python -m effnet_jax convert efficientnet_v2_s-dd5fe13b.pth --model v2_s \\
    --out weights/v2_s
  python -m effnet_jax convert efficientnet-b0/model.ckpt --model b0 \\
    --out weights/b0
  python -m effnet_jax convert runs/b0 --to timm --out weights/b0_timm

In timm's layout a file does not say how its network pads: give --model by
timm's own name, tf_efficientnet_b0 or efficientnet_b0."""


def convert(argv: list[str]) -> None:
  parser = ArgumentParser(
    prog='python -m effnet_jax convert',
    description=_CONVERT,
    epilog=_EXAMPLES,
  )
  parser.add_argument('source', metavar='SOURCE')
  parser.add_argument(
    '--model', metavar='NAME', help='the variant, where SOURCE does not say'
  )
  parser.add_argument(
    '--out', metavar='DIR', required=True, help='where the result goes'
  )
  parser.add_argument(
    '--to',
    metavar='LAYOUT',
    default='effnet_jax',
    help=f'{", ".join(write.TARGETS)} (default: %(default)s)',
  )
  parser.add_argument(
    '--classes',
    metavar='N',
    type=int,
    help='fail unless there are N; of 1001, 1000 leaves out the background',
  )
  parser.add_argument(
    '--raw',
    action='store_true',
    help='of a training run the last weights, not their moving average',
  )
  parser.add_argument(
    '--overwrite', action='store_true', help='replace what is in DIR'
  )
  arguments = parser.parse_args(argv)
  out = _output(arguments.out, arguments.overwrite)
  weights = pretrained.read(
    arguments.source,
    arguments.model,
    ema=not arguments.raw,
    num_classes=arguments.classes,
  )
  written = write.write(
    arguments.to,
    out,
    weights.spec,
    weights.variables,
    class_names=weights.class_names,
    source=arguments.source,
  )
  spec, counts = weights.spec, macs.count(weights.spec)
  print(
    f'{arguments.source}: {spec.name} in the layout of {weights.layout}, '
    f'{counts.params:,} parameters, {spec.num_classes} classes, '
    f'{spec.resolution} pixels, {spec.padding} padding, epsilon '
    f'{spec.bn_epsilon:g}'
  )
  print(f'written: {written.path} ({written.path.stat().st_size / 1e6:.1f} MB)')
  if written.note:
    print(written.note)
  print(f'load it with:\n  {written.how.replace(chr(10), chr(10) + "  ")}')


def _output(text: str, overwrite: bool) -> Path:
  """Returns the directory to write to, cleared of an earlier conversion."""
  out = Path(text).expanduser()
  if not text or out.is_file():
    raise UserError(f'--out {text!r} is no directory: name one')
  try:
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if found and not overwrite:
      raise UserError(
        f'{out} is not empty: name another --out, or add --overwrite'
      )
    foreign = set(found) - set(write.FILES)
    if foreign:
      raise UserError(
        f'{out} holds {min(foreign)}, which no conversion wrote: name another '
        '--out'
      )
  except OSError as error:
    raise UserError(f'{out} cannot be read: {error.strerror}') from error
  return out
