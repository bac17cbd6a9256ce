"""Recordings: the format, the messages and the wire, for everybody. Needs no torch, no zmq, no matplotlib."""
