"""Writes the checkpoints beside this script; run with TensorFlow 2.21 (CPU).

python tests/weights/data/make_tf.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent
v1 = tf.compat.v1


def saver(name, *, sharded=False, partitioned=False):
  """TF1: variables, their moving averages, a slot of the optimiser."""
  graph = tf.Graph()
  with graph.as_default():
    partitioner = v1.fixed_size_partitioner(2) if partitioned else None
    with v1.variable_scope('efficientnet-b0'):
      with tf.device('/cpu:0'):
        v1.get_variable(
          'stem/kernel',
          (2, 3, 4),
          initializer=lambda shape, **_: tf.reshape(
            tf.range(24.0)[: np.prod(shape)], shape
          ),
          partitioner=partitioner,
        )
      with tf.device('/cpu:1' if sharded else '/cpu:0'):
        gamma = v1.get_variable(
          'stem/gamma', initializer=np.arange(4, dtype='f4') / 4
        )
        v1.get_variable(
          'stem/bfloat16',
          initializer=tf.constant([0.0, 0.25, 0.5], tf.bfloat16),
          trainable=False,
        )
    step = v1.train.get_or_create_global_step()
    optimizer = v1.train.RMSPropOptimizer(0.0, momentum=0.9)
    train = optimizer.minimize(tf.reduce_sum(gamma), step, [gamma])
    average = tf.train.ExponentialMovingAverage(0.5)
    with tf.control_dependencies([train]):
      update = average.apply([gamma])
    config = v1.ConfigProto(device_count={'CPU': 2})
    with v1.Session(config=config) as session:
      session.run(v1.global_variables_initializer())
      # The average goes half of the way.
      session.run(gamma.assign_add(np.ones(4, 'f4')))
      session.run(update)
      v1.train.Saver(sharded=sharded).save(
        session,
        str(FOLDER / name),
        write_meta_graph=False,
        write_state=False,
      )


def objects():
  """TF2: names of objects, and the graph of objects as a string."""
  checkpoint = tf.train.Checkpoint(
    kernel=tf.Variable(np.arange(6, dtype='f4').reshape(2, 3)),
    layers=[tf.Variable(np.float16([1, 2.5])), tf.Variable(np.int32(7))],
  )
  checkpoint.write(str(FOLDER / 'objects'))


if __name__ == '__main__':
  saver('saver')
  saver('sharded', sharded=True)
  saver('partitioned', partitioned=True)
  objects()
