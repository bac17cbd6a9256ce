"""Every bound that only the logger reads, each with its reason.

These bounds protect the memory, the open files and the attention of a logger from peers that are hostile, broken or too
many. Bounds that trainers know as well are in ``protocol.limits``. ``protocol/SPEC.md`` lists both.
"""

from typing import Final

from tensorboard_sidecar.protocol.limits import WIRE_MESSAGE_SIZE_MAX_BYTES

# Unread bytes of a connection with an open stream: twice the most that an honest trainer has sent and not seen
# acknowledged, which is its credit, or one record as large as the credit. The factor 2 covers a NAK: the trainer sends
# everything again. A peer with more unread bytes ignores its credit, or sends a message that never ends.
UNREAD_MAX_BYTES: Final = 2 * WIRE_MESSAGE_SIZE_MAX_BYTES

# Unread bytes of a connection without an open stream: many HELLOs, and the first data of a trainer whose WELCOME is on
# its way.
UNREAD_BEFORE_STREAM_MAX_BYTES: Final = 2**20

# Time for the ZeroMQ handshake: a round trip or two over any network. Without this bound a silent connection would stay
# for ever.
HANDSHAKE_MAX_SECONDS: Final = 5

# Connections at a time: four for each stream that can be open. Connections with few unread bytes hold at most 16 KiB
# each, 64 MiB together. LRU: at the cap, close the connection that has been idle longest.
CONNECTIONS_MAX: Final = 4_096

# Connections take at most 1 in this many of the files that the process may open; the rest is for the journal and the
# process itself.
CONNECTIONS_FILES_DIVISOR: Final = 2

# The journal keeps at most 1 in this many of those files open, and never more files than streams. LRU: at the cap,
# close the file that has not been written for longest, until its next write.
JOURNAL_FILES_DIVISOR: Final = 4

# Keys on the allow list: each key is a file, and all are read again when one of them changes.
ALLOWED_KEYS_MAX: Final = 4_096

# Open streams: a trainer or two of each of some hundred people. LRU: at the cap, close the stream that has been silent
# longest; its trainer needs another HELLO.
STREAMS_MAX: Final = 1_024

# Open streams of one key: 32 trainers of 8 processes. LRU among the streams of this key: no key closes the stream of
# another key.
STREAMS_A_KEY_MAX: Final = 256

# Credit of all streams together, in equal shares of at least a batch. When a disk stalls, the buffers hold little more
# than this, whatever the number of trainers: half a second of the fastest disk.
CREDIT_TOTAL_BYTES: Final = 2**29

# Unread bytes of all connections together: the credit of all trainers. Beyond that the connection with the most unread
# bytes is closed; a logger with 2 GiB of memory survives any flood.
UNREAD_TOTAL_MAX_BYTES: Final = CREDIT_TOTAL_BYTES

# Peers without a stream whose last answer is remembered: each peer gets one answer a second. More peers at a time are a
# flood, and an answer costs some bytes.
PEERS_WITHOUT_STREAM_MAX: Final = 1_024

# A request to the health page: ten times the size of a browser's request with all its headers.
HEALTH_REQUEST_MAX_BYTES: Final = 8_192

# Time for a request to the health page to arrive, and for its answer to be read: the peer is on the same machine.
HEALTH_REQUEST_MAX_SECONDS: Final = 2

# Connections to the health page at a time, a thread each: a few probes. At the cap, the oldest connection is closed.
HEALTH_CONNECTIONS_MAX: Final = 16

# Streams whose names are remembered for findings, which come some time after the records: those that are open, and as
# many that were open lately.
STREAMS_NAMED_MAX: Final = 2 * STREAMS_MAX

# Findings of all streams together that are remembered for trainers and hooks: 16 for each stream that can be open, 8 MB
# of ordinary findings. LRU: beyond, forget the findings of the stream without a change for longest.
FINDINGS_REMEMBERED_MAX: Final = 16 * STREAMS_MAX

# Findings that wait for a hook: a hook may take its time limit for each of them. Beyond, drop the oldest.
HOOK_QUEUE_MAX: Final = 256

# Calls of a hook a minute: a person reads no more.
HOOK_CALLS_A_MINUTE_MAX: Final = 20

# Time for a call of a hook: the start of an interpreter and a request; for a longer work a command starts a service.
HOOK_CALL_MAX_SECONDS: Final = 20

# Calls for one finding, while they fail for a time: one minute, with pauses of 2, 4, 8, 16 and 32 seconds between them.
HOOK_ATTEMPTS_MAX: Final = 6

# Output of a failed command that is logged: some lines.
HOOK_OUTPUT_MAX_BYTES: Final = 1_024
