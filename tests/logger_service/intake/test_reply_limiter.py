from tensorboard_sidecar.logger_service.intake.reply_limiter import SAY_INTERVAL_SECONDS, ReplyLimiter


def test_each_is_answered_once_a_second() -> None:
    strangers = ReplyLimiter()
    assert strangers.may_answer(b"a", 5.0)
    assert not strangers.may_answer(b"a", 5.0 + SAY_INTERVAL_SECONDS / 2)
    assert strangers.may_answer(b"b", 5.0)
    assert strangers.may_answer(b"a", 5.0 + SAY_INTERVAL_SECONDS)


def test_who_had_a_stream_since_is_answered_at_once() -> None:
    strangers = ReplyLimiter()
    assert strangers.may_answer(b"a", 5.0)
    strangers.forget(b"a")
    strangers.forget(b"nobody")
    assert strangers.may_answer(b"a", 5.0)


def test_a_crowd_of_them_takes_bounded_memory() -> None:
    strangers = ReplyLimiter(3)
    for number in range(1000):
        assert strangers.may_answer(b"%d" % number, 5.0)
    assert repr(strangers) == "<ReplyLimiter: 3>"
    assert not strangers.may_answer(b"999", 5.0)
    assert strangers.may_answer(b"0", 5.0), "it is forgotten"
