"""Runs one exported network in its own runtime, in a process of its own.

    python benchmarks/runtimes.py RUNTIME MODEL BATCHES.npz OUTPUTS.npz

It knows the files alone: nothing here may import effnet_jax.
"""

import sys

import numpy as np


def load_jax(path):
  import jax
  from jax import export

  with open(path, 'rb') as file:
    return jax.jit(export.deserialize(bytearray(file.read())).call)


def load_onnxruntime(path):
  import onnxruntime

  session = onnxruntime.InferenceSession(
    path, providers=['CPUExecutionProvider']
  )
  return lambda images: session.run(None, {'images': images})[0]


def load_openvino(path):
  import openvino

  # It would compute in bfloat16 where the processor has it.
  model = openvino.Core().compile_model(
    path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
  )
  return lambda images: model({'images': images})[0]


def load_tensorflow(path):
  import tensorflow as tf

  signature = tf.saved_model.load(path).signatures['serving_default']

  def call(images):
    (outputs,) = signature(images=tf.constant(images)).values()
    return outputs

  return call


def load_litert(path):
  from ai_edge_litert.interpreter import Interpreter

  runner = Interpreter(path).get_signature_runner()

  def call(images):
    (outputs,) = runner(images=images).values()
    return outputs

  return call


LOAD = {
  'jax.export': load_jax,
  'onnxruntime': load_onnxruntime,
  'openvino': load_openvino,
  'tensorflow': load_tensorflow,
  'litert': load_litert,
}


if __name__ == '__main__':
  runtime, model, batches, outputs = sys.argv[1:]
  call = LOAD[runtime](model)
  with np.load(batches) as archive:
    results = [np.asarray(call(batch)) for batch in archive.values()]
  assert 'effnet_jax' not in sys.modules
  np.savez(outputs, *results)
