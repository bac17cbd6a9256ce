"""Every decision on credit, as properties."""

from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.intake.credit import (
    CreditAccount,
    CreditExceeded,
    equal_share_bytes,
    held_back_bytes,
)
from tensorboard_sidecar.logger_service.limits import CREDIT_TOTAL_BYTES
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES

MIB = 2**20

stream_counts = st.integers(0, 5000)
rooms = st.none() | st.integers(0, 2**40)
credits_ = st.integers(0, CREDIT_BYTES)


# The share of a stream


@given(stream_counts, rooms, st.booleans())
def test_a_share_is_never_negative_and_never_above_the_credit_of_a_stream(
    streams: int, room_bytes: int | None, disk_is_low: bool
) -> None:
    assert 0 <= equal_share_bytes(streams, room_bytes, disk_is_low=disk_is_low) <= CREDIT_BYTES


@given(stream_counts, rooms)
def test_only_a_low_disk_leaves_a_stream_less_than_one_batch(streams: int, room_bytes: int | None) -> None:
    assert equal_share_bytes(streams, room_bytes, disk_is_low=False) >= BATCH_SIZE_MAX_BYTES
    assert equal_share_bytes(streams, room_bytes, disk_is_low=True) == 0


@given(st.integers(1, 5000), rooms)
def test_all_shares_together_fit_into_the_total_and_into_the_room_or_are_one_batch_each(
    streams: int, room_bytes: int | None
) -> None:
    total_bytes = streams * equal_share_bytes(streams, room_bytes, disk_is_low=False)
    bound_bytes = CREDIT_TOTAL_BYTES if room_bytes is None else min(CREDIT_TOTAL_BYTES, room_bytes)
    assert total_bytes <= max(bound_bytes, streams * BATCH_SIZE_MAX_BYTES)


@given(st.none() | st.integers(CREDIT_BYTES, 2**40))
def test_a_lone_stream_gets_all_of_a_streams_credit(room_bytes: int | None) -> None:
    assert equal_share_bytes(1, room_bytes, disk_is_low=False) == CREDIT_BYTES
    assert equal_share_bytes(0, room_bytes, disk_is_low=False) == CREDIT_BYTES


@given(stream_counts, st.integers(0, 100), rooms, st.booleans())
def test_more_streams_never_enlarge_a_share(streams: int, more: int, room_bytes: int | None, disk_is_low: bool) -> None:
    before = equal_share_bytes(streams, room_bytes, disk_is_low=disk_is_low)
    assert equal_share_bytes(streams + more, room_bytes, disk_is_low=disk_is_low) <= before


@given(stream_counts, st.integers(0, 2**40), st.integers(0, 2**40))
def test_more_room_never_shrinks_a_share(streams: int, room_bytes: int, more_bytes: int) -> None:
    before = equal_share_bytes(streams, room_bytes, disk_is_low=False)
    assert before <= equal_share_bytes(streams, room_bytes + more_bytes, disk_is_low=False)
    assert before <= equal_share_bytes(streams, None, disk_is_low=False)


def test_the_room_on_the_disk_is_shared_in_equal_parts() -> None:
    assert equal_share_bytes(1, 40 * MIB, disk_is_low=False) == 40 * MIB
    assert equal_share_bytes(4, 40 * MIB, disk_is_low=False) == 10 * MIB
    assert equal_share_bytes(0, 40 * MIB, disk_is_low=False) == 40 * MIB
    assert equal_share_bytes(10_000, 40 * MIB, disk_is_low=False) == BATCH_SIZE_MAX_BYTES, "less would stop the stream"
    assert equal_share_bytes(4, 2**40, disk_is_low=False) == CREDIT_BYTES


# The credit of all streams


@given(st.lists(credits_, max_size=50))
def test_held_back_is_the_distance_to_the_most_that_streams_can_have(credits_bytes: list[int]) -> None:
    assert held_back_bytes(credits_bytes) == len(credits_bytes) * CREDIT_BYTES - sum(credits_bytes)
    assert 0 <= held_back_bytes(credits_bytes) <= len(credits_bytes) * CREDIT_BYTES
    assert held_back_bytes([CREDIT_BYTES] * len(credits_bytes)) == 0


# The account of a stream


class Batch(NamedTuple):
    size_bytes: int
    next_sequence: int


def batches(sizes_bytes: Iterable[int]) -> list[Batch]:
    """Return batches of one record each."""
    return [Batch(size_bytes, sequence) for sequence, size_bytes in enumerate(sizes_bytes, 2)]


def pending_bytes(account: CreditAccount) -> int:
    """Return the bytes that are received and not durable."""
    return account._received_bytes - account._durable_bytes


def granted(credit_bytes: int) -> CreditAccount:
    account = CreditAccount()
    account.grant(credit_bytes)
    return account


sizes = st.lists(st.integers(1, 100), max_size=30)


@given(sizes, st.integers(0, 500))
def test_pending_bytes_stay_within_the_credit_but_for_a_single_batch(sizes_bytes: list[int], credit_bytes: int) -> None:
    """However much the peer sends, accepted or refused."""
    account, accepted = granted(credit_bytes), list[int]()
    for batch in batches(sizes_bytes):
        try:
            account.spend(*batch)
        except CreditExceeded:
            continue
        accepted.append(batch.size_bytes)
    assert pending_bytes(account) == sum(accepted)
    assert sum(accepted) <= credit_bytes or (len(accepted) == 1 and credit_bytes > 0)


@given(sizes, st.integers(0, 500))
def test_without_credit_nothing_is_accepted_and_a_refusal_changes_nothing(
    sizes_bytes: list[int], credit_bytes: int
) -> None:
    account = CreditAccount()
    for batch in batches(sizes_bytes):
        with pytest.raises(CreditExceeded):
            account.spend(*batch)
    assert repr(account) == repr(CreditAccount())
    account.grant(credit_bytes)
    assert repr(account) == repr(granted(credit_bytes))


@given(sizes, st.integers(1, 500))
def test_a_peer_that_waits_for_room_is_never_refused(sizes_bytes: list[int], credit_bytes: int) -> None:
    """A batch larger than the credit is sent when nothing is on its way."""
    account = granted(credit_bytes)
    for batch in batches(sizes_bytes):
        if pending_bytes(account) and pending_bytes(account) + batch.size_bytes > credit_bytes:
            account.settle(batch.next_sequence - 1)
            account.grant(credit_bytes)
        account.spend(*batch)
        assert pending_bytes(account) <= max(credit_bytes, batch.size_bytes)


@given(sizes, st.lists(st.integers(0, 40), max_size=10))
def test_settling_frees_exactly_the_durable_batches_in_any_order_of_news(
    sizes_bytes: list[int], sequences: list[int]
) -> None:
    account = granted(10**6)
    for batch in batches(sizes_bytes):
        account.spend(*batch)
    durable_sequence = 0
    for sequence in sequences:
        account.settle(sequence)
        durable_sequence = max(durable_sequence, sequence)
        pending = [batch.size_bytes for batch in batches(sizes_bytes) if batch.next_sequence > durable_sequence]
        assert pending_bytes(account) == sum(pending) >= 0


@given(sizes, st.lists(st.integers(0, 500), min_size=1))
def test_credit_that_was_granted_is_never_taken_back(sizes_bytes: list[int], credits_bytes: list[int]) -> None:
    """A peer may still use the largest credit that it was told of."""
    account = CreditAccount()
    for credit_bytes in credits_bytes:
        account.grant(credit_bytes)
    sent_bytes = 0
    for batch in batches(sizes_bytes):
        sent_bytes += batch.size_bytes
        if sent_bytes > max(credits_bytes):
            break
        account.spend(*batch)


@given(sizes, st.integers(0, 30))
def test_records_that_the_journal_lost_can_come_again(sizes_bytes: list[int], durable: int) -> None:
    account = granted(sum(sizes_bytes))
    sent = batches(sizes_bytes)
    for batch in sent:
        account.spend(*batch)
    account.settle(durable + 1)
    account.drop_pending()
    assert pending_bytes(account) == 0
    for batch in sent[durable:]:
        account.spend(*batch)


@given(sizes)
def test_a_welcome_begins_anew(sizes_bytes: list[int]) -> None:
    account = granted(10**6)
    for batch in batches(sizes_bytes):
        account.spend(*batch)
    account.reset()
    assert repr(account) == repr(CreditAccount())
