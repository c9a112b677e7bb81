"""Who is missing is said, in every process and in time."""

import concurrent.futures
import socket
import time

import pytest

from effnet_jax.errors import UserError
from effnet_jax.training import agreement, meeting, parallel


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def all_meet(indices, count, seconds=20, counts=None):
  """What each process that comes is told, '' if all is well."""
  address = f'127.0.0.1:{free_port()}'

  def one(index):
    try:
      mine = (counts or {}).get(index, count)
      meeting.meet(address, mine, index, seconds)
    except UserError as error:
      return str(error)
    return ''

  with concurrent.futures.ThreadPoolExecutor(len(indices)) as pool:
    return list(pool.map(one, indices))


def test_all_meet_in_any_order():
  assert all_meet([2, 0, 3, 1], 4) == [''] * 4
  assert all_meet([0], 1) == ['']


def test_the_missing_are_named_to_all_that_came():
  begun = time.monotonic()
  told = all_meet([0, 2], 4, seconds=1)
  assert time.monotonic() - begun < 8
  for text in told:
    assert '2 of 4 processes came within 1 seconds' in text
    assert 'missing: process 1, 3' in text


def test_no_coordinator_is_said_in_time():
  begun = time.monotonic()
  (text,) = all_meet([1], 2, seconds=1)
  assert time.monotonic() - begun < 5
  assert 'found no process 0 at 127.0.0.1' in text


def test_one_number_twice_and_another_count():
  told = all_meet([0, 1, 1], 4)
  assert all('are --process_id=1' in text for text in told)
  told = all_meet([0, 1], 2, counts={1: 3})
  assert all('counts 3 processes, process 0 2' in text for text in told)


def test_a_process_that_was_started_again_is_welcome():
  port = free_port()
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    zero = pool.submit(meeting.meet, f'127.0.0.1:{port}', 3, 0, 20)
    deadline = time.monotonic() + 10
    while True:
      try:
        dead = socket.create_connection(('127.0.0.1', port))
        break
      except OSError:
        assert time.monotonic() < deadline
    dead.sendall(b'{"index": 1, "count": 3, "host": "a"}\n')
    dead.close()
    with socket.create_connection(('127.0.0.1', port)) as stranger:
      stranger.sendall(b'GET / HTTP/1.0\n')
    others = [
      pool.submit(meeting.meet, f'127.0.0.1:{port}', 3, i, 20) for i in (1, 2)
    ]
    for one in (zero, *others):
      one.result(timeout=20)


def test_what_cannot_be_is_refused():
  with pytest.raises(UserError, match='HOST:PORT'):
    parallel.initialize('nowhere', 2, 1, 1)
  with pytest.raises(UserError, match='they count from 0'):
    parallel.initialize('127.0.0.1:1', 2, 2, 1)
  with pytest.raises(UserError, match='--coordinator=HOST:PORT'):
    parallel.initialize(None, 2, 1, 1)


def test_a_taken_port_is_named():
  with socket.create_server(('', 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(UserError, match=f'port {port}'):
      meeting.meet(f'127.0.0.1:{port}', 2, 0, 5)


def test_differences_are_named():
  one = {
    'devices': 2,
    'config': {'batch_size': 8, 'data': {'path': '/a', 'flip': True}},
    'data': {'train': '00'},
  }
  other = {
    'devices': 2,
    'config': {'batch_size': 8, 'data': {'path': '/b', 'flip': True}},
    'data': {'train': '00'},
  }
  agreement.compare([one, other])  # where the files lie is a machine's own
  other['config']['batch_size'], other['data']['train'] = 16, 'ff'
  with pytest.raises(UserError) as raised:
    agreement.compare([one, one, other])
  text = str(raised.value)
  assert 'process 0 and process 2' in text
  assert 'config.batch_size (8 and 16)' in text
  assert "the digest of train data ('00' and 'ff')" in text
