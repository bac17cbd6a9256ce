"""Access: keys, the list of allowed keys, limits on connections and on unread bytes.

``authenticator`` decides which peers may connect, ``connection_monitor`` which connections stay; these two import zmq.
May import ``protocol``.
"""
