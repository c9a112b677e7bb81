"""--model and --weights: what is read, and what is asked for."""

import pytest

from effnet_jax import model_arguments, pretrained
from effnet_jax.arguments import ArgumentParser
from effnet_jax.errors import UserError


def _parse(*argv):
  parser = ArgumentParser(prog='python -m effnet_jax test')
  model_arguments.add(parser)
  return parser.parse_args(argv)


@pytest.mark.parametrize(
  'argv, source',
  [
    (['--model', 'lite0'], 'lite0'),
    (['--model', 'tf_efficientnet_lite1'], 'lite1'),
    (['--model', 'lite0', '--weights', 'runs/mine'], 'runs/mine'),
    (['--weights', 'runs/mine'], 'runs/mine'),
    (['--weights', ''], ''),  # whose own error says it
  ],
)
def test_where_the_weights_come_from(argv, source):
  assert model_arguments.source(_parse(*argv)) == source


@pytest.mark.parametrize(
  'argv, message',
  [
    ([], 'which network? Give --model (lite0, lite1, lite2 come with weights)'),
    (['--model', 'b7'], 'hf://timm/tf_efficientnet_b7.aa_in1k (only lite0'),
    (['--model', 'micro'], 'which weights of micro? Give --weights:'),
    (['--model', 'lite'], "unknown variant 'lite': did you mean lite"),
    (['--model', 'hf://timm/x'], 'give hf://timm/x by --weights'),
    (
      ['--model', 'tf_efficientnet_b0.ns_jft_in1k'],
      'give --weights hf://timm/tf_efficientnet_b0.ns_jft_in1k',
    ),
  ],
)
def test_what_is_asked_for(argv, message):
  with pytest.raises(UserError) as info:
    model_arguments.read(_parse(*argv))
  assert message in str(info.value) and '\n' not in str(info.value)


def test_a_directory_is_no_variant(tmp_path):
  with pytest.raises(UserError, match='by --weights'):
    model_arguments.read(_parse('--model', str(tmp_path)))


def test_what_is_read(monkeypatch, tmp_path):
  run = str(tmp_path)
  (tmp_path / 'checkpoints').mkdir()
  asked = []
  monkeypatch.setattr(
    pretrained, 'read', lambda *args, **kwargs: asked.append((args, kwargs))
  )
  model_arguments.read(_parse('--model', 'tf_efficientnet_lite0'))
  model_arguments.read(_parse('--weights', run, '--raw'))
  model_arguments.read(_parse('--weights', 'gs://bucket/run', '--raw'))
  model_arguments.read(_parse('--model', 'lite0', '--resolution', '300'))
  assert asked == [
    (('lite0', 'tf_efficientnet_lite0'), {'ema': True}),
    ((run, None), {'ema': False}),
    (('gs://bucket/run', None), {'ema': False}),
    (('lite0', 'lite0'), {'ema': True, 'resolution': 300}),
  ]
