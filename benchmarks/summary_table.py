"""The table of the README: every ratio of speed, and what was asked for."""

from result_tables import read, table

# What of a result, its file, peer, the peer's name, and the ratio at most.
_ASKED = (
  ('inference on CPU, time', 'inference', 'keras_jax', 'Keras 3 on JAX', 0.15),
  ('', 'inference', 'torch_eager', 'torch, eager', 0.6),
  ('', 'inference', 'torch_compile', 'torch, compiled', 0.8),
  ('', 'inference', 'tflite', 'TFLite', 0.6),
  ('', 'inference', 'onnxruntime', 'ONNX Runtime', 0.9),
  ('', 'inference', 'openvino', 'OpenVINO', 1.0),
  (
    *('training step on CPU, time', 'training_step', 'torch_eager'),
    *('timm, eager', 1.3),
  ),
  ('', 'training_step', 'torch_compile', 'timm, compiled', 1.3),
)
_NOT_MEASURED = 'not measured'
_BLOCK = lambda row: row['way'] == 'block' and 'peak_over_none' in row


def speed() -> str:
  """A row a claim: what was measured, and what was asked for."""
  rows = [*_times(), *_input(), *_gpu(), *_headline(), *_import_and_memory()]
  return table(('', 'peer', 'ours / theirs', 'cases', 'asked for'), rows)


def _times():
  """A row a peer: the geometric mean over networks and batches."""
  for what, name, peer, title, asked in _ASKED:
    measured = read(name).get('summary', {}).get(peer)
    ratio, cases = _NOT_MEASURED, ''
    if measured:
      ratio, cases = f'{measured["ratio"]:.2f}', str(measured['cases'])
    yield what, title, ratio, cases, f'at most {asked}'


def _input():
  what = 'input pipeline, images/s'
  report = read('input_pipeline')
  for peer, asked in report.get('limits', {}).items():
    ratios = [
      f'{row["ratios"][peer]["per_second"]:.2f}'
      for row in report['measurements']
    ]
    yield what, peer, ', '.join(ratios), '1 and 2 cores', f'{asked}'
    what = ''


def _gpu():
  speedups = [
    f'{value:.2f}'
    for row in read('gpu').get('rows', [])
    for value in row.get('speedups', {}).values()
  ]
  ratio = ', '.join(speedups) or _NOT_MEASURED
  yield 'GPU, images/s', 'timm, compiled', ratio, '', '1.2'


def _headline():
  """How many times as fast ours is, both in XLA."""
  what = 'images/s at batch 1 on CPU'
  report = read('headline')
  for part, networks, title in (
    ('resnet152', 'B1', 'ResNet-152'),
    ('amoebanet', 'B7', 'AmoebaNet-B (18, 512)'),
  ):
    if part in report:
      ratio = report[part]['runtimes']['xla']['time_ratio']
      published = f'{report[part]["published_time_ratio"]} published'
      yield what, title, f'{ratio:.1f}', networks, published
      what = ''


def _import_and_memory():
  imports = read('startup').get('imports')
  if imports:
    ratio = imports['import effnet_jax']['ratio']
    yield 'import, time', 'jax, flax', f'{ratio:.3f}', '', 'at most 1.5'
  blocks = [row for row in read('memory').get('steps', ()) if _BLOCK(row)]
  if blocks:
    what, cases = 'memory of a training step on CPU', _names(blocks)
    ratios = ', '.join(f'{row["peak_over_none"]:.2f}' for row in blocks)
    yield what, 'without `remat=block`', ratios, cases, 'at most 0.5'
    ratios = ', '.join(f'{row["peak_over_timm"]:.2f}' for row in blocks)
    yield '', 'timm, eager', ratios, cases, ''


def _names(rows):
  return ', '.join(row['model'].upper() for row in rows)
