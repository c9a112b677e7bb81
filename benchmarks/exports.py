"""Every export, run by its own runtime, against the network it was made of.

    python benchmarks/exports.py [--cases b0 lite0 ...] [--out FILE]

`make parity` runs it. For each case the network is exported in every format,
each file is run in a fresh process that knows no effnet_jax (runtimes.py), on
batches of three and of one, and |difference| <= 1e-4 x max|reference| is asked
for. The reference is `model.apply`, the network that trains. Then Lite0 with
its published weights is quantised: the answers on random crops of photos,
calibrated on crops of other photos. The results go to results/exports.json.
"""

import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import reports
import seeded

import effnet_jax
from effnet_jax.data import preprocess
from effnet_jax.errors import UserError
from effnet_jax.models import efficientnet, variants
from effnet_jax.models.spec import ModelSpec
from effnet_jax.weights import export as exporting

FOLDER = Path(__file__).resolve().parent
PACKAGES = (
  *('python', 'jax', 'onnxruntime', 'openvino', 'tensorflow'),
  'ai-edge-litert',
)
LIMIT = 1e-4  # of the largest value of the reference
RUNTIMES = {
  'jax.export': 'stablehlo',
  'onnxruntime': 'onnx',
  'openvino': 'onnx',
  'tensorflow': 'savedmodel',
  'litert': 'tflite',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A network to export, with random weights unless `published`."""

  name: str
  overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
  preprocess: bool = False
  published: bool = False

  def __str__(self) -> str:
    parts = [f'{field}={value}' for field, value in self.overrides.items()]
    parts += ['preprocess'] if self.preprocess else []
    return ' '.join([self.name, *parts])


CASES = (
  Case('b0'),
  Case('b0', preprocess=True),
  Case('b0', {'padding': 'symmetric'}),
  # Odd maps, where the two paddings have the same windows, and even ones.
  Case('b3'),
  Case('b3', {'padding': 'symmetric'}),
  Case('lite0', published=True),
  Case('lite0', published=True, preprocess=True),
  Case('edgetpu_s'),
  Case('edgetpu_s', {'stride_in': 'project'}),
  Case('condconv_b0_4e'),
  Case('condconv_b1_8e', {'padding': 'symmetric'}),
  Case('v2_b0'),
  Case('v2_s', {'padding': 'symmetric'}),
)

# Int8: random crops of these photos, so many each.
CALIBRATION_PHOTOS = {
  'skimage': (
    *('data/astronaut.png', 'data/chelsea.png', 'data/coffee.png'),
    *('data/rocket.jpg', 'data/motorcycle_left.png', 'data/retina.jpg'),
    *('data/ihc.png', 'data/hubble_deep_field.jpg'),
  ),
  'sklearn': ('datasets/images/china.jpg', 'datasets/images/flower.jpg'),
}
CALIBRATION_CROPS = 10
TEST_CROPS = 12
CROP_AREA = (0.25, 1.0)
LEAST_AGREEMENT, LEAST_RIGHT = 0.9, 15
_PHOTO_PACKAGES = (
  'pip install --no-deps foolbox==3.3.4 scikit-image scikit-learn'
)


def main() -> int:
  names = list(dict.fromkeys(case.name for case in CASES))
  parser = reports.parser(__doc__, 'exports')
  parser.add_argument('--cases', nargs='+', choices=names, default=names)
  parser.add_argument('--no-int8', action='store_true')
  args = parser.parse_args()
  cases = [case for case in CASES if case.name in args.cases]
  results = {
    'command': 'make parity',
    'machine': reports.cores(),
    'versions': reports.versions(PACKAGES),
    'limit': LIMIT,
    'exports': [row for case in cases for row in compare(case)],
  }
  good = all(row['difference'] <= LIMIT for row in results['exports'])
  if not args.no_int8:
    results['int8'] = [quantize(pixels) for pixels in (False, True)]
    good &= all(row['good'] for row in results['int8'])
  reports.write(args.out, results)
  print(f'{args.out}: {"all within" if good else "NOT all within"} the limits')
  return 0 if good else 1


def compare(case: Case) -> list[dict[str, Any]]:
  """Exports a case in every format and runs it in every runtime."""
  model, variables = network(case)
  images = tested_images(model.spec)
  if case.preprocess:
    mean, std = (255 * np.float32(v) for v in (model.spec.mean, model.spec.std))
    images = np.clip(images * std + mean, 0, 255).astype(np.uint8)
  expected = reference(model, variables, images)
  # Otherwise the limit would say little about what comes of the images.
  variation = np.ptp(expected, axis=0).max() / np.abs(expected).max()
  assert variation > 0.05, f'{case}: images hardly differ ({variation:.2g})'
  if not case.preprocess:
    seeded.check_logits(expected)
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for format in dict.fromkeys(RUNTIMES.values()):
      path = str(Path(folder, f'network.{format}'))
      exporting.export(
        model, variables, path, format, preprocess=case.preprocess
      )
    for runtime, format in RUNTIMES.items():
      path = str(Path(folder, f'network.{format}'))
      three, one = run(runtime, path, [images, images[:1]])
      difference = max(
        _difference(three, expected), _difference(one, expected[:1])
      )
      rows.append(
        {'case': str(case), 'runtime': runtime, 'difference': difference}
      )
      print(f'{case!s:40} {runtime:12} {difference:.1e}', flush=True)
  return rows


def network(case: Case):
  """Returns the model and its variables."""
  if case.published:
    return effnet_jax.create_model(
      case.name, pretrained=case.name, **case.overrides
    )
  spec = variants.get_spec(case.name, **case.overrides)
  return efficientnet.build(spec), random_variables(spec)


def tested_images(spec: ModelSpec) -> np.ndarray:
  return seeded.images(1, 3, spec.resolution)


def random_variables(spec: ModelSpec) -> dict[str, Any]:
  """Random weights, and the moving statistics of the images to come.

  With statistics drawn like the weights, images would hardly differ in what
  comes out: the maps would be constants that the biases make.
  """
  rng = np.random.default_rng(0)

  def shake(path, leaf):
    module, name = path[-2].key, path[-1].key
    if name == 'scale':
      # Weak branches, as trained ones are: strong ones make the network
      # chaotic, and rounding grows by a third a block.
      share = 0.3 if module == 'project_bn' else 1
      return share * rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
    if name == 'bias':
      return rng.normal(0, 0.2, leaf.shape).astype(np.float32)
    return leaf

  # Momentum 0 keeps the batch's own statistics; nothing is left to chance.
  model = efficientnet.build(
    dataclasses.replace(
      spec, bn_momentum=0.0, dropout_rate=0.0, survival_probability=1.0
    )
  )
  variables = jax.tree_util.tree_map_with_path(shake, efficientnet.init(model))
  images = tested_images(spec)
  _, updated = jax.jit(
    lambda variables: model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
  )(variables)
  return {**variables, **updated}


def reference(model, variables, images: np.ndarray) -> np.ndarray:
  """Logits of `model.apply`; of uint8 pixels their probabilities."""

  @jax.jit
  def forward(images):
    if images.dtype != np.uint8:
      return model.apply(variables, images, train=False)[0]
    images = effnet_jax.normalize(images, model.spec)
    return jax.nn.softmax(model.apply(variables, images, train=False)[0])

  return np.asarray(forward(images))


def run(runtime: str, path: str, batches: list[np.ndarray]) -> list[np.ndarray]:
  """Runs batches, whatever their sizes, in a process of their own."""
  with tempfile.TemporaryDirectory() as folder:
    given, returned = Path(folder, 'batches.npz'), Path(folder, 'outputs.npz')
    np.savez(given, *batches)
    done = subprocess.run(
      [sys.executable, FOLDER / 'runtimes.py', runtime, path, given, returned],
      capture_output=True,
      text=True,
    )
    if done.returncode:
      raise RuntimeError(f'{runtime} on {path}:\n{done.stderr[-3000:]}')
    with np.load(returned) as archive:
      return list(archive.values())


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
  assert found.shape == expected.shape and found.dtype == np.float32
  # A NaN is a difference, which `max` and `<=` would let pass.
  difference = np.abs(found - expected).max() / np.abs(expected).max()
  return float(np.nan_to_num(difference, nan=np.inf))


def quantize(pixels: bool) -> dict[str, Any]:
  """Int8 Lite0 with its published weights, on photos.

  Args:
    pixels: with preprocessing inside, uint8 in and probabilities out.
  """
  model, variables = network(Case('lite0', published=True))
  spec = model.spec
  calibration = [
    path
    for name, files in CALIBRATION_PHOTOS.items()
    for path in photos(name, files)
  ]
  tested = photos('foolbox', ['data/imagenet_*.jpg'])
  labels = np.array([int(path.stem.rpartition('_')[2]) for path in tested])
  assert len(tested) == 20
  images = np.concatenate(
    [crops(tested, spec, TEST_CROPS), centers(tested, spec)]
  )
  if not pixels:
    images = np.asarray(effnet_jax.normalize(images, spec))
  with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder, 'lite0.tflite'))
    exporting.export(
      model,
      variables,
      path,
      'tflite',
      preprocess=pixels,
      quantize='int8',
      calibrate=crops(calibration, spec, CALIBRATION_CROPS),
    )
    batches = np.split(images, len(images) // 20)
    answers = np.concatenate(run('litert', path, batches)).argmax(1)
    size = os.path.getsize(path)
  expected = reference(model, variables, images).argmax(1)
  agreement = float(np.mean(answers[:-20] == expected[:-20]))
  right = int(np.sum(answers[-20:] == labels))
  print(f'lite0 int8 preprocess={pixels}: {agreement:.1%} as float, {right}/20')
  return {
    'case': str(Case('lite0', preprocess=pixels)),
    'bytes': size,
    'calibration_crops': CALIBRATION_CROPS * len(calibration),
    'test_crops': len(images) - 20,
    'top1_agreement_with_float': agreement,
    'right_of_20': right,
    'right_of_20_float': int(np.sum(expected[-20:] == labels)),
    'good': agreement >= LEAST_AGREEMENT and right >= LEAST_RIGHT,
  }


def photos(package: str, patterns) -> list[Path]:
  """Finds photos in an installed package, without importing it."""
  found = importlib.util.find_spec(package)
  if not found or not found.submodule_search_locations:
    raise UserError(f'photos of {package} are missing: {_PHOTO_PACKAGES}')
  folder = Path(found.submodule_search_locations[0])
  return [path for p in patterns for path in sorted(folder.glob(p))]


def crops(paths: list[Path], spec: ModelSpec, count: int) -> np.ndarray:
  """Random crops as in training, `count` of each photo, uint8."""
  way = preprocess.Preprocess(
    spec.resolution,
    spec.resampling,
    crop_area=CROP_AREA,
    crop_padding=spec.crop_padding,
  )
  images = [preprocess.decode(path.read_bytes()) for path in paths]
  return np.stack(
    [
      preprocess.train_image(np.random.default_rng([i, j]), image, way)
      for i, image in enumerate(images)
      for j in range(count)
    ]
  )


def centers(paths: list[Path], spec: ModelSpec) -> np.ndarray:
  way = preprocess.Preprocess(
    spec.resolution, spec.resampling, crop_padding=spec.crop_padding
  )
  return np.stack(
    [
      preprocess.eval_image(preprocess.decode(path.read_bytes()), way)
      for path in paths
    ]
  )


if __name__ == '__main__':
  sys.exit(main())
