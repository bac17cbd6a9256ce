"""Every bound of the data reader, with its reason.

A data set is a folder from anywhere: what is read from it is bounded before it is kept.
"""

from typing import Final

TEXT_FILE_MAX_BYTES: Final = 64 * 2**20
"""The whole token file of Flickr8k is 3.2 MB, that of Flickr30k 12 MB."""

LINE_MAX_BYTES: Final = 8192
"""The longest published caption has 199 characters; one character takes at most four bytes."""

CAPTION_MAX_CHARS: Final = 1000
"""Longer is no caption: it would fill a batch with padding and a projector label with prose."""

NAME_MAX_BYTES: Final = 255
"""What Linux file systems allow for one file name."""

CAPTIONS_PER_IMAGE_MAX: Final = 100
"""Published: five. The index of a caption is below this."""

FOLDERS_SEARCHED_MAX: Final = 100
"""Parts of the data set may lie one folder down; a home directory given by mistake is not walked."""

FILE_MIN_BYTES: Final = 45
"""A wav header alone has 44 bytes; no JPEG is smaller than this either."""

IMAGE_MAX_PIXELS: Final = 50_000_000
"""150 MB decoded. Published pictures have 187,500 pixels; a decompression bomb has billions."""

AUDIO_RATE_MIN_HZ: Final = 4_000
"""Below telephone quality there is no speech to learn from."""

AUDIO_RATE_MAX_HZ: Final = 192_000
"""The fastest rate sound cards record; with the length read, it bounds one decoded file."""

AUDIO_CHANNELS_MAX: Final = 8
"""More than two are rare; the channels are averaged into one."""

EXAMPLES_NAMED: Final = 10
"""A fault is counted as often as it occurs, and named this often."""
