"""The watchdog: what counts as progress, what does not count as time, what it says; that it ends a process, in
tests/end_to_end/test_hosts.py."""

from vidrec.train.watchdog import Watchdog


def watchdog(seconds=10.0):
    told = []
    return Watchdog(seconds, "process 3 of 16 (on worker-3)", told.append), told


def test_it_tells_step_and_host_when_nothing_was_reported_for_so_long():
    dog, told = watchdog()
    dog.at("step 12")
    for _ in range(9):
        dog.look(1.0)
    assert not told
    dog.look(1.0)
    (sentence,) = told
    assert "no progress for 10 s (train.watchdog) on process 3 of 16 (on worker-3), at step 12" in sentence
    assert sentence.count("\n") == 1


def test_progress_starts_the_time_anew():
    dog, told = watchdog()
    for _ in range(5):
        dog.look(9.0)
        dog.progress()
    assert not told
    dog.look(9.0)
    dog.at("the evaluation after step 4")
    dog.look(9.0)
    assert not told
    dog.look(1.0)
    assert "at the evaluation after step 4" in told[0]


def test_what_may_take_its_time_does_not_count():
    dog, told = watchdog()
    dog.look(9.0)
    with dog.paused():
        with dog.paused():
            dog.look(1000.0)
        dog.look(1000.0)
    dog.look(9.0)
    assert not told
    dog.look(1.0)
    assert len(told) == 1


def test_it_watches_only_when_it_is_asked_to():
    dog, told = watchdog(0.0)
    with dog:
        assert dog.at("step 1") is None
    assert not told
