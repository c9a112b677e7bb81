"""Split names and slices, against values by hand and TFDS's own reading."""

import pytest

from effnet_jax.data.splits import parse_split, resolve_split
from effnet_jax.errors import UserError

SIZES = {'train': 1497, 'test': 300}


@pytest.mark.parametrize(
  ('spec', 'expected'),
  [
    ('train', range(0, 1497)),
    ('test', range(0, 300)),
    ('train[:500]', range(0, 500)),
    ('train[500:]', range(500, 1497)),
    ('train[1_000:1_200]', range(1000, 1200)),
    ('train[-7:]', range(1490, 1497)),
    ('train[:-7]', range(0, 1490)),
    ('train[:10%]', range(0, 150)),  # 149.7
    ('train[10%:]', range(150, 1497)),
    ('test[25%:75%]', range(75, 225)),
    ('test[:]', range(0, 300)),
    ('train[:1497]', range(0, 1497)),
  ],
)
def test_slices_by_hand(spec, expected):
  assert resolve_split(spec, SIZES) == (spec.split('[')[0], expected)


def test_a_slice_means_what_it_means_to_tfds():
  from tensorflow_datasets.core.splits import ReadInstruction, SplitInfo

  for size in (7, 150, 1497, 60_000):
    infos = {
      'train': SplitInfo(
        name='train',
        shard_lengths=[size],
        num_bytes=0,
      )
    }
    for spec in ('train[:13%]', 'train[50%:]', 'train[-30%:]', 'train[2:-2]'):
      (theirs,) = ReadInstruction.from_spec(spec).to_absolute(infos)
      _, ours = resolve_split(spec, {'train': size})
      assert (ours.start, ours.stop) == (theirs.from_ or 0, theirs.to or size)


def test_parts_join_without_overlap():
  _, head = resolve_split('train[:25022]', {'train': 1_281_167})
  _, tail = resolve_split('train[25022:]', {'train': 1_281_167})
  assert len(head) + len(tail) == 1_281_167
  assert head.stop == tail.start


@pytest.mark.parametrize(
  ('spec', 'text'),
  [
    ('', 'cannot read the split'),
    ('train[5]', 'cannot read the split'),
    ('train[:5', 'cannot read the split'),
    ('train[a:b]', 'cannot read the split'),
    ('train+test', 'cannot read the split'),
    ('train[:5.5%]', 'cannot read the split'),
    ('train[_:]', 'cannot read'),
    ('tran', 'did you mean train?'),
    ('train[5:5]', 'is empty'),
    ('train[9:3]', 'is empty'),
    ('train[:0%]', 'is empty'),
    ('train[:1498]', 'there are 1497 examples'),
    ('train[-1498:]', 'there are 1497 examples'),
    ('test[:101%]', 'there are 300 examples'),
  ],
)
def test_a_bad_split_is_one_clear_line(spec, text):
  with pytest.raises(UserError) as info:
    resolve_split(spec, SIZES)
  assert text in str(info.value)
  assert '\n' not in str(info.value)


def test_parse_split_leaves_bounds_as_text():
  assert parse_split('train[10%:-3]') == ('train', '10%', '-3')
  assert parse_split('test') == ('test', '', '')
