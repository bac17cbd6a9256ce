"""Rows of TensorBoard's HParams tab: one for each set of hyperparameters, in a folder in the run's folder.

    <run>/hparams-fa2134088a1d/events.out.tfevents...     start and end of the session, metrics

TensorBoard keeps the first hyperparameters that it sees in a folder, and shows the last value of every scalar of the
folder beside them. Therefore each set of hyperparameters has a folder, which holds no other scalars than its metrics:

- Trials of one run are a row each, and no value is ever beside the parameters of another trial. In the run's own folder
  the row of the first trial would show the last loss of the last.
- Records with equal parameters are one row: parameters at the start of a run and metrics at the end, or an attempt that
  goes on. The name of the folder is a digest of the parameters, so that nothing must be remembered.
- A message that names a folder has its row there: ``events.beside`` writes it.
- The columns are the hyperparameters and the metrics that were given, and not all curves of the run.
"""

from collections.abc import Mapping
from hashlib import blake2s
from typing import Final

from tensorboard_sidecar.logger_service.events.event_file import EventFile, row_name, rows_in
from tensorboard_sidecar.logger_service.events.to_events import row_event
from tensorboard_sidecar.logger_service.events.values import shown_parameter
from tensorboard_sidecar.protocol.messages import HParams, ParameterValue
from tensorboard_sidecar.protocol.record import Record

# Rows of one run: each is a folder, and a run in the list of TensorBoard. The tab shows 100 rows a page.
ROWS_MAX: Final = 1_000
# 48 bits: two of 1,000 sets have the same digest once in half a billion runs.
_DIGEST_SIZE_BYTES: Final = 6


def name_of(parameters: Mapping[str, ParameterValue]) -> str:
    """Return the name of the folder for a set of hyperparameters: equal if TensorBoard shows equal hyperparameters.

    >>> name_of({"lr": 0.1, "layers": 3})
    'hparams-fa2134088a1d'
    """
    shown = sorted((name, shown_parameter(value)) for name, value in parameters.items())
    return row_name(blake2s(ascii(shown).encode(), digest_size=_DIGEST_SIZE_BYTES).digest())


def write_row(run: EventFile, message: HParams, record: Record, start_ns: int) -> bool:
    """Write the row of a record; a second call changes nothing. Return False when the run has too many rows.

    ``run`` is the event file of the stream that began at ``start_ns``. The row is durable before the events of the run
    tell that the record is projected. Raises OSError.
    """
    file = run.beside(name_of(message.parameters))
    identity, event = row_event(message, record, run.stream_id)
    if file.last_id is not None and identity <= file.last_id:
        return True
    if not file.folder.exists() and rows_in(run.folder) >= ROWS_MAX:
        return False
    try:
        file.append([event], start_ns, start_ns)
        file.sync()
    finally:
        file.close()
    return True
