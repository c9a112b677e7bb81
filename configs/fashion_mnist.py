"""`micro` on Fashion-MNIST: within an hour on two cores.

    python train.py --config=configs/fashion_mnist.py --workdir=DIR

60,000 training and 10,000 test images, grey, 28 pixels; Debian's package
dataset-fashion-mnist, or a directory that `--config.data.path` names. On a CPU
a device a core is faster: JAX_NUM_CPU_DEVICES=2 in the environment. All
training images are trained on and none are left to choose a checkpoint, so the
last weights are reported. Measured here: see the README.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.duration = '20 epochs'
  config.batch_size = 256
  config.ema = 0.999
  config.model.name = 'micro'
  config.model.overrides.resolution = 28
  config.model.overrides.dropout_rate = 0.1
  config.model.overrides.survival_probability = 0.9
  config.model.overrides.mean = (0.286, 0.286, 0.286)  # of the training images
  config.model.overrides.std = (0.353, 0.353, 0.353)
  config.data.source = 'fashion_mnist'
  config.data.crop_area = ()  # shifted instead, at full resolution
  config.data.shift = 2
  config.data.resampling = 'pillow'
  config.data.crop_padding = 0
  config.schedule.warmup = '1 epoch'
  config.schedule.decay = 'cosine'
  config.evaluation.every = '5 epochs'
  config.evaluation.batch_size = 1000
  config.checkpoint.every = '1 epoch'
  config.log.every = '100 steps'
  return config
