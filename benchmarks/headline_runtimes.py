"""A runtime with its two networks, as a worker of headline.py.

    python benchmarks/headline_runtimes.py RUNTIME FOLDER

RUNTIME is xla, torch_eager, torch_compile, onnxruntime or openvino; FOLDER
holds what `write_networks` has written.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import interleaved
import numpy as np
import seeded
import torch_networks
import workers

THREADS = interleaved.THREADS
# {network: (timm's name, pixels)}
TIMM = {'resnet152': ('resnet152', 224), 'b1': ('tf_efficientnet_b1', 240)}
PIXELS = {name: size for name, (_, size) in TIMM.items()}
PIXELS |= {'amoebanet': 480, 'b7': 600}
SEED = 0


def images(network: str, count: int = 1) -> np.ndarray:
  return seeded.images(SEED, count, PIXELS[network])


def _torch_model(network):
  import timm
  import torch

  torch.set_num_threads(THREADS)
  return timm.create_model(TIMM[network][0], pretrained=False)


def _nchw(batch):
  import torch

  tensor = torch.from_numpy(torch_networks.nchw(batch))
  return tensor.to(memory_format=torch.channels_last)


def write_networks(folder: str) -> None:
  """Writes ResNet-152 and B1 of timm with random weights, in three formats."""
  import safetensors.torch

  for network in TIMM:
    model = _torch_model(network)
    if network == 'b1':
      torch_networks.fill(model, SEED)
    else:
      _shake(model, images(network, 2))
    model.eval()
    path = Path(folder, network)
    safetensors.torch.save_file(
      model.state_dict(), path.with_suffix('.safetensors')
    )
    arrays = {key: t.numpy() for key, t in model.state_dict().items()}
    np.savez(path.with_suffix('.npz'), **arrays)
    torch_networks.write_onnx(model, images(network), path.with_suffix('.onnx'))


def _shake(model, batch):
  """Random weights, and the moving statistics of what they make of a batch."""
  import torch

  generator = torch.Generator().manual_seed(SEED)
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.momentum = 1.0
      module.weight.data.uniform_(0.5, 1.5, generator=generator)
      module.bias.data.normal_(0, 0.2, generator=generator)
  for name, module in model.named_modules():
    if name.endswith('.bn3'):
      # Weak branches, as trained ones are: the depth makes strong ones chaotic.
      module.weight.data *= 0.3
  with torch.no_grad():
    model.train()(_nchw(batch))


def _xla(network, folder):
  import seeded_variables

  import effnet_jax
  from effnet_jax.models import efficientnet, variants

  if network in variants.list_models():
    spec = variants.get_spec(network)
    variables = seeded_variables.of_timm(spec, SEED)
    return effnet_jax.predictor(efficientnet.build(spec), variables)
  from networks import amoebanet, layers, resnet

  if network == 'resnet152':
    with np.load(Path(folder, 'resnet152.npz')) as state:
      weights = resnet.fold(dict(state))
    return layers.predictor(resnet.forward, weights)
  weights = layers.random_weights(amoebanet.layers_of())
  return layers.predictor(amoebanet.forward, weights)


def _torch(network, folder, compiled):
  import safetensors.torch
  import torch

  model = _torch_model(network)
  model.load_state_dict(
    safetensors.torch.load_file(Path(folder, f'{network}.safetensors'))
  )
  model = model.eval().to(memory_format=torch.channels_last)
  if compiled:
    model = torch.compile(model)

  def run(batch):
    with torch.inference_mode():
      return model(batch).numpy()

  return run


def _onnxruntime(network, folder):
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = THREADS
  session = onnxruntime.InferenceSession(
    Path(folder, f'{network}.onnx'),
    options,
    providers=['CPUExecutionProvider'],
  )
  return lambda batch: session.run(None, {'images': batch})[0]


def _openvino(network, folder):
  import openvino

  model = openvino.Core().compile_model(
    Path(folder, f'{network}.onnx'),
    'CPU',
    {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': THREADS},
  )
  return lambda batch: model({'images': batch})[0]


_LOAD: dict[str, Callable[[str, str], Callable]] = {
  'xla': _xla,
  'torch_eager': lambda network, folder: _torch(network, folder, False),
  'torch_compile': lambda network, folder: _torch(network, folder, True),
  'onnxruntime': _onnxruntime,
  'openvino': _openvino,
}
_INPUT: dict[str, Callable[[np.ndarray], Any]] = {
  'xla': lambda batch: batch,
  'torch_eager': _nchw,
  'torch_compile': _nchw,
  'onnxruntime': torch_networks.nchw,
  'openvino': torch_networks.nchw,
}


def main(runtime: str, folder: str) -> None:
  loaded: dict[str, tuple[Callable, Any]] = {}

  def prepare(network: str) -> None:
    loaded[network] = (
      _LOAD[runtime](network, folder),
      _INPUT[runtime](images(network)),
    )

  def logits(network: str) -> list[float]:
    run, batch = loaded[network]
    return np.asarray(run(batch)).ravel().tolist()

  def measure(network: str, runs: int) -> list[float]:
    """Returns milliseconds of each run, from images to logits in numpy."""
    run, batch = loaded[network]
    return interleaved.measure(lambda: np.asarray(run(batch)), 0, runs)

  workers.serve(
    {
      'write': lambda: write_networks(folder),
      'prepare': prepare,
      'logits': logits,
      'measure': measure,
    }
  )


if __name__ == '__main__':
  main(*sys.argv[1:])
