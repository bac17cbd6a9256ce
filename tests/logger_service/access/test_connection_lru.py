"""Which connection has to go when there are too many."""

import resource

from tensorboard_sidecar.logger_service.access.connection_lru import ConnectionLru, connections_limit
from tensorboard_sidecar.logger_service.limits import CONNECTIONS_MAX


def crowd_of(*descriptors: int, connections_max: int = 3) -> ConnectionLru:
    crowd = ConnectionLru(connections_max)
    for descriptor in descriptors:
        assert crowd.come(descriptor) is None
    return crowd


def test_the_one_that_was_silent_for_longest_has_to_go() -> None:
    crowd = crowd_of(1, 2, 3)
    crowd.heard(1)
    assert [crowd.come(4), crowd.come(5), crowd.come(6)] == [2, 3, 1]
    assert len(crowd) == 3


def test_one_that_is_gone_makes_room() -> None:
    crowd = crowd_of(1, 2, 3)
    crowd.gone(2)
    assert crowd.come(4) is None
    assert crowd.come(5) == 1


def test_a_descriptor_that_comes_again_is_another_connection() -> None:
    crowd = crowd_of(1, 2, 3)
    assert crowd.come(1) is None
    assert crowd.come(4) == 2


def test_what_was_cut_already_may_still_speak_and_go() -> None:
    crowd = crowd_of(1, 2, 3)
    crowd.come(4)
    crowd.heard(1)
    crowd.gone(1)
    assert len(crowd) == 3


def test_connections_take_half_of_the_open_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_limit() >= 1
    assert connections_limit() <= CONNECTIONS_MAX
    assert soft == resource.RLIM_INFINITY or connections_limit() == min(soft // 2, CONNECTIONS_MAX)
