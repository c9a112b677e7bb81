"""What regularises `micro` on 2,500 images of Fashion-MNIST.

    python -m effnet_jax sweep --workdir=DIR --workers=2 \\
      --config=configs/ablations/fashion_regularizers.py

The first 2,500 training images for 60 epochs, so that the plain run overfits:
no shift, no flip, no dropout, no drop path, no label smoothing. Each variant
adds one thing. Tested on the 10,000 test images, which choose nothing: the last
weights are reported, raw and averaged; what the average is worth stands in
every row, the variant `ema` has a longer memory.
"""

from effnet_jax.sweep.plan import Sweep


def get_sweep() -> Sweep:
  return Sweep(
    base='configs/fashion_mnist.py',
    shared={
      'data.train_split': 'train[:2500]',
      'data.shift': 0,
      'data.flip': False,
      'duration': '60 epochs',
      'batch_size': 64,
      'model.overrides.bn_momentum': 0.9,
      'model.overrides.dropout_rate': 0.0,
      'model.overrides.survival_probability': 1.0,
      'objective.label_smoothing': 0.0,
      'ema': 0.99,
      'evaluation.every': '10 epochs',
      'checkpoint.every': '10 epochs',
    },
    runs={
      'none': {},
      'randaugment': {
        'data.augment': 'randaugment',
        'data.augment_magnitude': 5.0,
      },
      'mixup': {'objective.mixup': 0.2},
      'ema': {'ema': 0.999},
      'drop path': {'model.overrides.survival_probability': 0.8},
    },
    seeds=(0, 1, 2),
  )
