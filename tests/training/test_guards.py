"""Signals become a flag, and the handlers that were there come back."""

import os
import signal
import threading

import pytest

from effnet_jax.training import guards


@pytest.fixture
def handler():
  """A handler of our own for both signals; yields what it was called with."""
  called = []
  catch = lambda number, frame: called.append(number)
  before = {s: signal.signal(s, catch) for s in guards.Interruption.SIGNALS}
  yield catch, called
  for number, old in before.items():
    signal.signal(number, old)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag(handler, capfd, number):
  catch, called = handler
  with guards.Interruption() as interruption:
    assert signal.getsignal(number) is not catch
    assert not interruption.caught
    os.kill(os.getpid(), number)
    assert interruption.caught
    assert interruption.signal is number
    assert not called
    assert number.name in capfd.readouterr().out
    # The second of either kind is for whoever was there before.
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert called == [signal.SIGTERM, signal.SIGINT]
  assert interruption.caught


def test_a_signal_sets_the_flag_where_nobody_reads_what_it_says(handler):
  read, write = os.pipe()
  os.close(read)
  stdout = os.dup(1)
  os.dup2(write, 1)
  try:
    with guards.Interruption() as interruption:
      os.kill(os.getpid(), signal.SIGTERM)
      assert interruption.caught
  finally:
    os.dup2(stdout, 1)
    os.close(stdout)
    os.close(write)


def test_the_handlers_come_back(handler):
  catch, called = handler
  with guards.Interruption() as interruption:
    pass
  for number in guards.Interruption.SIGNALS:
    assert signal.getsignal(number) is catch
  os.kill(os.getpid(), signal.SIGTERM)
  assert called == [signal.SIGTERM]
  assert not interruption.caught


def test_the_handlers_come_back_after_an_error(handler):
  catch, _ = handler
  with pytest.raises(ZeroDivisionError), guards.Interruption():
    _ = 1 / 0
  assert signal.getsignal(signal.SIGINT) is catch


def test_in_a_thread_it_does_nothing(handler):
  catch, _ = handler
  seen = []

  def work():
    with guards.Interruption() as interruption:
      seen.append(signal.getsignal(signal.SIGTERM) is catch)
    seen.append(interruption.caught)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [True, False]
