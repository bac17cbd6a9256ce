"""Intake: records come from a socket, or from an orphaned outbox on this machine, and become durable in the journal.

The room never decodes a body and never draws. May import ``protocol``, ``access`` and ``folders``.
"""
