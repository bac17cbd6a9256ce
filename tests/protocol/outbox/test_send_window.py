"""The window of go-back-N: what each message of a logger does to the window."""

from tensorboard_sidecar.protocol.outbox.send_window import SendWindow


def make_window() -> SendWindow:
    """Return a window with three batches of 100 bytes in flight, of 10 records each."""
    window = SendWindow()
    window.restart(1, 1000)
    for next_sequence in (11, 21, 31):
        window.send(next_sequence, 100)
    return window


def test_a_new_window_has_no_credit() -> None:
    window = SendWindow()
    assert (window.free_bytes, window.idle) == (0, True)


def test_batches_in_flight_use_the_credit() -> None:
    window = make_window()
    assert (window.next_sequence, window.in_flight_bytes, window.free_bytes) == (31, 300, 700)


def test_an_acknowledgement_frees_whole_batches() -> None:
    window = make_window()
    assert window.acknowledge(25, 1000)
    assert (window.acked_sequence, window.in_flight_bytes, window.free_bytes) == (25, 100, 900)


def test_an_old_acknowledgement_is_no_progress_but_brings_credit() -> None:
    window = make_window()
    window.acknowledge(21, 1000)
    assert not window.acknowledge(11, 50)
    assert (window.acked_sequence, window.free_bytes) == (21, -50)


def test_a_nak_goes_back_and_keeps_earlier_batches_in_flight() -> None:
    window = make_window()
    window.go_back(11)
    assert (window.acked_sequence, window.next_sequence, window.reached_sequence) == (1, 11, 31)
    assert window.in_flight_bytes == 100


def test_records_that_arrived_in_spite_of_a_nak_are_not_sent_again() -> None:
    window = make_window()
    window.go_back(11)
    assert window.acknowledge(31, 1000)
    assert (window.next_sequence, window.idle) == (31, True)


def test_a_welcome_begins_again() -> None:
    window = make_window()
    window.restart(6, 500)
    assert (window.acked_sequence, window.next_sequence, window.reached_sequence) == (6, 6, 6)
    assert (window.free_bytes, window.idle) == (500, True)
