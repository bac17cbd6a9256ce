"""The bounds of the data reader, each with its reason.

A data set may come from an untrusted source: the reader checks each size before it allocates memory.
"""

from typing import Final

TEXT_FILE_MAX_BYTES: Final = 64 * 2**20
"""The token file of Flickr8k has 3.2 MB, that of Flickr30k 12 MB."""

LINE_MAX_BYTES: Final = 8192
"""The longest published caption has 199 characters; one character takes at most four bytes."""

CAPTION_MAX_CHARS: Final = 1000
"""A longer text is no caption; as a caption, its batch would be mostly padding."""

NAME_MAX_BYTES: Final = 255
"""The limit of Linux file systems for a file name."""

CAPTIONS_PER_IMAGE_MAX: Final = 100
"""The published data set has five. The index of a caption is below this bound."""

FOLDERS_SEARCHED_MAX: Final = 100
"""Parts of the data set may lie one folder down; the bound stops a search of a home directory given by mistake."""

FILE_MIN_BYTES: Final = 45
"""A wav header has 44 bytes, and no JPEG is smaller than 45."""

IMAGE_MAX_PIXELS: Final = 50_000_000
"""150 MB decoded. Published pictures have 187,500 pixels; a decompression bomb has billions."""

AUDIO_RATE_MIN_HZ: Final = 4_000
"""Half the rate of telephones; a recording below is no usable speech."""

AUDIO_RATE_MAX_HZ: Final = 192_000
"""The highest rate of sound cards; with the length, the rate bounds the memory of a decoded file."""

AUDIO_CHANNELS_MAX: Final = 8
"""Recordings with more than two channels are rare; all channels are averaged."""

EXAMPLES_NAMED: Final = 10
"""Problems of a kind that are named; all are counted."""
