"""Label sets of ImageNet, prepared by TFDS from a few tiny images."""

import io

import pytest
import tensorflow_datasets as tfds
from PIL import Image

# Labels of the examples, by their position; of ReaL several or none each.
LABELS = (281, 6, 11, 988, 13, 281)
REAL_LABELS = ((281, 282), (), (11,), (988, 0, 999), (), (281,))


def _png(level):
  stream = io.BytesIO()
  Image.new('RGB', (6, 4), (level, 0, 0)).save(stream, 'PNG')
  stream.seek(0)
  return stream


class _Builder(tfds.core.GeneratorBasedBuilder):
  """The level of red tells which example an image is of."""

  VERSION = tfds.core.Version('1.0.0')
  SPLIT = 'test'
  REAL = False

  def _info(self):
    label = tfds.features.ClassLabel(num_classes=1000)
    features = {'image': tfds.features.Image(shape=(None, None, 3))}
    if self.REAL:
      features['original_label'] = label
      features['real_label'] = tfds.features.Sequence(label)
    else:
      features['label'] = label
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {self.SPLIT: self._examples(), 'unlabelled': self._unlabelled()}

  def _examples(self):
    for i, (label, real) in enumerate(zip(LABELS, REAL_LABELS, strict=True)):
      labels = {'original_label': label, 'real_label': list(real)}
      if not self.REAL:
        labels = {'label': label}
      yield i, {'image': _png(20 * i), **labels}

  def _unlabelled(self):
    if not self.REAL:
      yield 0, {'image': _png(0), 'label': -1}
    else:
      yield 0, {'image': _png(0), 'original_label': -1, 'real_label': []}

  _generate_examples = None


# Named as in the catalogue, but not entered there.
with tfds.core.registered.skip_registration():

  class Imagenet2012(_Builder):
    SPLIT = 'validation'

  class Imagenet2012Real(_Builder):
    SPLIT = 'validation'
    REAL = True

  class ImagenetA(_Builder):
    pass

  class ImagenetV2(_Builder):
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name='matched-frequency')]


@pytest.fixture(scope='session')
def tfds_dir(tmp_path_factory):
  """A TFDS data directory with four label sets; -A has labels not its own."""
  folder = str(tmp_path_factory.mktemp('tfds'))
  for builder in (Imagenet2012, Imagenet2012Real, ImagenetA, ImagenetV2):
    builder(data_dir=folder, file_format='array_record').download_and_prepare()
  return folder
