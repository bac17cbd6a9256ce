"""Every bound of the protocol, each with its reason.

A bound protects the logger's memory and the user's disk from a wrong or hostile message. Sizes are in bytes and
counts in items unless the name says otherwise. Functions take the bound as an argument where tests need a small one.

Two things have no number here. How deep msgpack nests is bounded by the types that bodies are decoded into: none nests
more than five deep; in a field that nobody knows it is passed over, as deep as the interpreter's own stack allows, and
Malformed beyond. Times are 64 bits of nanoseconds, each value of which is an instant between the years 1677 and 2262;
nothing is allocated or awaited by them.
"""

from typing import Final

# One record: an embedding of 10,000 x 768 float32 (30 MB) or 64 images of 384 x 384 x 3 (28 MB) fit.
RECORD_SIZE_MAX_BYTES: Final = 64 * 2**20

# One wire message: the largest record, its frame, and the message's own head.
WIRE_MESSAGE_SIZE_MAX_BYTES: Final = RECORD_SIZE_MAX_BYTES + 2**16

# A wire message other than DATA: a run's name, a reason.
CONTROL_MESSAGE_SIZE_MAX_BYTES: Final = 2**16

# What a sender packs in one DATA message: large enough that the call disappears, small enough to copy in 0.1 ms
# while it holds the interpreter.
BATCH_SIZE_MAX_BYTES: Final = 2**18

# Bytes a stream may have on their way: covers a 100 ms acknowledgement at 500 MB/s, bounds the receiver's memory.
CREDIT_BYTES: Final = 64 * 2**20

# A segment on disk: large enough to be few, small enough to copy, scan and delete one at a time.
SEGMENT_SIZE_MAX_BYTES: Final = 64 * 2**20

# Sequence numbers, so that the one behind the last still fits a signed 64-bit integer. At a million records a second
# a stream lives 292,000 years.
SEQUENCE_MAX: Final = 2**63 - 1

# Path of a run under the log directory. File systems take 255 bytes a component and 4,096 a path.
RUN_DEPTH_MAX: Final = 8
RUN_COMPONENT_MAX_BYTES: Final = 120
RUN_MAX_BYTES: Final = 512

# TensorBoard shows tags in cards and menus; longer ones are a mistake, and each is held in memory.
TAG_MAX_CHARACTERS: Final = 512

# Tags in one record: more than the parameters of the largest models have.
TAGS_MAX: Final = 20_000

# Text of one message: a chapter. TensorBoard renders it as markdown in one go.
TEXT_MAX_CHARACTERS: Final = 1_000_000

# Captions, metadata cells, labels: shown on one line.
LABEL_MAX_CHARACTERS: Final = 4_096

# Steps are int64 in event files; TensorBoard's front end counts in doubles, exact up to 2**53.
STEP_MAX: Final = 2**53

# Occupied histogram buckets a tensor: with no mantissa bits kept there are 512, so that coarsening always fits.
BUCKETS_MAX: Final = 640

# Sides of an array: pictures have 4, convolutions of volumes 5; numpy itself takes 32 (64 since version 2).
ARRAY_DIMENSIONS_MAX: Final = 8

# Rows and columns of a heatmap: more cells than a screen has pixels show nothing more.
MATRIX_SIDE_MAX: Final = 4_096

# Height and width of a picture, of the projector's sprite too: WebGL draws no larger texture on many machines.
IMAGE_SIDE_MAX: Final = 8_192

# Pictures in one record: each becomes a tag of its own in a list that somebody scrolls through.
IMAGES_MAX: Final = 256

# Points in one record: the projector shows at most 100,000 and gets slow long before.
EMBEDDING_ROWS_MAX: Final = 100_000

# Columns of the points' metadata: the projector lists them in a menu, and each costs a text a point.
EMBEDDING_COLUMNS_MAX: Final = 32

# Audio clips in one record: each becomes a tag of its own, with a player.
CLIPS_MAX: Final = 64

# Channels of a clip: surround sound has 8, and browsers play no more.
AUDIO_CHANNELS_MAX: Final = 8

# Samples a second of a clip: the fastest converters there are; players take no more.
SAMPLE_RATE_MAX_HZ: Final = 384_000

# Nodes of a model graph: TensorBoard's layout becomes unusable beyond.
GRAPH_NODES_MAX: Final = 50_000

# Inputs, outputs or attributes of one node.
GRAPH_NODE_LINKS_MAX: Final = 256

# Inputs, outputs, attributes and sides of outputs of all nodes together: ten a node. A node's own limits would let a
# graph of 13 MB take gigabytes. ResNet-152 has 3,600, an encoder of 96 transformer layers 8,500.
GRAPH_PARTS_MAX: Final = 10 * GRAPH_NODES_MAX

# Charts of one category, and categories: more than anybody scrolls through.
LAYOUT_CHARTS_MAX: Final = 1_000

# Charts, and expressions in them, of a whole layout: one for every tag that a record may have.
LAYOUT_PARTS_MAX: Final = TAGS_MAX

# Kinds that a gap can name: the header has one byte for a kind.
KINDS_MAX: Final = 256

# Bytes that may have come over a connection and wait to be taken: twice what an honest trainer has on its way, its
# credit or one record that is as large, and all of it again after a NAK. Beyond that somebody ignores its credit, or
# sends a message that never ends.
HOARD_MAX_BYTES: Final = 2 * WIRE_MESSAGE_SIZE_MAX_BYTES

# The same before a stream is open over it: nothing but a HELLO is due then; plenty of them, and of a trainer's first
# data that come while its answer leaves.
STRANGER_HOARD_MAX_BYTES: Final = 2**20

# Until a connection has shaken hands: a round trip or two, over any network. Without this one that says nothing would
# stay for ever.
HANDSHAKE_MAX_SECONDS: Final = 5

# Connections at a time: four for each stream that may be open. What little may wait of each, some 16 KiB, stays within
# 64 MiB. The one that said nothing for longest goes for the next.
CONNECTIONS_MAX: Final = 4_096

# The same where few files may be open, as a share of them: the other half is for the journal and the process itself.
CONNECTIONS_FILES_SHARE: Final = 2

# Files of the journal that are open at a time, as such a share; and never more than streams. When there are more
# streams, the file that was not written for longest is closed until it is written again.
JOURNAL_FILES_SHARE: Final = 4

# Bytes of a key's file: 40 characters, the word before them, and white space around; more is no key.
KEY_FILE_SIZE_MAX_BYTES: Final = 256

# Keys on a logger's list: each is a file, read again whenever one of them changes.
ALLOWED_KEYS_MAX: Final = 4_096

# Streams that are open at a time: what a trainer or two of each of some hundred people need. One more closes that which
# was silent longest, and costs its trainer a HELLO when it speaks again.
STREAMS_MAX: Final = 1_024

# Streams that one key has open at a time: 32 trainers of 8 processes. One more closes the key's own stream that was
# silent longest, never another key's.
STREAMS_A_KEY_MAX: Final = 256

# Bytes that all streams together may have on their way: each has its share of them, at least a batch. A stalled disk
# finds little more than this in buffers, however many trainers there are: half a second of the fastest disk.
CREDIT_TOTAL_BYTES: Final = 2**29

# Bytes that may wait to be taken over all connections together: what trainers are allowed to have on their way. Beyond
# that who hoards most is cut; a logger with 2 GiB of memory survives whatever comes.
HOARDS_TOTAL_MAX_BYTES: Final = CREDIT_TOTAL_BYTES

# Peers without a stream of which it is remembered when they were answered last: each is answered once a second. More
# of them at a time are a flood, and cost some bytes of an answer each.
STRANGERS_MAX: Final = 1_024

# A request to the health page: a browser's, with all its headers, has a tenth.
HEALTH_REQUEST_MAX_BYTES: Final = 8_192

# How long a request to the health page may take to come, and its answer to be read: it comes from this machine.
HEALTH_REQUEST_MAX_SECONDS: Final = 2

# Connections to the health page at a time, each a thread: those of a few probes. The oldest goes for the next.
HEALTH_CONNECTIONS_MAX: Final = 16
