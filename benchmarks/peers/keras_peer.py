"""Keras Applications, on TensorFlow.

What stands before the stem, read in keras/src/applications of 3.15:

V1 takes pixels in 0..255. `Rescaling(1 / 255)`; `Normalization`, whose state
(`mean`, `variance`, `count`) is in the file and which computes (x - mean) /
sqrt(variance); and, in the graph that is built for weights='imagenet' only,
`Rescaling(1 / sqrt(std))`, which is not in the file. The hosted files hold the
standard deviations 0.229, 0.224, 0.225 as variance, so that the two divisions
make one by the standard deviation. A model that is built for any other
weights lacks the last of them; a fresh file holds mean 0 and variance 1.

V2-B0 to B3 take 0..255: `Rescaling(1 / 255)` and a `Normalization` whose
mean and variance are arguments (true variances), so that it has no state.
V2-S, M and L take 0..255: `Rescaling(1 / 128, offset=-1)`. Nothing of either
is in a file.

Files: `.weights.h5` is Keras 3's own; `.h5` is the layout of the hosted files,
which Keras 2 (tf_keras) writes here. Both hold the same arrays: they are drawn
by `layer/variable` in the names of Keras 3.
"""

import os

os.environ['KERAS_BACKEND'] = 'tensorflow'

import contextlib
import re
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import seeded
from keras.src.applications import efficientnet as v1
from keras.src.applications import imagenet_utils

FORMATS = ('.weights.h5', '.h5')

# As pixels / 255. The first is the state of V1's normalisation.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NORMALIZATION = {'mean': _MEAN, 'variance': _STD, 'count': 0}
_OUTPUTS = {
  'stem': 'stem_activation',
  'head': 'top_activation',
  'pooled_features': 'avg_pool',
}


def model_name(network: str, variant: str) -> str:
  return variant


def write(network: str, seed: int, path: Path) -> None:
  if str(path).endswith('.weights.h5'):
    keras.backend.clear_session()
    create = getattr(keras.applications, network)
  else:
    import tf_keras  # Keras 2

    tf_keras.backend.clear_session()
    create = getattr(tf_keras.applications, network)
  model = create(weights=None, classifier_activation=None)
  for layer in model.layers:
    layer.set_weights(
      [
        _array(seed, layer.name, variable.name, tuple(variable.shape))
        for variable in layer.weights
      ]
    )
  model.save_weights(str(path))


def outputs(
  network: str, path: Path, images: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  keras.backend.clear_session()
  model = _released(network, path, images.shape[1])
  names = _endpoints(model)
  recorder = keras.Model(
    model.inputs,
    [model.get_layer(layer).output for layer in names.values()] + model.outputs,
  )
  *maps, logits = recorder(_pixels(network, images), training=False)
  endpoints = dict(zip(names, map(np.asarray, maps), strict=True))
  return np.asarray(logits), endpoints


def _array(seed, layer, variable, shape):
  """Returns a variable of a layer; Keras 2 writes block1a_bn/gamma:0."""
  variable = variable.split('/')[-1].removesuffix(':0')
  if layer.startswith('normalization'):
    return np.reshape(_NORMALIZATION[variable], shape)
  variable = variable.replace('depthwise_kernel', 'kernel')
  return seeded.array(seed, f'{layer}/{variable}', shape)


def _released(network, path, resolution):
  """Builds the network as for the hosted weights, and lets it load a file.

  Keras allows it at the native size alone, and downloads the file.
  """
  replaced = contextlib.ExitStack()
  weights = str(path)
  if 'V2' not in network:
    weights = 'imagenet'
    replaced.enter_context(
      mock.patch.object(v1.file_utils, 'get_file', lambda *a, **k: str(path))
    )
    replaced.enter_context(
      mock.patch.object(
        imagenet_utils,
        'obtain_input_shape',
        lambda *a, **k: (resolution, resolution, 3),
      )
    )
  with replaced:
    return getattr(keras.applications, network)(
      weights=weights,
      input_shape=(resolution, resolution, 3),
      classifier_activation=None,
    )


def _endpoints(model):
  """Returns {our name: name of the layer that gives it}."""
  # Layers are in the order of the graph: the last of a block is its output.
  last = {}
  for layer in model.layers:
    if block := re.match(r'block\d+[a-z]_', layer.name):
      last[block[0]] = layer.name
  blocks = {f'block_{i}': layer for i, layer in enumerate(last.values())}
  return _OUTPUTS | blocks


def _pixels(network, images):
  """Returns what the built-in normalisation makes our images of."""
  images = images.astype(np.float64)
  if re.search(r'V2[SML]$', network):
    pixels = (images + 1) * 128
  else:
    pixels = (images * _STD + _MEAN) * 255
  return pixels.astype(np.float32)
