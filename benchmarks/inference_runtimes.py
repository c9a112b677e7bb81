"""A runtime with one network at a time, as a worker of inference.py.

    python benchmarks/inference_runtimes.py RUNTIME MODEL FOLDER

RUNTIME is `write`, which puts the files of the others into FOLDER, or one of
`RUNTIMES`. All but Keras have the same seeded weights. A call goes from images
in the runtime's own layout to logits that are there.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interleaved
import numpy as np
import seeded
import torch_networks
import workers

SEED, CLASSES = 0, 1000
THREADS = interleaved.THREADS
# {model: (pixels, timm's name, Keras' name)}
MODELS = {
  'b0': (224, 'tf_efficientnet_b0', 'EfficientNetB0'),
  'b4': (380, 'tf_efficientnet_b4', 'EfficientNetB4'),
  'v2_s': (384, 'tf_efficientnetv2_s', 'EfficientNetV2S'),
  'lite0': (224, 'tf_efficientnet_lite0', None),
}
Call = Callable[[], Any]


def images(model: str, batch: int) -> np.ndarray:
  return seeded.images(SEED, batch, MODELS[model][0])


@functools.cache
def _network(model):
  """Returns our network and what `seeded` gives to timm's of the name."""
  import seeded_variables

  from effnet_jax.models import efficientnet, variants

  # Where the variant is measured at the size of its training.
  spec = variants.get_spec(model, resolution=MODELS[model][0])
  return efficientnet.build(spec), seeded_variables.of_timm(spec, SEED)


@functools.cache
def _torch_network(model):
  import timm
  import torch

  torch.set_num_threads(THREADS)
  network = timm.create_model(MODELS[model][1], pretrained=False)
  torch_networks.fill(network, SEED)
  return network.eval()


def write_ours(model: str, folder: str, formats: list[str]) -> None:
  from effnet_jax.weights import export

  for format in formats:
    path = str(Path(folder, f'{model}.{format}'))
    export.export(*_network(model), path, format)


def write_timm(model: str, folder: str, batches: list[int]) -> None:
  """Writes timm's network as ONNX, a file for every size of batch."""
  for batch in batches:
    path = Path(folder, f'{model}-{batch}.onnx')
    network = _torch_network(model)
    torch_networks.write_onnx(network, images(model, batch), path)


def _ours(model, folder, batch, dtype):
  import effnet_jax

  predict = effnet_jax.predictor(*_network(model), dtype=dtype)
  given = images(model, batch)
  return lambda: np.asarray(predict(given)), {}


@functools.cache
def _keras_network(model):
  os.environ['KERAS_BACKEND'] = 'jax'
  import jax
  import keras

  pixels, _, name = MODELS[model]
  network = getattr(keras.applications, name)(
    weights=None,
    input_shape=(pixels, pixels, 3),
    classifier_activation=None,
  )
  for layer in network.layers:
    if layer.name.startswith('normalization'):
      continue
    layer.set_weights(
      [
        seeded.array(
          SEED,
          f'{layer.name}/{variable.name.replace("depthwise_kernel", "kernel")}',
          tuple(variable.shape),
        )
        for variable in layer.weights
      ]
    )
  variables = [
    [variable.value for variable in kind]
    for kind in (network.trainable_variables, network.non_trainable_variables)
  ]
  forward = jax.jit(
    lambda variables, images: network.stateless_call(
      *variables, images, training=False
    )[0]
  )
  return functools.partial(forward, variables)


def _keras_jax(model, folder, batch, dtype):
  forward = _keras_network(model)
  pixels = 57 * images(model, batch) + 118  # 0..255: it normalises them
  return lambda: np.asarray(forward(pixels)), {}


def _torch(model, folder, batch, dtype, compiled):
  import torch

  network = _torch_network(model).to(memory_format=torch.channels_last)
  tensor = torch.from_numpy(torch_networks.nchw(images(model, batch)))
  tensor = tensor.to(memory_format=torch.channels_last)
  if compiled:
    torch.compiler.reset()  # each size of batch by itself
    network = torch.compile(network, dynamic=False)

  def call():
    with torch.inference_mode():
      return network(tensor).numpy()

  return call, {}


def _tflite(model, folder, batch, dtype):
  from ai_edge_litert.interpreter import Interpreter

  interpreter = Interpreter(
    str(Path(folder, f'{model}.tflite')), num_threads=THREADS
  )
  given = images(model, batch)
  (inputs,) = interpreter.get_input_details()
  (outputs,) = interpreter.get_output_details()
  interpreter.resize_tensor_input(inputs['index'], given.shape)
  interpreter.allocate_tensors()

  def call():
    interpreter.set_tensor(inputs['index'], given)
    interpreter.invoke()
    return interpreter.get_tensor(outputs['index'])

  return call, {}


def _graphs(model, folder, batch):
  """Yields (whose, path, images) of the two ONNX files."""
  given = images(model, batch)
  yield 'ours', str(Path(folder, f'{model}.onnx')), given
  theirs = str(Path(folder, f'{model}-{batch}.onnx'))
  yield 'timm', theirs, torch_networks.nchw(given)


def _faster(calls: dict[str, Call]) -> tuple[Call, dict[str, Any]]:
  """Returns the faster of two graphs, and what either takes."""
  times = interleaved.in_turns(
    {
      name: functools.partial(interleaved.measure, call, 1, 1)
      for name, call in calls.items()
    },
    5,
  )
  best = {name: round(min(each)[0], 3) for name, each in times.items()}
  graph = min(best, key=lambda name: best[name])
  return calls[graph], {'graph': graph, 'graphs': best}


def _onnxruntime(model, folder, batch, dtype):
  import onnxruntime

  calls = {}
  for whose, path, given in _graphs(model, folder, batch):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.add_free_dimension_override_by_name('n', batch)
    session = onnxruntime.InferenceSession(
      path, options, providers=['CPUExecutionProvider']
    )
    run = functools.partial(session.run, None, {'images': given})
    calls[whose] = lambda run=run: run()[0]
  return _faster(calls)


def _openvino(model, folder, batch, dtype):
  import openvino

  hint = {'float32': 'f32', 'bfloat16': 'bf16'}[dtype]
  core, calls, details = openvino.Core(), {}, {}
  for whose, path, given in _graphs(model, folder, batch):
    network = core.read_model(path)
    network.reshape(list(given.shape))
    compiled = core.compile_model(
      network,
      'CPU',
      {
        'INFERENCE_PRECISION_HINT': hint,
        'INFERENCE_NUM_THREADS': THREADS,
        'PERFORMANCE_HINT': 'LATENCY',
      },
    )
    used = compiled.get_property('INFERENCE_PRECISION_HINT')
    details['precision'] = used.get_type_name()
    request = compiled.create_infer_request()
    infer = functools.partial(
      request.infer, [given], share_inputs=True, share_outputs=True
    )
    calls[whose] = lambda infer=infer: infer()[0]
  call, graphs = _faster(calls)
  return call, details | graphs


RUNTIMES: dict[str, Callable[..., tuple[Call, dict[str, Any]]]] = {
  'ours': _ours,
  'keras_jax': _keras_jax,
  'torch_eager': functools.partial(_torch, compiled=False),
  'torch_compile': functools.partial(_torch, compiled=True),
  'tflite': _tflite,
  'onnxruntime': _onnxruntime,
  'openvino': _openvino,
}


def main(runtime: str, model: str, folder: str) -> None:
  current: list[Call] = []

  def prepare(batch: int, dtype: str) -> dict[str, Any]:
    current.clear()
    begun = time.perf_counter()
    call, details = RUNTIMES[runtime](model, folder, batch, dtype)
    logits = np.asarray(call())
    if logits.shape != (batch, CLASSES) or not np.isfinite(logits).all():
      raise workers.WorkerError(f'logits {logits.shape}, not all finite')
    current.append(call)
    seconds = round(time.perf_counter() - begun, 1)
    return {**details, 'prepare_seconds': seconds}

  workers.serve(
    {
      'write_ours': functools.partial(write_ours, model, folder),
      'write_timm': functools.partial(write_timm, model, folder),
      'prepare': prepare,
      'measure': lambda warm, calls: interleaved.measure(
        current[0], warm, calls
      ),
    }
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
