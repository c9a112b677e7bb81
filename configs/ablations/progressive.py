"""Progressive learning against the full size throughout, on Fashion-MNIST.

    python -m effnet_jax sweep --workdir=DIR \\
      --config=configs/ablations/progressive.py

12,000 images; the images grow from 16 to 28 pixels in four stages, RandAugment
from 1 to 5. One run at a time, for the wall time is what is compared.
"""

from effnet_jax.sweep.plan import Sweep


def get_sweep() -> Sweep:
  stages = {
    'stages.count': 4,
    'stages.min_resolution': 12,
    'stages.min_magnitude': 1.0,
  }
  return Sweep(
    base='configs/fashion_mnist.py',
    shared={
      'data.train_split': 'train[:12000]',
      'duration': '20 epochs',
      'batch_size': 128,
      'model.overrides.bn_momentum': 0.9,
      'data.augment': 'randaugment',
      'data.augment_magnitude': 5.0,
      'ema': 0.99,
      'evaluation.every': '2 epochs',
      'checkpoint.every': '5 epochs',
    },
    runs={'full size': {}, 'progressive': stages},
    seeds=(0, 1, 2),
  )
