"""Your own images, from scratch.

    python train.py --config=configs/folder.py --workdir=DIR \\
      --config.data.path=IMAGES --config.model.name=b0

IMAGES holds train/CLASS/*.jpg and test/CLASS/*.jpg (png, webp and bmp too). It
trains from random weights: with fewer than some thousand images, expect little.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.duration = '100 epochs'
  config.batch_size = 64
  config.ema = 0.999
  # A tenth of the published memory: short runs take few steps.
  config.model.overrides.bn_momentum = 0.9
  config.data.source = 'folder'
  config.data.crop_area = (0.08, 1.0)
  config.data.exif_orientation = True  # people's photos lie on their side
  config.data.max_bad_fraction = 0.01
  config.schedule.decay = 'cosine'
  config.evaluation.every = '5 epochs'
  config.evaluation.batch_size = 64
  config.checkpoint.every = '5 epochs'
  config.log.every = '50 steps'
  return config
