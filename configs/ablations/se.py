"""With and without squeeze-and-excitation, on scikit-learn's digits.

    python -m effnet_jax sweep --config=configs/ablations/se.py --workdir=DIR

Six runs of about two minutes on two cores. Digits are easy: it shows how an
ablation is run, not what the gates are worth.
"""

from effnet_jax.sweep.plan import Sweep


def get_sweep() -> Sweep:
  return Sweep(
    base='configs/quickstart.py',
    runs={'gates': {}, 'no gates': {'model.overrides.se_ratio': 0.0}},
    seeds=(0, 1, 2),
  )
