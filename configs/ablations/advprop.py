"""With and without AdvProp, on 2,500 images of Fashion-MNIST.

    python -m effnet_jax sweep --workdir=DIR --workers=2 \\
      --config=configs/ablations/advprop.py

Then `python -m effnet_jax evaluate --weights DIR/RUN --attack 4` and
`--corruptions` say what it costs and brings beside clean accuracy.
"""

from effnet_jax.sweep.plan import Sweep


def get_sweep() -> Sweep:
  attack = {'objective.name': 'advprop', 'objective.attack_steps': 1}
  return Sweep(
    base='configs/fashion_mnist.py',
    shared={
      'data.train_split': 'train[:2500]',
      'duration': '40 epochs',
      'batch_size': 64,
      'model.overrides.bn_momentum': 0.9,
      'ema': 0.99,
      'evaluation.every': '10 epochs',
      'checkpoint.every': '10 epochs',
    },
    runs={
      'plain': {},
      'advprop': {
        **attack,
        'objective.attack_epsilon': 4.0,
        'objective.attack_step_size': 4.0,
      },
    },
    seeds=(0, 1, 2),
  )
