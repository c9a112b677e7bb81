"""The parser of the commands: what is wrong, in one line."""

import pytest

from effnet_jax.arguments import ArgumentParser
from effnet_jax.errors import UserError


@pytest.fixture
def parser():
  parser = ArgumentParser(
    prog='python -m effnet_jax taste', epilog='examples:\n  a\n  b'
  )
  parser.add_argument('image', nargs='*')
  parser.add_argument('--model', required=True)
  parser.add_argument('--top', type=int, default=5)
  parser.add_argument('--format', choices=['onnx', 'tflite'])
  return parser


def test_what_is_right_is_argparses(parser):
  args = parser.parse_args(['--model=b0', '--top', '3', '--', 'a.jpg', '--b'])
  assert (args.image, args.model, args.top) == (['a.jpg', '--b'], 'b0', 3)


@pytest.mark.parametrize(
  'arguments, line',
  [
    # Told before argparse misses --model.
    ('--modle b0', 'unknown option --modle: did you mean --model'),
    ('--modle=b0', 'unknown option --modle: did you mean --model'),
    # No options by their first letters: what they mean changes with time.
    ('--model b0 --form onnx', 'unknown option --form: did you mean --format'),
    (
      '--model b0 --zzz',
      'unknown option --zzz: known: --help, --model, --top, --format',
    ),
    (
      'a.jpg',
      'the following arguments are required: --model '
      '(see python -m effnet_jax taste --help)',
    ),
    ('--model b0 --top x', "argument --top: invalid int value: 'x'"),
    ('--model b0 --format onxx', "argument --format: invalid choice: 'onxx'"),
    ('--model', 'argument --model: expected one argument'),
    ('--model b0 -j', 'unrecognized arguments: -j'),
  ],
)
def test_what_is_wrong_is_one_line(parser, capsys, arguments, line):
  with pytest.raises(UserError) as info:
    parser.parse_args(arguments.split())
  assert str(info.value).startswith(line)
  assert '\n' not in str(info.value)
  assert capsys.readouterr() == ('', '')


def test_help_keeps_the_lines_of_its_examples(parser):
  assert parser.format_help().endswith('examples:\n  a\n  b\n')
