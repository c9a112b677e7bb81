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


def speed() -> str:
  """A row a peer: the geometric mean over networks and batches."""
  rows = []
  for what, name, peer, title, asked in _ASKED:
    measured = read(name).get('summary', {}).get(peer)
    ratio, cases = _NOT_MEASURED, ''
    if measured:
      ratio, cases = f'{measured["ratio"]:.2f}', str(measured['cases'])
    rows.append((what, title, ratio, cases, f'at most {asked}'))
  what = 'input pipeline, images/s'
  report = read('input_pipeline')
  for peer, asked in report.get('limits', {}).items():
    ratios = [
      f'{row["ratios"][peer]["per_second"]:.2f}'
      for row in report['measurements']
    ]
    rows.append((what, peer, ', '.join(ratios), '1 and 2 cores', f'{asked}'))
    what = ''
  speedups = [
    f'{value:.2f}'
    for row in read('gpu').get('rows', [])
    for value in row.get('speedups', {}).values()
  ]
  ratio = ', '.join(speedups) or _NOT_MEASURED
  rows.append(('GPU, images/s', 'timm, compiled', ratio, '', '1.2'))
  return table(('', 'peer', 'ours / theirs', 'cases', 'asked for'), rows)
