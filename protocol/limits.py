"""Every bound that both sides of the protocol know, each with its reason.

A bound protects the memory of the logger and the disk of the user from a wrong or hostile message. Sizes are in bytes
and counts in items unless the name says otherwise. Functions take the bound as an argument where tests need a small
value. Bounds that only the logger reads are in ``logger_service.limits``.

Two things have no number here. The nesting of msgpack is bounded by the types that bodies are decoded into: no type
nests more than five deep. An unknown field is skipped down to the depth of the interpreter's stack, and Malformed
beyond. Times are 64 bits of nanoseconds: every value is an instant between the years 1677 and 2262, and no allocation
or waiting time depends on such a value.
"""

from typing import Final

# One record: an embedding of 10,000 x 768 float32 (30 MB) or 64 images of 384 x 384 x 3 (28 MB) fit.
RECORD_SIZE_MAX_BYTES: Final = 64 * 2**20

# One wire message: the largest record, its frame, and the head of the message.
WIRE_MESSAGE_SIZE_MAX_BYTES: Final = RECORD_SIZE_MAX_BYTES + 2**16

# A wire message other than DATA: the name of a run, a reason.
CONTROL_MESSAGE_SIZE_MAX_BYTES: Final = 2**16

# Batch size of a sender: large enough that the cost of the call disappears, small enough to copy in 0.1 ms while the
# sender thread holds the interpreter.
BATCH_SIZE_MAX_BYTES: Final = 2**18

# Unacknowledged bytes of a stream: covers an acknowledgement after 100 ms at 500 MB/s, bounds the receiver's memory.
CREDIT_BYTES: Final = 64 * 2**20

# A segment on disk: large, so that there are few; small enough to copy, scan and delete one segment at a time.
SEGMENT_SIZE_MAX_BYTES: Final = 64 * 2**20

# Sequence numbers: the number behind the last one still fits a signed 64-bit integer. At a million records a second a
# stream lives 292,000 years.
SEQUENCE_MAX: Final = 2**63 - 1

# Path of a run under the log directory. File systems take 255 bytes a component and 4,096 a path. The largest name is a
# quarter of a path: folders above the log directory, and files below the run, need room as well.
RUN_DEPTH_MAX: Final = 32
RUN_COMPONENT_MAX_BYTES: Final = 255
RUN_MAX_BYTES: Final = 1_024

# The end of an event file's name, which a user gives: together with the other parts of the name, below the 255 bytes of
# a file system.
FILE_SUFFIX_MAX_BYTES: Final = 128

# TensorBoard shows tags in cards and menus; a longer tag is a mistake, and every tag is held in memory.
TAG_MAX_CHARACTERS: Final = 512

# Tags in one record: more than the parameters of the largest models.
TAGS_MAX: Final = 20_000

# Text of one message: a chapter. TensorBoard renders the whole text at once.
TEXT_MAX_CHARACTERS: Final = 1_000_000

# Captions, metadata cells, labels: shown on one line.
LABEL_MAX_CHARACTERS: Final = 4_096

# The largest step and, negative, the smallest. Steps are int64 in event files; TensorBoard's front end counts in
# doubles, exact up to 2**53.
STEP_MAX: Final = 2**53

# Occupied histogram buckets of a tensor: without mantissa bits there are 512, so that coarser buckets always fit.
BUCKETS_MAX: Final = 640

# Sides of an array: pictures have 4, convolutions of volumes 5; numpy itself takes 32 (64 since version 2).
ARRAY_DIMENSIONS_MAX: Final = 8

# Rows and columns of a heatmap: more cells than a screen has pixels show nothing more.
MATRIX_SIDE_MAX: Final = 4_096

# Height and width of a picture, and of the embedding projector's sprite: many machines draw no larger WebGL texture.
IMAGE_SIDE_MAX: Final = 8_192

# Pictures in one record: more than fit a contact sheet that a person can read.
IMAGES_MAX: Final = 256

# Points in one record, and dimensions of a point: the embedding projector shows at most 100,000 points.
EMBEDDING_ROWS_MAX: Final = 100_000

# Points of an embedding that travels in parts: ten times as many as the embedding projector shows. A million points of
# 64 dimensions are 256 MB in the outbox, in the recording and in the memory of TensorBoard.
EMBEDDING_ROWS_TOTAL_MAX: Final = 1_000_000

# Metadata columns of the points: the embedding projector lists columns in a menu, and each column costs a text a point.
EMBEDDING_COLUMNS_MAX: Final = 32

# Audio clips in one record: each clip gets its own player.
CLIPS_MAX: Final = 64

# Channels of a clip: surround sound has 8, and browsers play no more.
AUDIO_CHANNELS_MAX: Final = 8

# Samples a second of a clip: the fastest converters; players take no more.
SAMPLE_RATE_MAX_HZ: Final = 384_000

# Nodes of a model graph: TensorBoard's layout is unusable beyond.
GRAPH_NODES_MAX: Final = 50_000

# Inputs, outputs or attributes of one node.
GRAPH_NODE_LINKS_MAX: Final = 256

# Inputs, outputs, attributes and sides of outputs of all nodes together: ten a node. Within the limits of single nodes
# a graph of 13 MB would take gigabytes. ResNet-152 has 3,600, an encoder of 96 transformer layers 8,500.
GRAPH_PARTS_MAX: Final = 10 * GRAPH_NODES_MAX

# Curves of one overlay: each curve is a folder and a run in TensorBoard's list, and a chart with more lines is a blot.
OVERLAY_CURVES_MAX: Final = 1_000

# Values that a hyperparameter may take, and hyperparameters with such values: TensorBoard shows a check box a value.
DOMAIN_VALUES_MAX: Final = 1_000

# Clips in one video: a grid of 8 by 8.
VIDEO_CLIPS_MAX: Final = 64

# Pictures of one clip: two minutes at 24 a second. Each picture takes milliseconds to encode.
VIDEO_FRAMES_MAX: Final = 3_000

# Pictures a second of a clip: no screen shows more.
VIDEO_RATE_MAX_HZ: Final = 1_000

# Thresholds of a precision-recall curve: more points than a chart has pixels.
PR_THRESHOLDS_MAX: Final = 10_000

# Boxes in one picture: each takes up to a millisecond to draw.
BOXES_MAX: Final = 1_000

# Buckets of a finished histogram: torch's default has 1,549, and TensorBoard shows 30.
HISTOGRAM_BUCKETS_MAX: Final = 100_000

# Charts of one category, and categories: more than anybody scrolls through.
LAYOUT_CHARTS_MAX: Final = 1_000

# Charts, and expressions in charts, of a whole layout: one for every tag that a record can have.
LAYOUT_PARTS_MAX: Final = TAGS_MAX

# Kinds in a gap: the header has one byte for a kind.
KINDS_MAX: Final = 256

# Size of a key file: a key of 40 characters, a word before the key, and white space. A larger file is no key.
KEY_FILE_SIZE_MAX_BYTES: Final = 256

# Numbers that a finding rests on.
EVIDENCE_MAX: Final = 16

# Characters of the name of such a number: a word or two.
EVIDENCE_NAME_MAX_CHARACTERS: Final = 64

# Characters of each text of a finding: a tag is the longest, and advice is two sentences.
FINDING_TEXT_MAX_CHARACTERS: Final = 1_024

# Findings that a trainer is told at a time, and the size of this message: the largest finding, in characters of four
# bytes, has 17 KiB, an ordinary one 400 bytes. ZeroMQ holds 64 messages for a trainer that does not read.
FINDINGS_MESSAGE_MAX: Final = 32
FINDINGS_SIZE_MAX_BYTES: Final = 2**15

# Findings of a stream that are remembered, to be told: as many as the card in TensorBoard has.
FINDINGS_KNOWN_MAX: Final = 256

# The scalars of the last steps that a flight recorder keeps beside an outbox: a thousand steps of 100 scalars. Docker
# gives all outboxes of a container 64 MB.
FLIGHT_RING_SIZE_MAX_BYTES: Final = 4 * 2**20
