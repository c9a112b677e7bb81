"""Processes meet before JAX joins them, so that a missing one has a name.

JAX itself waits for all processes, and where one does not come ends in a C++
abort that names none. So process 0 listens first, at the very address that
JAX's coordinator takes afterwards; the others say who they are, and all hear
who is missing, or that everybody is there.
"""

import json
import socket
import time

from effnet_jax.errors import UserError

# Beyond the limit, so that what process 0 has to say arrives.
_SLACK = 5.0
_HELLO_SECONDS = 5.0  # for a line from whoever connects


def meet(address: str, count: int, index: int, seconds: float) -> None:
  """Returns when all processes are there.

  Args:
    address: host:port of process 0.
    count: processes in all.
    index: of this one.
    seconds: that the others have to come; every process has returned or raised
      5 seconds after them.

  Raises:
    UserError: who is missing, or disagrees; in all that came.
  """
  host, _, port = address.rpartition(':')
  if not host or not port.isdecimal():
    raise UserError(f'--coordinator={address}: write HOST:PORT')
  if not 0 <= index < count:
    raise UserError(
      f'--process_id={index} of --process_count={count}: they count from 0'
    )
  if index == 0:
    _gather(int(port), count, seconds)
  else:
    _join(host.strip('[]'), int(port), count, index, seconds)


def _gather(port: int, count: int, seconds: float) -> None:
  """Process 0: waits for the others and answers them all at once."""
  deadline = time.monotonic() + seconds
  came: dict[int, tuple[socket.socket, str]] = {}
  two_stacks = socket.has_dualstack_ipv6()
  try:
    listener = socket.create_server(
      ('', port),
      family=socket.AF_INET6 if two_stacks else socket.AF_INET,
      backlog=count,
      dualstack_ipv6=two_stacks,
    )
  except OSError as error:
    raise UserError(
      f'port {port}, where the others look for process 0, cannot be had on '
      f'this machine ({error}): give all another --coordinator'
    ) from error
  with listener:
    error = ''
    while len(came) < count - 1 and not error:
      left = deadline - time.monotonic()
      if left <= 0:
        error = _missing(came, count, seconds)
        break
      listener.settimeout(left)
      try:
        connection, _ = listener.accept()
      except TimeoutError:
        continue
      error = _welcome(connection, came, count)
  for connection, _ in came.values():
    try:
      connection.sendall(json.dumps({'error': error}).encode() + b'\n')
    except OSError:
      pass  # gone: JAX will tell
    connection.close()
  if error:
    raise UserError(error)


def _welcome(
  connection: socket.socket,
  came: dict[int, tuple[socket.socket, str]],
  count: int,
) -> str:
  """Notes who connected; returns what is wrong with them."""
  connection.settimeout(_HELLO_SECONDS)
  try:
    hello = json.loads(_line(connection))
    index, theirs, host = hello['index'], hello['count'], hello['host']
  except (OSError, ValueError, KeyError, TypeError):
    connection.close()  # no process of ours
    return ''
  if index in came and not _is_there(came[index][0]):
    came.pop(index)[0].close()  # it was started again
  twin = came.get(index, (None, socket.gethostname() if index == 0 else ''))[1]
  # A twin is kept too, under a number of no process: it is told as well.
  came[count + len(came) if twin else index] = (connection, host)
  if theirs != count:
    return (
      f'process {index} on {host} counts {theirs} processes, process 0 '
      f'{count}: give all the same --process_count'
    )
  if twin:
    return (
      f'two processes, on {twin} and {host}, are --process_id={index}: '
      f'each needs its own, 0 to {count - 1}'
    )
  return ''


def _missing(came, count: int, seconds: float) -> str:
  absent = [str(i) for i in range(1, count) if i not in came]
  shown = ', '.join(absent[:16]) + ', ...' * (len(absent) > 16)
  return (
    f'{len(came) + 1} of {count} processes came within {seconds:g} seconds '
    f'(--join_timeout); missing: process {shown}. Start the same command on '
    'every machine, and see their errors'
  )


def _join(host: str, port: int, count: int, index: int, seconds: float) -> None:
  """Another process: says who it is and waits for the answer."""
  deadline = time.monotonic() + seconds
  while True:
    try:
      connection = socket.create_connection(
        (host, port), timeout=max(deadline - time.monotonic(), 0.1)
      )
      break
    except OSError as error:
      if time.monotonic() + 0.2 >= deadline:
        raise UserError(
          f'process {index} found no process 0 at {host}:{port} within '
          f'{seconds:g} seconds ({error}; --join_timeout): start process 0 '
          'there, and let this machine reach that port'
        ) from error
      time.sleep(0.2)
  hello = {'index': index, 'count': count, 'host': socket.gethostname()}
  with connection:
    try:
      connection.sendall(json.dumps(hello).encode() + b'\n')
      connection.settimeout(max(deadline - time.monotonic(), 0) + _SLACK)
      answer = json.loads(_line(connection))
    except TimeoutError as error:
      raise UserError(
        f'process 0 at {host}:{port} did not say within {seconds:g} seconds '
        'that all processes are there (--join_timeout): see its error'
      ) from error
    except (OSError, ValueError) as error:
      raise UserError(
        f'process 0 at {host}:{port} left before all processes were there, or '
        'something else listens there: see its error'
      ) from error
  if answer['error']:
    raise UserError(answer['error'])


def _line(connection: socket.socket) -> str:
  with connection.makefile('r', encoding='utf-8') as file:
    return file.readline(10_000)


def _is_there(connection: socket.socket) -> bool:
  connection.setblocking(False)
  try:
    return bool(connection.recv(1, socket.MSG_PEEK))
  except BlockingIOError:
    return True
  except OSError:
    return False
  finally:
    connection.settimeout(_HELLO_SECONDS)
