"""A logger on a disk, and by a clock, that are not what they should be.

python tests/faults/harness/shimmed_logger_program.py PLAN serve ...

PLAN is a ``Plan`` of ``disk_shim`` in JSON. The projection's process is on the same clock, and its disk, that of
the event files, is sick when the other is.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:1] = [str(Path(__file__).resolve().parents[3] / "src"), str(Path(__file__).resolve().parents[2])]

from faults.harness.disk_shim import Plan, install  # noqa: E402 - the path comes first


def acknowledge_early(commit: Callable[[Any, float], None]) -> Callable[[Any, float], None]:
    """Return a commit with a bug on purpose: what came is acknowledged first, and made durable then."""

    def early(streams: Any, now: float) -> None:
        journal = streams._journal
        for stream in [journal._writers[stream_id].stream for stream_id in journal._group_commit.changed]:
            session = streams._sessions.of_stream(stream.id)
            if session is not None:
                streams._replies.send(session.peer, session.acknowledge(journal.next_sequence(stream)))
        commit(streams, now)

    return early


def shim_projection(projection_process: Any, plan: Plan) -> None:
    """Have the projection started by way of this program, with what of the plan concerns it."""
    begin = projection_process.__init__

    def begin_shimmed(process: Any, *arguments: Any, **options: Any) -> None:
        begin(process, *arguments, **options)
        given = process._command[process._command.index("project") :]
        logdir = given[given.index("--logdir") + 1]
        own = Plan(logdir, sick_while=plan.sick_while, error=plan.error, clock_seconds=plan.clock_seconds)
        process._command = own.command(*given)

    projection_process.__init__ = begin_shimmed


def main() -> int:
    """Run the logger so."""
    plan = Plan(**json.loads(sys.argv[1]))
    install(plan)
    from tensorboard_sidecar import __main__  # noqa: PLC0415 - after the shim is in place
    from tensorboard_sidecar.logger_service import service  # noqa: PLC0415 - after the shim is in place
    from tensorboard_sidecar.logger_service.intake.open_streams import OpenStreams  # noqa: PLC0415 - after the shim is in place

    if plan.early_acks:
        OpenStreams.commit = acknowledge_early(OpenStreams.commit)  # type: ignore[method-assign]
    if not plan.project:
        for method in ("supervise", "finish", "kill"):
            setattr(service.Supervisor, method, lambda *_: True)
    elif plan.sick_while or plan.clock_seconds:
        shim_projection(service.Supervisor, plan)
    return __main__.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
