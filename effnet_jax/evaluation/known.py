"""What others got from the weights that are being evaluated."""

from pathlib import Path

from effnet_jax.models import published, variants
from effnet_jax.models.published import Result
from effnet_jax.models.spec import ModelSpec

# Top-1 in per cent, evaluated by timm as it is here (results-imagenet-a.csv,
# -real.csv, results-imagenetv2-matched-frequency.csv).
_B0, _B0_NS = 'tf_efficientnet_b0.in1k', 'tf_efficientnet_b0.ns_jft_in1k'
_B7_NS, _L2 = 'tf_efficientnet_b7.ns_jft_in1k', 'tf_efficientnet_l2.ns_jft_in1k'
_ELSEWHERE = {
  'imagenet_a': {
    _L2: 84.68,
    _B7_NS: 67.19,
    'tf_efficientnetv2_xl.in21k_ft_in1k': 67.16,
    'tf_efficientnet_b7.ap_in1k': 45.27,
    'tf_efficientnet_b7.aa_in1k': 37.79,
    _B0_NS: 11.09,
    _B0: 4.41,
  },
  'imagenet_real': {
    _L2: 90.569,
    'tf_efficientnetv2_l.in21k_ft_in1k': 90.213,
    _B7_NS: 90.159,
    _B0: 82.591,
  },
  'imagenet_v2': {
    _L2: 80.13,
    _B7_NS: 77.94,
    'tf_efficientnetv2_s.in1k': 74.04,
    _B0: 63.54,
  },
}


def known_results(
  data: str, source: str, spec: ModelSpec, tag: str | None
) -> tuple[Result, ...]:
  """Returns what is known of weights on a data set.

  Args:
    data: `imagenet` (the 50,000 validation images), another label set, or ''.
    source: where the weights came from, as the user named them.
    spec: the network; only what was got at its resolution is of interest.
    tag: of the training recipe, where the weights name it.

  Returns:
    The usual evaluation first; nothing of weights that nobody knows.
  """
  results = tuple(
    result
    for result in _of_weights(source, spec, tag)
    if _resolution(result) == spec.resolution
  )
  if data == 'imagenet':
    return results
  elsewhere = _ELSEWHERE.get(data, {})
  return tuple(
    Result(
      spec.name,
      result.recipe,
      elsewhere[result.weights],
      source='timm',
      kind='re-evaluated',
      resolution=result.resolution,
      weights=result.weights,
    )
    for result in results[:1]
    if result.weights in elsewhere
  )


def _resolution(result: Result) -> int:
  return result.resolution or variants.get_spec(result.variant).resolution


def _of_weights(
  source: str, spec: ModelSpec, tag: str | None
) -> tuple[Result, ...]:
  for name in _names(source, spec):
    results = published.find(name)
    if results and results[0].variant == spec.name:
      return results
  # A copy of a repository of the hub, in a folder of another name.
  return tuple(
    result
    for result in published.RESULTS
    if tag and (result.variant, result.recipe) == (spec.name, tag)
    if result.kind == 're-evaluated'
  )


def _names(source: str, spec: ModelSpec) -> list[str]:
  """Returns what the weights may be called in the tables."""
  if source == spec.name:  # packaged: by the name of the file in the package
    return [
      result.file
      for result in published.RESULTS
      if result.variant == spec.name and result.file and not result.weights
    ]
  path = Path(source.removeprefix('hf://').partition('@')[0])
  names = [path.name, path.parent.name]
  for suffix in ('.weights.h5', '.safetensors', '.pth', '.pt', '.h5', '.bin'):
    names += [name.removesuffix(suffix) for name in names]
  return [name for name in dict.fromkeys(names) if name]
