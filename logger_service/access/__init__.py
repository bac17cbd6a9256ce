"""Access: keys, the list of allowed keys, limits on connections and on unread bytes.

The room decides which peers may connect, and which connections stay. zmq is imported for authentication and monitoring
only. May import ``protocol``.
"""
