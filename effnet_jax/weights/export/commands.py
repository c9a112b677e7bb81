"""The command `export`: a network for another runtime."""

import os
from pathlib import Path

import numpy as np

from effnet_jax import model_arguments
from effnet_jax.arguments import ArgumentParser
from effnet_jax.data import class_names, image_files
from effnet_jax.data.preprocess import DecodeError, Preprocess
from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import export as exporting
from effnet_jax.weights.load import Weights

# Ranges settle after some hundred images; the converter keeps all in memory.
_MOST_CROPS = 500

# How to run each format, in two lines after the imports.
_USE = {
  'stablehlo': """\
from effnet_jax.weights.export import stablehlo
program = stablehlo.load({path!r})
outputs = program(images)""",
  'onnx': """\
import onnxruntime
session = onnxruntime.InferenceSession({path!r})
(outputs,) = session.run(None, {{'images': images}})""",
  'savedmodel': """\
import tensorflow as tf
network = tf.saved_model.load({path!r}).signatures['serving_default']
(outputs,) = network(images=tf.constant(images)).values()""",
  'tflite': """\
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter({path!r}).get_signature_runner()
(outputs,) = runner(images=images).values()""",
}

_EXAMPLES = """\
examples:
  python -m effnet_jax export --model lite0 --format onnx --preprocess \\
    --out lite0.onnx
  python -m effnet_jax export --weights runs/quickstart --format stablehlo \\
    --out digits
  python -m effnet_jax export --model lite0 --format tflite --quantize int8 \\
    --calibrate PHOTOS --out lite0.tflite

Batches may be of any size, images are of one: --resolution pixels a side."""


def export(argv: list[str]) -> int | None:
  """Writes a network and says how to run it."""
  args = _parser().parse_args(argv)
  if args.calibrate and not args.quantize:
    raise UserError('--calibrate is for --quantize int8')
  weights = model_arguments.read(args)
  written = exporting.export(
    efficientnet.build(weights.spec),
    weights.variables,
    args.out,
    args.format,
    dtype=args.dtype,
    preprocess=args.preprocess,
    class_names=_names(weights),
    quantize=args.quantize,
    calibrate=args.calibrate and crops(args.calibrate, weights.spec),
    overwrite=args.overwrite,
  )
  for path in written:
    print(f'wrote {path} ({_size(path) / 1e6:.1f} MB)')
  side = weights.spec.resolution
  pixels, outputs = 'normalised float32 images', 'logits'
  if args.preprocess:
    pixels, outputs = 'uint8 images', 'probabilities'
  print(f'It takes {pixels} [n, {side}, {side}, 3] and gives {outputs}:\n')
  print(_USE[args.format].format(path=written[0]))


def _parser() -> ArgumentParser:
  parser = ArgumentParser(
    prog='python -m effnet_jax export',
    description='Writes a network in the format of another runtime, batch norm '
    'folded away.',
    epilog=_EXAMPLES,
  )
  model_arguments.add(parser)
  parser.add_argument(
    '--format', required=True, help=', '.join(exporting.FORMATS)
  )
  parser.add_argument('--out', required=True, help='the file or folder')
  parser.add_argument(
    '--dtype',
    default='float32',
    help='of weights and activations: float32 (default), bfloat16, float16',
  )
  parser.add_argument(
    '--preprocess',
    action='store_true',
    help='uint8 pixels in, probabilities out',
  )
  parser.add_argument('--quantize', help='int8, with --format tflite')
  parser.add_argument(
    '--calibrate',
    metavar='DIR',
    help='folder of photos, some hundred as in training, for --quantize',
  )
  parser.add_argument(
    '--overwrite', action='store_true', help='replace an earlier export'
  )
  return parser


def _names(weights: Weights) -> tuple[str, ...] | None:
  """The classes' names where they are known, not `class 17`."""
  count, own = weights.spec.num_classes, weights.class_names
  if own or class_names.imagenet_offset(count) is not None:
    return class_names.output_names(count, own)
  return None


def crops(folder: str, spec: ModelSpec) -> np.ndarray:
  """Reads the photos below a folder as the network sees them in evaluation.

  Returns:
    uint8 [n, resolution, resolution, 3]; of more than 500 photos 500, spread
    evenly over their sorted paths.

  Raises:
    UserError: no folder, no photo in it, a photo that cannot be read.
  """
  paths = image_files.find([folder]).files
  kept = np.linspace(0, len(paths) - 1, min(len(paths), _MOST_CROPS))
  preprocess = Preprocess.of(spec)
  try:
    return np.stack([image_files.read(paths[int(i)], preprocess) for i in kept])
  except DecodeError as error:
    raise UserError(f'calibration: {error}') from None


def _size(path: str) -> int:
  """Bytes of a file, or of all files in a folder."""
  if os.path.isfile(path):
    return os.path.getsize(path)
  files = (file for file in Path(path).rglob('*') if file.is_file())
  return sum(file.stat().st_size for file in files)
