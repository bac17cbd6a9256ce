"""Who may connect and stay: keys, the allow-list, limits on connections and on unread bytes.

Uses zmq's authentication and monitoring only. May import ``protocol``.
"""
