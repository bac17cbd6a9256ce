"""The reference trainer: text, image and audio aligned on Flickr8k, logged without waiting."""
